//! `hotpair support`: everything somebody needs to see who was not there, in one file, without secrets.

mod scrub;

use crate::failure::Failure;
use crate::session::{Outcome, Session};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use hotpair_api::facts::Wanted;
use hotpair_api::{Call, Reply};
use hotpair_host::process::{self, Program};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Write one file with all that explains what happened: states, events, configuration, logs; secrets are removed.
///
/// Run it on each node: logs are the node's own. Works with the daemon down, too.
#[derive(Debug, Args)]
pub struct SupportArgs {
    /// Where to; `hotpair-support-NODE-TIME.tar.gz` here by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Of each log, the newest.
const LOG_LIMIT: u64 = 2 << 20;
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);
const PROGRAM_OUTPUT: usize = 1 << 20;
/// Log files at most.
const MAX_LOGS: usize = 200;

/// What is asked of the system.
const PROGRAMS: [(&str, &[&str]); 9] = [
    ("system/uname", &["uname", "-a"]),
    ("system/addresses", &["ip", "address"]),
    ("system/links", &["ip", "-statistics", "link"]),
    ("system/routes", &["ip", "route", "show", "table", "all"]),
    ("system/neighbours", &["ip", "neighbour"]),
    ("system/nftables", &["nft", "list", "ruleset"]),
    (
        "system/processes",
        &["ps", "-eo", "pid,ppid,stat,lstart,etime,rss,cls,pri,comm"],
    ),
    ("system/kernel-log", &["dmesg", "--ctime"]),
    (
        "system/journal",
        &[
            "journalctl",
            "--no-pager",
            "-o",
            "short-precise",
            "-n",
            "5000",
            "-u",
            "hotpair",
            "-u",
            "hotpair-witness",
        ],
    ),
];
const FILES: [(&str, &str); 5] = [
    ("system/os-release", "/etc/os-release"),
    ("system/mounts", "/proc/self/mountinfo"),
    ("system/memory", "/proc/meminfo"),
    ("system/load", "/proc/loadavg"),
    ("system/pressure-io", "/proc/pressure/io"),
];

const README: &str = "\
What `hotpair support` found on one node.

cluster/   as the daemon of this node says it: status, events, configuration, reasons, mirrors
nodes/     what each node's host is like (`hotpair check`)
logs/      newest part of each file in the log directory of hotpair
system/    network, packet filter, processes, kernel log, journal

Removed: keys and state (never read), values of names such as password, secret, token or key, passwords in URLs,
private keys, tokens. Look through it before you send it: names of hosts and addresses are in it.
";

pub fn run(session: &Session, args: &SupportArgs) -> Outcome {
    let status = session.status();
    let name = match &status {
        Ok(status) => status.node.clone(),
        Err(_) => crate::words::host_name(),
    };
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let stem = format!("hotpair-support-{name}-{time}");
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{stem}.tar.gz")));
    let fail = |error: std::io::Error| {
        Failure::refused(format!("cannot write {}: {error}", output.display()))
    };
    let mut bundle = Bundle::new(&output, &stem).map_err(fail)?;
    bundle.add("README", README).map_err(fail)?;
    for (name, text) in of_cluster(session, &status) {
        bundle.add(&name, &text).map_err(fail)?;
    }
    for (name, words) in PROGRAMS {
        let run = process::run(
            &Program::new(words.iter().copied()),
            PROGRAM_LIMIT,
            PROGRAM_OUTPUT,
        );
        let text = String::from_utf8_lossy(&run.output).into_owned();
        let text = if run.succeeded() {
            text
        } else {
            format!("{text}\n({})\n", run.outcome)
        };
        bundle.add(name, &text).map_err(fail)?;
    }
    for (name, path) in FILES {
        let text = tail(Path::new(path)).unwrap_or_else(|error| format!("({error})\n"));
        bundle.add(name, &text).map_err(fail)?;
    }
    for (name, path) in logs(&session.paths.log) {
        let text = tail(&path).unwrap_or_else(|error| format!("({error})\n"));
        bundle.add(&name, &text).map_err(fail)?;
    }
    bundle.finish().map_err(fail)?;
    session.say(
        &format!(
            "written to {}; look through it before you send it",
            output.display()
        ),
        false,
    )
}

