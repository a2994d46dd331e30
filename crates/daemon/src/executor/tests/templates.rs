//! The templates of databases, with the real servers on a filesystem of a loop device. Each runs in
//! mount and network namespaces of its own; where a server is not installed its test is skipped.

use super::bench::{Bench, wait};
use crate::loop_disk::{Disk, in_namespace, sh};
use hotpair_config::{built_in_templates, check, render};
use hotpair_core::group::Work;
use hotpair_host::detect::{Detected, Engine, SqlCheck};
use rustix::thread::UnshareFlags;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// A cluster of one, whose address is that of the bench.
const CLUSTER: &str = r#"[cluster]
name = "c"
[[node]]
name = "north"
[[node]]
name = "south"
[[link]]
name = "lan"
addresses = { north = "10.9.0.1", south = "10.9.0.2" }
"#;

fn in_namespaces(test: impl FnOnce() + Send + 'static) {
    in_namespace(UnshareFlags::NEWNET, || {
        sh("mount -t tmpfs none /run");
        sh("ip link set lo up; ip link add eth0 type veth peer name peer0");
        sh("ip link set eth0 up; ip link set peer0 up; ip addr add 10.9.0.1/24 dev eth0");
        test();
    });
}

/// A database of a template, without its mirror: the device is there already.
struct Database {
    bench: Bench,
    _disk: Disk,
}

impl Database {
    fn of(template: &str, values: &[(&str, &str)]) -> Self {
        let mut bench = Bench::new(&[]);
        // The servers' users must get at it.
        sh(&format!("chmod 711 '{}'", bench.dir.path().display()));
        let path = bench.path("files").display().to_string();
        let mut given: BTreeMap<String, String> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in [
            ("size", "320MiB"),
            ("device", "/dev/vg0/db"),
            ("address", "10.9.0.50/24"),
            ("nics", "eth0"),
            ("path", &path),
        ] {
            given.insert(name.into(), value.into());
        }
        let all = built_in_templates();
        let template = all.iter().find(|known| known.name == template).unwrap();
        let nodes = ["north".to_owned(), "south".to_owned()];
        let text = format!(
            "{CLUSTER}{}",
            template.fill("shop", &nodes, &given).unwrap()
        );
        let checked = check("t", &text, None)
            .unwrap_or_else(|findings| panic!("{}", render(&findings, "t", &text, false)));
        bench.cluster = checked.cluster;
        let groups = bench.cluster.groups.values_mut();
        for resource in groups.flat_map(|group| group.resources.values_mut()) {
            // So that each look tells something.
            resource
                .detectors
                .iter_mut()
                .for_each(|detector| detector.tries = 1);
        }
        bench.configure();
        let disk = Disk::new(&bench.path("image"), 320);
        let devices = bench.path("run/devices/shop");
        std::fs::create_dir_all(&devices).unwrap();
        symlink(&disk.device, devices.join("data")).unwrap();
        Self { bench, _disk: disk }
    }

    fn start(&mut self) {
        for resource in ["files", "prepare", "ip", "server"] {
            assert_eq!(self.bench.act(resource, Work::Start), Ok(()), "{resource}");
            if resource == "ip" {
                // There is no guard that renews it.
                sh("ip addr change 10.9.0.50/24 dev eth0 valid_lft forever");
            }
        }
    }

    fn stop(&mut self) {
        for resource in ["server", "ip", "prepare", "files"] {
            assert_eq!(self.bench.act(resource, Work::Stop), Ok(()), "{resource}");
        }
    }

    /// Asks the detector until it finds the server running.
    fn wait_running(&mut self, resource: &str) {
        let end = std::time::Instant::now() + super::bench::SOON * 3;
        loop {
            let (running, detail) = self.bench.look(resource);
            if running {
                return;
            }
            assert!(std::time::Instant::now() < end, "{detail}\n{}", self.log());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.bench.path("log/shop.server.log")).unwrap_or_default()
    }

    /// As if the power went: everything killed at once, nothing closed.
    fn crash(&mut self) {
        for resource in ["server", "files", "ip"] {
            assert_eq!(self.bench.act(resource, Work::Kill), Ok(()), "{resource}");
        }
    }
}

