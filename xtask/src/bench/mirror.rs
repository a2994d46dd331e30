//! `cargo xtask bench mirror`: a mirror's device against the raw disk, as ratios inside one run.
//!
//! Two loop devices with direct I/O, one over the image file itself and one over the export, are
//! measured in turn, again and again, so that what else happens on the machine meets both.

use anyhow::{Context, Result, bail};
use clap::Args;
use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::Copy;
use hotpair_volume::driver::through::Through;
use hotpair_volume::driver::{Driver, Options};
use hotpair_volume::engine::Engine;
use hotpair_volume::protocol::Work;
use hotpair_volume::testing::{self, Mirror, Pair};
use hotpair_wire::pki::ClusterCa;
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of a synchronous mirror.
const PAIR: f64 = 0.75;
/// What is measured on; the image files are larger, for metadata.
const GIB: u64 = 1024 * 1024 * 1024;

#[derive(Args)]
pub struct Bench {
    /// Rounds, each of all rows, 1 to 100.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement, 1 to 60.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Where the image files go: a directory on the disk that is to be measured.
    #[arg(long, default_value = "/var/tmp", value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Only these loads, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    loads: Vec<String>,
    /// Also measure QEMU's storage daemon with its FUSE export, if it is installed.
    #[arg(long)]
    qemu: bool,
}

/// A pattern of requests.
pub struct Load {
    pub name: &'static str,
    pub title: &'static str,
    pub target: f64,
    arguments: &'static [&'static str],
    reads: bool,
}

pub const LOADS: &[Load] = &[
    Load {
        name: "random-write-1",
        title: "4 KiB random write, depth 1",
        target: 0.75,
        arguments: &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
        reads: false,
    },
    Load {
        name: "random-write-32",
        title: "4 KiB random write, depth 32",
        target: 0.70,
        arguments: &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
        reads: false,
    },
    Load {
        name: "write",
        title: "1 MiB sequential write",
        target: 0.80,
        arguments: &["--rw=write", "--bs=1M", "--iodepth=1"],
        reads: false,
    },
    Load {
        name: "read",
        title: "1 MiB sequential read",
        target: 0.85,
        arguments: &["--rw=read", "--bs=1M", "--iodepth=1"],
        reads: true,
    },
];

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    pub per_second: f64,
    pub median_us: f64,
    pub p99_us: f64,
}

/// All rounds of a row.
#[derive(Serialize)]
pub struct Ratio {
    pub row: &'static str,
    pub title: &'static str,
    pub of: &'static str,
    pub target: Option<f64>,
    pub raw: Vec<Sample>,
    pub ours: Vec<Sample>,
}

impl Ratio {
    fn ratios(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self
            .raw
            .iter()
            .zip(&self.ours)
            .map(|(raw, ours)| ours.per_second / raw.per_second)
            .collect();
        all.sort_by(f64::total_cmp);
        all
    }

    pub fn good(&self) -> bool {
        match (super::table::median(&self.ratios()), self.target) {
            (Some(median), Some(target)) => median >= target,
            (found, None) => found.is_some(),
            (None, _) => false,
        }
    }

    fn line(&self) -> String {
        let ratios = self.ratios();
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
            let mut all: Vec<f64> = samples.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            super::table::median(&all).unwrap_or(0.0)
        };
        let word = match (self.target, self.good()) {
            (None, _) => "",
            (_, true) => "reached",
            (_, false) => "missed",
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.0} / {:.0} | {:.0} / {:.0} | {:.0} / {:.0} | {word} |",
            self.of,
            self.title,
            shown(ratios.first().copied()),
            shown(super::table::median(&ratios)),
            shown(ratios.last().copied()),
            shown(self.target),
            middle(&self.raw, |s| s.per_second),
            middle(&self.ours, |s| s.per_second),
            middle(&self.raw, |s| s.median_us),
            middle(&self.ours, |s| s.median_us),
            middle(&self.raw, |s| s.p99_us),
            middle(&self.ours, |s| s.p99_us),
        )
    }
}

impl Bench {
    pub fn run(&self) -> Result<Vec<Ratio>> {
        let directory = tempfile::Builder::new()
            .prefix("hotpair-bench-")
            .tempdir_in(&self.directory)
            .context("no directory for the image files")?;
        let image = directory.path().join("image");
        fill(&image)?;
        println!(
            "\nExport alone against the raw loop device on the same file; {} rounds of {} s; ours / raw\n\n\
             | Export | Load | min | median | max | target | per second, raw / ours | µs median | µs p99 | |\n\
             |---|---|---|---|---|---|---|---|---|---|",
            self.rounds, self.seconds
        );
        let mut rows = self.export(directory.path(), &image)?;
        rows.extend(self.pair(directory.path(), &image)?);
        if self.qemu {
            rows.extend(self.qemu(directory.path(), &image)?);
        }
        Ok(rows)
    }

