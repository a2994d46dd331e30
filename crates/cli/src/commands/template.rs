//! `hotpair template`: groups that are written in one step, and `hotpair group add`, which does it.

use crate::args::Change;
use crate::commands::config;
use crate::failure::Failure;
use crate::output::{columns, plain, print};
use crate::session::{self, Outcome, Session};
use clap::{Args, Subcommand};
use hotpair_api::{Call, Reply};
use hotpair_config::{GroupTemplate, MAX_TEMPLATE, NoAgents, built_in_templates};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Templates of groups: databases on a mirror and the like, in one step.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// List the templates: those built in, and files in /etc/hotpair/templates.
    List,
    /// Show what a template takes and needs.
    Show { template: String },
}

/// Write a group from a template, check it and apply it.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Name of the new group.
    group: String,
    /// See `hotpair template list`.
    #[arg(long)]
    template: String,
    /// A value that the template takes; `hotpair template show` tells them. `nodes=a,b` too.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
    #[command(flatten)]
    change: Change,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub fn run(session: &Session, command: TemplateCommand) -> Outcome {
    let templates = all(&session.paths.etc.join("templates"))?;
    match command {
        TemplateCommand::List => session.show(&templates, || {
            let rows = templates.iter();
            let rows = rows.map(|t| vec![t.name.clone(), plain(&t.title)]);
            columns(&rows.collect::<Vec<_>>())
        }),
        TemplateCommand::Show { template } => {
            let template = find(&templates, &template)?;
            session.show(template, || describe(template))
        }
    }
}

fn describe(template: &GroupTemplate) -> String {
    let mut out = format!("{}\n", plain(&template.title));
    for (word, text) in [("needs", &template.needs), ("then", &template.after)] {
        if !text.is_empty() {
            out += &format!("{word}: {}\n", plain(text));
        }
    }
    let rows: Vec<_> = template
        .parameters
        .iter()
        .map(|parameter| {
            let default = parameter.default.as_deref().map_or("required", |d| d);
            vec![
                parameter.name.clone(),
                plain(default),
                plain(&parameter.help),
            ]
        })
        .collect();
    out + "\n" + &columns(&rows)
}

/// The built-in templates and the files of the administrator, which go before them.
fn all(folder: &Path) -> Result<Vec<GroupTemplate>, Failure> {
    let mut templates: BTreeMap<String, GroupTemplate> = built_in_templates()
        .into_iter()
        .map(|template| (template.name.clone(), template))
        .collect();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(templates.into_values().collect());
    };
    for entry in entries.flatten().take(1_000) {
        let path = entry.path();
        let name = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|_| path.extension().is_some_and(|e| e == "toml")) else {
            continue;
        };
        let wrong = |why: String| Failure::refused(format!("{}: {why}", path.display()));
        let mut text = String::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_TEMPLATE as u64 + 1).read_to_string(&mut text))
            .map_err(|error| wrong(error.to_string()))?;
        let template =
            GroupTemplate::read(&name, &text).map_err(|error| wrong(error.to_string()))?;
        templates.insert(name, template);
    }
    Ok(templates.into_values().collect())
}

fn find<'a>(templates: &'a [GroupTemplate], name: &str) -> Result<&'a GroupTemplate, Failure> {
    let found = templates.iter().find(|template| template.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = templates.iter().map(|t| t.name.as_str()).collect();
        session::no_such("template", name, &names)
    })
}

/// `hotpair group add`.
pub fn add(session: &Session, args: &AddArgs) -> Outcome {
    let templates = all(&session.paths.etc.join("templates"))?;
    let template = find(&templates, &args.template)?;
    let mut given = BTreeMap::new();
    for (key, value) in &args.values {
        if given.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::refused(format!("`{key}` is given twice")));
        }
    }
    let present = match session.ask(Call::ConfigShow { revision: None })? {
        Reply::Config { text, .. } => text,
        other => return Err(session::unexpected(&other)),
    };
    let cluster = config::checked("the configuration in force", &present, &NoAgents)?.cluster;
    if cluster.groups.keys().any(|group| group.0 == args.group) {
        return Err(
            Failure::refused(format!("there is a group `{}` already", args.group))
                .hint("choose another name, or edit it with `hotpair config`"),
        );
    }
    let nodes: Vec<String> = cluster
        .nodes
        .values()
        .map(|node| node.name.clone())
        .collect();
    let text = template
        .fill(&args.group, &nodes, &given)
        .map_err(|error| {
            let hint = format!(
                "`hotpair template show {}` tells what it takes",
                template.name
            );
            Failure::refused(error.to_string()).hint(hint)
        })?;
    if !session.json {
        if args.change.dry_run {
            print(&format!("{}\n\n", text.trim()));
        }
        for (word, said) in [("needs", &template.needs), ("then", &template.after)] {
            if !said.is_empty() {
                eprintln!("{word}: {}", plain(said));
            }
        }
    }
    let name = format!("the configuration with group {}", args.group);
    config::apply_text(
        session,
        &name,
        &format!("{present}\n{}\n", text.trim()),
        args.change.dry_run,
    )
}
