//! Process 1 of a host: prepares its mounts, runs its services, reaps what nobody else does.
//!
//! The keeper starts it in fresh namespaces and talks to it over its standard input, one JSON
//! [`Order`] a line. When the keeper dies, the kernel kills this process (PR_SET_PDEATHSIG), and
//! with process 1 goes everything in the host.

use crate::clock::now_us;
use crate::error::{LabError, Result};
use crate::plan::Service;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a host needs to know about itself when it boots.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Boot {
    /// Host name.
    pub host: String,
    /// New at every boot.
    pub boot_id: String,
    /// The host's cgroup, absolute.
    pub cgroup: PathBuf,
    /// State directory of the host outside: the logs of its services.
    pub state: PathBuf,
    /// Holds what becomes `/var/lib/hotpair`, and the host's changes to `/etc`, `/var/lib` and `/srv`;
    /// survives a power cut.
    pub disk: PathBuf,
    /// The program that becomes `hotpair` in the host.
    pub program: PathBuf,
}

impl Boot {
    /// The environment of everything that runs on the host.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        [
            ("PATH", path.to_owned()),
            ("HOME", "/root".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("HOTPAIR_BOOT_ID", self.boot_id.clone()),
            ("HOTPAIR_BOOT_ID_FILE", "/run/boot-id".to_owned()),
            ("HOTPAIR_LOG", "/var/lib/hotpair/log".to_owned()),
            ("HOTPAIR_CGROUP", self.cgroup.display().to_string()),
            ("HOTPAIR_LAB_HOST", self.host.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }
}

/// A line from the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start the service unless it runs.
    Start(Service),
}

/// Printed when the host is ready for its network and for orders.
pub const READY: &str = "ready";

/// Runs as process 1 until the keeper closes standard input or dies.
pub fn run(boot: &Boot) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| LabError::system("set the parent death signal", e))?;
    fs::write(boot.cgroup.join("cgroup.procs"), "0")
        .map_err(LabError::file("enter", &boot.cgroup))?;
    nix::unistd::sethostname(&boot.host).map_err(|e| LabError::system("set the host name", e))?;
    mounts(boot)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals
        .thread_block()
        .map_err(|e| LabError::system("block SIGCHLD", e))?;
    let children = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|e| LabError::system("open a signalfd", e))?;
    println!("{READY}");
    Init {
        boot,
        services: BTreeMap::new(),
    }
    .serve(&children)
}

