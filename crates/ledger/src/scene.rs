//! The cluster: two nodes, a witness, a client, a database from its template on a mirror.

use crate::database::Database;
use crate::error::{LedgerError, Result};
use crate::ledger::Ledger;
use hotpair_api::{EventView, MirrorView, StatusView};
use hotpair_lab::{Fault, Lab, Plan, Profile, Program, Shape};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// The group's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 60);
/// The group.
pub const GROUP: &str = "db";
pub const NODES: [&str; 2] = ["node1", "node2"];
/// Everything that is waited for must be there within this time.
const LIMIT: Duration = Duration::from_secs(90);
const IMAGE: &str = "/var/lib/hotpair/db.img";

/// What a scene is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the lab.
    pub name: String,
    pub profile: Profile,
    pub database: Database,
    /// Clients that keep the ledger.
    pub connections: usize,
    /// Clients of pgbench beside them; 0: none.
    pub load: usize,
    /// Of the mirror, in MiB. Under load PostgreSQL keeps up to 1 GB of its log.
    pub size_mib: u32,
    /// Where the ledger is kept.
    pub ledger: PathBuf,
}

/// A running one; ended when dropped.
pub struct Scene {
    pub lab: Lab,
    pub options: Options,
    ledger: Option<Ledger>,
    load: Option<Child>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.ledger = None;
        let _ = self.lab.down();
        if let Some(mut load) = self.load.take() {
            let _ = load.kill();
            let _ = load.wait();
        }
    }
}

impl Scene {
    /// From two bare nodes to clients at work.
    pub fn up(program: &Program, options: Options) -> Result<Self> {
        let shape = Shape {
            profile: options.profile,
            ..Shape::default()
        };
        let lab = Lab::up(program, &options.name, &Plan::members(shape)?)?;
        let mut scene = Self {
            lab,
            options,
            ledger: None,
            load: None,
        };
        match scene.begin() {
            Ok(()) => Ok(scene),
            Err(problem) => Err(scene.kept(problem)),
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.make()?;
        let first = self.active()?;
        self.options.database.prepare(self, &first)?;
        self.start_clients(&first)
    }

    /// The three commands of docs/mirrors.md.
    fn make(&self) -> Result<()> {
        let device = format!("device={IMAGE}");
        let (size, address) = (
            format!("size={}MiB", self.options.size_mib),
            format!("address={ADDRESS}/24"),
        );
        let template = self.options.database.template();
        let mut add: Vec<&str> = vec!["group", "add", GROUP, "--template"];
        add.extend(template.iter().map(String::as_str));
        for set in [&size, &device, &address, "nics=eth0"] {
            add.extend(["--set", set]);
        }
        self.patiently("node1", &add)?;
        self.patiently("node1", &["mirror", "show", "db/data", "--wait"])?;
        self.patiently("node1", &["status"])?;
        // So many failures in so short a time would hold a node out.
        let show = self.hotpair("node1", &["config", "show"])?;
        let more = show.replacen(
            "[group.db]\n",
            "[flapping]\ntimes = 1000\n\n[group.db]\nrestarts = 1000\n",
            1,
        );
        let apply = format!("hotpair config apply - <<'END'\n{more}\nEND\n");
        self.run("node1", &["sh", "-c", &apply])?;
        self.well()
    }

    fn start_clients(&mut self, active: &str) -> Result<()> {
        let client = self.lab.host("client")?;
        let pid = client.init_pid.unwrap_or_default();
        let server = self.options.database.server(self);
        let path = &self.options.ledger;
        self.ledger = Some(Ledger::start(server, pid, self.options.connections, path)?);
        if self.options.load > 0
            && let Database::PostgreSql { version } = &self.options.database
        {
            let bench = format!("/usr/lib/postgresql/{version}/bin/pgbench");
            let make = format!(
                "cd /; runuser -u postgres -- {bench} -h /run/postgresql -i -q -s 5 postgres 2>&1"
            );
            self.run(active, &["sh", "-c", &make])?;
            let sql = "grant all on all tables in schema public to ledger";
            self.options.database.sql(self, active, sql)?;
            let again = format!(
                "export PGPASSWORD=ledger; while :; do {bench} -h {ADDRESS} -U ledger -n -c {} -R 100 -T 3600 \
                 postgres; sleep 0.5; done",
                self.options.load
            );
            let argv = ["timeout", "20000", "sh", "-c", &again].map(str::to_owned);
            let mut command = self.lab.command("client", &argv)?;
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
            let started = quiet.stderr(Stdio::null()).spawn();
            self.load = Some(started.map_err(|source| LedgerError::File {
                what: "start pgbench".to_owned(),
                source,
            })?);
        }
        let ledger = self.ledger();
        self.wait("commits", || (ledger.count() > 20, ledger.last_error()))
    }

    pub fn ledger(&self) -> &Ledger {
        self.ledger
            .as_ref()
            .expect("clients are started with the scene")
    }

    pub(crate) fn fault(&self, host: &str, fault: Fault) -> Result<u64> {
        Ok(self.lab.fault(host, fault)?.at_mono_us)
    }

    /// Runs a program on a host; what it prints.
    pub(crate) fn run(&self, host: &str, argv: &[&str]) -> Result<String> {
        let limited = [&["timeout", "120"], argv].concat();
        let output = self.lab.exec(host, &limited)?;
        let said = |output: &Output| {
            let (out, err) = (&output.stdout, &output.stderr);
            format!(
                "{}\n{}",
                String::from_utf8_lossy(err).trim(),
                String::from_utf8_lossy(out).trim()
            )
        };
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(LedgerError::Command {
                what: format!("{} on {host}", argv.join(" ")),
                said: said(&output),
            }),
        }
    }

