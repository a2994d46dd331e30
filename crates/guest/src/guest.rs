//! A guest: what it consists of, its boot, and what can be done to it.

use crate::console::{Console, Output, Silence};
use crate::error::{GuestError, Result};
use crate::initramfs::Initramfs;
use crate::monitor::Monitor;
use crate::parts::Parts;
use crate::place::{Nic, Place};
use crate::scratch::Scratch;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The program that emulates the machine.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// A boot takes about 3 s on an idle machine, and much longer on a loaded one.
const BOOT: Duration = Duration::from_secs(90);

/// After a command's own limit its answer may be late by so much, for a slow guest.
const GRACE: Duration = Duration::from_secs(20);

/// Every guest needs these; the console must come first, so that something answers early.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "virtio-rng", "configfs"];

/// A file of this machine that a guest has too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Here.
    pub from: PathBuf,
    /// There, absolute.
    pub to: String,
}

/// A disk of a guest: `/dev/vda`, `/dev/vdb`, … in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// Empty, of so many bytes, gone with the guest.
    Scratch(u64),
    /// A file or block device, which stays; written through the machine's page cache, so it keeps
    /// what was written when the guest loses power.
    Image(PathBuf),
}

/// What a guest consists of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its host name: `a-z`, `0-9`, `-`.
    pub name: String,
    /// Memory in MiB; its files are in memory too.
    pub memory_mib: u32,
    /// Processors. Each is one thread of this machine, emulated.
    pub processors: u8,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Network cards, all of which must be in `place`. They come without addresses.
    pub nics: Vec<Nic>,
    /// Modules that are loaded at boot: `drbd`, `scsi_debug dev_size_mb=8`. What they need comes
    /// of itself, and what cards, disks and console need.
    pub modules: Vec<String>,
    /// Programs, by name or path, with their shared libraries, into `/usr/bin`. Busybox is there.
    pub programs: Vec<PathBuf>,
    /// Other files.
    pub files: Vec<File>,
    /// Where it runs.
    pub place: Place,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            name: "guest".to_owned(),
            memory_mib: 256,
            processors: 1,
            disks: Vec::new(),
            nics: Vec::new(),
            modules: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
            place: Place::Here,
        }
    }
}

/// A running guest. Dropping it is a power cut.
#[derive(Debug)]
pub struct Guest {
    name: String,
    console: Console,
    monitor: Mutex<Monitor>,
    process: OwnedFd,
    ended: Mutex<mpsc::Receiver<()>>,
    log: fs::File,
    boot_time: Duration,
}

