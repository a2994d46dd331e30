//! A host as the keeper sees it: powered or not, paused or not, and the switches to change that.

use crate::cgroup::{self, Cgroup};
use crate::clock::{now_us, wait_until};
use crate::error::{LabError, Result};
use crate::init::{Boot, Order, READY};
use crate::loops;
use crate::netns::Netns;
use crate::paths::Paths;
use crate::plan::{HostPlan, Network, Service};
use crate::rtnl::Rtnl;
use crate::switch::{Switch, ip_batch};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What exists only while the host has power.
#[derive(Debug)]
pub struct Powered {
    /// Process 1 of the host, as the keeper sees it.
    pub init_pid: i32,
    /// What the host booted with.
    pub boot: Boot,
    /// A netlink socket inside the host.
    pub rtnl: Rtnl,
    orders: ChildStdin,
    ended: mpsc::Receiver<()>,
}

/// A host of the lab.
#[derive(Debug)]
pub struct Host {
    /// Its description.
    pub plan: HostPlan,
    /// Its cgroup, also while it is off.
    pub cgroup: Cgroup,
    /// Services that belong to its boot.
    pub services: Vec<Service>,
    /// Nothing while it is off.
    pub powered: Option<Powered>,
    /// Whether it is paused.
    pub paused: bool,
    /// Links without carrier; stays so over a boot.
    pub links_cut: Vec<Network>,
    /// Processes that a fault stopped.
    pub stopped: Vec<i32>,
}

/// How to start the program that serves as keeper, process 1 and `hotpair` in the hosts.
#[derive(Debug, Clone)]
pub struct Program(pub PathBuf);

impl Program {
    /// The program this process runs.
    pub fn current() -> Result<Self> {
        std::env::current_exe()
            .map(Self)
            .map_err(|e| LabError::system("find the running program", e))
    }

    /// A copy that stays as it is when the program's file is replaced while the lab runs.
    pub(crate) fn kept(paths: &Paths) -> Result<Self> {
        let copy = paths.program();
        fs::create_dir_all(paths.disk()).map_err(LabError::file("create", paths.disk()))?;
        fs::copy("/proc/self/exe", &copy).map_err(LabError::file("write", &copy))?;
        Ok(Self(copy))
    }

    /// The command line `hotpair lab …`.
    pub fn lab(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("lab");
        command
    }
}

impl Host {
    /// A host without power; makes its cgroup and directories.
    pub fn new(plan: HostPlan, paths: &Paths, cgroups: &Path) -> Result<Self> {
        let cgroup = Cgroup::create(&cgroups.join(&plan.name))?;
        for dir in [paths.host(&plan.name), paths.host_disk(&plan.name)] {
            fs::create_dir_all(&dir).map_err(LabError::file("create", dir))?;
        }
        Ok(Self {
            plan,
            cgroup,
            services: Vec::new(),
            powered: None,
            paused: false,
            links_cut: Vec::new(),
            stopped: Vec::new(),
        })
    }

    /// Powers the host on: namespaces, process 1, network, services.
    pub fn boot(&mut self, paths: &Paths, switch: &Switch, program: &Program) -> Result<()> {
        let boot = Boot {
            host: self.plan.name.clone(),
            boot_id: new_boot_id()?,
            cgroup: self.cgroup.path().to_owned(),
            state: paths.host(&self.plan.name),
            disk: paths.host_disk(&self.plan.name),
            program: program.0.clone(),
        };
        let _ = self.cgroup.freeze(false);
        let (pid, orders, ended) = spawn_init(program, &boot)?;
        // From here on a failure must end process 1 again: dropping `orders` does.
        switch.plug(&self.plan, pid)?;
        let namespace = Netns::of_process(pid)?;
        let batch = self.addresses();
        namespace.within(move || ip_batch(&batch))?;
        let rtnl = namespace.within(Rtnl::open)?;
        let file = paths.init_pid(&self.plan.name);
        fs::write(&file, pid.to_string()).map_err(LabError::file("write", file))?;
        (self.paused, self.stopped) = (false, Vec::new());
        self.powered = Some(Powered {
            init_pid: pid,
            boot,
            rtnl,
            orders,
            ended,
        });
        self.start_services()
    }

    /// Starts those services of the host that do not run.
    pub fn start_services(&mut self) -> Result<()> {
        let Some(powered) = &mut self.powered else {
            return Ok(());
        };
        for service in &self.services {
            let mut line = serde_json::to_vec(&Order::Start(service.clone()))
                .map_err(|e| LabError::BadAnswer(e.to_string()))?;
            line.push(b'\n');
            powered.orders.write_all(&line).map_err(|e| {
                LabError::system(format!("order {} to start a service", self.plan.name), e)
            })?;
        }
        Ok(())
    }

