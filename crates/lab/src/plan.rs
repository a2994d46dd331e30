//! What a practice cluster consists of, as data: hosts, services, and the steps that set it up.
//!
//! The keeper builds the hosts, then walks `setup` in order. A [`Step::Run`] can save what it
//! prints under a name; `{name}` in a later argument is replaced by it, which is how a join token
//! gets from one host to the other. A [`Step::Start`] starts a service for the first time; from
//! then on the service is part of its host's boot.

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The virtual IP of the practice group.
pub const VIRTUAL_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 50);

/// The port of the practice group's application, UDP and TCP.
pub const APP_PORT: u16 = 8077;

/// Ends well once the group runs and may be taken over.
const PROTECTED: &str = "hotpair status --json >/run/hotpair/status.json && grep -q '\"state\": *\"running\"' /run/hotpair/status.json && grep -q '\"pinned\": *null' /run/hotpair/status.json && ! grep -q 'votes are being changed' /run/hotpair/status.json";

/// Timing profile of the practice cluster, handed to `hotpair init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Failover within 1 s.
    Standard,
    /// Failover within 0.25 s.
    Fast,
    /// Failover within 10 s, for links over long distances.
    Wan,
    /// A heartbeat every 2.2 s.
    Classic,
}

impl Profile {
    /// The profile's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Fast => "fast",
            Self::Wan => "wan",
            Self::Classic => "classic",
        }
    }
}

/// Who gives the third vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// A witness host.
    Host,
    /// Nobody.
    None,
}

/// One of the two networks of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// 10.77.1.0/24 and fd77:1::/64, with the client and the witness in it.
    Lan,
    /// 10.77.2.0/24, between the nodes only.
    Hb,
}

impl Network {
    /// Both networks.
    pub const ALL: [Self; 2] = [Self::Lan, Self::Hb];

    /// The network's name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Hb => "hb",
        }
    }

    /// The bridge's name in the switch namespace.
    pub fn bridge(self) -> &'static str {
        match self {
            Self::Lan => "br-lan",
            Self::Hb => "br-hb",
        }
    }
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A member of the cluster.
    Node,
    /// The witness host.
    Witness,
    /// The outside client.
    Client,
}

/// A network interface of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Its name in the host: `eth0`, `eth1`.
    pub name: String,
    /// What it is plugged into.
    pub network: Network,
    /// Its Ethernet address, the same at every boot, as with a real card.
    pub mac: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// Its name, also its host name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its interfaces.
    pub nics: Vec<Nic>,
}

impl HostPlan {
    /// The host's ports at the switch, one for each interface, in their order: `node1-lan`, for a
    /// second interface on the same network `node1-lan2`.
    pub fn ports(&self) -> Vec<String> {
        let port = |(index, nic): (usize, &Nic)| {
            let same = |other: &&Nic| other.network == nic.network;
            let before = self.nics.iter().take(index).filter(same).count();
            let number = match before {
                0 => String::new(),
                _ => (before + 1).to_string(),
            };
            format!("{}-{}{number}", self.name, nic.network.name())
        };
        self.nics.iter().enumerate().map(port).collect()
    }

    /// Its ports on these networks.
    pub fn ports_on(&self, networks: &[Network]) -> Vec<String> {
        let ports = self.nics.iter().zip(self.ports());
        let on = ports.filter(|(nic, _)| networks.contains(&nic.network));
        on.map(|(_, port)| port).collect()
    }
}

/// A program that runs as long as its host does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, unique on its host; its output goes to `NAME.log` in the host's state directory.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// Program and arguments; `hotpair` is the program that started the lab.
    pub argv: Vec<String>,
    /// After it failed or was killed, start it again after so many milliseconds.
    pub restart_after_ms: Option<u64>,
}

/// One step of the setup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Runs a program on a host and waits for it; anything but exit code 0 ends the setup.
    Run {
        /// Where.
        host: String,
        /// Program and arguments, with `{name}` for saved output.
        argv: Vec<String>,
        /// Keeps what it prints, without white space at the ends, under this name.
        save: Option<String>,
    },
    /// Starts a service of the plan, named `host/service`.
    Start {
        /// The host.
        host: String,
        /// The service's name.
        service: String,
    },
}

/// A whole practice cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// All hosts.
    pub hosts: Vec<HostPlan>,
    /// All services.
    pub services: Vec<Service>,
    /// What is done once, after all hosts are up.
    pub setup: Vec<Step>,
}

/// What `up` can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of nodes, 1 to 16.
    pub nodes: usize,
    /// Timing profile.
    pub profile: Profile,
    /// The third vote.
    pub witness: Witness,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 2,
            profile: Profile::Standard,
            witness: Witness::Host,
        }
    }
}

