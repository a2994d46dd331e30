//! Starting a program: born in its cgroup, as another user, with errors told apart.
//!
//! The parent prepares everything; the child, a copy of a process with many threads, makes only
//! system calls. It reports the step that failed through a pipe that closes when `exec` succeeds.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Access;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::user::{Account, UserError};
use super::{DEFAULT_PATH, Program};
use crate::cgroup::{Cgroup, CgroupError};

/// How long a child may take until `exec` (a hung network file system, a frozen cgroup).
pub(super) const EXEC_WAIT: Duration = Duration::from_secs(10);

/// Bit 33 of clone3's flags (linux/sched.h); libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// `argv` is empty.
    #[error("no program given; set at least one word")]
    Empty,
    /// An argument, variable or path contains a NUL byte.
    #[error("{0} contains a NUL byte; remove it")]
    Nul(&'static str),
    /// No file of that name in `PATH`.
    #[error(
        "program `{name}` not found in PATH {path}; install it on this node or give its full path"
    )]
    NotInPath {
        /// The program's name.
        name: String,
        /// What was searched.
        path: String,
    },
    /// The user does not exist.
    #[error(transparent)]
    User(#[from] UserError),
    /// The cgroup is not usable.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A step on the way to the running program failed.
    #[error("cannot start {}: {step}: {source}{}", program.display(), advice(*step, source))]
    Step {
        /// The program's file.
        program: PathBuf,
        /// The step.
        step: Step,
        /// The system's answer.
        source: io::Error,
    },
    /// The child was not running the program in time.
    #[error("cannot start {}: not running after {} ms; is its file system hung, or its cgroup frozen?", program.display(), limit.as_millis())]
    Slow {
        /// The program's file.
        program: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// A step between `fork` and the running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Making the child process.
    Fork = 1,
    /// Moving into the cgroup.
    Cgroup,
    /// Making a session.
    Session,
    /// Connecting input and output.
    Output,
    /// Becoming the user.
    User,
    /// Changing to the working directory.
    Cwd,
    /// Running the program's file.
    Exec,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fork => "make a process",
            Self::Cgroup => "enter its cgroup",
            Self::Session => "make a session",
            Self::Output => "connect its output",
            Self::User => "switch to its user",
            Self::Cwd => "change to its working directory",
            Self::Exec => "execute",
        })
    }
}

impl Step {
    fn from_byte(byte: u8) -> Self {
        [
            Self::Cgroup,
            Self::Session,
            Self::Output,
            Self::User,
            Self::Cwd,
            Self::Exec,
        ]
        .into_iter()
        .find(|step| *step as u8 == byte)
        .unwrap_or(Self::Fork)
    }
}

fn advice(step: Step, error: &io::Error) -> &'static str {
    match (step, error.raw_os_error()) {
        (Step::Exec, Some(libc::ENOENT)) => {
            "; the file, or the interpreter named in its first line, is missing on this node"
        }
        (Step::Exec, Some(libc::EACCES)) => {
            "; make it executable for this user (chmod +x), also its directories"
        }
        (Step::Exec, Some(libc::ENOEXEC)) => "; a script needs a first line such as #!/bin/sh",
        (Step::User, Some(libc::EPERM)) => "; only root may run programs as another user",
        (Step::Fork, Some(libc::EAGAIN)) => "; too many processes, see ulimit -u and pids.max",
        _ => "",
    }
}

/// A started child.
#[derive(Debug)]
pub(super) struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// How the child is made and gets into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// `clone3(CLONE_INTO_CGROUP)`, Linux 5.7.
    Clone,
    /// `fork`, and the child writes itself to `cgroup.procs`. Measured until `exec` on 2 busy cores,
    /// median of 30: 14 ms, against 1.3 ms for `Clone`.
    Write,
}

