//! The databases: how their group is made, what the clients need, how the data is looked at.

use crate::error::{LedgerError, Result};
use crate::ledger::Server;
use crate::mariadb::MariaDb;
use crate::postgres::Postgres;
use crate::scene::{ADDRESS, Scene};
use std::path::Path;
use std::sync::Arc;

const PASSWORD: &str = "ledger";

/// A database that has a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    PostgreSql {
        /// Major version, as in the package's paths.
        version: String,
    },
    MariaDb,
}

impl Database {
    /// The newest PostgreSQL of the machine's packages.
    pub fn postgresql() -> Option<Self> {
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
        let (_, version) = versions.max()?;
        Some(Self::PostgreSql { version })
    }

    /// MariaDB, if it is installed.
    pub fn mariadb() -> Option<Self> {
        let there = Path::new("/usr/sbin/mariadbd").exists();
        there.then_some(Self::MariaDb)
    }

    /// The words after `hotpair group add db --template`; not those that every database takes.
    pub(crate) fn template(&self) -> Vec<String> {
        match self {
            Self::PostgreSql { version } => {
                let set = format!("version={version}");
                ["postgresql", "--set", &set].map(str::to_owned).to_vec()
            }
            Self::MariaDb => vec!["mariadb".to_owned()],
        }
    }

    fn program(&self, name: &str) -> String {
        match self {
            Self::PostgreSql { version } => format!("/usr/lib/postgresql/{version}/bin/{name}"),
            Self::MariaDb => name.to_owned(),
        }
    }

    /// Runs statements as the database's administrator on the host where it runs.
    pub(crate) fn sql(&self, scene: &Scene, host: &str, statements: &str) -> Result<String> {
        let client = match self {
            Self::PostgreSql { .. } => format!(
                "cd /; runuser -u postgres -- {} -h /run/postgresql -d postgres -v ON_ERROR_STOP=1 -Atqc \"$1\"",
                self.program("psql")
            ),
            Self::MariaDb => "mariadb --no-defaults --socket=/run/mysqld/db.sock --batch \
                --skip-column-names --execute=\"$1\""
                .to_owned(),
        };
        scene.run(host, &["sh", "-ec", &client, "sh", statements])
    }

    /// Makes the table and the account of the clients.
    pub(crate) fn prepare(&self, scene: &Scene, host: &str) -> Result<()> {
        let statements = match self {
            Self::PostgreSql { .. } => format!(
                "create table ledger (n bigint primary key, body text not null); \
                 create role ledger login password '{PASSWORD}'; grant select, insert on ledger to ledger; \
                 grant pg_read_server_files to ledger; grant execute on function pg_read_file(text) to ledger"
            ),
            Self::MariaDb => format!(
                "create database ledger; \
                 create table ledger.ledger (n bigint primary key, body text not null); \
                 create user ledger@'%' identified by '{PASSWORD}'; \
                 grant select, insert on ledger.* to ledger@'%'"
            ),
        };
        self.sql(scene, host, &statements).map(|_| ())
    }

    pub(crate) fn server(&self, scene: &Scene) -> Arc<dyn Server> {
        match self {
            Self::PostgreSql { .. } => {
                let mut config = tokio_postgres::Config::new();
                config.user("ledger").password(PASSWORD).dbname("postgres");
                Arc::new(Postgres {
                    address: (ADDRESS, 5432).into(),
                    config,
                })
            }
            Self::MariaDb => Arc::new(MariaDb {
                lab: scene.lab.clone(),
                address: ADDRESS,
                password: PASSWORD,
            }),
        }
    }

    /// The numbers of all rows as they lie in the table, without an index; one whose content is not
    /// what was written is a finding.
    pub(crate) fn rows(&self, scene: &Scene, host: &str) -> Result<Vec<u64>> {
        let statements = match self {
            Self::PostgreSql { .. } => {
                "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off; \
                 select n, body = repeat(md5(n::text), 4) from ledger"
            }
            Self::MariaDb => {
                "select concat(n, if(body = repeat(md5(n), 4), '|t', '|f')) from ledger.ledger ignore index (primary)"
            }
        };
        let text = self.sql(scene, host, statements)?;
        let row = |line: &str| match line.split_once('|') {
            Some((n, "t")) => n.parse().ok(),
            _ => None,
        };
        let rows = text.lines().map(|line| {
            row(line)
                .ok_or_else(|| LedgerError::Broken(format!("a row of another content: {line}")))
        });
        rows.collect()
    }

    /// Looks for corruption with the database's own means.
    pub(crate) fn check(&self, scene: &Scene, host: &str) -> Result<()> {
        let check = match self {
            Self::PostgreSql { .. } => format!(
                "cd /; runuser -u postgres -- {} -h /run/postgresql --all --install-missing --heapallindexed 2>&1",
                self.program("pg_amcheck")
            ),
            Self::MariaDb => "out=$(mariadb-check --no-defaults --socket=/run/mysqld/db.sock --all-databases \
                --extended 2>&1) || exit 1; echo \"$out\"; ! echo \"$out\" | grep -qiE 'error|corrupt|warning'"
                .to_owned(),
        };
        let checked = scene.run(host, &["sh", "-c", &check]);
        checked
            .map(|_| ())
            .map_err(|e| LedgerError::Broken(format!("corruption is reported: {e}")))
    }
}
