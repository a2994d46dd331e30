//! The operator: asks for things during the run, and puts everything right after it.

use crate::check::Rule;
use crate::cluster;
use crate::fault::{Operator, Verb};
use crate::rng::Rng;
use crate::world::{Event, World, note};
use hotpair_core::config::{Cluster, Failback, RelationKind, Strength, Takeover, Timing};
use hotpair_core::document::{Document, Goal, Pin};
use hotpair_core::ids::{GroupId, MemberId};
use hotpair_core::node::Input;
use hotpair_core::request::{Outcome, Request, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Requests that are not answered yet.
#[derive(Default)]
pub struct Desk {
    asked: BTreeMap<u64, Asked>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Asked {
    host: usize,
    life: u64,
    at_us: u64,
    then: Then,
    text: String,
}

/// What is done once it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    /// This host becomes a member.
    Join(usize),
    /// This host ends hotpair when nothing runs on it, and starts it again later.
    Leave(usize),
}

/// Something the operator comes back to.
#[derive(Clone, Debug)]
pub enum Errand {
    /// Say that the node is down, while it is.
    Declare { node: usize, remove: bool },
    /// Has it left?
    SeeOff { node: usize, tries: u32 },
    /// Put right what is not as after installation.
    Repair,
}

impl World {
    /// Asks the daemon on `host`, if it lives.
    pub fn ask(&mut self, host: usize, request: Request) -> Option<u64> {
        self.ask_and(host, request, Then::Nothing)
    }

    fn ask_and(&mut self, host: usize, request: Request, then: Then) -> Option<u64> {
        self.hosts[host].node.it.as_ref()?;
        self.desk.last += 1;
        let id = self.desk.last;
        let text = format!("{request:?}");
        note!(
            self,
            "OPERATOR at m{}: {id} {}",
            host + 1,
            text.chars().take(200).collect::<String>()
        );
        self.mirror_hears_operator(&request);
        let life = self.hosts[host].node.life;
        let asked = Asked {
            host,
            life,
            at_us: self.now_us,
            then,
            text,
        };
        self.desk.asked.insert(id, asked);
        let request = Box::new(request);
        self.tell_node(
            host,
            Input::Request {
                id,
                request,
                dry_run: false,
            },
        );
        Some(id)
    }

    pub(crate) fn answered(&mut self, host: usize, id: u64, outcome: Outcome) {
        // Of the node's own request: nobody waits.
        if id == hotpair_core::node::FENCE_REQUEST {
            return;
        }
        note!(self, "m{} ANSWERS {id}: {outcome:?}", host + 1);
        let (Outcome::Done(text) | Outcome::Refused(text) | Outcome::Undecided(text)) = &outcome;
        if text.trim().is_empty() {
            self.violated(
                Rule::Reasons,
                format!("answer {id} says nothing: {outcome:?}"),
            );
        }
        let Some(asked) = self.desk.asked.remove(&id) else {
            self.violated(Rule::ActionsEnd, format!("request {id} was answered twice"));
            return;
        };
        if matches!(outcome, Outcome::Refused(_) | Outcome::Undecided(_)) {
            return;
        }
        match asked.then {
            Then::Nothing => {}
            Then::Join(host) => self.join(host),
            Then::Leave(node) => {
                let errand = Errand::SeeOff { node, tries: 40 };
                self.queue
                    .push(self.now_us + 500_000, Event::Operator(errand));
            }
        }
    }

    /// A request that its daemon, still alive and well, has not answered for 30 s.
    #[must_use]
    pub fn unanswered(&self) -> Option<String> {
        let overdue = self.desk.asked.values().find(|asked| {
            self.hosts[asked.host].node.life == asked.life && asked.at_us + 30_000_000 < self.now_us
        })?;
        Some(format!(
            "m{} has not answered: {}",
            overdue.host + 1,
            overdue.text
        ))
    }

    fn join(&mut self, host: usize) {
        let Some(document) = self.ledger.newest().cloned() else {
            return;
        };
        if !document.config.members().contains(&cluster::member(host)) || self.hosts[host].boots > 0
        {
            return;
        }
        self.enrol(host, &document);
        self.queue
            .push(self.now_us + 100_000, Event::PowerOn { host });
    }

    pub(crate) fn operate(&mut self, at: usize, what: Operator) {
        let group = |index: usize| self.groups[index % self.groups.len()].clone();
        let id = cluster::member;
        let request = match what {
            Operator::Switch { group: g, to } => Request::GroupSwitch {
                group: group(g),
                to: to.map(id),
            },
            Operator::Start { group: g, on } => Request::GroupStart {
                group: group(g),
                on: on.map(id),
            },
            Operator::Stop { group: g } => Request::GroupStop { group: group(g) },
            Operator::Enable { group: g, node } => Request::GroupEnable {
                group: group(g),
                node: node.map(id),
            },
            Operator::Disable { group: g, node } => Request::GroupDisable {
                group: group(g),
                node: node.map(id),
            },
            Operator::Clear { group: g } => Request::GroupClear {
                group: group(g),
                node: None,
            },
            Operator::Maintenance {
                scope,
                group: g,
                node,
                on,
            } => Request::Maintenance {
                scope: self.scope(scope, &group(g), id(node)),
                on,
            },
            Operator::Disarm => Request::Disarm,
            Operator::Arm => Request::Arm,
            Operator::Drain { node } => Request::NodeDrain { node: id(node) },
            Operator::Undrain { node } => Request::NodeUndrain { node: id(node) },
            Operator::ClearNode { node } => Request::NodeClear { node: id(node) },
            Operator::Leave { node, force } => {
                let nodes = BTreeSet::from([id(node)]);
                self.ask_and(at, Request::Leave { nodes, force }, Then::Leave(node));
                return;
            }
            Operator::DeclareDown { node, for_us } => return self.switch_off(node, for_us, false),
            Operator::Remove { node } => return self.switch_off(node, 10_000_000, true),
            Operator::Resource {
                group: g,
                resource,
                verb,
            } => match self.of_resource(&group(g), resource, verb) {
                Some(request) => request,
                None => return,
            },
            other => return self.reconfigure(at, &other),
        };
        self.ask(at, request);
    }

    fn of_resource(&self, group: &GroupId, resource: usize, verb: Verb) -> Option<Request> {
        let resources = &self.first.groups.get(group)?.resources;
        let resource = resources.keys().nth(resource % resources.len().max(1))?;
        let (group, resource) = (group.clone(), resource.clone());
        Some(match verb {
            Verb::Stop => Request::ResourceStop { group, resource },
            Verb::Start => Request::ResourceStart { group, resource },
            Verb::Restart => Request::ResourceRestart { group, resource },
        })
    }

    fn scope(&self, number: usize, group: &GroupId, node: MemberId) -> Scope {
        let resources = self.first.groups.get(group).map(|group| &group.resources);
        let resource = resources.and_then(|all| all.keys().next_back().cloned());
        match (number, resource) {
            (0, _) => Scope::Group(group.clone()),
            (1, Some(resource)) => Scope::Resource(group.clone(), resource),
            (2, _) => Scope::GroupOnNode(group.clone(), node),
            _ => Scope::Node(node),
        }
    }

    fn switch_off(&mut self, node: usize, for_us: u64, remove: bool) {
        if !self.hosts[node].on {
            return;
        }
        self.power_cut(node, for_us);
        let errand = Errand::Declare { node, remove };
        self.queue
            .push(self.now_us + 1_000_000, Event::Operator(errand));
    }

    pub(crate) fn look_after(&mut self, errand: Errand) {
        match errand {
            Errand::Declare { node, remove } => self.declare(node, remove),
            Errand::SeeOff { node, tries } => self.see_off(node, tries),
            Errand::Repair => self.repair(),
        }
    }

    /// The operator's word is true: the node stays off until every answer has come or been lost.
    fn declare(&mut self, node: usize, remove: bool) {
        if let Some(id) = self.hosts[node].held_off_by {
            let asked = self.desk.asked.get(&id);
            let open = asked.is_some_and(|asked| self.hosts[asked.host].node.life == asked.life);
            if open {
                self.queue.push(
                    self.now_us + 1_000_000,
                    Event::Operator(Errand::Declare { node, remove }),
                );
            } else {
                self.hosts[node].held_off_by = None;
            }
            return;
        }
        if self.hosts[node].on {
            return;
        }
        let member = cluster::member(node);
        let request = if remove {
            Request::NodeRemove { node: member }
        } else {
            Request::NodeIsDown { node: member }
        };
        let alive = (0..self.hosts.len()).filter(|&host| self.hosts[host].node.it.is_some());
        let alive: Vec<usize> = alive.collect();
        let Some(&at) = alive.get(self.rng.index(alive.len().max(1))) else {
            return;
        };
        self.hosts[node].held_off_by = self.ask(at, request);
        self.queue.push(
            self.now_us + 6_000_000,
            Event::Operator(Errand::Declare { node, remove }),
        );
    }

    fn see_off(&mut self, node: usize, tries: u32) {
        let member = cluster::member(node);
        let left = self.ledger.newest().is_some_and(|document| {
            document
                .members
                .get(&member)
                .is_some_and(|member| member.left)
        });
        let busy = self
            .groups
            .iter()
            .any(|group| self.runs_anything(node, group));
        if left && !busy {
            let pause = self.rng.range(500_000, 6_000_000);
            self.stop_hotpair(node, pause);
        } else if left && tries > 0 {
            let errand = Errand::SeeOff {
                node,
                tries: tries - 1,
            };
            self.queue
                .push(self.now_us + 500_000, Event::Operator(errand));
        }
    }

    fn reconfigure(&mut self, at: usize, what: &Operator) {
        let Some(document) = self.hosts[at].document.clone() else {
            return;
        };
        let mut config = document.config.clone();
        let mut then = Then::Nothing;
        let spare = (0..self.hosts.len()).find(|&host| self.hosts[host].boots == 0);
        match what {
            Operator::Timing { draw } => {
                config.timing = cluster::draw_timing(&mut Rng::new(*draw, 3));
                config.timing.ungated_margin = document
                    .config
                    .timing
                    .ungated_margin
                    .max(Timing::standard().ungated_margin);
            }
            Operator::AddNode => {
                let Some(host) = spare else { return };
                cluster::add_node(&mut config, host);
                for group in config.groups.values_mut() {
                    group.nodes.push(cluster::member(host));
                }
                then = Then::Join(host);
            }
            Operator::ReplaceWitness => {
                let Some(host) = spare else { return };
                config.witness = Some(cluster::witness_at(host));
                then = Then::Join(host);
            }
            Operator::RemoveWitness => config.witness = None,
            Operator::Policy { group, draw } => edit_policy(&mut config, *group, *draw),
            _ => return,
        }
        let request = Request::Configure {
            config: Box::new(config),
            made_from: document.revision,
        };
        self.ask_and(at, request, then);
    }

    /// After everything is healed: asks for whatever keeps a group from running.
    pub fn repair(&mut self) {
        self.queue
            .push(self.now_us + 3_000_000, Event::Operator(Errand::Repair));
        let Some(document) = self.ledger.newest().cloned() else {
            return;
        };
        // The answer to a join may have been lost.
        for member in document.config.members() {
            self.join(cluster::host_of(member));
        }
        let nodes = document
            .config
            .nodes
            .keys()
            .map(|&node| cluster::host_of(node));
        let alive: Vec<usize> = nodes
            .filter(|&host| self.hosts[host].node.it.is_some())
            .collect();
        let Some(&at) = alive.get(self.rng.index(alive.len().max(1))) else {
            return;
        };
        for request in repairs(&document, self) {
            self.ask(at, request);
        }
        for request in self.mirror_repairs() {
            self.ask(at, request);
        }
        // A leave whose answer was lost may have been decided: it is ended as usual, and started again.
        let left = document.members.iter().filter(|(_, member)| member.left);
        let left: Vec<usize> = left.map(|(&node, _)| cluster::host_of(node)).collect();
        for node in left {
            self.see_off(node, 0);
        }
    }
}

fn edit_policy(config: &mut Cluster, group: usize, draw: u64) {
    let mut rng = Rng::new(draw, 4);
    let names: Vec<_> = config.groups.keys().cloned().collect();
    let Some(group) = config.groups.get_mut(&names[group % names.len()]) else {
        return;
    };
    match rng.below(3) {
        0 => rng.shuffle(&mut group.nodes),
        1 => {
            group.failback = Failback::Return {
                delay: std::time::Duration::from_secs(1),
            }
        }
        _ => {
            group.takeover = if rng.percent(50) {
                Takeover::ByPriority
            } else {
                Takeover::Never
            }
        }
    }
}

/// What an operator would ask for who wants everything to run.
fn repairs(document: &Arc<Document>, world: &World) -> Vec<Request> {
    let mut requests = Vec::new();
    if document.disarmed {
        requests.push(Request::Arm);
    }
    for (&node, state) in &document.members {
        if state.maintenance {
            requests.push(Request::Maintenance {
                scope: Scope::Node(node),
                on: false,
            });
        }
        if state.drained {
            requests.push(Request::NodeUndrain { node });
        }
        if state.held_out {
            requests.push(Request::NodeClear { node });
        }
    }
    for (group, placement) in &document.groups {
        if placement.maintenance {
            requests.push(Request::Maintenance {
                scope: Scope::Group(group.clone()),
                on: false,
            });
        }
        for &node in &placement.maintenance_on {
            requests.push(Request::Maintenance {
                scope: Scope::GroupOnNode(group.clone(), node),
                on: false,
            });
        }
        for resource in &placement.maintenance_resources {
            requests.push(Request::Maintenance {
                scope: Scope::Resource(group.clone(), resource.clone()),
                on: false,
            });
        }
        for resource in &placement.stopped_resources {
            requests.push(Request::ResourceStart {
                group: group.clone(),
                resource: resource.clone(),
            });
        }
        if placement.disabled {
            requests.push(Request::GroupEnable {
                group: group.clone(),
                node: None,
            });
        }
        for &node in &placement.disabled_on {
            requests.push(Request::GroupEnable {
                group: group.clone(),
                node: Some(node),
            });
        }
        let runs = placement
            .holder
            .is_some_and(|holder| world.serves(cluster::host_of(holder), group));
        // One that is on its way may be held up by a stop that failed.
        if runs && placement.goal == Goal::Run && placement.moving.is_none() {
            continue;
        }
        requests.push(Request::GroupClear {
            group: group.clone(),
            node: None,
        });
        if placement.goal != Goal::Run || placement.holder.is_none() {
            requests.push(Request::GroupStart {
                group: group.clone(),
                on: None,
            });
        }
    }
    requests
}

/// Why the cluster is not as it should be after healing, if it is not.
#[must_use]
pub fn unsettled(world: &World) -> Option<String> {
    if world.fences_under_way > 0 {
        return Some("a node is being fenced".into());
    }
    let Some(document) = world.ledger.newest() else {
        return Some("nothing is committed".into());
    };
    if document.voters.next.is_some() || document.voters.now != document.config.voters() {
        return Some(format!("the voters are {:?}", document.voters));
    }
    let mut leaders = BTreeSet::new();
    let nodes = document.config.nodes.keys().copied();
    // A witness without a vote is left alone until it gets one.
    for member in nodes.chain(document.voters.all()) {
        if world.is_disk(cluster::host_of(member)) {
            continue;
        }
        let host = &world.hosts[cluster::host_of(member)];
        if !host.on || host.node.it.is_none() || host.guard.it.is_none() {
            return Some(format!("{member} is not up"));
        }
        let kept = host
            .disk
            .kept
            .as_ref()
            .and_then(|kept| kept.document.as_ref());
        if kept.map(|kept| kept.version) != Some(document.version) {
            return Some(format!(
                "{member} keeps {:?}, {} is committed",
                kept.map(|d| d.version),
                document.version
            ));
        }
        if host.committed != document.version {
            return Some(format!(
                "{member} knows {} to be committed, not {}",
                host.committed, document.version
            ));
        }
        if host.wanted.as_ref().is_some_and(|wanted| wanted.leads) {
            leaders.insert(member);
        }
    }
    if leaders.len() != 1 {
        return Some(format!("{leaders:?} lead"));
    }
    document
        .config
        .groups
        .keys()
        .find_map(|group| group_unsettled(world, document, group))
        .or_else(|| world.mirror_unsettled())
}

/// By a hard relation there is no node for the group, for as long as the others are where they are.
pub(crate) fn hindered(world: &World, document: &Document, group: &GroupId) -> bool {
    let config = &document.config.groups[group];
    let placement = &document.groups[group];
    let runs = |group: &GroupId| {
        let holder = document.groups.get(group).and_then(|it| it.holder);
        holder.filter(|&holder| world.serves(cluster::host_of(holder), group))
    };
    let runs_well = placement.moving.is_none() && runs(group).is_some();
    if runs_well {
        return false;
    }
    let mut nodes: Vec<MemberId> = config.nodes.clone();
    if config.takeover == Takeover::HighestOnly {
        nodes.truncate(1);
    }
    nodes.retain(|node| document.config.nodes.contains_key(node));
    let mut held_back = false;
    for (id, other) in &document.config.groups {
        for relation in &other.relations {
            let other = match relation.kind {
                _ if relation.strength != Strength::Hard => continue,
                _ if id == group => &relation.group,
                RelationKind::Apart if relation.group == *group => id,
                _ => continue,
            };
            match (relation.kind, runs(other)) {
                (RelationKind::With, Some(at)) => nodes.retain(|&node| node == at),
                (RelationKind::With | RelationKind::After, None) => held_back = true,
                (RelationKind::After, Some(_)) => {}
                (RelationKind::Apart, _) => {
                    let at = document.groups.get(other).and_then(|it| it.holder);
                    nodes.retain(|&node| Some(node) != at);
                    // Its data may be on the other one's node alone.
                    held_back |= at.is_some() && config.mirrors().next().is_some();
                }
            }
        }
    }
    held_back || nodes.is_empty()
}

fn group_unsettled(world: &World, document: &Document, group: &GroupId) -> Option<String> {
    let config = document.config.groups.get(group)?;
    let placement = document.groups.get(group)?;
    if !config
        .nodes
        .iter()
        .any(|node| document.config.nodes.contains_key(node))
    {
        return None;
    }
    if hindered(world, document, group) {
        return None;
    }
    let Some(holder) = placement.holder else {
        return Some(format!(
            "{group} has no holder: goal {:?}, {}",
            placement.goal, placement.reason
        ));
    };
    if placement.goal != Goal::Run || placement.moving.is_some() {
        return Some(format!(
            "{group}: goal {:?}, moving {:?}",
            placement.goal, placement.moving
        ));
    }
    if !world.serves(cluster::host_of(holder), group) {
        return Some(format!("{group} does not run on its holder {holder}"));
    }
    let even = document.config.nodes.len() == 2 && document.config.witness.is_none();
    let lasting = even || config.takeover == Takeover::Never || document.voters.all().len() == 1;
    match placement.pin {
        Some(Pin::Pinned(why)) if !lasting => Some(format!("{group} is still pinned: {why:?}")),
        Some(Pin::Releasing) => Some(format!("{group} is still being unpinned")),
        _ => None,
    }
}