/// Starts `program` with both outputs going to `output`; returns once it runs, or after `limit`.
///
/// Some kernels (seen on 6.18) kill every child cloned into a cgroup that was killed before
/// through `cgroup.kill`, though it is empty and usable. A child that never ran a line is therefore
/// made once more in the other way.
pub(super) fn spawn(
    program: &Program,
    output: BorrowedFd<'_>,
    limit: Duration,
) -> Result<Spawned, SpawnError> {
    let image = Image::prepare(program)?;
    match start(program, &image, output, Entry::Clone, limit)? {
        Start::Running(child) => Ok(child),
        Start::Unborn(_) => match start(program, &image, output, Entry::Write, limit)? {
            Start::Running(child) | Start::Unborn(Some(child)) => Ok(child),
            Start::Unborn(None) => {
                Err(image.failed(Step::Fork, io::Error::from_raw_os_error(libc::ENOSYS)))
            }
        },
    }
}

/// A file that holds `input`, or has nothing.
fn standard_input(input: &[u8]) -> io::Result<File> {
    if input.is_empty() {
        return File::options().read(true).open("/dev/null");
    }
    let file = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// What became of a child.
#[derive(Debug)]
enum Start {
    /// The program runs, or has run.
    Running(Spawned),
    /// It was killed before its first instruction, or the kernel does not know this way.
    Unborn(Option<Spawned>),
}

fn start(
    program: &Program,
    image: &Image,
    output: BorrowedFd<'_>,
    entry: Entry,
    limit: Duration,
) -> Result<Start, SpawnError> {
    let null = standard_input(&program.input).map_err(|error| image.failed(Step::Output, error))?;
    let (status, report) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| image.failed(Step::Fork, error.into()))?;
    let (argv, envp) = (pointers(&image.argv), pointers(&image.env));
    let mut plan = Plan {
        path: image.c_path.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: image.cwd.as_ptr(),
        account: image.account.as_ref(),
        stdin: null.as_raw_fd(),
        output: output.as_raw_fd(),
        report: report.as_raw_fd(),
        procs: None,
    };
    let child = match entry {
        Entry::Clone => {
            let dir = program.cgroup.as_ref().map(Cgroup::dir).transpose()?;
            clone_child(&plan, dir.as_ref().map(AsRawFd::as_raw_fd))
        }
        Entry::Write => {
            let procs = program.cgroup.as_ref().map(Cgroup::entry).transpose()?;
            plan.procs = procs.as_ref().map(AsRawFd::as_raw_fd);
            fork_child(&plan)
        }
    };
    drop(report);
    let child = match child {
        Ok(child) => child,
        Err(error) if entry == Entry::Clone && unknown_call(&error) => {
            return Ok(Start::Unborn(None));
        }
        Err(error) => return Err(image.failed(Step::Fork, error)),
    };
    match wait_exec(File::from(status), limit) {
        Report::Running => Ok(Start::Running(child)),
        Report::Unborn => {
            if entry == Entry::Clone {
                reap_failed(&child);
            }
            Ok(Start::Unborn(Some(child)))
        }
        Report::Failed(step, source) => {
            reap_failed(&child);
            Err(image.failed(step, source))
        }
        Report::Slow => {
            reap_failed(&child);
            Err(SpawnError::Slow {
                program: image.path.clone(),
                limit,
            })
        }
    }
}

/// Old kernels, and seccomp filters that do not know `clone3`.
fn unknown_call(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::E2BIG | libc::EPERM)
    )
}

/// The child has ended or is being killed; a thread takes what does not end at once.
fn reap_failed(child: &Spawned) {
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
    reap_later(child.pidfd.try_clone().ok());
}

/// Reaps a killed child that may be stuck in the kernel for a while.
pub(crate) fn reap_later(pidfd: Option<OwnedFd>) {
    use std::os::fd::AsFd;
    let Some(pidfd) = pidfd else { return };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let _ = super::poll(&mut fds, Duration::from_millis(200));
    if super::reap(pidfd.as_fd()).is_some() {
        return;
    }
    // Without a thread the zombie stays until this process ends, which is harmless.
    let _ = std::thread::Builder::new()
        .name("reaper".into())
        .stack_size(64 << 10)
        .spawn(move || {
            let options = rustix::process::WaitIdOptions::EXITED;
            let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options);
        });
}

/// What the child told before its end of the pipe was closed, by `exec` or by its death.
enum Report {
    Running,
    Unborn,
    Failed(Step, io::Error),
    Slow,
}

