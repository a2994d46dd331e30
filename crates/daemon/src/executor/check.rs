//! Runs one detector once.

use super::home::{Home, program};
use super::mount::{LOOK_INTERVAL, LOOK_TIMEOUT};
use super::slot::{Key, lock};
use super::{Shared, address};
use hotpair_core::config::{
    Check, Detector, Environment, Mount, Ocf, Resource, ResourceKind, SqlEngine,
};
use hotpair_host::detect::{
    Detected, DiskCheck, Engine, ListenCheck, Owner, ProcessCheck, Protocol, ScriptCheck, SqlCheck,
    Target, TcpCheck, UrlCheck, load, memory,
};
use hotpair_host::net::gateway::{Gateway, reachable};
use hotpair_host::net::netlink::Netlink;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Interval and limit of a status program, which has none of its own.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Echoes a ping asks within its time-out.
const PING_TRIES: u32 = 3;

/// A detector as it is run: a configured one, or one that comes with the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    what: What,
    pub interval: Duration,
    pub timeout: Duration,
    pub tries: u32,
    /// Where it fails, the node is unfit, also where the resource was started.
    of_node: bool,
    /// A condition beside nothing that says whether the resource runs.
    alone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Check(Check),
    /// It is mounted, and as it should be.
    Mounted(Mount),
    /// Its agent finds it running.
    Monitored(Ocf),
}

impl From<Detector> for Watch {
    fn from(detector: Detector) -> Self {
        Self {
            what: What::Check(detector.check),
            interval: detector.interval,
            timeout: detector.timeout,
            tries: detector.tries,
            of_node: detector.of_node,
            alone: false,
        }
    }
}

/// All detectors of a resource, those that come with its kind included.
pub(super) fn detectors(resource: &Resource) -> Vec<Watch> {
    let mut all: Vec<Watch> = resource
        .detectors
        .iter()
        .cloned()
        .map(Watch::from)
        .collect();
    if let ResourceKind::Mount(mount) = &resource.kind {
        all.push(Watch {
            what: What::Mounted(mount.clone()),
            interval: LOOK_INTERVAL,
            timeout: LOOK_TIMEOUT,
            tries: 1,
            of_node: false,
            alone: false,
        });
    }
    if let ResourceKind::Ocf(ocf) = &resource.kind {
        all.push(Watch {
            what: What::Monitored(ocf.clone()),
            interval: ocf.interval,
            timeout: ocf.monitor_timeout,
            tries: 1,
            of_node: false,
            alone: false,
        });
    }
    if let ResourceKind::Program(program) = &resource.kind
        && let Some(command) = &program.status
    {
        all.push(Watch {
            what: What::Check(Check::Script {
                command: command.clone(),
                environment: program.environment.clone(),
            }),
            interval: STATUS_INTERVAL,
            timeout: STATUS_TIMEOUT,
            tries: 1,
            of_node: false,
            alone: false,
        });
    }
    let alone = all.iter().all(|watch| watch.condition().is_some());
    all.iter_mut().for_each(|watch| watch.alone = alone);
    all
}

impl Watch {
    /// The check, if it says nothing about whether the resource runs.
    fn condition(&self) -> Option<&Check> {
        match &self.what {
            What::Check(check) => (self.of_node || check.is_condition()).then_some(check),
            What::Mounted(_) | What::Monitored(_) => None,
        }
    }

    /// The program that runs for as long as all is well.
    pub(super) fn monitor(&self) -> Option<(&[String], &Environment)> {
        match &self.what {
            What::Check(Check::Monitor {
                command,
                environment,
            }) => Some((command, environment)),
            _ => None,
        }
    }
}

impl Shared {
    /// Runs detector `index`; blocks for at most its time-out. `Err`: not running, and why.
    pub(super) fn check(&self, key: &Key, index: usize, detector: &Watch) -> Result<(), String> {
        if let Some(check) = detector.condition() {
            return self.condition((key, index), check, detector);
        }
        match &detector.what {
            What::Check(check) => self.look_with((key, index), check, detector),
            What::Mounted(mount) => self.look_at_mount(key, mount, detector.timeout),
            What::Monitored(ocf) => self.monitor(key, index, (ocf, detector.timeout)),
        }
    }

