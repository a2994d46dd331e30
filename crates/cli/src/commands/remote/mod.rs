//! `hotpair node add`, `hotpair witness add`: sets another machine up over SSH, from here.
//!
//! Every step looks first whether it is done, so that a run that broke off is gone on with by running it again.

mod ssh;

use crate::failure::{Code, Failure};
use crate::session::{Outcome, Session, unexpected};
use crate::words;
use clap::Args;
use hotpair_api::{Call, Reply, StatusView};
use ssh::{Ssh, SshArgs, quoted};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Set another machine up over SSH and make it a node: copies the program, joins it, starts its daemon.
///
/// Run on a node of the cluster. What is done already is not done again.
#[derive(Debug, Args)]
pub struct AddNode {
    #[command(flatten)]
    ssh: SshArgs,
    /// Name of the new node; its host name by default.
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// Its address on a link; needed only where it has none in the link's network.
    #[arg(long, value_name = "LINK=IP[:PORT]", value_parser = words::named_address)]
    address: Vec<(String, SocketAddr)>,
    #[command(flatten)]
    install: Install,
}

/// Set another machine up over SSH and make it the witness: copies the program, joins it, starts its daemon.
///
/// Run on a node of the cluster. What is done already is not done again.
#[derive(Debug, Args)]
pub struct AddWitness {
    #[command(flatten)]
    ssh: SshArgs,
    /// Name of the witness in the cluster.
    #[arg(long, value_name = "NAME", default_value = "witness")]
    name: String,
    /// Where its daemon listens, as the nodes see it; found by itself if not given.
    #[arg(long, value_name = "IP[:PORT]", value_parser = words::address)]
    address: Vec<SocketAddr>,
    #[command(flatten)]
    install: Install,
}

#[derive(Debug, Args)]
struct Install {
    /// Where the program is put there.
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/hotpair")]
    install_to: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

const UNITS: [(&str, &str); 2] = [
    (
        "hotpair.service",
        include_str!("../../../../../packaging/systemd/hotpair.service"),
    ),
    (
        "hotpair-witness.service",
        include_str!("../../../../../packaging/systemd/hotpair-witness.service"),
    ),
];

/// How long the new member may take until the others hear it.
const ONLINE: Duration = Duration::from_secs(60);
const TOKEN_S: u64 = 600;

pub fn add_node(session: &Session, args: &AddNode) -> Outcome {
    let mut words = vec!["join".to_owned(), "-".to_owned()];
    for (link, address) in &args.address {
        words.extend(["--address".to_owned(), format!("{link}={address}")]);
    }
    let work = Work {
        session,
        install: &args.install,
        witness: false,
        name: args.name.clone(),
        words,
    };
    work.run(&args.ssh)
}

pub fn add_witness(session: &Session, args: &AddWitness) -> Outcome {
    let mut words = vec!["witness".to_owned(), "join".to_owned(), "-".to_owned()];
    for address in &args.address {
        words.extend(["--address".to_owned(), address.to_string()]);
    }
    let work = Work {
        session,
        install: &args.install,
        witness: true,
        name: Some(args.name.clone()),
        words,
    };
    work.run(&args.ssh)
}

struct Work<'a> {
    session: &'a Session,
    install: &'a Install,
    witness: bool,
    name: Option<String>,
    /// The command that joins, without the name.
    words: Vec<String>,
}