/// The child writes one byte at its birth and five more when a step fails.
fn wait_exec(mut status: File, limit: Duration) -> Report {
    let end = Instant::now() + limit;
    let mut text = [0; 6];
    let mut length = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if !super::poll(&mut [PollFd::new(&status, PollFlags::IN)], left).unwrap_or(false) {
            return Report::Slow;
        }
        match status.read(&mut text[length..]) {
            Ok(count) if count > 0 => length += count,
            _ => break,
        }
    }
    let [_, step, errno @ ..] = text;
    match length {
        0 => Report::Unborn,
        6 => Report::Failed(
            Step::from_byte(step),
            io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
        ),
        _ => Report::Running,
    }
}

/// A program's strings in the form `execve` takes.
struct Image {
    path: PathBuf,
    c_path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    account: Option<Account>,
}

impl Image {
    fn failed(&self, step: Step, source: io::Error) -> SpawnError {
        SpawnError::Step {
            program: self.path.clone(),
            step,
            source,
        }
    }

    fn prepare(program: &Program) -> Result<Self, SpawnError> {
        let name = program.argv.first().ok_or(SpawnError::Empty)?;
        let account = program.user.as_deref().map(Account::find).transpose()?;
        let env = environment(program, account.as_ref());
        let c_argv = (program.argv.iter())
            .map(|word| c_string(word.as_ref(), "an argument"))
            .collect::<Result<_, _>>()?;
        let search = env
            .iter()
            .rev()
            .find(|(key, _)| key == "PATH")
            .map_or(DEFAULT_PATH, |(_, value)| value);
        let path = resolve(name, search)?;
        let cwd = program.cwd.as_deref().unwrap_or(Path::new("/"));
        Ok(Self {
            c_path: c_string(path.as_os_str(), "the program's path")?,
            argv: c_argv,
            env: env
                .iter()
                .map(|(key, value)| {
                    c_string(format!("{key}={value}").as_ref(), "an environment variable")
                })
                .collect::<Result<_, _>>()?,
            cwd: c_string(cwd.as_os_str(), "the working directory")?,
            path,
            account,
        })
    }
}

fn c_string(text: &OsStr, what: &'static str) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| SpawnError::Nul(what))
}

fn environment(program: &Program, account: Option<&Account>) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = vec![(
        "PATH".into(),
        std::env::var("PATH").unwrap_or(DEFAULT_PATH.into()),
    )];
    if let Ok(lang) = std::env::var("LANG") {
        env.push(("LANG".into(), lang));
    }
    if let Some(account) = account {
        let of_user = [
            ("HOME", &account.home),
            ("USER", &account.name),
            ("LOGNAME", &account.name),
            ("SHELL", &account.shell),
        ];
        env.extend(of_user.map(|(key, value)| (key.to_owned(), value.clone())));
    }
    for (key, value) in &program.env {
        env.retain(|(known, _)| known != key);
        env.push((key.clone(), value.clone()));
    }
    env
}

fn resolve(name: &str, search: &str) -> Result<PathBuf, SpawnError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    search
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
        .ok_or_else(|| SpawnError::NotInPath {
            name: name.to_owned(),
            path: search.to_owned(),
        })
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// What the child needs; every pointer outlives the child's `exec`.
struct Plan<'a> {
    path: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    cwd: *const libc::c_char,
    account: Option<&'a Account>,
    stdin: RawFd,
    output: RawFd,
    report: RawFd,
    procs: Option<RawFd>,
}

fn clone_child(plan: &Plan<'_>, cgroup: Option<RawFd>) -> io::Result<Spawned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero clone_args is valid: every field is a number.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.unsigned_abs());
    }
    let masked = SignalsBlocked::new();
    // SAFETY: without CLONE_VM the child has its own copy of memory, like after fork; `args` and
    // `pidfd` are valid for the call, and the size is that of the struct.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        // SAFETY: we are the child, which owns this copy of memory and ends inside.
        unsafe { become_program(plan) }
    }
    let error = io::Error::last_os_error();
    drop(masked);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: clone3 succeeded, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned {
        pid: i32::try_from(pid).map_err(io::Error::other)?,
        pidfd,
    })
}