    /// Looks whether the resource runs; of the node, looks wherever it is told to.
    fn look_with(
        &self,
        (key, index): (&Key, usize),
        check: &Check,
        detector: &Watch,
    ) -> Result<(), String> {
        let end = Instant::now() + detector.timeout;
        let must_be_here = |address| match detector.of_node {
            true => Ok(()),
            false => must_be_here(address),
        };
        let detected = match check {
            Check::Tcp {
                address,
                port,
                program,
            } => {
                address.map_or(Ok(()), must_be_here)?;
                tcp(*address, *port, program.as_deref(), end)
            }
            Check::Udp { port, program } => listening(
                Protocol::Udp,
                None,
                *port,
                program.as_deref(),
                detector.timeout,
            ),
            Check::Url {
                url,
                statuses,
                contains,
            } => {
                literal_host(url).map_or(Ok(()), must_be_here)?;
                self::url(url, statuses, contains.as_deref(), end)
            }
            Check::Process { name } => process(name, end),
            Check::Script {
                command,
                environment,
            } => {
                let home = Home::of(&self.settings.cgroup_root, key);
                let cgroup = home.for_check(index).map_err(|error| error.to_string())?;
                let variables = self.names(key);
                ScriptCheck {
                    program: program(command, environment, variables, Some(cgroup)),
                    timeout: detector.timeout,
                }
                .check()
            }
            Check::Sql(sql) => {
                if let Some(address) = sql.host.as_ref().and_then(|host| host.parse().ok()) {
                    must_be_here(address)?;
                }
                let home = Home::of(&self.settings.cgroup_root, key);
                let cgroup = home.for_check(index).map_err(|error| error.to_string())?;
                SqlCheck {
                    engine: engine(sql.engine),
                    host: sql.host.clone(),
                    port: sql.port,
                    database: sql.database.clone(),
                    login: sql.login.clone(),
                    password_file: sql.password_file.clone(),
                    query: sql.query.clone(),
                    answer: sql.answer.clone(),
                    user: sql.user.clone(),
                    cgroup: Some(cgroup),
                    timeout: detector.timeout,
                }
                .check()
            }
            Check::Ping { .. }
            | Check::Disk { .. }
            | Check::Memory { .. }
            | Check::Load { .. }
            | Check::Monitor { .. } => Detected::Running,
        };
        told(detected)
    }

    /// A check of what the resource needs. It counts where the resource was started; elsewhere what fails
    /// is a verdict.
    fn condition(
        &self,
        (key, index): (&Key, usize),
        check: &Check,
        detector: &Watch,
    ) -> Result<(), String> {
        let started = self.records.read(key);
        let place = (key.clone(), index);
        if let Some((command, environment)) = detector.monitor() {
            match started {
                Some(record) => {
                    return self
                        .monitors
                        .look(self, &place, (command, environment), record.epoch);
                }
                None => self.monitors.end(self, &place),
            }
        } else {
            let found = self.look_at_condition((key, index), check, detector);
            if started.is_none() || detector.of_node {
                let mut probed = lock(&self.verdicts.probed);
                match &found {
                    Ok(()) => probed.remove(&place),
                    Err(reason) => probed.insert(place, reason.clone()),
                };
            }
            if started.is_some() {
                if detector.of_node && found.is_err() {
                    // The verdict first: on an unfit node a failed resource is not tried again.
                    let config = self.config();
                    let own = config.resources.get(key);
                    self.take_verdicts(|resource| Some(resource) == own);
                }
                return found;
            }
        }
        if detector.alone {
            return Err("it was not started on this node".into());
        }
        Ok(())
    }

    fn look_at_condition(
        &self,
        (key, index): (&Key, usize),
        check: &Check,
        detector: &Watch,
    ) -> Result<(), String> {
        let timeout = detector.timeout;
        told(match check {
            Check::Ping { address } => ping(*address, timeout),
            Check::Disk { path, free, write } => DiskCheck {
                path: path.into(),
                free: *free,
                write: write.then(|| format!(".hotpair-check-{}.{}.{index}", key.0, key.1)),
                timeout,
            }
            .check(),
            Check::Memory { available } => memory(*available),
            Check::Load { most_hundredths } => load(*most_hundredths),
            Check::Monitor { .. } => Detected::Running,
            Check::Tcp { .. }
            | Check::Udp { .. }
            | Check::Url { .. }
            | Check::Process { .. }
            | Check::Script { .. }
            | Check::Sql(_) => return self.look_with((key, index), check, detector),
        })
    }
}

fn told(detected: Detected) -> Result<(), String> {
    match detected {
        Detected::Running => Ok(()),
        Detected::NotRunning(reason) | Detected::Failed(reason) => Err(reason),
    }
}