    pub(crate) fn hotpair(&self, host: &str, words: &[&str]) -> Result<String> {
        self.run(host, &[&["hotpair"], words].concat())
    }

    /// Runs it again until it ends well.
    pub(crate) fn patiently(&self, host: &str, words: &[&str]) -> Result<()> {
        let what = format!("hotpair {} on {host}", words.join(" "));
        self.wait(&what, || match self.hotpair(host, words) {
            Ok(_) => (true, String::new()),
            Err(error) => (false, error.to_string()),
        })
    }

    /// Asks until the answer is yes; the text says why not yet.
    pub(crate) fn wait(&self, what: &str, ready: impl Fn() -> (bool, String)) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let (yes, last) = ready();
            if yes {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(LedgerError::Late {
                    what: what.to_owned(),
                    limit_s: LIMIT.as_secs(),
                    last,
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, host: &str, words: &[&str]) -> Result<T> {
        let text = self.hotpair(host, &[words, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|e| LedgerError::Command {
            what: format!("hotpair {} --json on {host}", words.join(" ")),
            said: e.to_string(),
        })
    }

    fn status(&self, host: &str) -> Result<StatusView> {
        self.json(host, &["status"])
    }

    /// Event log of a node, oldest first.
    pub(crate) fn events(&self, host: &str) -> Result<Vec<EventView>> {
        let text = self.hotpair(host, &["events", "--last", "200", "--json"])?;
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        let lines: Vec<_> = lines.collect();
        match lines.is_empty() {
            true => Ok(serde_json::from_str(&text).unwrap_or_default()),
            false => Ok(lines),
        }
    }

    /// The node where the database runs.
    pub(crate) fn active(&self) -> Result<String> {
        let status = self.status("node1").or_else(|_| self.status("node2"))?;
        let group = status.groups.iter().find(|g| g.name == GROUP);
        match group.map(|g| g.active_on.as_slice()) {
            Some([node]) => Ok(node.clone()),
            other => Err(LedgerError::Command {
                what: "hotpair status".to_owned(),
                said: format!("the group runs on {other:?}"),
            }),
        }
    }

    /// Waits until both nodes see the group running, both copies up to date, and both nodes fit.
    pub(crate) fn well(&self) -> Result<()> {
        for host in NODES {
            self.wait("both copies up to date, both nodes fit", || {
                match (
                    self.status(host),
                    self.json::<Vec<MirrorView>>(host, &["mirror", "list"]),
                ) {
                    (Ok(status), Ok(mirrors)) => {
                        let same = mirrors.iter().flat_map(|m| &m.copies);
                        let same = same.filter(|copy| copy.state == "up to date").count() == 2;
                        (same && well(&status), format!("{status:?} {mirrors:?}"))
                    }
                    (Err(error), _) | (_, Err(error)) => (false, error.to_string()),
                }
            })?;
        }
        Ok(())
    }

    /// The failure, with what tells of it saved.
    pub(crate) fn kept(&self, problem: LedgerError) -> LedgerError {
        LedgerError::Kept {
            problem: Box::new(problem),
            at: self.evidence(),
        }
    }

    fn evidence(&self) -> PathBuf {
        let at = self.options.ledger.with_extension("evidence");
        let at = PathBuf::from("/tmp").join(at.file_name().unwrap_or_default());
        let _ = std::fs::create_dir_all(&at);
        let _ = std::fs::copy(&self.options.ledger, at.join("ledger"));
        for host in NODES {
            let save = format!(
                "d={}/{host}; mkdir -p $d; hotpair events --all > $d/events; hotpair status > $d/status; \
                 hotpair mirror list --json > $d/mirrors; hotpair explain db > $d/explain; \
                 cp -r /var/lib/hotpair/log /run/lab $d/; cp --sparse=always {IMAGE}* $d/",
                at.display()
            );
            let _ = self.run(host, &["sh", "-c", &save]);
        }
        at
    }
}

fn well(status: &StatusView) -> bool {
    let running = |g: &hotpair_api::status::GroupView| {
        let here = g.state == "running" && g.active_on.len() == 1;
        here && g.pinned.is_none() && g.nodes.iter().all(|n| n.fit)
    };
    status.leader.is_some()
        && !status.cluster.guarantee_reason.contains("being changed")
        && status.nodes.iter().all(|n| n.state == "online" && n.votes)
        && status.witness.iter().all(|w| w.state == "online")
        && status.groups.iter().all(running)
}