/// A query by the role `app` of the tests.
fn question(engine: Engine, query: &str, password: &Path) -> SqlCheck {
    SqlCheck {
        engine,
        host: None,
        port: None,
        database: None,
        login: Some("app".into()),
        password_file: Some(password.display().to_string()),
        query: query.into(),
        answer: None,
        user: None,
        cgroup: None,
        timeout: super::bench::SOON,
    }
}

/// The detector finds this answer and no other, and tells what is wrong where it cannot ask.
fn answers(check: &SqlCheck, answer: &str) {
    let with = |answer: &str| SqlCheck {
        answer: Some(answer.into()),
        ..check.clone()
    };
    assert_eq!(with(answer).check(), Detected::Running);
    let reason = |check: SqlCheck| match check.check() {
        Detected::Running => panic!("{check:?} is content"),
        Detected::NotRunning(reason) | Detected::Failed(reason) => reason,
    };
    let other = reason(with("4711"));
    assert!(other.contains("expected \"4711\""), "{other}");
    let nothing = reason(SqlCheck {
        query: "select * from no_such_table".into(),
        ..check.clone()
    });
    assert!(nothing.contains("no_such_table"), "{nothing}");
    let nobody = reason(SqlCheck {
        login: Some("nobody-at-all".into()),
        ..check.clone()
    });
    assert!(nobody.contains("nobody-at-all"), "{nobody}");
    let closed = reason(SqlCheck {
        port: Some(9),
        host: Some("10.9.0.50".into()),
        ..check.clone()
    });
    assert!(closed.contains("10.9.0.50"), "{closed}");
    let hung = reason(SqlCheck {
        timeout: std::time::Duration::from_millis(500),
        query: match check.engine {
            Engine::PostgreSql => "select 1 from pg_sleep(1000)".into(),
            Engine::MySql => "select sleep(1000)".into(),
        },
        ..check.clone()
    });
    assert!(hung.contains("no answer after 500 ms"), "{hung}");
}

fn installed(program: &str) -> bool {
    let there = Path::new(program).exists();
    if !there {
        eprintln!("skipped: {program} is not installed (scripts/setup tests installs it)");
    }
    there
}

/// The newest PostgreSQL of this machine's packages.
fn postgresql() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let versions = versions.flatten().filter_map(|entry| {
        let version = entry.file_name().into_string().ok()?;
        let server = entry.path().join("bin/postgres");
        server
            .exists()
            .then_some((version.parse::<u32>().ok()?, version))
    });
    versions.max().map(|(_, version)| version)
}

