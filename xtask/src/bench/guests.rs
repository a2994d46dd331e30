//! The cluster with an active node that has a kernel of its own: a QEMU guest in the lab's networks.
//! The other node, witness and client are hosts of the lab.
//!
//! What the lab's own nodes cannot show: a node whose clock stands still while it is stopped (a
//! suspended or migrating virtual machine), and a kernel lock that holds up one node and not the
//! other. One guest is enough for both, and the other node then takes over at this machine's speed
//! and not at that of an emulated processor.

use super::bed::{GROUP, well};
use anyhow::{Context, Result, bail};
use hotpair_api::StatusView;
use hotpair_guest::{Guest, Place, Spec, plug_into_lab};
use hotpair_lab::plan::{Nic, Step, VIRTUAL_IP};
use hotpair_lab::probe::{ProbeHandle, ProbeOptions, ProbeReport};
use hotpair_lab::{Lab, Plan, Profile, Program, Shape, clock};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the daemon and its packet gate use.
const MODULES: &[&str] = &[
    "nf_tables",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "veth",
];

/// An emulated node needs its time; nobody measures these.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest time from a fault until everybody is well again.
const SETTLE: Duration = Duration::from_secs(60);

/// What happens to the active node.
#[derive(Clone, Copy)]
pub enum Trouble {
    /// QEMU stops it, clock and all, and lets it go on after 5 s.
    Pause,
    /// Its kernel's rtnl lock is busy for 3 s while its daemon is frozen.
    RtnlHold,
}

/// What was seen.
pub struct Seen {
    pub report: ProbeReport,
    pub injected_us: u64,
    pub healed_us: u64,
    /// When the guest, after it went on, gave its last answer to what it was asked since then
    /// by a client that only knows that node.
    pub stale_ms: f64,
    /// The same, with what it was asked while it stood still.
    pub late_ms: f64,
    pub moved: bool,
}

/// The running cluster; ended when dropped, the guest first.
pub struct GuestBed {
    guest: Guest,
    lab: Running,
}

struct Running(Lab);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}

/// The node that is a guest, and the other one.
const GUEST: &str = "node1";
const OTHER: &str = "node2";

impl GuestBed {
    /// Starts lab and guest, and sets the cluster up by the lab's own plan.
    pub fn up(program: &Program, profile: Profile) -> Result<Self> {
        let shape = Shape {
            profile,
            ..Shape::default()
        };
        let plan = Plan::cluster(shape)?;
        let mut bare = Plan {
            hosts: plan.hosts.clone(),
            services: Vec::new(),
            setup: Vec::new(),
        };
        // The guest has them.
        for host in bare.hosts.iter_mut().filter(|host| host.name == GUEST) {
            host.nics.iter_mut().for_each(|nic| nic.addresses.clear());
        }
        let name = format!("bench-g-{}", std::process::id());
        let lab = Running(Lab::up(program, &name, &bare)?);
        let guest = boot(program, &lab.0, &plan.host(GUEST)?.nics)?;
        let bed = Self { guest, lab };
        bed.set_up(&plan)?;
        bed.settled()?;
        let often = format!("export {ENVIRONMENT}\n{OFTEN}");
        bed.guest.run(&often, LIMIT)?;
        bed.settled()?;
        Ok(bed)
    }

