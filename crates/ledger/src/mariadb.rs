//! MariaDB as its own command-line client sees it, which runs in the client host.

use crate::ledger::{Server, Session};
use hotpair_lab::Lab;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A commit that takes longer is given up, and its connection with it.
const COMMIT: Duration = Duration::from_secs(1);
const LOGIN: Duration = Duration::from_secs(3);

pub struct MariaDb {
    pub lab: Lab,
    pub address: Ipv4Addr,
    pub password: &'static str,
}

struct Connection {
    child: Child,
    statements: ChildStdin,
    /// Lines that the client printed.
    said: Receiver<String>,
    node: Arc<str>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server for MariaDb {
    fn connect(&self) -> Result<Box<dyn Session>, String> {
        let (host, password) = (self.address.to_string(), self.password);
        let argv = [
            "mariadb",
            "--no-defaults",
            "--host",
            &host,
            "--user=ledger",
            &format!("--password={password}"),
            "--connect-timeout=1",
            "--unbuffered",
            "--batch",
            "--skip-column-names",
            "ledger",
        ]
        .map(str::to_owned);
        let mut command = self
            .lab
            .command("client", &argv)
            .map_err(|e| e.to_string())?;
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let (Some(statements), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the client has no pipes".to_owned());
        };
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut connection = Connection {
            child,
            statements,
            said,
            node: "".into(),
        };
        connection.node = connection.ask("select @@hostname;", LOGIN)?.into();
        Ok(Box::new(connection))
    }
}

impl Connection {
    /// The line that the client prints for these statements; it ends at an error.
    fn ask(&mut self, statements: &str, limit: Duration) -> Result<String, String> {
        let written = writeln!(self.statements, "{statements}");
        written
            .and_then(|()| self.statements.flush())
            .map_err(|e| e.to_string())?;
        let line = self.said.recv_timeout(limit);
        line.map_err(|e| format!("no answer of mariadb: {e}"))
    }
}

impl Session for Connection {
    fn node(&self) -> &Arc<str> {
        &self.node
    }

    fn commit(&mut self, n: u64) -> Result<(), String> {
        let statements =
            format!("insert into ledger values ({n}, repeat(md5('{n}'), 4)); select {n};");
        let line = self.ask(&statements, COMMIT)?;
        match line == n.to_string() {
            true => Ok(()),
            false => Err(format!("{line:?} instead of {n}")),
        }
    }
}