    fn export(&self, directory: &Path, image: &Path) -> Result<Vec<Ratio>> {
        let ca = ClusterCa::generate("bench")?;
        let identity = ca.issue("node1", 1, &[])?;
        let name = format!("bench{}.export", std::process::id());
        let mut mirror = Mirror::start(serving, &name, directory, image, &identity)?;
        // After the mirror has looked that nobody else uses the file.
        mirror
            .work(Work::Open { epoch: Epoch(1) })
            .map_err(anyhow::Error::msg)?;
        let raw = Loop::over(image)?;
        let device = mirror.setup.device.clone();
        let rows = self.compare("FUSE + loop", true, &raw.0, &device)?;
        mirror.work(Work::Close).map_err(anyhow::Error::msg)?;
        Ok(rows)
    }

    /// A synchronous mirror of two processes on this machine against two plain loop devices that are
    /// written at the same time: both disks are one disk there, too.
    fn pair(&self, directory: &Path, image: &Path) -> Result<Vec<Ratio>> {
        let second = directory.join("image2");
        fill(&second)?;
        let images = [image, &second];
        let ca = ClusterCa::generate("bench")?;
        let mut nodes = Vec::new();
        for (id, image) in [1u8, 2].into_iter().zip(images) {
            let own = directory.join(format!("node{id}"));
            std::fs::create_dir(&own)?;
            let identity = ca.issue(&format!("node{id}"), id, &[])?;
            let name = format!("bench{}{id}.pair", std::process::id());
            nodes.push(Mirror::start(serving, &name, &own, image, &identity)?);
        }
        let nodes: [Mirror; 2] = nodes
            .try_into()
            .map_err(|_| anyhow::anyhow!("two nodes are a pair"))?;
        let mut pair = Pair::new(nodes, GIB);
        pair.data.copies = [1, 2]
            .map(|id| (MemberId(id), Copy::New { overwrite: true }))
            .into();
        pair.link(&[(free_address()?, free_address()?)])?;
        let device = pair.make()?;
        pair.wait_in_sync()?;
        let raw = [Loop::over(image)?, Loop::over(&second)?];
        println!(
            "\nSynchronous mirror on this machine against two loop devices written at the same time; round trip \
             over loopback {:.0} µs\n",
            round_trip()?
        );
        let mut rows = Vec::new();
        for load in LOADS.iter().filter(|load| !load.reads && self.wants(load)) {
            let mut ratio = Ratio {
                row: load.name,
                title: load.title,
                of: "mirror",
                target: Some(PAIR),
                raw: Vec::new(),
                ours: Vec::new(),
            };
            for _ in 0..self.rounds {
                ratio
                    .raw
                    .push(self.measure_both(load, [&raw[0].0, &raw[1].0])?);
                ratio.ours.push(self.measure(load, &device)?);
                pair.turn()?;
            }
            println!("{}", ratio.line());
            rows.push(ratio);
        }
        drop(raw);
        pair.nodes[0].close().map_err(anyhow::Error::msg)?;
        Ok(rows)
    }