    fn set_up(&self, plan: &Plan) -> Result<()> {
        let mut saved: BTreeMap<&str, String> = BTreeMap::new();
        for step in &plan.setup {
            match step {
                Step::Run { host, argv, save } => {
                    let fill = |word: &String| {
                        saved.iter().fold(word.clone(), |text, (name, value)| {
                            text.replace(&format!("{{{name}}}"), value)
                        })
                    };
                    let printed = self.run(host, &argv.iter().map(fill).collect::<Vec<_>>())?;
                    if let Some(name) = save {
                        saved.insert(name, printed);
                    }
                }
                Step::Start { host, service } => {
                    let found = plan
                        .services
                        .iter()
                        .find(|s| s.host == *host && s.name == *service);
                    let service = found.with_context(|| format!("no service {service}"))?;
                    match host.as_str() {
                        GUEST => keep_running(&self.guest, &service.name, &service.argv)?,
                        _ => self.lab.0.start(service.clone())?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a program on a guest or on a host of the lab; what it prints.
    fn run(&self, host: &str, argv: &[String]) -> Result<String> {
        if host == GUEST {
            return Ok(self
                .guest
                .run(&format!("{ENVIRONMENT} {}", quoted(argv)), LIMIT)?);
        }
        let words: Vec<_> = argv.iter().map(String::as_str).collect();
        let output = self.lab.0.exec(host, &words)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} on {host}: {}", argv.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until everybody is well; the active node.
    fn settled(&self) -> Result<String> {
        let end = Instant::now() + SETTLE;
        let ask = ["hotpair", "status", "--json"].map(str::to_owned);
        loop {
            let status = self
                .run(OTHER, &ask)
                .and_then(|text| Ok(serde_json::from_str::<StatusView>(&text)?));
            if let Ok(status) = &status
                && well(status)
                && let Some(group) = status.groups.first()
                && let Some(active) = group.active_on.first()
            {
                // Longer than what a voter whose host restarted keeps silent.
                std::thread::sleep(Duration::from_secs(2));
                return Ok(active.clone());
            }
            if Instant::now() > end {
                bail!("the cluster with a guest is not well: {status:?}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// One run, from everybody well to everybody well again. An emulated node on a busy machine may
    /// lose the group by itself just before; then it is tried again, at most three times.
    pub fn run_trouble(&self, trouble: Trouble, run: u32) -> Result<Seen> {
        for _ in 0..3 {
            if let Some(seen) = self.try_trouble(trouble, run)? {
                return Ok(seen);
            }
        }
        bail!("{GUEST} gave the group up three times before anything happened to it")
    }

    fn try_trouble(&self, trouble: Trouble, run: u32) -> Result<Option<Seen>> {
        if self.settled()? != GUEST {
            let switch = ["hotpair", "group", "switch", GROUP, "--to", GUEST].map(str::to_owned);
            self.run(OTHER, &switch)?;
            if self.settled()? != GUEST {
                return Ok(None);
            }
        }
        std::thread::sleep(Duration::from_millis(u64::from(run) * 37 % 100));
        let probe = self.lab.0.probe(&ProbeOptions::default())?;
        let stale = self.stale_client()?;
        std::thread::sleep(Duration::from_millis(500));
        let injected_us = clock::now_us();
        let healed_us = self.happen(trouble)?;
        let settled = self.settled();
        let report = probe.finish()?;
        let before = report
            .trace
            .iter()
            .rfind(|(_, received, _)| *received < injected_us);
        let by = before.and_then(|(_, _, node)| report.nodes.get(*node));
        if by.is_none_or(|name| name != GUEST) {
            return Ok(None);
        }
        let (stale_ms, late_ms) = last_answers(&stale.finish()?, healed_us)?;
        Ok(Some(Seen {
            report,
            injected_us,
            healed_us,
            stale_ms,
            late_ms,
            moved: settled? != GUEST,
        }))
    }

    /// The trouble and its end; when that was.
    fn happen(&self, trouble: Trouble) -> Result<u64> {
        match trouble {
            Trouble::Pause => self.guest.pause()?,
            Trouble::RtnlHold => {
                self.guest.run(HOLD_RTNL, LIMIT)?;
            }
        }
        std::thread::sleep(Duration::from_secs(5));
        let at = clock::now_us();
        match trouble {
            Trouble::Pause => self.guest.resume()?,
            Trouble::RtnlHold => {
                self.guest.run("kill -CONT $(cat /run/frozen)", LIMIT)?;
            }
        }
        Ok(at)
    }

    /// A client on the witness's host that never learns that the address has moved.
    fn stale_client(&self) -> Result<ProbeHandle> {
        let known = [
            "ip",
            "neighbor",
            "replace",
            &VIRTUAL_IP.to_string(),
            "lladdr",
            &card(0),
            "nud",
            "permanent",
            "dev",
            "eth0",
        ]
        .map(str::to_owned);
        self.run("witness", &known)?;
        Ok(self.lab.0.probe(&ProbeOptions {
            from: Some("witness".to_owned()),
            ..ProbeOptions::default()
        })?)
    }
}

/// When the guest gave its last answers after it went on at `healed_us`, in milliseconds: to what it
/// was asked since then, and to anything.
fn last_answers(stale: &ProbeReport, healed_us: u64) -> Result<(f64, f64)> {
    if stale.answers == 0 {
        bail!("the client that knows only {GUEST} had no answer before the fault");
    }
    let by_guest = |node: usize| stale.nodes.get(node).is_some_and(|name| name == GUEST);
    let after = |since: u64| {
        let answers = stale.trace.iter();
        let fitting = answers.filter(|(sent, received, node)| {
            *sent >= since && *received >= healed_us && by_guest(*node)
        });
        let last = fitting.map(|(_, received, _)| *received).max().unwrap_or(0);
        Duration::from_micros(last.saturating_sub(healed_us)).as_secs_f64() * 1000.0
    };
    Ok((after(healed_us), after(0)))
}

/// What the lab gives to programs on its hosts.
const ENVIRONMENT: &str =
    "HOTPAIR_CGROUP=/sys/fs/cgroup/node HOTPAIR_LOG=/var/lib/hotpair/log HOME=/root";

/// Lets the cluster fail as often as there are runs, as on the lab's nodes.
const OFTEN: &str = r"
set -e
hotpair config show >/run/before.toml
sed 's/^\[group.practice\]$/[flapping]\ntimes = 1000\n\n[group.practice]\nrestarts = 1000/' /run/before.toml >/run/after.toml
hotpair config apply /run/after.toml
";

/// Six programs make and remove interfaces with 256 queues for 3 s, one after the other holding the
/// lock, and leave the processor to others where the kernel lets them. Meanwhile the daemon is
/// frozen. Ends well if the lock was held: another change of an interface waited for 0.2 s or more
/// (0.25 to 0.7 s were measured; alone it takes less than 0.1 s).
const HOLD_RTNL: &str = r#"
for i in 1 2 3 4 5 6; do
    for n in $(seq 200); do
        echo "link add hold$i numtxqueues 256 numrxqueues 256 type veth peer name held$i numtxqueues 256 numrxqueues 256"
        echo "link del hold$i"
    done >/run/hold$i
    nice -n 19 timeout 3 ip -batch /run/hold$i >/dev/null 2>&1 &
done
usleep 100000
cat /run/daemon.pid >/run/frozen
kill -STOP $(cat /run/frozen)
begun=$(cut -d' ' -f1 /proc/uptime)
ip link set dev lo up
echo "$begun $(cut -d' ' -f1 /proc/uptime)" | awk '{print $2 - $1; exit !($2 - $1 > 0.2)}'
"#;

fn boot(program: &Program, lab: &Lab, nics: &[Nic]) -> Result<Guest> {
    let cards: Vec<(String, String)> = nics
        .iter()
        .enumerate()
        .map(|(index, nic)| (nic.name.clone(), card(index)))
        .collect();
    let cards: Vec<_> = cards
        .iter()
        .map(|(n, m)| (n.as_str(), m.as_str()))
        .collect();
    let guest = Guest::boot(Spec {
        name: GUEST.to_owned(),
        memory_mib: 320,
        modules: MODULES.iter().map(|&m| m.to_owned()).collect(),
        programs: vec![program.0.clone(), "nft".into(), "ip".into()],
        nics: plug_into_lab(lab, GUEST, &cards)?,
        place: Place::Host {
            lab: lab.clone(),
            host: GUEST.to_owned(),
        },
        ..Spec::default()
    })?;
    let mut script = String::from(
        "set -e\nmkdir -p /run/bin /run/hotpair /etc/hotpair /var/lib/hotpair /sys/fs/cgroup/node\n\
         ln -s /usr/bin/hotpair* /run/bin/hotpair\n",
    );
    for nic in nics {
        script += &format!("ip link set dev {} up\n", nic.name);
        for address in &nic.addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            script += &format!("ip address replace {address} dev {} {nodad}\n", nic.name);
        }
    }
    guest.run(&script, LIMIT)?;
    Ok(guest)
}

/// The Ethernet address of a card of the guest.
fn card(index: usize) -> String {
    format!("02:79:00:00:{index:02x}:01")
}

/// Starts a program that is started again when it ends, as the lab's process 1 does.
fn keep_running(guest: &Guest, name: &str, argv: &[String]) -> Result<()> {
    let script = format!(
        "cat >/run/{name}.sh <<'END'\nexport {ENVIRONMENT}\nwhile :; do {} & echo $! >/run/{name}.pid; wait $!; usleep 50000; done\nEND\n\
         setsid /bin/sh /run/{name}.sh >/run/{name}.log 2>&1 &",
        quoted(argv)
    );
    guest.run(&script, LIMIT)?;
    Ok(())
}

fn quoted(argv: &[String]) -> String {
    let words = argv
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}
