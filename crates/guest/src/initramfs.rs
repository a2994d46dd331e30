//! The guest's root file system in memory: a cpio archive (newc) that the kernel unpacks.
//!
//! Not compressed, since unpacking it would cost an emulated processor more than copying.

use crate::error::{GuestError, Result};
use crate::kernel_modules::Modules;
use crate::parts::Parts;
use cpio::newc;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// What the guest runs as process 1, and as its agent.
const INIT: &str = include_str!("init.sh");
const AGENT: &str = include_str!("agent.sh");

const DIRECTORIES: &[&str] = &[
    "dev", "etc", "lib", "lib64", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib",
    "var/lib",
];

/// What is in a place of the archive.
#[derive(Debug)]
enum Entry {
    Directory,
    Link(String),
    Copy(PathBuf, u32),
    Bytes(Vec<u8>, u32),
}

/// An archive in the making: paths without the leading `/`, parents before children.
#[derive(Debug, Default)]
pub struct Initramfs(BTreeMap<String, Entry>);

impl Initramfs {
    /// Busybox, process 1, the agent, and the modules in the order in which they are loaded.
    pub fn new(parts: &Parts, host_name: &str, modules: &[String]) -> Result<Self> {
        let mut this = Self::default();
        for directory in DIRECTORIES {
            this.put(directory, Entry::Directory);
        }
        this.put("bin/busybox", Entry::Copy(parts.busybox(), 0o755));
        for name in ["sbin", "usr/sbin"] {
            this.put(name, Entry::Link("/usr/bin".to_owned()));
        }
        this.text("init", INIT, 0o755);
        this.text("bin/agent", AGENT, 0o755);
        this.text("etc/hostname", host_name, 0o644);
        this.text(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            0o644,
        );
        this.text("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644);
        this.text("etc/hosts", "127.0.0.1 localhost\n", 0o644);
        // Busybox's own shell takes its own applets before programs that were brought along.
        this.program(parts, Path::new("dash"))?;
        let mut list = String::new();
        for load in Modules::read(&parts.modules())?.order(modules)? {
            let file = load.file.file_name().unwrap_or_default().to_string_lossy();
            let plain = file.split_once(".ko").map_or(&*file, |(stem, _)| stem);
            let path = parts.modules().join(&load.file);
            let entry = match file.ends_with(".xz") {
                true => Entry::Bytes(unpacked(&path)?, 0o644),
                false => Entry::Copy(path, 0o644),
            };
            this.put(&format!("lib/modules/{plain}.ko"), entry);
            let required = if load.required {
                "required"
            } else {
                "optional"
            };
            list += &format!("{required} /lib/modules/{plain}.ko {}\n", load.parameters);
        }
        this.text("etc/modules", &list, 0o644);
        Ok(this)
    }

    /// A file of this machine, at an absolute path of the guest.
    pub fn file(&mut self, from: &Path, to: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let about = fs::metadata(from).map_err(GuestError::file("read", from))?;
        let mode = about.permissions().mode() & 0o777;
        self.put(to, Entry::Copy(from.to_owned(), mode));
        Ok(())
    }

    /// A program in `/usr/bin`, and the shared libraries it needs, where it looks for them.
    pub fn program(&mut self, parts: &Parts, program: &Path) -> Result<()> {
        let file = parts.program(program)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.put(&format!("usr/bin/{name}"), Entry::Copy(file.clone(), 0o755));
        for library in libraries(parts, &file)? {
            let place = library
                .strip_prefix(parts.root())
                .unwrap_or(&library)
                .to_owned();
            self.put(&place.to_string_lossy(), Entry::Copy(library, 0o755));
        }
        Ok(())
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> Result<()> {
        let fail = |e| GuestError::file("write", path)(e);
        let mut file =
            std::io::BufWriter::with_capacity(1 << 18, fs::File::create(path).map_err(fail)?);
        for (number, (place, entry)) in (1..).zip(&self.0) {
            let (kind, mode, bytes) = match entry {
                Entry::Directory => (0o040_000, 0o755, Vec::new()),
                Entry::Link(target) => (0o120_000, 0o777, target.clone().into_bytes()),
                Entry::Copy(from, mode) => (
                    0o100_000,
                    *mode,
                    fs::read(from).map_err(GuestError::file("read", from))?,
                ),
                Entry::Bytes(bytes, mode) => (0o100_000, *mode, bytes.clone()),
            };
            let size = u32::try_from(bytes.len()).map_err(|_| {
                GuestError::BadSpec(
                    place.clone(),
                    "a file of 4 GiB or more does not fit into its memory",
                )
            })?;
            let header = newc::Builder::new(place)
                .ino(number)
                .nlink(1)
                .mode(kind | mode);
            let mut writer = header.write(file, size);
            writer.write_all(&bytes).map_err(fail)?;
            file = writer.finish().map_err(fail)?;
        }
        let mut file = newc::trailer(file).map_err(fail)?;
        file.flush().map_err(fail)
    }

    fn text(&mut self, place: &str, text: &str, mode: u32) {
        self.put(place, Entry::Bytes(text.into(), mode));
    }

    fn put(&mut self, place: &str, entry: Entry) {
        let place = plain(Path::new(place));
        for parent in place.ancestors().skip(1) {
            let parent = parent.to_string_lossy().into_owned();
            if !parent.is_empty() {
                self.0.entry(parent).or_insert(Entry::Directory);
            }
        }
        self.0.insert(place.to_string_lossy().into_owned(), entry);
    }
}

/// Without the leading `/`, `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    plain
}

fn unpacked(module: &Path) -> Result<Vec<u8>> {
    let output = Command::new("xz")
        .arg("-dc")
        .arg(module)
        .output()
        .map_err(|e| GuestError::system("start xz", e))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(GuestError::system(
            format!("unpack {}", module.display()),
            std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()),
        )),
    }
}

/// What ldd(1) says a program needs, its loader included; nothing for a static one or a script.
fn libraries(parts: &Parts, program: &Path) -> Result<Vec<PathBuf>> {
    let directories =
        ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|d| parts.root().join(d));
    let unpacked = std::env::join_paths(directories).map_err(|e| {
        GuestError::system("name directories of libraries", std::io::Error::other(e))
    })?;
    let output = Command::new("ldd")
        .arg(program)
        .env("LD_LIBRARY_PATH", unpacked)
        .output()
        .map_err(|e| GuestError::system("start ldd", e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        return Err(GuestError::NoProgram(format!(
            "{} that can run: {}",
            program.display(),
            missing.trim()
        )));
    }
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_what_is_in_them() {
        let mut archive = Initramfs::default();
        archive.put("/a/b/../c/file", Entry::Bytes(Vec::new(), 0o644));
        let places: Vec<_> = archive.0.keys().map(String::as_str).collect();
        assert_eq!(places, ["a", "a/c", "a/c/file"]);
    }
}
