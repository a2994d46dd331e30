//! The keeper: the one background process that owns a lab.
//!
//! It makes switch and hosts, walks the plan's setup, then answers requests until `down`. All
//! hosts die with it, because each host's process 1 has the keeper as its parent.

use crate::cgroup;
use crate::clean::{self, Claim};
use crate::control::{Answer, HostState, HostStatus, Injection, MAX_LINE, Request, Status, send};
use crate::enter;
use crate::error::{LabError, Result};
use crate::host::{Host, Program};
use crate::lab::visit;
use crate::paths::{PREFIX, Paths};
use crate::plan::{Plan, Role, Service, Step};
use crate::switch::{Filter, Switch};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Everything the keeper owns.
pub struct Keeper {
    paths: Paths,
    program: Program,
    /// The switch and its ports.
    pub switch: Switch,
    /// All hosts, in the order of the plan.
    pub hosts: Vec<Host>,
    /// What the switch does to each host's frames.
    pub filters: BTreeMap<String, Filter>,
    over: bool,
    _claim: Claim,
}

/// Runs a lab until it is told to end; `ready` gets the outcome of the setup.
pub fn run(paths: &Paths, plan: &Plan, ready: impl FnOnce(Answer)) -> Result<()> {
    let claim = clean::claim(paths)?;
    let started = Keeper::start(paths, plan, claim).and_then(|keeper| {
        let listener = UnixListener::bind(paths.control())
            .map_err(LabError::file("listen on", paths.control()))?;
        Ok((keeper, listener))
    });
    match started {
        Ok((keeper, listener)) => {
            ready(Answer::Status(keeper.status()));
            serve(keeper, &listener)
        }
        Err(error) => {
            let _ = clean::remove(paths);
            Err(error)
        }
    }
}

fn serve(keeper: Keeper, listener: &UnixListener) -> Result<()> {
    let keeper = Arc::new(Mutex::new(keeper));
    for stream in listener.incoming() {
        let stream = stream.map_err(|e| LabError::system("take a connection", e))?;
        let keeper = Arc::clone(&keeper);
        std::thread::spawn(move || {
            if converse(&keeper, stream).is_ok() && lock(&keeper).over {
                std::process::exit(0);
            }
        });
    }
    Ok(())
}

fn lock(keeper: &Mutex<Keeper>) -> MutexGuard<'_, Keeper> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse(keeper: &Mutex<Keeper>, mut stream: UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_LINE)).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => lock(keeper)
            .answer(request)
            .unwrap_or_else(|error| failure(&error)),
        Err(error) => Answer::Error {
            message: format!("a request that cannot be read: {error}"),
        },
    };
    send(&mut stream, &answer)
}

/// An error as an answer.
pub fn failure(error: &LabError) -> Answer {
    Answer::Error {
        message: error.to_string(),
    }
}

impl Keeper {
    fn start(paths: &Paths, plan: &Plan, claim: Claim) -> Result<Self> {
        plan.check()?;
        let cgroups = cgroup::root()?.join(format!("{PREFIX}{}", paths.name()));
        let hosts: Result<Vec<_>> = plan
            .hosts
            .iter()
            .map(|h| Host::new(h.clone(), paths, &cgroups))
            .collect();
        let mut keeper = Self {
            paths: paths.clone(),
            program: Program::kept(paths)?,
            switch: Switch::create()?,
            hosts: hosts?,
            filters: BTreeMap::new(),
            over: false,
            _claim: claim,
        };
        for host in &mut keeper.hosts {
            host.boot(paths, &keeper.switch, &keeper.program)?;
        }
        keeper.set_up(plan)?;
        Ok(keeper)
    }