#[test]
fn postgresql_is_made_asked_killed_and_recovers() {
    let Some(version) = postgresql() else {
        eprintln!("skipped: PostgreSQL is not installed (scripts/setup tests installs it)");
        return;
    };
    in_namespaces(move || {
        let client = format!("/usr/lib/postgresql/{version}/bin/psql");
        let psql = |query: &str| {
            sh(&format!(
                "cd /; runuser -u postgres -- {client} -h /run/postgresql -d postgres -Atqc \"{query}\""
            ))
        };
        let values = [("allow", "all"), ("version", &version)];
        let mut database = Database::of("postgresql", &values);
        database.start();
        database.wait_running("prepare");
        database.wait_running("server");
        psql("create table t (n int); insert into t values (1), (2)");
        psql("create role app login password 'secret'; grant all on t to app");
        let remote = format!(
            "PGPASSWORD=secret {client} -h 10.9.0.50 -U app -d postgres -Atqc 'select sum(n) from t'"
        );
        assert_eq!(sh(&remote), "3", "a client over the address");
        let password = database.bench.path("password");
        std::fs::write(&password, "secret\n").unwrap();
        let asked = SqlCheck {
            host: Some("10.9.0.50".into()),
            database: Some("postgres".into()),
            ..question(Engine::PostgreSql, "select sum(n) from t", &password)
        };
        answers(&asked, "3");
        let local = SqlCheck {
            host: Some("/run/postgresql".into()),
            login: None,
            password_file: None,
            user: Some("postgres".into()),
            ..asked
        };
        answers(&local, "3");

        // A client that stays connected does not hold the stop up.
        let mut session = Command::new("runuser")
            .args([
                "-u",
                "postgres",
                "--",
                &client,
                "-h",
                "/run/postgresql",
                "-d",
                "postgres",
            ])
            .args(["-c", "select pg_sleep(1000)"])
            .current_dir("/")
            .spawn()
            .unwrap();
        wait(|| {
            let asked = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
            (psql(asked) == "1").then_some(())
        });
        database.stop();
        let _ = session.wait();
        assert!(
            database.log().contains("database system is shut down"),
            "{}",
            database.log()
        );

        database.start();
        database.wait_running("server");
        psql("insert into t values (4)");
        database.crash();
        database.start();
        database.wait_running("server");
        assert_eq!(
            psql("select sum(n) from t"),
            "7",
            "what was committed is there"
        );
        assert!(
            database.log().contains("automatic recovery"),
            "{}",
            database.log()
        );

        // The server alone is killed and started again in place.
        let data = database.bench.path("files/main");
        let pid = sh(&format!("head -1 {}/postmaster.pid", data.display()));
        sh(&format!("kill -9 {pid}"));
        assert!(database.bench.next_exit("server").contains("137"));
        assert_eq!(database.bench.act("server", Work::Stop), Ok(()));
        assert_eq!(database.bench.act("server", Work::Start), Ok(()));
        database.wait_running("server");
        database.stop();

        // A postmaster.pid that names a living process of the same user.
        assert_eq!(database.bench.act("files", Work::Start), Ok(()));
        let mut other = Command::new("runuser")
            .args(["-u", "postgres", "--", "sleep", "1000"])
            .spawn()
            .unwrap();
        let lock = data.join("postmaster.pid");
        let others = sleeper(&other);
        let left = format!("{others}\\n{}\\n1\\n5432\\n\\n\\n", data.display());
        sh(&format!(
            "printf '{left}' > {0}; chown postgres {0}",
            lock.display()
        ));
        database.start();
        database.wait_running("server");
        // And one that works in the directory: it is left in peace.
        assert_eq!(database.bench.act("server", Work::Stop), Ok(()));
        let mut foreign = Command::new("runuser")
            .args(["-u", "postgres", "--", "sleep", "1000"])
            .current_dir(&data)
            .spawn()
            .unwrap();
        let foreigns = sleeper(&foreign);
        let exit = database.bench.start_and_exit("server");
        assert!(exit.contains("still works in"), "{exit}");
        sh(&format!("kill {others} {foreigns}"));
        for child in [&mut other, &mut foreign] {
            let _ = child.wait();
        }
        database.stop();
    });
}

/// The process that a `runuser` has started.
fn sleeper(runuser: &std::process::Child) -> String {
    wait(|| {
        let output = Command::new("pgrep")
            .args(["-x", "sleep", "-P", &runuser.id().to_string()])
            .output();
        let pid = String::from_utf8(output.ok()?.stdout)
            .ok()?
            .trim()
            .to_owned();
        (!pid.is_empty()).then_some(pid)
    })
}

#[test]
fn mariadb_is_made_asked_killed_and_recovers() {
    if !installed("/usr/sbin/mariadbd") {
        return;
    }
    in_namespaces(|| {
        let sql = |query: &str| {
            sh(&format!(
                "mariadb --no-defaults -S /run/mysqld/shop.sock -N -e \"{query}\""
            ))
        };
        let mut database = Database::of("mariadb", &[]);
        database.start();
        database.wait_running("prepare");
        database.wait_running("server");
        sql(
            "create database d; create table d.t (n int) engine=innodb; insert into d.t values (1), (2)",
        );
        sql("create user app identified by 'secret'; grant all on d.* to app");
        let remote =
            "mariadb --no-defaults -h 10.9.0.50 -u app -psecret -N -e 'select sum(n) from d.t'";
        assert_eq!(sh(remote), "3", "a client over the address");
        let password = database.bench.path("password");
        std::fs::write(&password, "secret\n").unwrap();
        let asked = SqlCheck {
            host: Some("10.9.0.50".into()),
            database: Some("d".into()),
            ..question(Engine::MySql, "select sum(n) from t", &password)
        };
        answers(&asked, "3");
        let local = SqlCheck {
            host: Some("/run/mysqld/shop.sock".into()),
            ..asked
        };
        answers(&local, "3");
        database.stop();
        assert!(
            database.log().contains("Shutdown complete"),
            "{}",
            database.log()
        );
        database.start();
        database.wait_running("server");
        sql("insert into d.t values (4)");
        database.crash();
        database.start();
        database.wait_running("server");
        assert_eq!(
            sql("select sum(n) from d.t"),
            "7",
            "what was committed is there"
        );
        database.stop();
    });
}