/// Asks up to three times within the limit.
fn ping(address: IpAddr, timeout: Duration) -> Detected {
    let gateway = Gateway {
        address,
        source: None,
        device: None,
    };
    match reachable(&gateway, timeout / PING_TRIES, PING_TRIES) {
        Ok(true) => Detected::Running,
        Ok(false) => Detected::Failed(format!(
            "{address} answered none of {PING_TRIES} ICMP echoes within {} ms",
            timeout.as_millis()
        )),
        Err(error) => Detected::Failed(error.to_string()),
    }
}

fn engine(engine: SqlEngine) -> Engine {
    match engine {
        SqlEngine::PostgreSql => Engine::PostgreSql,
        SqlEngine::MySql => Engine::MySql,
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

/// A detector tells of this node only: what another one answers is no proof.
fn must_be_here(address: IpAddr) -> Result<(), String> {
    if address.is_loopback() || address.is_unspecified() {
        return Ok(());
    }
    let entries = Netlink::open()
        .and_then(|mut netlink| netlink.addresses())
        .map_err(|error| error.to_string())?;
    if entries.iter().any(|entry| entry.address == address) {
        return Ok(());
    }
    Err(format!("{address} is not on this node"))
}

fn tcp(address: Option<IpAddr>, port: u16, program: Option<&str>, end: Instant) -> Detected {
    if program.is_some() {
        let found = listening(Protocol::Tcp, address, port, program, left(end));
        if found != Detected::Running {
            return found;
        }
    }
    let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    TcpCheck {
        addr: SocketAddr::new(address, port),
        timeout: left(end),
        question: None,
    }
    .check()
}

fn listening(
    protocol: Protocol,
    address: Option<IpAddr>,
    port: u16,
    program: Option<&str>,
    timeout: Duration,
) -> Detected {
    ListenCheck {
        protocol,
        port,
        address,
        owner: program.map_or(Owner::Any, |name| Owner::Program(name.to_owned())),
        timeout,
    }
    .check()
}

fn url(url: &str, statuses: &[u16], contains: Option<&str>, end: Instant) -> Detected {
    let mut result = Detected::Failed(format!("{url} was not asked"));
    // One request for each range of statuses, which is nearly always one.
    for status in ranges(statuses) {
        result = UrlCheck {
            status,
            contains: contains.map(str::to_owned),
            tries: 1,
            timeout: left(end),
            ..UrlCheck::new(url)
        }
        .check();
        if result == Detected::Running {
            break;
        }
    }
    result
}

/// The host of a URL, if it is an address.
fn literal_host(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?.parse().ok(),
        None => host.split(':').next()?.parse().ok(),
    }
}

/// Statuses as ranges without holes; 200 to 399 when none are given.
fn ranges(statuses: &[u16]) -> Vec<RangeInclusive<u16>> {
    let mut sorted = statuses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for status in sorted {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(status) => {
                *last = *last.start()..=status;
            }
            _ => ranges.push(status..=status),
        }
    }
    if ranges.is_empty() {
        ranges.push(200..=399);
    }
    ranges
}

fn process(name: &str, end: Instant) -> Detected {
    let by_name = ProcessCheck {
        target: Target::Name(name.to_owned()),
        timeout: left(end),
    }
    .check();
    if !matches!(by_name, Detected::NotRunning(_)) {
        return by_name;
    }
    ProcessCheck {
        target: Target::CommandLine(name.to_owned()),
        timeout: left(end),
    }
    .check()
}

/// The NICs of this node that may carry an address, for the verdict.
pub(super) fn nic_problem(
    links: &Result<Vec<hotpair_host::net::netlink::Link>, String>,
    nics: &[String],
) -> Option<String> {
    match links {
        Ok(links) => address::fit(links, nics).err(),
        Err(error) => Some(error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_ranges() {
        assert_eq!(ranges(&[]), [200..=399]);
        assert_eq!(ranges(&[204, 200, 201, 200]), [200..=201, 204..=204]);
        assert_eq!(ranges(&[u16::MAX]), [u16::MAX..=u16::MAX]);
    }

    #[test]
    fn reads_the_address_out_of_a_url() {
        let host = |url: &str| literal_host(url).map(|host| host.to_string());
        assert_eq!(host("http://10.0.0.9:80/x"), Some("10.0.0.9".into()));
        assert_eq!(host("https://u:p@[fd00::9]:443"), Some("fd00::9".into()));
        assert_eq!(host("http://10.0.0.9?q"), Some("10.0.0.9".into()));
        for url in [
            "http://db/",
            "10.0.0.9",
            "http://[fd00::9",
            "://",
            "http://",
        ] {
            assert!(host(url).is_none() || url.contains("[fd00::9"), "{url}");
        }
    }
}
