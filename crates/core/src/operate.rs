//! What an operator asks for: checked against the facts, then turned into changes of the document.
//!
//! A refusal says what is wrong and what to do. A request that is fulfilled already is accepted
//! without changes. What is accepted only says what shall be; the planner takes it from there.

mod configure;
mod group;
mod mirror;
mod node;
mod order;
mod resource;

use crate::document::Document;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::plan::{Change, Draft, View};
use crate::reason::Reason;
use crate::request::{Request, Scope};
use serde::{Deserialize, Serialize};

pub use order::{start_order, stop_order};
pub(crate) use resource::with_dependents;

/// A request that may be fulfilled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// In the order they are to be applied; none if it is fulfilled already.
    pub changes: Vec<Change>,
    /// What will happen now: the preview of a dry run, and the answer.
    pub text: String,
}

impl Accepted {
    fn new(changes: Vec<Change>, text: impl Into<String>) -> Self {
        Self {
            changes,
            text: text.into(),
        }
    }

    fn already(text: impl Into<String>) -> Self {
        Self::new(Vec::new(), text)
    }

    /// Makes the changes.
    pub fn apply(&self, document: &mut Document) {
        for change in &self.changes {
            change.apply(document);
        }
    }
}

/// Checks `request` against the document and the facts of `view`.
///
/// # Errors
/// What is wrong and what to do, for the operator to read; nothing is to be changed then.
pub fn apply(view: &View<'_>, request: &Request) -> Result<Accepted, String> {
    let desk = Desk {
        draft: Draft::new(view),
        document: view.document,
    };
    match request {
        Request::GroupStart { group, on } => desk.start(group, *on),
        Request::GroupStop { group } => desk.stop(group),
        Request::GroupSwitch { group, to } => desk.switch(group, *to),
        Request::GroupEnable { group, node } => desk.set_disabled(group, *node, false),
        Request::GroupDisable { group, node } => desk.set_disabled(group, *node, true),
        Request::GroupClear { group, node } => desk.clear(group, *node),
        Request::Maintenance { scope, on } => desk.maintenance(scope, *on),
        Request::Disarm => Ok(desk.disarm(true)),
        Request::Arm => Ok(desk.disarm(false)),
        Request::NodeDrain { node } => desk.drain(*node),
        Request::NodeUndrain { node } => desk.undrain(*node),
        Request::NodeRemove { node } => desk.remove(*node),
        Request::NodeClear { node } => desk.clear_node(*node),
        Request::NodeIsDown { node } => desk.is_down(*node),
        Request::Configure { config, made_from } => desk.configure(config, *made_from),
        Request::MirrorRenew {
            group,
            resource,
            node,
            overwrite,
        } => desk.renew_copy(group, resource, *node, *overwrite),
        Request::MirrorKeep {
            group,
            resource,
            node,
        } => desk.keep_copy(group, resource, *node),
        Request::ResourceStart { group, resource } => desk.start_resource(group, resource),
        Request::ResourceStop { group, resource } => desk.stop_resource(group, resource),
        Request::ResourceRestart { group, resource } => desk.restart_resource(group, resource),
        Request::Leave { nodes, force } => desk.leave(nodes, *force),
        Request::FormAlone { node } => desk.form_alone(*node),
        Request::NodeFence { node } => desk.fence(*node),
        Request::NodeFenced {
            node,
            boot,
            by,
            result,
        } => desk.fenced(*node, *boot, *by, result),
    }
}

/// Where requests are checked.
struct Desk<'a> {
    draft: Draft<'a>,
    document: &'a Document,
}