impl Plan {
    /// Hosts, networks and nothing running on them.
    pub fn bare(shape: Shape) -> Result<Self> {
        if !(1..=16).contains(&shape.nodes) {
            return Err(LabError::BadNodes(shape.nodes));
        }
        let nodes = (1..=shape.nodes).map(|i| {
            let last = u8::try_from(10 + i).unwrap_or(u8::MAX);
            host(&format!("node{i}"), Role::Node, last, &Network::ALL)
        });
        let mut hosts: Vec<_> = nodes.collect();
        if shape.witness == Witness::Host {
            hosts.push(host("witness", Role::Witness, 9, &[Network::Lan]));
        }
        hosts.push(host("client", Role::Client, 100, &[Network::Lan]));
        Ok(Self {
            hosts,
            services: Vec::new(),
            setup: Vec::new(),
        })
    }

    /// The practice cluster: [`Plan::members`] and one group, `practice`: the virtual IP and the
    /// sample application on it.
    pub fn cluster(shape: Shape) -> Result<Self> {
        let mut plan = Self::members(shape)?;
        plan.add_group(&practice_group(shape.nodes));
        if shape.witness == Witness::Host || shape.nodes > 2 {
            // A new witness or node has a vote as soon as old and new voters have agreed on it; until
            // then nothing is taken over.
            plan.patiently("node1", &["sh", "-c", PROTECTED], None);
        }
        Ok(plan)
    }

    /// A cluster without groups: [`Plan::bare`] plus the cluster's own programs, set up as a user
    /// would set them up.
    ///
    /// This is the one place that knows the cluster's command lines.
    pub fn members(shape: Shape) -> Result<Self> {
        let mut plan = Self::bare(shape)?;
        for i in 1..=shape.nodes {
            plan.services.push(service(
                &format!("node{i}"),
                "daemon",
                &["hotpair", "daemon"],
            ));
        }
        plan.begin(shape.profile);
        for i in 2..=shape.nodes {
            let node = format!("node{i}");
            plan.patiently("node1", &["hotpair", "token"], Some("token"));
            plan.patiently(
                &node,
                &["hotpair", "join", "{token}", "--name", &node],
                None,
            );
            plan.start(&node, "daemon");
        }
        if shape.witness == Witness::Host {
            plan.services.push(service(
                "witness",
                "witness",
                &["hotpair", "witness", "run"],
            ));
            plan.patiently(
                "node1",
                &["hotpair", "token", "--witness"],
                Some("witness-token"),
            );
            let join = [
                "hotpair",
                "witness",
                "join",
                "{witness-token}",
                "--address",
                "10.77.1.9",
            ];
            plan.patiently("witness", &join, None);
            plan.start("witness", "witness");
        }
        Ok(plan)
    }

    fn begin(&mut self, profile: Profile) {
        let init = [
            "hotpair",
            "init",
            "--name",
            "lab",
            "--node",
            "node1",
            "--profile",
            profile.name(),
            "--link",
            "lan=10.77.1.11",
            "--link",
            "hb=10.77.2.11",
        ];
        self.run("node1", &init, None);
        self.start("node1", "daemon");
    }

    fn run(&mut self, host: &str, argv: &[&str], save: Option<&str>) {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        self.setup.push(Step::Run {
            host: host.to_owned(),
            argv,
            save: save.map(str::to_owned),
        });
    }

    /// Runs it again until it succeeds, for at most 20 s: the daemon may still be starting, or the
    /// cluster agreeing on the member before.
    fn patiently(&mut self, host: &str, argv: &[&str], save: Option<&str>) {
        let again = "for i in $(seq 400); do \"$@\" 2>/tmp/hotpair-lab.$$ && exit 0; sleep 0.05; done; cat /tmp/hotpair-lab.$$ >&2; exit 1";
        let argv: Vec<&str> = ["sh", "-c", again, "sh"]
            .iter()
            .chain(argv)
            .copied()
            .collect();
        self.run(host, &argv, save);
    }

    fn start(&mut self, host: &str, service: &str) {
        self.setup.push(Step::Start {
            host: host.to_owned(),
            service: service.to_owned(),
        });
    }

    /// Adds a group to the cluster's configuration, as an administrator would: takes the file, adds
    /// to it, applies it. An earlier try may have succeeded without a majority's answer in time.
    fn add_group(&mut self, group: &str) {
        let file = "/run/hotpair/practice.toml";
        let script = format!(
            "hotpair config show > {file} || exit 1; grep -q '^.group.practice.$' {file} && exit 0; cat >> {file} <<'END' && hotpair config apply {file}\n{group}\nEND"
        );
        self.patiently("node1", &["sh", "-c", &script], None);
    }