impl Guest {
    /// Boots a guest and waits until it runs commands.
    ///
    /// Needs root and what `scripts/setup-guests` fetches. The guest ends when this process does,
    /// also by SIGKILL.
    pub fn boot(spec: Spec) -> Result<Self> {
        check(&spec)?;
        let parts = Parts::find()?;
        let scratch = Scratch::create()?;
        let directory = scratch.path();
        let initrd = directory.join("initrd");
        archive(&spec, &parts)?.write(&initrd)?;
        let disks = disks(&spec, directory)?;
        let listen = |name: &str| {
            let path = directory.join(name);
            UnixListener::bind(&path).map_err(GuestError::file("listen on", path))
        };
        let (agent, qmp) = (listen("agent")?, listen("qmp")?);
        let path = directory.join("console");
        let log = fs::File::options()
            .create_new(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(GuestError::file("create", &path))?;
        let argv = command_line(&spec, &parts, directory, &disks);
        let begun = Instant::now();
        let (process, ended) = start(&spec, argv, &log)?;
        let mut boot = Boot {
            name: &spec.name,
            log: &log,
            ended: &ended,
            until: begun + BOOT,
        };
        let monitor = boot
            .accept(&qmp)
            .and_then(|s| Monitor::new(s).map_err(|e| boot.over(&e.to_string())));
        let monitor = monitor.inspect_err(|_| kill(&process))?;
        let console = boot
            .accept(&agent)
            .and_then(|s| Console::new(s).map_err(|e| boot.over(&e.to_string())));
        let console = console.inspect_err(|_| kill(&process))?;
        let mut guest = Self {
            name: spec.name.clone(),
            console,
            monitor: Mutex::new(monitor),
            process,
            ended: Mutex::new(ended),
            log,
            boot_time: Duration::ZERO,
        };
        let left = BOOT.saturating_sub(begun.elapsed());
        guest
            .console
            .wait_ready(left)
            .map_err(|silence| guest.silent(silence, "boot", BOOT))?;
        guest.boot_time = begun.elapsed();
        guest.run(
            "! cat /run/missing-modules 2>/dev/null",
            Duration::from_secs(20),
        )?;
        // QEMU has everything open; from here on nothing of the guest has a name on this machine.
        drop(scratch);
        Ok(guest)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From starting QEMU until the guest ran commands.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Runs a shell script and returns what it printed; an error unless it ends with 0 in time.
    pub fn run(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.try_run(script, limit)?;
        if output.code == 0 {
            return Ok(output.text());
        }
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        Err(GuestError::Command {
            guest: self.name.clone(),
            command: first_line(script),
            code: output.code,
            said: tail(said.trim(), 600),
        })
    }

    /// Runs a shell script however it ends. After `limit` it is killed with all it started.
    pub fn try_run(&self, script: &str, limit: Duration) -> Result<Output> {
        self.console
            .run(script, limit, GRACE)
            .map_err(|silence| self.silent(silence, script, limit + GRACE))
    }

    /// Writes a file in the guest.
    pub fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let limit = Duration::from_secs(60);
        self.run(
            &format!("mkdir -p \"$(dirname '{path}')\" && : >'{path}'"),
            limit,
        )?;
        for chunk in bytes.chunks(1 << 15) {
            let text = BASE64_STANDARD.encode(chunk);
            self.run(&format!("base64 -d >>'{path}' <<'END'\n{text}\nEND"), limit)?;
        }
        Ok(())
    }

    /// Stops the guest's processors and its clock, as a hypervisor does that suspends it.
    pub fn pause(&self) -> Result<()> {
        self.order("stop")
    }

    /// Lets it go on. It does not know that it stood still.
    pub fn resume(&self) -> Result<()> {
        self.order("cont")
    }

    /// Cuts the power and waits until nothing of the guest runs any more.
    pub fn power_off(self) -> Result<()> {
        kill(&self.process);
        self.wait_ended()
    }

    /// The end of what its kernel and its process 1 printed.
    pub fn console(&self) -> String {
        console(&self.log)
    }

    fn wait_ended(&self) -> Result<()> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(Duration::from_secs(10)) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(GuestError::Ended {
                guest: self.name.clone(),
                problem: "still runs 10 s after it was killed".to_owned(),
                console: String::new(),
            }),
        }
    }

    fn order(&self, command: &str) -> Result<()> {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        monitor.execute(command).map_err(|e| GuestError::Refused {
            guest: self.name.clone(),
            request: command.to_owned(),
            answer: e.to_string(),
        })
    }

    fn silent(&self, silence: Silence, command: &str, limit: Duration) -> GuestError {
        let guest = self.name.clone();
        let console = console(&self.log);
        match silence {
            Silence::Late => GuestError::NoAnswer {
                guest,
                command: first_line(command),
                limit,
                console,
            },
            Silence::Closed => GuestError::Ended {
                guest,
                problem: format!("ended during `{}`", first_line(command)),
                console,
            },
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        kill(&self.process);
        let _ = self.wait_ended();
    }
}

fn kill(process: &OwnedFd) {
    // Fails only when it has ended already.
    let _ = pidfd_send_signal(process, Signal::KILL);
}

