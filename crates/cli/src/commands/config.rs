//! `hotpair config`: the configuration, checked, planned, applied, shown, taken back.

mod facts;

use crate::args::Change;
use crate::failure::{Code, Failure};
use crate::output::{columns, print};
use crate::session::{Outcome, Session, unexpected};
use clap::{Args, Subcommand};
use hotpair_api::{Call, Reply};
use hotpair_config::{Agents, Checked, MAX_TEXT, NoAgents};
use hotpair_core::config::Cluster;
use hotpair_daemon::agents::Installed;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long a new configuration may take until it is committed.
const APPLY: Duration = Duration::from_secs(30);

/// The cluster's configuration; every key is in docs/configuration.md.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration from what is found on this host.
    Query,
    /// Check a configuration: all findings at once, each with its place and what to do.
    Check(FileArgs),
    /// Say what applying a configuration would change, and which services it touches.
    Plan(FileArgs),
    Apply(ApplyArgs),
    Show(ShowArgs),
    /// List the revisions kept on this node, newest first.
    History,
    Diff(DiffArgs),
    Rollback(RollbackArgs),
}

#[derive(Debug, Args)]
pub struct FileArgs {
    /// The configuration, or `-` for standard input.
    file: PathBuf,
}

/// Give all nodes a new configuration.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The configuration, or `-` for standard input.
    file: PathBuf,
    #[command(flatten)]
    change: Change,
}

/// Write the configuration in force, or a kept revision, to standard output.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[arg(long)]
    revision: Option<u64>,
}

/// Say in what two kept revisions differ, and which services the change touches.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The older one, by its number in `config history`.
    from: u64,
    /// The newer one; the configuration in force if not given.
    to: Option<u64>,
}

/// Go back to a kept revision, as a new one.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    revision: u64,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Query => query(session),
        ConfigCommand::Check(args) => check(session, &args.file),
        ConfigCommand::Plan(args) => apply(session, &args.file, true),
        ConfigCommand::Apply(args) => apply(session, &args.file, args.change.dry_run),
        ConfigCommand::Show(args) => show(session, args.revision),
        ConfigCommand::History => history(session),
        ConfigCommand::Diff(args) => diff(session, &args),
        ConfigCommand::Rollback(args) => {
            let call = Call::ConfigRollback {
                revision: args.revision,
                dry_run: args.change.dry_run,
            };
            session.say(&said(session, call)?, args.change.dry_run)
        }
    }
}

/// Reads a configuration text, bounded.
pub fn read(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let limit = MAX_TEXT as u64 + 1;
    let done = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    done.map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(
            Code::Findings,
            format!("{} is not text: byte {at} is no UTF-8", path.display()),
        )
    })
}

/// Checks a text, asking these agents; its findings are shown when there are errors.
pub fn checked(file: &str, text: &str, agents: &dyn Agents) -> Result<Checked, Failure> {
    hotpair_config::check_with(file, text, None, agents).map_err(|findings| {
        let ink = std::io::stderr().is_terminal() && crate::output::Ink::of_terminal().on;
        eprint!("{}", hotpair_config::render(&findings, file, text, ink));
        errors_in(file, &findings)
    })
}

fn errors_in(file: &str, findings: &[hotpair_config::Finding]) -> Failure {
    let errors = findings
        .iter()
        .filter(|f| f.severity == hotpair_config::Severity::Error)
        .count();
    let errors = if errors == 1 {
        "an error".to_owned()
    } else {
        format!("{errors} errors")
    };
    Failure::new(
        Code::Findings,
        format!("{file} has {errors}; nothing was changed"),
    )
}

/// The configuration in force and its revision.
pub fn present(session: &Session) -> Result<(Cluster, u64), Failure> {
    revision(session, None)
}

/// A kept configuration, or the one in force, and its revision.
fn revision(session: &Session, wanted: Option<u64>) -> Result<(Cluster, u64), Failure> {
    match session.ask(Call::ConfigShow { revision: wanted })? {
        Reply::Config { revision, text } => {
            let name = wanted.map_or("the configuration in force".to_owned(), |number| {
                format!("revision {number}")
            });
            Ok((checked(&name, &text, &NoAgents)?.cluster, revision))
        }
        other => Err(unexpected(&other)),
    }
}

fn query(session: &Session) -> Outcome {
    let text = hotpair_config::template(&[facts::of_this_host()]);
    session.show(&serde_json::json!({ "text": text }), || text.clone())
}