    /// Both at once: the mean of the two.
    fn measure_both(&self, load: &Load, devices: [&Path; 2]) -> Result<Sample> {
        let [first, second] = devices;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.measure(load, second));
            let one = self.measure(load, first)?;
            let other = other
                .join()
                .map_err(|_| anyhow::anyhow!("the measuring thread has failed"))??;
            let mean = |of: fn(&Sample) -> f64| f64::midpoint(of(&one), of(&other));
            Ok(Sample {
                per_second: mean(|s| s.per_second),
                median_us: mean(|s| s.median_us),
                p99_us: mean(|s| s.p99_us),
            })
        })
    }

    fn wants(&self, load: &Load) -> bool {
        self.loads.is_empty() || self.loads.iter().any(|name| name == load.name)
    }

    fn qemu(&self, directory: &Path, image: &Path) -> Result<Vec<Ratio>> {
        let file = directory.join("qemu");
        std::fs::write(&file, b"")?;
        let mut daemon = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!(
                "driver=file,node-name=image,filename={},cache.direct=on,aio=io_uring,locking=off",
                image.display()
            ))
            .arg("--export")
            .arg(format!(
                "type=fuse,id=image,node-name=image,mountpoint={},writable=on,growable=off",
                file.display()
            ))
            .spawn()
            .context("cannot start qemu-storage-daemon (Debian: qemu-system-common)")?;
        let rows = wait_for_size(&file)
            .and_then(|()| Ok((Loop::over(image)?, Loop::over(&file)?)))
            .and_then(|(raw, theirs)| self.compare("QEMU FUSE + loop", false, &raw.0, &theirs.0));
        let _ = daemon.kill();
        let _ = daemon.wait();
        let _ = Command::new("umount").arg("-l").arg(&file).status();
        rows
    }

    fn compare(
        &self,
        of: &'static str,
        ours: bool,
        raw: &Path,
        device: &Path,
    ) -> Result<Vec<Ratio>> {
        let mut rows = Vec::new();
        for load in LOADS.iter().filter(|load| self.wants(load)) {
            let mut ratio = Ratio {
                row: load.name,
                title: load.title,
                of,
                target: ours.then_some(load.target),
                raw: Vec::new(),
                ours: Vec::new(),
            };
            for _ in 0..self.rounds {
                ratio.raw.push(self.measure(load, raw)?);
                ratio.ours.push(self.measure(load, device)?);
            }
            println!("{}", ratio.line());
            rows.push(ratio);
        }
        Ok(rows)
    }

    fn measure(&self, load: &Load, device: &Path) -> Result<Sample> {
        let output = Command::new("fio")
            .args(["--name=load", "--direct=1", "--ioengine=libaio"])
            .args(["--time_based", "--output-format=json", "--randrepeat=0"])
            .arg(format!("--runtime={}", self.seconds))
            .arg(format!("--size={}", GIB))
            .arg(format!("--filename={}", device.display()))
            .args(load.arguments)
            .output()
            .context("cannot start fio (Debian: apt-get install fio)")?;
        if !output.status.success() {
            bail!("fio: {}", String::from_utf8_lossy(&output.stderr));
        }
        let found: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let job = &found["jobs"][0][if load.reads { "read" } else { "write" }];
        let number = |value: &serde_json::Value| value.as_f64().context("fio tells no number");
        let latency = &job["clat_ns"]["percentile"];
        Ok(Sample {
            per_second: number(&job["iops"])?,
            median_us: number(&latency["50.000000"])? / 1000.0,
            p99_us: number(&latency["99.000000"])? / 1000.0,
        })
    }
}

/// An image file whose every block is written, so that nothing is allocated while it is measured.
fn fill(image: &Path) -> Result<()> {
    let file = std::fs::File::create(image)?;
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        GIB + GIB / 16,
    )?;
    drop(file);
    let status = Command::new("fio")
        .args(["--name=fill", "--rw=write", "--bs=1M", "--direct=1"])
        .arg(format!("--size={}", GIB + GIB / 16))
        .arg(format!("--filename={}", image.display()))
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot start fio (Debian: apt-get install fio)")?;
    if !status.success() {
        bail!("the image file cannot be written");
    }
    Ok(())
}

fn wait_for_size(file: &Path) -> Result<()> {
    let begin = std::time::Instant::now();
    while std::fs::metadata(file)?.len() == 0 {
        if begin.elapsed().as_secs() > 10 {
            bail!("qemu-storage-daemon exports nothing");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// A loop device with direct I/O, until it is dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Result<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on"])
            .arg(file)
            .output()
            .context("cannot start losetup")?;
        if !output.status.success() {
            bail!("losetup: {}", String::from_utf8_lossy(&output.stderr));
        }
        let path = String::from_utf8(output.stdout)?;
        Ok(Self(path.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

fn serving() -> std::io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Median of a message of 4 KiB and a short answer over loopback, in microseconds.
fn round_trip() -> Result<f64> {
    const COUNT: usize = 2000;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = [0; 4096];
        for _ in 0..COUNT {
            far.read_exact(&mut bytes)?;
            far.write_all(&bytes[..64])?;
        }
        Ok(())
    });
    let mut times = Vec::with_capacity(COUNT);
    let mut bytes = [0; 4096];
    for _ in 0..COUNT {
        let begin = std::time::Instant::now();
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes[..64])?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let _ = echo.join();
    times.sort_by(f64::total_cmp);
    super::table::median(&times).context("no round trip")
}

/// In the child made by [`serving`]: serves a volume, and never returns.
pub fn serve_if_child() {
    let (Ok(socket), Ok(name)) = (std::env::var(testing::SOCKET), std::env::var(testing::NAME))
    else {
        return;
    };
    let options = Options {
        socket: socket.into(),
        name,
    };
    for warning in hotpair_volume::process::protect(&options.name) {
        eprintln!("{warning}");
    }
    let ended = match options.name.ends_with(".pair") {
        true => Driver::new(options, Engine::new).and_then(Driver::run),
        false => Driver::new(options, |_| Through::default()).and_then(Driver::run),
    };
    if let Err(error) = &ended {
        eprintln!("the mirror process has ended: {error}");
    }
    std::process::exit(i32::from(ended.is_err()));
}