fn check(spec: &Spec) -> Result<()> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-:.".contains(&b))
    };
    let bad = |text: &str, why| Err(GuestError::BadSpec(text.to_owned(), why));
    if !plain(&spec.name) || spec.name.len() > 32 {
        return bad(&spec.name, "names are 1 to 32 letters, digits and '-'");
    }
    if let Some(nic) = spec
        .nics
        .iter()
        .find(|nic| !plain(&nic.tap) || !plain(&nic.mac))
    {
        return bad(
            &nic.tap,
            "cards are named by an interface and an Ethernet address",
        );
    }
    if spec
        .disks
        .iter()
        .any(|d| matches!(d, Disk::Image(path) if path.to_string_lossy().contains(',')))
    {
        return bad(
            "a disk image",
            "its path contains a comma, which QEMU's command line separates by",
        );
    }
    if let Some(file) = spec.files.iter().find(|file| !file.to.starts_with('/')) {
        return bad(
            &file.to,
            "the place of a file in a guest is an absolute path",
        );
    }
    Ok(())
}

fn archive(spec: &Spec, parts: &Parts) -> Result<Initramfs> {
    let mut modules: Vec<String> = MODULES.iter().map(|&m| m.to_owned()).collect();
    if !spec.disks.is_empty() {
        modules.push("virtio_blk".to_owned());
    }
    if !spec.nics.is_empty() {
        modules.push("virtio_net".to_owned());
    }
    modules.extend_from_slice(&spec.modules);
    let mut archive = Initramfs::new(parts, &spec.name, &modules)?;
    for program in &spec.programs {
        archive.program(parts, program)?;
    }
    for file in &spec.files {
        archive.file(&file.from, &file.to)?;
    }
    Ok(archive)
}

/// The files behind the disks; scratch ones are made.
fn disks(spec: &Spec, directory: &Path) -> Result<Vec<PathBuf>> {
    let disk = |(index, disk): (usize, &Disk)| match disk {
        Disk::Image(path) => Ok(path.clone()),
        Disk::Scratch(bytes) => {
            let path = directory.join(format!("disk{index}"));
            let file = fs::File::create(&path).map_err(GuestError::file("create", &path))?;
            file.set_len(*bytes)
                .map_err(GuestError::file("size", &path))?;
            Ok(path)
        }
    };
    spec.disks.iter().enumerate().map(disk).collect()
}