fn mounts(boot: &Boot) -> Result<()> {
    let none = None::<&str>;
    let program = File::open(&boot.program).map_err(LabError::file("open", &boot.program))?;
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount_at(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    private_copy("/etc", &boot.disk.join("etc"))?;
    make(Path::new("/etc/hotpair"))?;
    private_copy("/var/lib", &boot.disk.join("var-lib"))?;
    make(Path::new("/srv"))?;
    private_copy("/srv", &boot.disk.join("srv"))?;
    make(Path::new("/var/lib/hotpair"))?;
    let disk = boot.disk.join("hotpair");
    make(&disk)?;
    mount_at(
        disk.to_str(),
        "/var/lib/hotpair",
        none,
        MsFlags::MS_BIND,
        none,
    )?;
    let logs = File::open(&boot.state).map_err(LabError::file("open", &boot.state))?;
    mount_at(
        Some("run"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    for (source, target) in [(&program, "/run/bin/hotpair"), (&logs, LOGS)] {
        place(source, Path::new(target))?;
    }
    make(Path::new("/run/hotpair"))?;
    fs::write("/run/boot-id", &boot.boot_id).map_err(LabError::file("write", "/run/boot-id"))?;
    system_view()
}

/// Where the host's state directory is seen inside the host.
const LOGS: &str = "/run/lab";

/// Binds an open file or directory to a path under the new `/run`.
fn place(source: &File, target: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let is_dir = source
        .metadata()
        .map_err(LabError::file("look at", target))?
        .is_dir();
    if is_dir {
        make(target)?;
    } else {
        make(target.parent().unwrap_or(Path::new("/run")))?;
        File::create(target).map_err(LabError::file("create", target))?;
    }
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount_at(
        Some(&from),
        &target.to_string_lossy(),
        None,
        MsFlags::MS_BIND,
        None,
    )
}

/// Lays a writable layer of the host's own over a directory of the machine.
fn private_copy(at: &str, layers: &Path) -> Result<()> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    make(&upper)?;
    make(&work)?;
    let options = format!(
        "lowerdir={at},upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount_at(
        Some("overlay"),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )
}

/// Shows the host's own interfaces under `/sys/class/net`, keeping the cgroup file systems.
fn system_view() -> Result<()> {
    let none = None::<&str>;
    let aside = "/run/sys-fs-cgroup";
    make(Path::new(aside))?;
    mount_at(
        Some("/sys/fs/cgroup"),
        aside,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    mount_at(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    mount_at(Some(aside), "/sys/fs/cgroup", none, MsFlags::MS_MOVE, none)?;
    fs::remove_dir(aside).map_err(LabError::file("remove", aside))
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(LabError::file("create", path))
}

fn mount_at(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    mount(source, target, kind, flags, data)
        .map_err(|e| LabError::system(format!("mount {target}"), e))
}

/// A service and what became of it.
struct Running {
    service: Service,
    pid: Option<i32>,
    start_at_us: Option<u64>,
}

struct Init<'a> {
    boot: &'a Boot,
    services: BTreeMap<String, Running>,
}

impl Init<'_> {
    fn serve(mut self, children: &SignalFd) -> Result<()> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let mut stdin = File::from(stdin.map_err(|e| LabError::system("copy a descriptor", e))?);
        let mut pending = Vec::new();
        loop {
            let mut fds = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(children.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, self.next_start())
                .map_err(|e| LabError::system("wait for orders", e))?;
            let orders = fds[0].any().unwrap_or(true);
            while let Ok(Some(_)) = children.read_signal() {}
            self.reap();
            self.start_due();
            if orders {
                let mut buffer = [0u8; 4096];
                let length = stdin
                    .read(&mut buffer)
                    .map_err(|e| LabError::system("read orders", e))?;
                if length == 0 {
                    return Ok(());
                }
                pending.extend_from_slice(&buffer[..length]);
                self.obey(&mut pending);
            }
        }
    }

    fn obey(&mut self, pending: &mut Vec<u8>) {
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Order::Start(service)) => {
                    let running = self
                        .services
                        .get(&service.name)
                        .is_some_and(|r| r.pid.is_some());
                    if !running {
                        let name = service.name.clone();
                        self.services.insert(
                            name,
                            Running {
                                service,
                                pid: None,
                                start_at_us: Some(0),
                            },
                        );
                        self.start_due();
                    }
                }
                Err(error) => eprintln!("init: an order that cannot be read: {error}"),
            }
        }
    }

    fn next_start(&self) -> PollTimeout {
        let next = self.services.values().filter_map(|r| r.start_at_us).min();
        next.map_or(PollTimeout::NONE, |at| {
            let wait_ms = at.saturating_sub(now_us()).div_ceil(1000);
            PollTimeout::try_from(wait_ms).unwrap_or(PollTimeout::MAX)
        })
    }

    fn reap(&mut self) {
        // ECHILD and "nobody ended" both end the loop.
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = status else {
                return;
            };
            // As `Restart=on-failure`: what was told to end stays ended.
            let well = matches!(status, WaitStatus::Exited(_, 0));
            for running in self
                .services
                .values_mut()
                .filter(|r| r.pid == Some(pid.as_raw()))
            {
                running.pid = None;
                let pause_us = running
                    .service
                    .restart_after_ms
                    .map(|ms| ms.saturating_mul(1000));
                running.start_at_us = pause_us.filter(|_| !well).map(|pause| now_us() + pause);
                eprintln!("init: service {} ended: {status:?}", running.service.name);
            }
        }
    }

    fn start_due(&mut self) {
        let now = now_us();
        for running in self
            .services
            .values_mut()
            .filter(|r| r.start_at_us.is_some_and(|at| at <= now))
        {
            running.start_at_us = None;
            match start(self.boot, &running.service) {
                Ok(pid) => running.pid = Some(pid),
                Err(error) => eprintln!("init: service {}: {error}", running.service.name),
            }
        }
    }
}

fn start(boot: &Boot, service: &Service) -> Result<i32> {
    let path = Path::new(LOGS).join(format!("{}.log", service.name));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(LabError::file("open", path))?;
    let errors = log
        .try_clone()
        .map_err(|e| LabError::system("copy a descriptor", e))?;
    let (program, arguments) = service
        .argv
        .split_first()
        .ok_or_else(|| LabError::BadPlan("a service without a program".to_owned()))?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(boot.environment())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|e| LabError::system(format!("start {program}"), e))?;
    Ok(i32::try_from(child.id()).unwrap_or(-1))
}
