//! The script language of the golden scenarios: facts, requests and questions, line by line.

mod cluster;
mod facts;
mod mirrors;
mod random;
mod requests;

use hotpair_core::document::Document;
use hotpair_core::ids::{GroupId, HostBoot, MemberId, ResourceId};
use hotpair_core::mirror::Disk;
use hotpair_core::plan::{MemberView, Plan, View, plan, what_if};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bound on the plans of one `run`.
const STEPS: usize = 60;

/// The cluster as the script has left it.
pub struct World {
    pub document: Document,
    pub members: BTreeMap<MemberId, MemberView>,
    pub deciding_for: Duration,
    /// Disks of the mirrors' copies: they outlive reboots.
    disks: BTreeMap<(MemberId, GroupId, ResourceId), Disk>,
    said: String,
}

/// Runs a script; what the planner and the desk said.
pub fn run(script: &str) -> Result<String, String> {
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let described = lines
        .iter()
        .take_while(|line| line.starts_with("cluster:") || line.starts_with("group "))
        .count();
    let config = cluster::parse(&lines[..described])?;
    let mut world = World::new(Document::first(config));
    for line in &lines[described..] {
        world
            .step(line)
            .map_err(|problem| format!("`{line}`: {problem}"))?;
    }
    Ok(world.said)
}

impl World {
    fn new(document: Document) -> Self {
        let mut world = Self {
            members: BTreeMap::new(),
            deciding_for: Duration::from_secs(60),
            disks: BTreeMap::new(),
            said: String::new(),
            document,
        };
        for member in world.document.config.members() {
            world.online(member, HostBoot(u64::from(member.0)));
        }
        world
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["plan"] => {
                self.say("plan");
                let plan = self.plan();
                self.commit(&plan);
                self.account(&plan);
            }
            ["run"] => self.settle(),
            ["ask", request @ ..] => {
                self.say(&format!("ask {}", request.join(" ")));
                self.ask(request)?;
            }
            ["simulate", fault @ ..] => {
                self.say(&format!("simulate {}", fault.join(" ")));
                let fault = self.fault(fault)?;
                for line in what_if(&self.view(), &fault) {
                    self.say(&format!("  {line}"));
                }
            }
            [
                what @ ("disk" | "lacks" | "complete" | "stale-complete" | "stale-lacks"),
                rest @ ..,
            ] => self.mirror_fact(what, rest)?,
            _ => self.fact(&words)?,
        }
        Ok(())
    }

    /// `run`: plans, and nodes that obey, until nothing changes any more.
    fn settle(&mut self) {
        self.say("run");
        for _ in 0..STEPS {
            let plan = self.plan();
            self.commit(&plan);
            let obeyed = self.obey();
            if plan.changes.is_empty() && !obeyed {
                self.account(&plan);
                return;
            }
        }
        self.say("  never comes to rest");
    }

    pub fn view(&self) -> View<'_> {
        View {
            document: &self.document,
            members: self.members.clone(),
            deciding_for: self.deciding_for,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.view())
    }

    fn commit(&mut self, plan: &Plan) {
        for change in &plan.changes {
            let text = change.text(&self.document.config);
            self.say(&format!("  > {text}"));
            change.apply(&mut self.document);
        }
        if !plan.changes.is_empty() {
            self.document.version.index += 1;
        }
    }

    fn account(&mut self, plan: &Plan) {
        for line in plan.text(&self.document.config) {
            self.say(&format!("  {line}"));
        }
    }

    pub fn say(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    pub fn member(&self, name: &str) -> Result<MemberId, String> {
        let config = &self.document.config;
        let members = config.members();
        let found = members.into_iter().find(|&m| config.name_of(m) == name);
        found.ok_or_else(|| format!("no member {name}"))
    }

    pub fn group(&self, name: &str) -> GroupId {
        GroupId::from(name)
    }
}

/// `250ms`, `10s`; a number alone is milliseconds.
pub fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let number: u64 = digits.parse().map_err(|_| format!("no time: {text}"))?;
    match unit {
        "" | "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("no unit of time: {text}")),
    }
}