    /// Says what contradicts itself: unknown hosts, services started but not described.
    pub fn check(&self) -> Result<()> {
        let has = |name: &str| self.hosts.iter().any(|h| h.name == name);
        let service = |host: &str, name: &str| {
            self.services
                .iter()
                .any(|s| s.host == host && s.name == name)
        };
        for (index, host) in self.hosts.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            // "-lan" and the kernel's limit of 15 characters leave 11.
            if !(1..=11).contains(&host.name.len()) || !host.name.bytes().all(plain) {
                return Err(LabError::BadPlan(format!(
                    "host name {:?} must be 1 to 11 of a-z and 0-9",
                    host.name
                )));
            }
            if self.hosts[..index]
                .iter()
                .any(|other| other.name == host.name)
            {
                return Err(LabError::BadPlan(format!(
                    "host {} is described twice",
                    host.name
                )));
            }
        }
        for s in &self.services {
            if !has(&s.host) || s.argv.is_empty() || s.name.contains('/') {
                return Err(LabError::BadPlan(format!(
                    "service {:?} needs a known host, a name without '/' and a program",
                    s.name
                )));
            }
        }
        for step in &self.setup {
            match step {
                Step::Run { host, argv, .. } if !has(host) || argv.is_empty() => {
                    return Err(LabError::BadPlan(format!(
                        "a setup step on {host:?} needs a known host and a program"
                    )));
                }
                Step::Start {
                    host,
                    service: name,
                } if !service(host, name) => {
                    return Err(LabError::BadPlan(format!(
                        "setup starts {host}/{name}, which is no service of the plan"
                    )));
                }
                Step::Run { .. } | Step::Start { .. } => {}
            }
        }
        Ok(())
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Result<&HostPlan> {
        self.hosts
            .iter()
            .find(|h| h.name == name)
            .ok_or_else(|| LabError::UnknownHost {
                host: name.to_owned(),
                known: self
                    .hosts
                    .iter()
                    .map(|h| h.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

/// Command line of the sample application at an address, for a start program of a group.
pub fn sample_application(address: Ipv4Addr, port: u16) -> Vec<String> {
    let listen = format!("{address}:{port}");
    ["hotpair", "lab", "sample-app", "--listen", &listen]
        .map(str::to_owned)
        .to_vec()
}

/// A node's program; process 1 of the host starts it again when it fails, as systemd would.
fn service(host: &str, name: &str, argv: &[&str]) -> Service {
    Service {
        name: name.to_owned(),
        host: host.to_owned(),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        restart_after_ms: Some(50),
    }
}

/// TOML of the practice group.
fn practice_group(nodes: usize) -> String {
    let nodes: Vec<String> = (1..=nodes).map(|i| format!("\"node{i}\"")).collect();
    let command: Vec<String> = sample_application(VIRTUAL_IP, APP_PORT)
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    format!(
        r#"
[group.practice]
nodes = [{}]

[group.practice.address.ip]
address = "{VIRTUAL_IP}/24"
nics = ["eth0"]

[group.practice.service.app]
command = [{}]
requires = ["ip"]

[[group.practice.service.app.detector]]
url = "http://{VIRTUAL_IP}:{APP_PORT}/"
interval_s = 1
timeout_s = 1
"#,
        nodes.join(", "),
        command
            .join(", ")
            .replacen("\"hotpair\"", "\"/run/bin/hotpair\"", 1),
    )
}

fn host(name: &str, role: Role, last: u8, networks: &[Network]) -> HostPlan {
    let nic = |(index, network): (usize, &Network)| {
        let (third, v6) = match network {
            Network::Lan => (1, true),
            Network::Hb => (2, false),
        };
        let mut addresses = vec![format!("10.77.{third}.{last}/24")];
        if v6 {
            addresses.push(format!("fd77:1::{last}/64"));
        }
        Nic {
            name: format!("eth{index}"),
            network: *network,
            // Locally administered; lab, network, host.
            mac: format!("02:77:00:00:{third:02x}:{last:02x}"),
            addresses,
        }
    };
    HostPlan {
        name: name.to_owned(),
        role,
        nics: networks.iter().enumerate().map(nic).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_nodes_have_distinct_addresses_and_port_names_the_kernel_takes() {
        let plan = Plan::bare(Shape {
            nodes: 16,
            ..Shape::default()
        })
        .unwrap();
        plan.check().unwrap();
        let nics: Vec<_> = plan.hosts.iter().flat_map(|h| &h.nics).collect();
        let macs: std::collections::BTreeSet<_> = nics.iter().map(|n| &n.mac).collect();
        assert_eq!(macs.len(), nics.len());
        assert!(
            plan.hosts
                .iter()
                .flat_map(HostPlan::ports)
                .all(|port| port.len() <= 15)
        );
    }

    #[test]
    fn refuses_a_setup_that_starts_what_the_plan_does_not_describe() {
        let mut plan = Plan::bare(Shape::default()).unwrap();
        plan.setup.push(Step::Start {
            host: "node1".into(),
            service: "daemon".into(),
        });
        assert!(
            plan.check()
                .unwrap_err()
                .to_string()
                .contains("node1/daemon")
        );
    }

    #[test]
    fn refuses_seventeen_nodes() {
        assert!(
            Plan::bare(Shape {
                nodes: 17,
                ..Shape::default()
            })
            .is_err()
        );
    }
}