fn check(session: &Session, path: &Path) -> Outcome {
    let (file, text) = (path.display().to_string(), read(path)?);
    let (findings, good) =
        match hotpair_config::check_with(&file, &text, None, &Installed::asking()) {
            Ok(checked) => (checked.warnings, true),
            Err(findings) => (findings, false),
        };
    let against = if good {
        against_cluster(session, &file, &text)
    } else {
        None
    };
    let ok = good && against.as_ref().is_none_or(|(ok, _)| *ok);
    if session.json {
        let changes = against.map(|(_, changes)| changes);
        session.print_json(
            &serde_json::json!({ "ok": ok, "findings": findings, "changes": changes }),
        )?;
        return Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(Code::Findings as u8)
        });
    }
    print(&hotpair_config::render(
        &findings,
        &file,
        &text,
        session.ink.on,
    ));
    if !good {
        return Err(errors_in(&file, &findings));
    }
    print(&format!("{file} can be applied\n"));
    match against {
        None => {
            print("(the daemon does not run here: not compared with the configuration in force)\n")
        }
        Some((true, changes)) => print(&changes_text(&changes)),
        Some((false, changes)) => {
            return Err(Failure::new(Code::Findings, changes.join("\n")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the running cluster says about a text; `None` if the daemon does not run.
fn against_cluster(session: &Session, file: &str, text: &str) -> Option<(bool, Vec<String>)> {
    let call = Call::ConfigApply {
        file: file.into(),
        text: text.into(),
        apply: false,
        dry_run: true,
    };
    match session.ask(call) {
        Ok(Reply::ConfigChecked {
            ok: true, changes, ..
        }) => Some((true, changes)),
        Ok(Reply::ConfigChecked {
            ok: false,
            rendered,
            ..
        }) => Some((false, vec![rendered])),
        Err(failure) if failure.code == Code::Refused => Some((false, vec![failure.message])),
        _ => None,
    }
}

fn changes_text(changes: &[String]) -> String {
    if changes.is_empty() {
        return "nothing differs from the configuration in force\n".to_owned();
    }
    let lines: Vec<_> = changes
        .iter()
        .map(|change| format!("  {}\n", crate::output::plain(change)))
        .collect();
    format!("changes:\n{}", lines.concat())
}

fn apply(session: &Session, path: &Path, dry_run: bool) -> Outcome {
    apply_text(session, &path.display().to_string(), &read(path)?, dry_run)
}

/// Gives the daemon a text to apply, and prints what it said.
pub fn apply_text(session: &Session, file: &str, text: &str, dry_run: bool) -> Outcome {
    let said = applied(session, file, text, dry_run)?;
    session.say(&said, dry_run)
}

/// Gives the daemon a text to apply; what it said. Prints no more than findings.
pub fn applied(
    session: &Session,
    file: &str,
    text: &str,
    dry_run: bool,
) -> Result<String, Failure> {
    // Findings are drawn here, in colour; the daemon checks again against what is in force.
    let warnings = checked(file, text, &Installed::asking())?.warnings;
    if !session.json {
        eprint!("{}", hotpair_config::render(&warnings, file, text, false));
    }
    said(
        session,
        Call::ConfigApply {
            file: file.into(),
            text: text.into(),
            apply: true,
            dry_run,
        },
    )
}

/// What the daemon says when the configuration is changed.
fn said(session: &Session, call: Call) -> Result<String, Failure> {
    match session.call(call, APPLY)? {
        Reply::Done(text) => Ok(text),
        Reply::ConfigChecked {
            ok: true, changes, ..
        } => Ok(changes_text(&changes)),
        Reply::ConfigChecked {
            ok: false,
            rendered,
            ..
        } => {
            eprint!("{rendered}");
            Err(Failure::new(
                Code::Findings,
                "the cluster found errors; nothing was changed",
            ))
        }
        other => Err(unexpected(&other)),
    }
}

fn show(session: &Session, revision: Option<u64>) -> Outcome {
    match session.ask(Call::ConfigShow { revision })? {
        Reply::Config { revision, text } => {
            let object = serde_json::json!({ "revision": revision, "text": text });
            session.show(&object, || text.clone())
        }
        other => Err(unexpected(&other)),
    }
}

fn diff(session: &Session, args: &DiffArgs) -> Outcome {
    let (old, from) = revision(session, Some(args.from))?;
    let (new, to) = revision(session, args.to)?;
    let changes = hotpair_config::diff(&old, &new);
    let object = serde_json::json!({ "from": from, "to": to, "changes": changes });
    session.show(&object, || {
        if changes.is_empty() {
            return format!("revisions {from} and {to} do not differ\n");
        }
        let lines = changes
            .iter()
            .map(|change| format!("  {}\n", crate::output::plain(&change.to_string())));
        format!(
            "from revision {from} to {to}:\n{}",
            lines.collect::<String>()
        )
    })
}

fn history(session: &Session) -> Outcome {
    match session.ask(Call::ConfigHistory)? {
        Reply::ConfigHistory(revisions) => session.show(&revisions, || {
            let rows = revisions
                .iter()
                .map(|r| vec![r.revision.to_string(), r.time.clone(), r.summary.clone()]);
            columns(&rows.collect::<Vec<_>>())
        }),
        other => Err(unexpected(&other)),
    }
}
