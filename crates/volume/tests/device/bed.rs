//! A mirror process under test: this very test program, started again.

use hotpair_core::config::OnDiskFailure;
use hotpair_core::ids::Epoch;
use hotpair_volume::driver::through::Through;
use hotpair_volume::driver::{Driver, Options};
use hotpair_volume::engine::Engine;
use hotpair_volume::protocol::{ToMirror, Work};
use hotpair_volume::testing::{Mirror, NAME, Pair, SOCKET};
use hotpair_wire::pki::ClusterCa;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In the child: serves, and never returns.
pub fn serve_if_child() {
    let (Ok(socket), Ok(name)) = (std::env::var(SOCKET), std::env::var(NAME)) else {
        return;
    };
    let options = Options {
        socket: socket.into(),
        name,
    };
    let ended = match options.name.contains(".pair") {
        true => Driver::new(options, Engine::new).unwrap().run(),
        false => Driver::new(options, |_| Through::default()).unwrap().run(),
    };
    std::process::exit(i32::from(ended.is_err()));
}

pub struct Bed {
    pub mirror: Mirror,
    pub directory: tempfile::TempDir,
}

impl Bed {
    /// A process with an open gate and an image file of `size` bytes, not opened yet.
    pub fn start(name: &str, size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(size))
            .unwrap();
        let ca = ClusterCa::generate("test").unwrap();
        let identity = ca.issue("node1", 1, &[]).unwrap();
        let name = format!("test{}.{name}", std::process::id());
        let mirror = Mirror::start(program, &name, directory.path(), &image, &identity).unwrap();
        Self { mirror, directory }
    }

    pub fn work(&mut self, work: Work) -> Result<(), String> {
        self.mirror.work(work)
    }

    pub fn open(&mut self) -> PathBuf {
        self.work(Work::Open { epoch: Epoch(1) }).unwrap();
        self.mirror.setup.device.clone()
    }

    pub fn say(&mut self, message: &ToMirror) {
        self.mirror.say(message).unwrap();
    }

    pub fn wait_for_note(&mut self, part: &str) -> String {
        self.mirror.wait_for_note(part).unwrap()
    }
}

/// Two processes with the real engine, on loopback, over two links; nothing is agreed yet.
pub fn pair(name: &str, size: u64) -> (Pair, tempfile::TempDir) {
    pair_with(name, size, |_, place| place.join("image"))
}

/// The copy of node 1 is on the device of another process, whose gate can be closed.
pub fn pair_on(mut disk: Bed, name: &str, size: u64) -> (Pair, Bed, tempfile::TempDir) {
    let device = disk.open();
    let (mut pair, directory) = pair_with(name, size, |node, place| match node {
        1 => device.clone(),
        _ => place.join("image"),
    });
    pair.nodes[0].setup.on_disk_failure = OnDiskFailure::GoOn;
    pair.nodes[0].kill().unwrap();
    pair.nodes[0].restart().unwrap();
    (pair, disk, directory)
}

/// `place`: where the copy of a node is, which has a directory.
pub fn pair_with(
    name: &str,
    size: u64,
    place: impl Fn(u8, &Path) -> PathBuf,
) -> (Pair, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let ca = ClusterCa::generate("test").unwrap();
    let nodes = [1u8, 2].map(|id| {
        let own = directory.path().join(format!("node{id}"));
        std::fs::create_dir(&own).unwrap();
        let identity = ca.issue(&format!("node{id}"), id, &[]).unwrap();
        let name = format!("test{}{id}.pair-{name}", std::process::id());
        Mirror::start(program, &name, &own, &place(id, &own), &identity).unwrap()
    });
    let mut pair = Pair::new(nodes, size);
    pair.link(&[free_link(), free_link()]).unwrap();
    (pair, directory)
}

/// Two addresses of loopback that nobody uses.
pub fn free_link() -> (SocketAddr, SocketAddr) {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    (free(), free())
}

fn program() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "serve", "--nocapture"]);
    Ok(command)
}