    /// Sets all interfaces up again and gives them the addresses of the plan.
    pub fn restore_network(&self) -> Result<()> {
        let Some(powered) = &self.powered else {
            return Ok(());
        };
        let batch = self.addresses();
        Netns::of_process(powered.init_pid)?.within(move || ip_batch(&batch))
    }

    /// Cuts the power: links first, then every process at once. Gives the times before and after
    /// these two system calls.
    ///
    /// Nothing is started for it. Everything that runs on the host is gone when this
    /// returns, or after two seconds an error says that it is not.
    pub fn cut_power(&mut self, paths: &Paths, switch: &Switch) -> Result<(u64, u64)> {
        let Some(powered) = self.powered.take() else {
            return Err(
                self.state_error("has no power already: start it with `hotpair lab fault boot`")
            );
        };
        let devices = loops::of(powered.init_pid);
        let at_us = now_us();
        let links = switch.set_ports(&self.plan.ports(), false);
        let killed = self.cgroup.kill();
        let _ = kill(Pid::from_raw(powered.init_pid), Signal::SIGKILL);
        let done_us = now_us();
        let _ = fs::remove_file(paths.init_pid(&self.plan.name));
        killed
            .map_err(|e| LabError::system(format!("kill the cgroup of {}", self.plan.name), e))?;
        links?;
        let ended = powered.ended.recv_timeout(Duration::from_secs(2)).is_ok()
            && wait_until(Duration::from_secs(2), Duration::from_micros(500), || {
                !cgroup::is_populated(self.cgroup.path())
            });
        loops::release(&devices);
        let _ = self.cgroup.freeze(false);
        (self.paused, self.stopped) = (false, Vec::new());
        switch.remove_ports(&self.plan.ports())?;
        if ended {
            Ok((at_us, done_us))
        } else {
            Err(self.state_error("still has processes 2 s after its power was cut"))
        }
    }

    /// An error about the state the host is in.
    pub fn state_error(&self, problem: &str) -> LabError {
        LabError::HostState {
            host: self.plan.name.clone(),
            problem: problem.to_owned(),
        }
    }

    fn addresses(&self) -> String {
        let mut batch = String::from("link set dev lo up\n");
        for nic in &self.plan.nics {
            let name = &nic.name;
            let _ = writeln!(batch, "link set dev {name} up");
            for address in &nic.addresses {
                // Nobody else can have it: no waiting for duplicate address detection.
                let nodad = if address.contains(':') { " nodad" } else { "" };
                let _ = writeln!(batch, "address replace {address} dev {name}{nodad}");
            }
        }
        batch
    }
}

/// Starts process 1 from a thread of its own, which must live as long as the process: the kernel
/// sends the parent death signal when the *thread* ends that made the child.
fn spawn_init(program: &Program, boot: &Boot) -> Result<(i32, ChildStdin, mpsc::Receiver<()>)> {
    let (started, start) = mpsc::channel();
    let (over, ended) = mpsc::channel();
    let (program, boot) = (program.clone(), boot.clone());
    std::thread::spawn(move || match start_init(&program, &boot) {
        Ok((mut child, orders)) => {
            let _ = started.send(Ok((child.id(), orders)));
            let _ = child.wait();
            let _ = over.send(());
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    });
    let (pid, orders) = start
        .recv_timeout(Duration::from_secs(20))
        .map_err(|_| LabError::Keeper("a host did not boot within 20 s".to_owned()))??;
    let pid =
        i32::try_from(pid).map_err(|_| LabError::Keeper("a process id out of range".to_owned()))?;
    Ok((pid, orders, ended))
}

fn start_init(program: &Program, boot: &Boot) -> Result<(Child, ChildStdin)> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(flags).map_err(|e| LabError::system("make the namespaces of a host", e))?;
    let text = serde_json::to_string(boot).map_err(|e| LabError::BadAnswer(e.to_string()))?;
    let path = boot.state.join("init.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(LabError::file("open", &path))?;
    let mut child = program
        .lab()
        .args(["host-init", "--boot", &text])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| LabError::system(format!("start {}", program.0.display()), e))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    match child.stdin.take() {
        Some(orders) if line.trim() == READY => Ok((child, orders)),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(&path).unwrap_or_default();
            let last = said.lines().last().unwrap_or("no message").to_owned();
            Err(LabError::Program {
                program: format!("process 1 of {}", boot.host),
                output: last,
            })
        }
    }
}

fn new_boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map_err(LabError::file("read", path))?;
    Ok(text.trim().to_owned())
}
