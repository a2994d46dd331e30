//! The outside client and the referees, which judge a cluster by what can be seen from outside.
//!
//! Three observers share one time base (CLOCK_MONOTONIC):
//! - the *client* sends a numbered UDP request to the virtual IP at each interval and notes which
//!   node answered which request when;
//! - the *frame referee* notes which Ethernet addresses send frames with the virtual IP as source;
//! - the *holder referee* asks every host's kernel whether it has the address.

mod client;
mod referee;
mod report;

pub use report::{Observed, Outage, ProbeReport, SourceMac, judge};

use crate::clock::now_us;
use crate::control::Status;
use crate::error::{LabError, Result};
use crate::netns::Netns;
use crate::paths::Paths;
use crate::plan::{APP_PORT, Role, VIRTUAL_IP};
use client::Requests;
use referee::{Frames, Holders};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to probe and how to judge it.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// The host that asks; the client host unless named.
    pub from: Option<String>,
    /// The virtual IP.
    pub address: Ipv4Addr,
    /// The application's UDP port.
    pub port: u16,
    /// Time between two requests; at least 0.1 ms.
    pub interval: Duration,
    /// Silence longer than twice the interval and this is an outage.
    pub threshold: Duration,
    /// A node that answers again no sooner than this after it was replaced, and then alone for
    /// so long, has come back by a return; anything else is a double answer.
    pub settle: Duration,
    /// Time between two looks at who holds the address.
    pub holder_interval: Duration,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            from: None,
            address: VIRTUAL_IP,
            port: APP_PORT,
            interval: Duration::from_millis(1),
            threshold: Duration::from_millis(10),
            settle: Duration::from_secs(1),
            holder_interval: Duration::from_millis(5),
        }
    }
}

/// A probe at work.
#[derive(Debug)]
pub struct ProbeHandle {
    options: ProbeOptions,
    start_us: u64,
    stop: Stop,
    answers: Arc<AtomicU64>,
    sender: JoinHandle<Vec<u64>>,
    requests: JoinHandle<Vec<client::Answer>>,
    frames: JoinHandle<Vec<referee::Sighting>>,
    holders: JoinHandle<referee::Held>,
}

/// Tells the observers to stop, also when a probe is given up without an answer.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// After the last request, answers are awaited for so long.
const LAST_ANSWERS: Duration = Duration::from_millis(50);

/// Starts all observers of a lab.
pub fn start(paths: &Paths, status: &Status, options: &ProbeOptions) -> Result<ProbeHandle> {
    let client = status.hosts.iter().find(|h| match &options.from {
        Some(name) => h.plan.name == *name,
        None => h.plan.role == Role::Client,
    });
    let pid = client
        .and_then(|h| h.init_pid)
        .ok_or_else(|| LabError::HostState {
            host: options.from.clone().unwrap_or("client".to_owned()),
            problem: "has no power: heal the lab first".to_owned(),
        })?;
    let namespace = Netns::of_process(pid)?;
    let stop = Stop::default();
    let (address, port) = (options.address, options.port);
    let requests = namespace.within(move || Requests::open(address, port))?;
    let frames = namespace.within(move || Frames::open(address))?;
    let holders = Holders::new(paths, status, address);
    let start_us = now_us();
    let (sending, interval) = (
        requests.sender()?,
        options.interval.max(Duration::from_micros(100)),
    );
    let flag = || Arc::clone(&stop.0);
    let (a, b, c, d) = (flag(), flag(), flag(), flag());
    let answers = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answers);
    let holder_interval = options.holder_interval;
    Ok(ProbeHandle {
        options: options.clone(),
        start_us,
        sender: observer(move || sending.run(interval, &a)),
        requests: observer(move || requests.receive(&b, &count)),
        frames: observer(move || frames.watch(&c)),
        holders: observer(move || holders.watch(holder_interval, &d)),
        stop,
        answers,
    })
}

/// Starts a thread that a busy machine holds up as little as possible.
fn observer<T: Send + 'static>(watch: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(|| {
        // On Linux this is the thread's own niceness; refused, the figures are noisier.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
        watch()
    })
}

impl ProbeHandle {
    /// When the probe started, in microseconds of CLOCK_MONOTONIC.
    pub fn start_mono_us(&self) -> u64 {
        self.start_us
    }

    /// How many answers came until now.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Stops all observers and judges what they saw.
    pub fn finish(self) -> Result<ProbeReport> {
        let panicked = || LabError::Keeper("a thread of the probe panicked".to_owned());
        let end_us = now_us();
        drop(self.stop);
        let sent_us = self.sender.join().map_err(|_| panicked())?;
        let answers = self.requests.join().map_err(|_| panicked())?;
        let sightings = self.frames.join().map_err(|_| panicked())?;
        let held = self.holders.join().map_err(|_| panicked())?;
        let seen = Observed {
            start_us: self.start_us,
            end_us,
            sent_us,
            answers,
            sightings,
            held,
        };
        Ok(judge(&self.options, &seen))
    }
}
