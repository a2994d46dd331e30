//! The process table in /proc.

use std::io;

/// The parts of `/proc/PID/stat` that identify a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// Name, at most 15 bytes (`comm`).
    pub comm: String,
    /// State letter, proc(5): R, S, D, T, Z, X ...
    pub state: char,
    /// Parent's number.
    pub parent: i32,
    /// Start, in clock ticks since boot; with the number it names a process for good.
    pub start_time: u64,
}

impl ProcessStat {
    /// Whether it has ended and only waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// `NotFound` when there is no such process, `InvalidData` when the file is not as proc(5) says.
pub fn stat(pid: i32) -> io::Result<ProcessStat> {
    let bytes = match std::fs::read(format!("/proc/{pid}/stat")) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Err(io::ErrorKind::NotFound.into());
        }
        other => other?,
    };
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat is malformed"),
        )
    })
}

/// The name is in parentheses and may hold any byte, parentheses too: the last one closes it.
fn parse(text: &str) -> Option<ProcessStat> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let comm = text.get(open + 1..close)?.to_owned();
    let rest: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
    Some(ProcessStat {
        comm,
        state: rest.first()?.chars().next()?,
        parent: rest.get(1)?.parse().ok()?,
        start_time: rest.get(19)?.parse().ok()?,
    })
}

/// The numbers of all processes.
pub fn pids() -> io::Result<Vec<i32>> {
    Ok(std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let line = "42 (a) R (b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        let parsed = parse(line).unwrap();
        assert_eq!(
            parsed,
            ProcessStat {
                comm: "a) R (b".into(),
                state: 'S',
                parent: 1,
                start_time: 777
            }
        );
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in ["", "1", "1 (x", "1 )x(", "1 (x)", "1 (x) S 1 2 3"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn finds_this_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(pids().unwrap().contains(&me));
        assert!(!stat(me).unwrap().is_dead());
    }
}
