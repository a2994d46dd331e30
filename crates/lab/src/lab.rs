//! The lab as tests, the benchmark and the command line use it.

use crate::clean;
use crate::control::{Answer, HostState, HostStatus, Injection, Request, Status, ask};
use crate::enter;
use crate::error::{LabError, Result};
use crate::fault::Fault;
use crate::host::Program;
use crate::init::Boot;
use crate::paths::Paths;
use crate::plan::{Plan, Service};
use crate::probe::{ProbeHandle, ProbeOptions};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A running lab.
#[derive(Debug, Clone)]
pub struct Lab {
    paths: Paths,
}

impl Lab {
    /// Starts a lab and waits until its hosts run and its setup is done.
    ///
    /// `program` must understand `lab …`: it becomes keeper, process 1 of each host, and
    /// `hotpair` in the hosts. What crashed labs left is removed before.
    pub fn up(program: &Program, name: &str, plan: &Plan) -> Result<Self> {
        let paths = Paths::new(name)?;
        require_root()?;
        plan.check()?;
        clean::remove_stale()?;
        if ask(&paths, &Request::Status).is_ok() {
            return Err(LabError::AlreadyRunning(name.to_owned()));
        }
        let keeper = program
            .lab()
            .args(["keeper", "--name", name])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut keeper =
            keeper.map_err(|e| LabError::system(format!("start {}", program.0.display()), e))?;
        if let Some(mut stdin) = keeper.stdin.take() {
            serde_json::to_writer(&mut stdin, plan)
                .map_err(|e| LabError::BadAnswer(e.to_string()))?;
        }
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        // The keeper lives on; this thread is there to take its exit status.
        std::thread::spawn(move || keeper.wait());
        match serde_json::from_str(&line) {
            Ok(Answer::Status(_)) => Ok(Self { paths }),
            Ok(Answer::Error { message }) => Err(LabError::Keeper(message)),
            Ok(_) | Err(_) => Err(LabError::BadAnswer(format!(
                "{line:?} instead of its status"
            ))),
        }
    }

    /// Finds a lab that runs; removes what crashed ones left.
    pub fn attach(name: &str) -> Result<Self> {
        let paths = Paths::new(name)?;
        require_root()?;
        let lab = Self { paths };
        match lab.status() {
            Ok(_) => Ok(lab),
            Err(error) => {
                clean::remove_stale()?;
                Err(error)
            }
        }
    }

    /// The lab as it is.
    pub fn status(&self) -> Result<Status> {
        match ask(&self.paths, &Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(LabError::BadAnswer(format!("{other:?}"))),
        }
    }

    /// One host as it is.
    pub fn host(&self, name: &str) -> Result<HostStatus> {
        let hosts = self.status()?.hosts;
        let known = hosts
            .iter()
            .map(|h| h.plan.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let found = hosts.into_iter().find(|h| h.plan.name == name);
        found.ok_or_else(|| LabError::UnknownHost {
            host: name.to_owned(),
            known,
        })
    }

    /// Carries out a fault and says exactly when it happened.
    pub fn fault(&self, host: &str, fault: Fault) -> Result<Injection> {
        match ask(
            &self.paths,
            &Request::Fault {
                host: host.to_owned(),
                fault,
            },
        )? {
            Answer::Injected(injection) => Ok(injection),
            other => Err(LabError::BadAnswer(format!("{other:?}"))),
        }
    }

    /// Undoes all faults.
    pub fn heal(&self) -> Result<()> {
        ask(&self.paths, &Request::Heal).map(|_| ())
    }

    /// Adds a service to a host's boot and starts it.
    pub fn start(&self, service: Service) -> Result<()> {
        ask(&self.paths, &Request::Start { service }).map(|_| ())
    }

    /// A command that runs on a host; its standard streams are the caller's to choose.
    pub fn command(&self, host: &str, argv: &[String]) -> Result<Command> {
        let status = self.status()?;
        let host = self.host(host)?;
        let (Some(pid), Some(boot), HostState::On) = (host.init_pid, &host.boot, host.state) else {
            let word = if host.state == HostState::Paused {
                "is paused: resume it"
            } else {
                "has no power: boot it"
            };
            let problem = format!("{word} first, or heal the lab with `hotpair lab heal`");
            return Err(LabError::HostState {
                host: host.plan.name,
                problem,
            });
        };
        // The program's file may have been replaced since; the keeper still has the right one.
        let program = Program(PathBuf::from(format!("/proc/{}/exe", status.keeper_pid)));
        visit(&program, pid, boot, argv)
    }

    /// Runs a program on a host and waits for it.
    pub fn exec(&self, host: &str, argv: &[&str]) -> Result<Output> {
        let argv: Vec<_> = argv.iter().map(|word| (*word).to_owned()).collect();
        let what = format!("run {} on {host}", argv.join(" "));
        self.command(host, &argv)?
            .stdin(Stdio::null())
            .output()
            .map_err(|e| LabError::system(what, e))
    }

    /// Starts the outside client and the referees.
    pub fn probe(&self, options: &ProbeOptions) -> Result<ProbeHandle> {
        crate::probe::start(&self.paths, &self.status()?, options)
    }

    /// Ends the lab and removes everything of it.
    pub fn down(&self) -> Result<()> {
        let status = self.status()?;
        ask(&self.paths, &Request::Down)?;
        // The keeper answers, then ends; wait for that so that nothing at all is left.
        let keeper = rustix::process::Pid::from_raw(i32::try_from(status.keeper_pid).unwrap_or(0));
        let keeper = keeper.and_then(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        });
        if let Some(keeper) = keeper {
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&keeper),
                nix::poll::PollFlags::POLLIN,
            )];
            let _ = nix::poll::poll(&mut fds, 5000u16);
        }
        Ok(())
    }
}

/// Refuses to go on without root.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(LabError::NotRoot)
    }
}

/// The command line that makes a process enter a host and run `argv` there.
pub(crate) fn visit(
    program: &Program,
    init_pid: i32,
    boot: &Boot,
    argv: &[String],
) -> Result<Command> {
    let text = serde_json::to_string(boot).map_err(|e| LabError::BadAnswer(e.to_string()))?;
    let mut command = program.lab();
    command
        .args([
            "enter",
            "--init-pid",
            &init_pid.to_string(),
            "--boot",
            &text,
            "--",
        ])
        .args(argv);
    Ok(command)
}

/// Serves as the keeper of a lab: plan on standard input, outcome on standard output.
pub(crate) fn keep(name: &str) -> Result<()> {
    let paths = Paths::new(name)?;
    let plan: Plan = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|e| LabError::BadPlan(e.to_string()))?;
    // Fails only for a process that leads a group already; then the session is its own anyway.
    let _ = nix::unistd::setsid();
    fs::create_dir_all(paths.run()).map_err(LabError::file("create", paths.run()))?;
    let log =
        File::create(paths.keeper_log()).map_err(LabError::file("create", paths.keeper_log()))?;
    nix::unistd::dup2_stderr(&log).map_err(|e| LabError::system("write the keeper's log", e))?;
    let null = File::open("/dev/null").map_err(LabError::file("open", "/dev/null"))?;
    let answered = std::cell::Cell::new(false);
    let tell = |answer: Answer| {
        answered.set(true);
        let _ = crate::control::send(&mut std::io::stdout(), &answer);
        let _ = nix::unistd::dup2_stdout(&null);
    };
    let result = crate::keeper::run(&paths, &plan, tell);
    if let (Err(error), false) = (&result, answered.get()) {
        tell(crate::keeper::failure(error));
    }
    result
}

pub(crate) use enter::run as enter_host;
