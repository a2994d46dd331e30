//! A database answers a query, asked by its own client program.
//!
//! The client knows every way to log in and every version of the protocol that its server knows.

use std::path::Path;
use std::time::Duration;

use super::Detected;
use crate::cgroup::Cgroup;
use crate::process::{DEFAULT_PATH, Outcome, Program, run};

/// How much of a client's output is looked at, in bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

/// Longest password, in bytes.
const PASSWORD_LIMIT: u64 = 4 << 10;

/// Whose database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    PostgreSql,
    /// MySQL or MariaDB.
    MySql,
}

/// Runs a query with `psql`, or with `mariadb` or `mysql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCheck {
    pub engine: Engine,
    /// A name or address; a path is PostgreSQL's directory of sockets, MySQL's socket.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    /// Name to log in with.
    pub login: Option<String>,
    /// Its first line is the password.
    pub password_file: Option<String>,
    pub query: String,
    /// A line that the answer must have.
    pub answer: Option<String>,
    /// System user to run the client as, for logins by who one is.
    pub user: Option<String>,
    pub cgroup: Option<Cgroup>,
    /// Limit for the whole check.
    pub timeout: Duration,
}

impl SqlCheck {
    /// Does the check; a client that hangs is killed.
    pub fn check(&self) -> Detected {
        let program = match self.program() {
            Ok(program) => program,
            Err(reason) => return Detected::Failed(reason),
        };
        let run = run(&program, self.timeout, OUTPUT_LIMIT);
        let text = run.text();
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        // MySQL's client repeats the query before it says why it failed.
        let said = lines().find(|line| line.starts_with("ERROR"));
        let said = said.or_else(|| lines().next()).unwrap_or("it said nothing");
        let said: String = said.chars().take(300).collect();
        match run.outcome {
            Outcome::Exit(0) => match &self.answer {
                Some(wanted) if !lines().any(|line| line == wanted.trim()) => {
                    Detected::Failed(format!("the query answered {said:?}, expected {wanted:?}"))
                }
                _ => Detected::Running,
            },
            Outcome::Exit(_) => Detected::NotRunning(said),
            Outcome::TimedOut => Detected::Failed(format!(
                "the query has no answer after {} ms",
                self.timeout.as_millis()
            )),
            Outcome::Signal(signal) => {
                Detected::Failed(format!("the client was killed by signal {signal}"))
            }
            Outcome::Failed(reason) => Detected::Failed(reason),
        }
    }

    fn program(&self) -> Result<Program, String> {
        let password = self.password()?;
        let seconds = self.timeout.as_millis().div_ceil(1000).max(1).to_string();
        let mut argv: Vec<String> = Vec::new();
        let mut env = Vec::new();
        let mut word = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        let port = self.port.map(|port| port.to_string());
        match self.engine {
            Engine::PostgreSql => {
                word(&[client(&["psql"])?, "-XqAtw", "-v", "ON_ERROR_STOP=1"]);
                env.push(("PGCONNECT_TIMEOUT".to_owned(), seconds));
                env.extend(password.map(|password| ("PGPASSWORD".to_owned(), password)));
                for (option, value) in [("-h", &self.host), ("-p", &port), ("-U", &self.login)] {
                    if let Some(value) = value {
                        word(&[option, value]);
                    }
                }
                let database = self.database.as_deref().unwrap_or("postgres");
                word(&["-d", database, "-c", &self.query]);
            }
            Engine::MySql => {
                word(&[client(&["mariadb", "mysql"])?, "--no-defaults", "-N", "-B"]);
                word(&[&format!("--connect-timeout={seconds}")]);
                env.extend(password.map(|password| ("MYSQL_PWD".to_owned(), password)));
                match &self.host {
                    Some(socket) if socket.starts_with('/') => word(&["-S", socket]),
                    Some(host) => word(&["-h", host]),
                    None => {}
                }
                for (option, value) in [("-P", &port), ("-u", &self.login), ("-D", &self.database)]
                {
                    if let Some(value) = value {
                        word(&[option, value]);
                    }
                }
                word(&["-e", &self.query]);
            }
        }
        Ok(Program {
            argv,
            env,
            user: self.user.clone(),
            cgroup: self.cgroup.clone(),
            ..Program::default()
        })
    }

    fn password(&self) -> Result<Option<String>, String> {
        use std::io::Read;
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(PASSWORD_LIMIT).read_to_string(&mut text))
            .map_err(|error| format!("cannot read the password in {path}: {error}"))?;
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }
}

/// The first of these programs that is installed.
fn client<'a>(names: &[&'a str]) -> Result<&'a str, String> {
    let path = std::env::var("PATH").unwrap_or(DEFAULT_PATH.into());
    let there = |name: &&&str| {
        path.split(':')
            .any(|dir| Path::new(dir).join(name).is_file())
    };
    let found = names.iter().find(there);
    found.copied().ok_or_else(|| {
        format!(
            "the database's client {} is not in PATH {path}: install it on this node",
            names.join(" or ")
        )
    })
}
