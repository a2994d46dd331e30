//! What would happen if something failed: the planner itself, on facts changed accordingly.

use super::View;
use crate::ids::{GroupId, MemberId, ResourceId};
use serde::{Deserialize, Serialize};

/// A failure to try out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The node loses its power.
    Node(MemberId),
    Witness,
    /// One heartbeat link, by name.
    Link(String),
    /// The resource fails beyond the restarts allowed in place, on the node that holds the group.
    Resource(GroupId, ResourceId),
}

/// What would happen, line by line, until it comes to rest.
#[must_use]
pub fn what_if(view: &View<'_>, fault: &Fault) -> Vec<String> {
    let _ = (view, fault);
    Vec::new()
}