impl Work<'_> {
    fn run(&self, args: &SshArgs) -> Outcome {
        let status = self.session.status()?;
        self.step(&format!("logging in to {}", args.target));
        let ssh = Ssh::open(args)?;
        let there = self.look(&ssh)?;
        let name = self.name.as_ref().unwrap_or(&there.host_name);
        let joined = self.is_member(&status, name);
        if let Some(refusal) = self.conflict(&status, name, joined, there.enrolled) {
            return Err(refusal);
        }
        if self.install.dry_run {
            let mut steps = Vec::new();
            if !there.same_program {
                steps.push(format!(
                    "copy hotpair to {}",
                    self.install.install_to.display()
                ));
            }
            if !joined {
                steps.push(format!("make it {}", self.role(name)));
            }
            steps.push("start its daemon unless it runs".to_owned());
            return self.session.say(&steps.join(", "), true);
        }
        if !there.same_program {
            self.copy(&ssh, &there)?;
        }
        if !joined {
            self.join(&ssh, name)?;
        }
        self.start(&ssh, there.systemd)?;
        self.wait(name)?;
        let text = format!(
            "{} is {} and online; `hotpair check` looks whether it is fit",
            args.target,
            self.role(name)
        );
        self.session.say(&text, false)
    }

    fn role(&self, name: &str) -> String {
        match self.witness {
            true => format!("the witness `{name}`"),
            false => format!("node `{name}`"),
        }
    }

    fn step(&self, text: &str) {
        if !self.session.json {
            eprintln!("{text}");
        }
    }

    fn path(&self) -> String {
        quoted(&self.install.install_to.to_string_lossy())
    }

    /// Could the program run there, and what is there already? In one go: each script takes a while.
    fn look(&self, ssh: &Ssh) -> Result<There, Failure> {
        let enrolled = match self.witness {
            true => "/var/lib/hotpair/witness",
            false => "/var/lib/hotpair/keys",
        };
        let script = format!(
            "uname -sm; uname -n; cksum < {} 2>/dev/null || echo none; \
             test -e {enrolled} && echo yes || echo no; test -d /run/systemd/system && echo yes || echo no",
            self.path()
        );
        let said = ssh.ok(&script, &mut std::io::empty())?;
        let lines: Vec<_> = said.lines().map(str::trim).collect();
        let [machine, host_name, known, enrolled, systemd] = lines[..] else {
            return Err(Failure::refused(format!(
                "the other machine's shell answers something else than was asked: {said}"
            ))
            .hint("its login scripts must print nothing when nobody is at a terminal"));
        };
        let uname = rustix::system::uname();
        let here = format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.machine().to_string_lossy()
        );
        if machine != here {
            return Err(Failure::refused(format!(
                "it is a {machine} machine, this one is {here}: this program cannot run there"
            ))
            .hint("build hotpair there and join it by `hotpair token`"));
        }
        let sum = sum(&File::open("/proc/self/exe")?)?;
        Ok(There {
            host_name: host_name.to_owned(),
            same_program: known == sum,
            sum,
            enrolled: enrolled == "yes",
            systemd: systemd == "yes",
        })
    }

    /// Copies this very program. A half copy has another name and is written over by the next run.
    fn copy(&self, ssh: &Ssh, there: &There) -> Result<(), Failure> {
        self.step(&format!(
            "copying hotpair to {}",
            self.install.install_to.display()
        ));
        let script = format!(
            "to={}; new=$to.new; mkdir -p \"$(dirname \"$to\")\" && cat > \"$new\" && \
             test \"$(cksum < \"$new\")\" = {} && chmod 755 \"$new\" && mv -f \"$new\" \"$to\" || {{ \
             rm -f \"$new\"; echo \"the program could not be written to $to; $(df -Pk \"$(dirname \"$to\")\" | \
             awk 'NR == 2 {{ print $4 }}') KiB are free there\" >&2; exit 1; }}",
            self.path(),
            quoted(&there.sum)
        );
        let mut program = File::open("/proc/self/exe")?;
        ssh.ok(&script, &mut program).map_err(|failure| {
            failure.hint(
                "make room, or give another place with `--install-to`, and run the command again",
            )
        })?;
        Ok(())
    }

    fn is_member(&self, status: &StatusView, name: &str) -> bool {
        if self.witness {
            status
                .witness
                .as_ref()
                .is_some_and(|known| known.name == name)
        } else {
            status.nodes.iter().any(|node| node.name == name)
        }
    }

    fn conflict(
        &self,
        status: &StatusView,
        name: &str,
        joined: bool,
        enrolled: bool,
    ) -> Option<Failure> {
        match (joined, enrolled) {
            (true, false) => Some(
                Failure::refused(format!("the cluster has {} already, and it is not this machine", self.role(name)))
                    .hint("give this one another name with `--name`, or take the old one out first"),
            ),
            // A witness serves many clusters.
            (false, true) if !self.witness => Some(
                Failure::refused("that machine is a node of another cluster, or joined this one under another name")
                    .hint("`hotpair status` there shows it; `hotpair wipe` there removes it"),
            ),
            (false, _) if self.witness => status.witness.as_ref().map(|known| {
                Failure::refused(format!("the cluster has the witness `{}` already", known.name))
                    .hint("take it out of the configuration first: `hotpair config apply`")
            }),
            _ => None,
        }
    }

    fn join(&self, ssh: &Ssh, name: &str) -> Result<(), Failure> {
        self.step(&format!("making it {}", self.role(name)));
        let token = match self.session.ask(Call::Token {
            witness: self.witness,
            valid_for_s: TOKEN_S,
        })? {
            Reply::Token { text, .. } => text,
            other => return Err(unexpected(&other)),
        };
        let named = ["--name".to_owned(), name.to_owned()];
        let words: Vec<_> = self
            .words
            .iter()
            .chain(&named)
            .map(|word| quoted(word))
            .collect();
        // Through standard input: a command line is for everybody to read.
        let script = format!("{} {}", self.path(), words.join(" "));
        ssh.ok(&script, &mut token.as_bytes())?;
        Ok(())
    }

    /// Starts the daemon unless it runs; by systemd where that is the first process.
    fn start(&self, ssh: &Ssh, systemd: bool) -> Result<(), Failure> {
        let (unit, words) = match self.witness {
            true => ("hotpair-witness", "witness run"),
            false => ("hotpair", "daemon"),
        };
        self.step(&format!("starting {unit}"));
        if systemd {
            for (name, text) in UNITS {
                let text = text.replace(
                    "/usr/bin/hotpair",
                    &self.install.install_to.to_string_lossy(),
                );
                let script = format!("cat > /etc/systemd/system/{name}");
                ssh.ok(&script, &mut text.as_bytes())?;
            }
            let script = format!("systemctl daemon-reload && systemctl enable --now {unit}");
            ssh.ok(&script, &mut std::io::empty())?;
            return Ok(());
        }
        // Its own session, and nothing of the connection's: it goes on when that ends.
        let script = format!(
            "pid=$(cat /run/{unit}.pid 2>/dev/null); if [ -n \"$pid\" ] && kill -0 \"$pid\" 2>/dev/null; then exit 0; fi; \
             mkdir -p /var/log/hotpair; setsid {} {words} >>/var/log/hotpair/{unit}.out 2>&1 </dev/null & echo $! >/run/{unit}.pid",
            self.path()
        );
        ssh.ok(&script, &mut std::io::empty())?;
        Ok(())
    }

    /// Until the others hear it.
    fn wait(&self, name: &str) -> Result<(), Failure> {
        self.step("waiting until it is online");
        let end = Instant::now() + ONLINE;
        while Instant::now() < end {
            // Voters change meanwhile: a moment without an answer is no failure.
            if let Ok(status) = self.session.status() {
                let online = match self.witness {
                    true => status
                        .witness
                        .is_some_and(|witness| witness.state == "online"),
                    false => status
                        .nodes
                        .iter()
                        .any(|node| node.name == name && node.state == "online"),
                };
                if online {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(Failure::new(
            Code::Unfinished,
            format!("{} has joined, but is not online after {} s", self.role(name), ONLINE.as_secs()),
        )
        .hint("look at its log (`journalctl -u hotpair`, or /var/log/hotpair there) and at packet filters in between: `hotpair check`"))
    }
}

/// The other machine.
struct There {
    host_name: String,
    same_program: bool,
    /// Of this program, as cksum(1) prints it.
    sum: String,
    /// It belongs to a cluster (a node), or serves one (a witness).
    enrolled: bool,
    systemd: bool,
}

/// What `cksum` prints of a file that it reads from standard input; POSIX has it everywhere.
fn sum(file: &File) -> Result<String, Failure> {
    let mut text = String::new();
    let mut child = std::process::Command::new("cksum")
        .stdin(file.try_clone()?)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    child.wait()?;
    Ok(text.trim().to_owned())
}