impl Desk<'_> {
    fn name(&self, node: MemberId) -> String {
        self.document.config.name_of(node)
    }

    fn known_group(&self, group: &GroupId) -> Result<(), String> {
        if self.document.config.groups.contains_key(group) {
            return Ok(());
        }
        let names: Vec<String> = self
            .document
            .config
            .groups
            .keys()
            .map(GroupId::to_string)
            .collect();
        Err(format!(
            "there is no group `{group}`; the groups are: {}",
            names.join(", ")
        ))
    }

    fn known_node(&self, node: MemberId) -> Result<(), String> {
        if self.document.config.nodes.contains_key(&node) {
            return Ok(());
        }
        if self
            .document
            .config
            .witness
            .as_ref()
            .is_some_and(|w| w.id == node)
        {
            return Err(format!(
                "{} is the witness, not a node; it runs no groups",
                self.name(node)
            ));
        }
        let names: Vec<&str> = self
            .document
            .config
            .nodes
            .values()
            .map(|n| n.name.as_str())
            .collect();
        Err(format!(
            "there is no node {node}; the nodes are: {}",
            names.join(", ")
        ))
    }

    fn listed(&self, group: &GroupId, node: MemberId) -> Result<(), String> {
        self.known_node(node)?;
        let nodes = &self.document.config.groups[group].nodes;
        if nodes.contains(&node) {
            return Ok(());
        }
        let names: Vec<String> = nodes.iter().map(|&n| self.name(n)).collect();
        Err(format!(
            "{} is not a node of {group}; its nodes are: {}; add it to `nodes` of the group in the configuration first",
            self.name(node),
            names.join(", ")
        ))
    }

    fn by_operator(request: impl Into<String>) -> Reason {
        Reason::Operator {
            request: request.into(),
        }
    }

    /// Maintenance and disarming.
    fn maintenance(&self, scope: &Scope, on: bool) -> Result<Accepted, String> {
        match scope {
            Scope::Group(group) => self.known_group(group)?,
            Scope::Resource(group, resource) => self.known_resource(group, resource)?,
            Scope::GroupOnNode(group, node) => {
                self.known_group(group)?;
                self.listed(group, *node)?;
            }
            Scope::Node(node) => self.known_node(*node)?,
        }
        let what = crate::plan::scope_text(scope, &self.document.config);
        if self.in_scope(scope) == on {
            let word = if on { "already" } else { "not" };
            return Ok(Accepted::already(format!(
                "{what} is {word} in maintenance"
            )));
        }
        let text = if on {
            format!("{what} will be looked at, but not acted on; what runs goes on running")
        } else {
            format!("{what} will be acted on again; what runs goes on running")
        };
        let scope = scope.clone();
        Ok(Accepted::new(
            vec![Change::SetMaintenance { scope, on }],
            text,
        ))
    }

    fn known_resource(&self, group: &GroupId, resource: &ResourceId) -> Result<(), String> {
        self.known_group(group)?;
        let resources = &self.document.config.groups[group].resources;
        if resources.contains_key(resource) {
            return Ok(());
        }
        let names: Vec<String> = resources.keys().map(ResourceId::to_string).collect();
        Err(format!(
            "there is no resource `{resource}` in {group}; its resources are: {}",
            names.join(", ")
        ))
    }

    fn in_scope(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Node(node) => self.draft.membership(*node).maintenance,
            Scope::Group(group) => self.draft.placement(group).maintenance,
            Scope::Resource(group, resource) => self
                .draft
                .placement(group)
                .maintenance_resources
                .contains(resource),
            Scope::GroupOnNode(group, node) => {
                self.draft.placement(group).maintenance_on.contains(node)
            }
        }
    }

    fn disarm(&self, disarmed: bool) -> Accepted {
        let changes = vec![Change::SetDisarmed { disarmed }];
        match (self.document.disarmed, disarmed) {
            (true, true) => Accepted::already("the cluster is already disarmed"),
            (false, false) => Accepted::already("the cluster is already armed"),
            (_, true) => Accepted::new(
                changes,
                "every group will stay where it is, whatever happens, until the cluster is armed; \
                 what runs goes on running, without a lease",
            ),
            (_, false) => Accepted::new(
                changes,
                "the cluster will act by itself again; what runs goes on running",
            ),
        }
    }
}
