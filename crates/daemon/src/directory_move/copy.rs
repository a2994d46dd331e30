//! Copying with cp(1), which keeps what a copy can keep: owners, modes, times, extended attributes with
//! access lists and capabilities, hard links, holes, sockets, pipes, devices.

use super::MoveError;
use super::tree::Count;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often it is looked how far the copy is, once it is clear that it takes a while.
const ROUND: Duration = Duration::from_millis(200);
/// Of what cp complains about, this many bytes are told.
const SAID: u64 = 4 << 10;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done_bytes: u64,
    pub all_bytes: u64,
}

/// Ends the program when it is dropped.
struct Copying(Child);

impl Drop for Copying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies what is in `from`, and its own attributes, to the root of the filesystem mounted at `to`.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    needs: Count,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), MoveError> {
    let failed = |why: String| MoveError::Copy(why);
    let mut source = from.as_os_str().to_owned();
    source.push("/.");
    let child = Command::new("cp")
        .args(["-dR", "--sparse=auto", "--one-file-system"])
        .arg("--preserve=mode,ownership,timestamps,links,xattr")
        .arg("--")
        .arg(source)
        .arg(to)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot run cp: {error}")))?;
    let mut copying = Copying(child);
    let errors = copying.0.stderr.take();
    // Read beside it, or a flood of complaints would stop it.
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut errors) = errors {
            let _ = errors.by_ref().take(SAID).read_to_string(&mut text);
            let _ = io::copy(&mut errors, &mut io::sink());
        }
        text
    });
    let before = used(to);
    let mut round = Duration::from_millis(2);
    let status = loop {
        let ended = copying.0.try_wait();
        if let Some(status) = ended.map_err(|error| failed(error.to_string()))? {
            break status;
        }
        let done_bytes = used(to).saturating_sub(before).min(needs.bytes);
        let now = Progress {
            done_bytes,
            all_bytes: needs.bytes,
        };
        if !progress(now) {
            return Err(MoveError::GivenUp);
        }
        std::thread::sleep(round);
        round = ROUND.min(round * 2);
    };
    if status.success() {
        return Ok(());
    }
    let said = errors.join().unwrap_or_default();
    let first: Vec<&str> = said.lines().take(3).collect();
    Err(failed(format!("cp {status}: {}", first.join("; "))))
}

/// Bytes that are used of the filesystem at `path`; 0 if it does not say.
fn used(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |now| {
        now.f_blocks
            .saturating_sub(now.f_bfree)
            .saturating_mul(now.f_frsize)
    })
}

/// Removes everything in a directory: an earlier copy, and the `lost+found` of a new filesystem, which
/// an application would find where it expects only its own.
pub(super) fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