/// QEMU's arguments: no devices but those of `spec`, software emulation with a small cache of
/// translated code (the default takes a quarter of the machine's memory).
fn command_line(spec: &Spec, parts: &Parts, directory: &Path, disks: &[PathBuf]) -> Vec<OsString> {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut words: Vec<String> = [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
        "pc",
        "-accel",
        "tcg,tb-size=256",
        "-cpu",
        "max",
        "-rtc",
        "base=utc",
        "-device",
        "virtio-rng-pci",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", spec.name.clone());
    add("-m", spec.memory_mib.to_string());
    add("-smp", spec.processors.to_string());
    add("-kernel", parts.kernel().display().to_string());
    add("-initrd", at("initrd"));
    add("-append", KERNEL.to_owned());
    add(
        "-chardev",
        format!("file,id=console,path={},append=on", at("console")),
    );
    add("-serial", "chardev:console".to_owned());
    add("-chardev", format!("socket,id=agent,path={}", at("agent")));
    add("-device", "virtio-serial-pci".to_owned());
    add(
        "-device",
        "virtserialport,chardev=agent,name=agent".to_owned(),
    );
    add("-qmp", format!("unix:{}", at("qmp")));
    for (index, disk) in disks.iter().enumerate() {
        let file = disk.display();
        add(
            "-blockdev",
            format!(
                "driver=raw,node-name=disk{index},discard=unmap,file.driver=file,file.filename={file}"
            ),
        );
        add(
            "-device",
            format!("virtio-blk-pci,drive=disk{index},serial=disk{index}"),
        );
    }
    for (index, Nic { tap, mac }) in spec.nics.iter().enumerate() {
        add(
            "-netdev",
            format!("tap,id=net{index},ifname={tap},script=no,downscript=no,vhost=off"),
        );
        add(
            "-device",
            format!("virtio-net-pci,netdev=net{index},mac={mac},romfile="),
        );
    }
    words.into_iter().map(OsString::from).collect()
}

/// Quiet, ends QEMU on a panic, names cards eth0…, and reads time from the emulated time stamp
/// counter, which stands still while the guest does; reading any other clock leaves the emulated
/// processor. The last line leaves out what costs an emulated processor a second.
const KERNEL: &str = "console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0 tsc=reliable mitigations=off no_timer_check \
    cryptomgr.notests=1 audit=0 ima=off apparmor=0 raid=noautodetect rdinit=/init";

/// Starts QEMU from a thread of its own, which must live as long as QEMU: the kernel sends the
/// parent death signal when the thread ends that started it.
fn start(
    spec: &Spec,
    argv: Vec<OsString>,
    log: &fs::File,
) -> Result<(OwnedFd, mpsc::Receiver<()>)> {
    let (started, start) = mpsc::channel();
    let (over, ended) = mpsc::channel();
    let log = log
        .try_clone()
        .map_err(|e| GuestError::system("copy a descriptor", e))?;
    let place = spec.place.clone();
    std::thread::Builder::new()
        .name("guest-qemu".into())
        .spawn(move || match place.spawn(&argv, log) {
            Ok(mut child) => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                let _ = started.send(Ok(pid));
                let _ = child.wait();
                let _ = over.send(());
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })
        .map_err(|e| GuestError::system("start a thread", e))?;
    let pid = start.recv_timeout(Duration::from_secs(20)).map_err(|_| {
        GuestError::system("start QEMU", io::Error::from(io::ErrorKind::TimedOut))
    })??;
    let pid =
        pid.ok_or_else(|| GuestError::system("start QEMU", io::Error::other("no process id")))?;
    // The child is not waited for before it ends, so this is the child.
    let process = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| GuestError::system("find QEMU's process", e))?;
    Ok((process, ended))
}

/// Waiting for QEMU's connections.
struct Boot<'a> {
    name: &'a str,
    log: &'a fs::File,
    ended: &'a mpsc::Receiver<()>,
    until: Instant,
}

impl Boot<'_> {
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        let failed = |e| GuestError::system("wait for QEMU", e);
        listener.set_nonblocking(true).map_err(failed)?;
        while Instant::now() < self.until {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(failed)?;
                    return Ok(stream);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(failed(e)),
            }
            if self.ended.recv_timeout(Duration::from_millis(5))
                != Err(mpsc::RecvTimeoutError::Timeout)
            {
                return Err(self.over("could not be started: QEMU ended"));
            }
        }
        Err(self.over("could not be started: QEMU did not connect"))
    }

    fn over(&self, problem: &str) -> GuestError {
        GuestError::Ended {
            guest: self.name.to_owned(),
            problem: problem.to_owned(),
            console: console(self.log),
        }
    }
}

/// The last lines of the console, for a message; empty if there are none.
fn console(log: &fs::File) -> String {
    const LENGTH: u64 = 1500;
    let size = log.metadata().map_or(0, |about| about.len());
    let mut bytes = vec![0; usize::try_from(size.min(LENGTH)).unwrap_or(0)];
    match log.read_exact_at(&mut bytes, size.saturating_sub(LENGTH)) {
        Ok(()) if !bytes.is_empty() => {
            let text: String = String::from_utf8_lossy(&bytes)
                .chars()
                .filter(|c| *c != '\r')
                .collect();
            format!("; its console ends:\n{}", text.trim_end())
        }
        _ => String::new(),
    }
}

fn first_line(script: &str) -> String {
    let line = script.trim().lines().next().unwrap_or("");
    line.chars().take(120).collect()
}

fn tail(text: &str, characters: usize) -> String {
    let skip = text.chars().count().saturating_sub(characters);
    text.chars().skip(skip).collect()
}