/// What the daemon says; where it says nothing, why.
fn of_cluster(
    session: &Session,
    status: &Result<hotpair_api::StatusView, Failure>,
) -> Vec<(String, String)> {
    let Ok(status) = status else {
        let why = status.as_ref().err().map(|failure| failure.message.clone());
        return vec![("cluster/none".to_owned(), why.unwrap_or_default())];
    };
    let mut calls = vec![
        ("cluster/status.json".to_owned(), Call::Status),
        ("cluster/mirrors.json".to_owned(), Call::Mirrors),
        (
            "cluster/configuration.toml".to_owned(),
            Call::ConfigShow { revision: None },
        ),
        ("cluster/history.json".to_owned(), Call::ConfigHistory),
        (
            "cluster/events.json".to_owned(),
            Call::Events {
                since: 0,
                last: None,
                follow: false,
            },
        ),
    ];
    for group in &status.groups {
        let call = Call::Explain {
            group: group.name.clone(),
        };
        calls.push((
            format!("cluster/explain-{}.json", file_name(&group.name)),
            call,
        ));
    }
    for node in &status.nodes {
        let call = Call::On {
            node: node.name.clone(),
            call: Box::new(Call::Facts {
                wanted: Box::new(Wanted::default()),
            }),
        };
        calls.push((format!("nodes/{}.json", file_name(&node.name)), call));
    }
    let answer = |(name, call): (String, Call)| {
        let text = match session.ask(call) {
            Ok(Reply::Config { text, .. }) => text,
            Ok(reply) => serde_json::to_string_pretty(&reply).unwrap_or_default(),
            Err(failure) => format!("({})\n", failure.message),
        };
        (name, text)
    };
    calls.into_iter().map(answer).collect()
}

/// A name that stays in its directory.
fn file_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.trim_start_matches('.').chars().map(plain).collect()
}

/// Regular files below the log directory, two levels deep.
fn logs(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut directories = vec![(String::from("logs"), directory.to_owned(), 0)];
    while let Some((prefix, directory, depth)) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = format!(
                "{prefix}/{}",
                file_name(&entry.file_name().to_string_lossy())
            );
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 2 => {
                    directories.push((name, entry.path(), depth + 1))
                }
                Ok(kind) if kind.is_file() => found.push((name, entry.path())),
                _ => {}
            }
        }
    }
    found.sort();
    found.truncate(MAX_LOGS);
    found
}

/// The last part of a file.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > LOG_LIMIT {
        file.seek(SeekFrom::Start(length - LOG_LIMIT))?;
    }
    let mut bytes = Vec::new();
    file.take(LOG_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A compressed archive, for its owner only.
struct Bundle {
    tar: tar::Builder<GzEncoder<File>>,
    stem: String,
    time: u64,
}

impl Bundle {
    fn new(path: &Path, stem: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            tar: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            stem: stem.to_owned(),
            time: u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0),
        })
    }

    /// Every text goes through here, and so does every secret.
    fn add(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        let text = scrub::scrub(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.stem);
        self.tar.append_data(&mut header, path, text.as_bytes())
    }

    fn finish(self) -> std::io::Result<()> {
        self.tar.into_inner()?.finish()?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name("db-1"), "db-1");
    }

    #[test]
    fn of_a_long_log_the_newest_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut text = vec![b'x'; usize::try_from(LOG_LIMIT).unwrap()];
        text.extend_from_slice(b"the end");
        std::fs::write(&path, text).unwrap();
        let found = logs(directory.path());
        assert_eq!(found, [("logs/events".to_owned(), path.clone())]);
        let tail = tail(&path).unwrap();
        assert!(tail.ends_with("the end") && tail.len() as u64 == LOG_LIMIT);
    }
}