fn fork_child(plan: &Plan<'_>) -> io::Result<Spawned> {
    let masked = SignalsBlocked::new();
    // SAFETY: the child makes only async-signal-safe calls (`become_program`).
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: we are the child, which owns this copy of memory and ends inside.
        unsafe { become_program(plan) }
    }
    let error = io::Error::last_os_error();
    drop(masked);
    // Not yet reaped, so the number is still this child's.
    match Pid::from_raw(pid.max(0)) {
        Some(handle) => Ok(Spawned {
            pid,
            pidfd: rustix::process::pidfd_open(handle, PidfdFlags::empty())?,
        }),
        None => Err(error),
    }
}

/// Blocks all signals of this thread, so that no handler of ours runs in the child.
pub(crate) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        // SAFETY: sigset_t is plain data, filled before use; both pointers are valid.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by the kernel in `new`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Turns the child into the program, or reports why not and ends.
///
/// # Safety
/// Only in a fresh child with its own memory; every pointer in `plan` must be valid. Makes system
/// calls only: no allocation, no locks, and the raw calls for user and groups, because glibc's
/// wrappers would wait for threads that exist only in the parent.
unsafe fn become_program(plan: &Plan<'_>) -> ! {
    // SAFETY: as above; every argument below is a number or a pointer valid in this copy of memory.
    unsafe {
        let check = |result: i64, step: Step| {
            if result < 0 {
                fail(plan.report, step);
            }
        };
        libc::write(plan.report, [0u8].as_ptr().cast(), 1);
        if let Some(procs) = plan.procs {
            check(
                libc::write(procs, c"0".as_ptr().cast(), 1) as i64,
                Step::Cgroup,
            );
        }
        check(i64::from(libc::setsid()), Step::Session);
        default_signals();
        forget_oom_score();
        check(i64::from(libc::dup2(plan.stdin, 0)), Step::Output);
        check(i64::from(libc::dup2(plan.output, 1)), Step::Output);
        check(i64::from(libc::dup2(plan.output, 2)), Step::Output);
        // Refused by kernels before 5.11; our own descriptors are close-on-exec anyway.
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        if let Some(account) = plan.account {
            let (uid, gid) = (account.uid, account.gid);
            check(
                libc::syscall(
                    libc::SYS_setgroups,
                    account.groups.len(),
                    account.groups.as_ptr(),
                ),
                Step::User,
            );
            check(
                libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                Step::User,
            );
            check(
                libc::syscall(libc::SYS_setresuid, uid, uid, uid),
                Step::User,
            );
        }
        check(i64::from(libc::chdir(plan.cwd)), Step::Cwd);
        libc::execve(plan.path, plan.argv, plan.envp);
        fail(plan.report, Step::Exec)
    }
}

/// Default handling for every signal, ignored ones too, and none blocked.
///
/// # Safety
/// Only in a fresh child.
unsafe fn default_signals() {
    // SAFETY: the kernel's sigaction is 32 bytes, all zero for SIG_DFL without flags, and its set of
    // signals 8; refused numbers (KILL, STOP) are harmless. The raw calls also reach 32 and 33,
    // which the C library keeps for itself.
    unsafe {
        let none = [0u64; 4];
        let unset = std::ptr::null_mut::<u64>();
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, none.as_ptr(), unset, 8);
        }
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            unset,
            8,
        );
    }
}

/// Undoes the daemon's own protection from the out-of-memory killer, which is inherited.
///
/// # Safety
/// Only in a fresh child.
unsafe fn forget_oom_score() {
    // SAFETY: the path and the text are static NUL-ended strings.
    unsafe {
        let fd = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
}

/// Reports `errno` of the failed step and ends the child.
///
/// # Safety
/// Only in a fresh child; `report` is the pipe to the parent.
unsafe fn fail(report: RawFd, step: Step) -> ! {
    // SAFETY: reads errno of this thread, writes 5 bytes of the stack to a pipe, and ends.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let message = [step as u8, errno[0], errno[1], errno[2], errno[3]];
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests;