    fn set_up(&mut self, plan: &Plan) -> Result<()> {
        let mut saved: BTreeMap<String, String> = BTreeMap::new();
        for step in &plan.setup {
            match step {
                Step::Run { host, argv, save } => {
                    let filled = argv.iter().map(|argument| {
                        saved.iter().fold(argument.clone(), |text, (name, value)| {
                            text.replace(&format!("{{{name}}}"), value)
                        })
                    });
                    let printed = self.run_on(host, &filled.collect::<Vec<_>>())?;
                    if let Some(name) = save {
                        saved.insert(name.clone(), printed);
                    }
                }
                Step::Start { host, service } => {
                    let wanted = plan
                        .services
                        .iter()
                        .find(|s| s.host == *host && s.name == *service);
                    self.start_service(
                        wanted
                            .cloned()
                            .ok_or_else(|| LabError::BadPlan(format!("no service {service}")))?,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn run_on(&mut self, host: &str, argv: &[String]) -> Result<String> {
        let program = self.program.clone();
        let host = self.host(host)?;
        let Some(powered) = &host.powered else {
            return Err(host.state_error("has no power"));
        };
        let failed = |problem: String| LabError::Setup {
            host: host.plan.name.clone(),
            command: argv.join(" "),
            problem,
        };
        let output = visit(&program, powered.init_pid, &powered.boot, argv)?
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed(format!("cannot be started: {e}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(failed(format!(
            "ended with exit code {}: {said}",
            enter::code(output.status)
        )))
    }

    fn start_service(&mut self, service: Service) -> Result<()> {
        let host = self.host(&service.host)?;
        host.services.retain(|known| known.name != service.name);
        host.services.push(service);
        host.start_services()
    }

    fn answer(&mut self, request: Request) -> Result<Answer> {
        if self.over {
            return Err(LabError::NotRunning(self.paths.name().to_owned()));
        }
        match request {
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Fault { host, fault } => self.inject(&host, fault).map(Answer::Injected),
            Request::Heal => self.heal().map(|()| Answer::Done),
            Request::Start { service } => self.start_service(service).map(|()| Answer::Done),
            Request::Down => self.end().map(|()| Answer::Done),
        }
    }

    fn end(&mut self) -> Result<()> {
        for host in self.hosts.iter_mut().filter(|host| host.powered.is_some()) {
            // Whatever goes wrong here, removing the cgroups ends every process for good.
            let _ = host.cut_power(&self.paths, &self.switch);
        }
        clean::remove(&self.paths)?;
        self.over = true;
        Ok(())
    }

    fn status(&self) -> Status {
        Status {
            name: self.paths.name().to_owned(),
            keeper_pid: std::process::id(),
            program: Program::current().map(|p| p.0).unwrap_or_default(),
            hosts: self
                .hosts
                .iter()
                .map(|host| self.host_status(host))
                .collect(),
        }
    }

    fn host_status(&self, host: &Host) -> HostStatus {
        let state = match (&host.powered, host.paused) {
            (None, _) => HostState::Off,
            (Some(_), true) => HostState::Paused,
            (Some(_), false) => HostState::On,
        };
        HostStatus {
            plan: host.plan.clone(),
            state,
            init_pid: host.powered.as_ref().map(|p| p.init_pid),
            boot: host.powered.as_ref().map(|p| p.boot.clone()),
            cgroup: host.cgroup.path().to_owned(),
            services: host.services.clone(),
            faults: self.faults_of(host),
        }
    }

    fn faults_of(&self, host: &Host) -> Vec<String> {
        let filter = self
            .filters
            .get(&host.plan.name)
            .cloned()
            .unwrap_or_default();
        let mut faults: Vec<String> = host
            .links_cut
            .iter()
            .map(|n| format!("cut-link {}", n.name()))
            .collect();
        let listed = [
            (filter.cut_in, "one-way-cut in"),
            (filter.cut_out, "one-way-cut out"),
            (filter.cut_peers, "cut-peers"),
        ];
        faults.extend(
            listed
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, name)| (*name).to_owned()),
        );
        if filter.loss_percent > 0 {
            faults.push(format!("loss {}", filter.loss_percent));
        }
        if !host.stopped.is_empty() {
            faults.push(format!("{} processes frozen", host.stopped.len()));
        }
        faults
    }

    /// The host of this name.
    pub fn host(&mut self, name: &str) -> Result<&mut Host> {
        let known = self
            .hosts
            .iter()
            .map(|h| h.plan.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let found = self.hosts.iter_mut().find(|h| h.plan.name == name);
        found.ok_or_else(|| LabError::UnknownHost {
            host: name.to_owned(),
            known,
        })
    }

    /// Names of the hosts that are nodes.
    pub fn nodes(&self) -> Vec<String> {
        let nodes = self.hosts.iter().filter(|h| h.plan.role == Role::Node);
        nodes.map(|h| h.plan.name.clone()).collect()
    }

    /// Boots a host, with its links still cut if they were.
    pub fn boot(&mut self, name: &str) -> Result<()> {
        let index = self.hosts.iter().position(|h| h.plan.name == name);
        let Some(host) = index.and_then(|index| self.hosts.get_mut(index)) else {
            return Ok(());
        };
        host.boot(&self.paths, &self.switch, &self.program)?;
        let cut = host.plan.ports_on(&host.links_cut);
        if cut.is_empty() {
            Ok(())
        } else {
            self.switch.set_ports(&cut, false)
        }
    }

    /// Cuts a host's power and gives the time of it.
    pub fn cut_power(&mut self, name: &str) -> Result<Injection> {
        let index = self.hosts.iter().position(|h| h.plan.name == name);
        let Some(host) = index.and_then(|index| self.hosts.get_mut(index)) else {
            return Err(LabError::BadPlan(format!("no host {name}")));
        };
        let (at_mono_us, done_mono_us) = host.cut_power(&self.paths, &self.switch)?;
        Ok(Injection {
            at_mono_us,
            done_mono_us,
            detail: format!("{name} has no power"),
        })
    }
}
