//! Running a program on a host from outside: all its namespaces, its cgroup, its environment.

use crate::error::{LabError, Result};
use crate::init::Boot;
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

/// Becomes a visitor of the host, runs `argv` there and passes its exit code on.
///
/// The calling process must have a single thread. It stays outside the host's cgroup, so that a
/// host's power cut ends the program and leaves this process to report it (137).
pub fn run(init_pid: i32, boot: &Boot, argv: &[String]) -> Result<ExitCode> {
    let (program, arguments) = argv.split_first().ok_or_else(|| {
        LabError::Keeper("there is no command to run: give one after `--`".to_owned())
    })?;
    let mut home = open_procs(&own_cgroup()?)?;
    let mut visited = open_procs(&boot.cgroup)?;
    let init = rustix::process::Pid::from_raw(init_pid)
        .ok_or_else(|| LabError::Keeper("the host has no process 1".to_owned()))?;
    let init = pidfd_open(init, PidfdFlags::empty())
        .map_err(|e| LabError::system("find the host's process 1", e))?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&init), all)
        .map_err(|e| LabError::system("enter the host's namespaces", e))?;
    visited
        .write_all(b"0")
        .map_err(LabError::file("enter", &boot.cgroup))?;
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(std::env::var("TERM").map(|term| ("TERM", term)))
        .envs(boot.environment())
        .current_dir("/")
        .spawn();
    home.write_all(b"0")
        .map_err(|e| LabError::system("leave the host's cgroup", e))?;
    let status = match started {
        Ok(mut child) => child
            .wait()
            .map_err(|e| LabError::system("wait for the program", e))?,
        Err(error) => {
            eprintln!(
                "hotpair lab: {}: cannot start {program}: {error}",
                boot.host
            );
            return Ok(ExitCode::from(127));
        }
    };
    Ok(ExitCode::from(code(status)))
}

/// The exit code a shell would show: 128 and the signal's number for a killed program.
pub fn code(status: ExitStatus) -> u8 {
    let raw = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    raw.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn own_cgroup() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")
        .map_err(LabError::file("read", "/proc/self/cgroup"))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or(LabError::NoCgroup2)?;
    Ok(crate::cgroup::root()?.join(path))
}

fn open_procs(cgroup: &std::path::Path) -> Result<fs::File> {
    let path = cgroup.join("cgroup.procs");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(LabError::file("open", path))
}
