//! What this node does about fencing others: by the order of the document, or, where two nodes have no third
//! vote, by itself.
//!
//! ```text
//!   wanted ──> Runs ──ok──> Confirmed ──silent, or restarted──> Told (until the document says so)
//!    ^          └──error──┐     └──still heard──┐
//!    └──── 30 s ──── Rests <────────────────────┘
//! ```
//!
//! A device's "off" is not believed while that boot is still heard.

use super::{Action, Event, Level, Node, What};
use crate::config::WithoutWitness;
use crate::document::Document;
use crate::fault::{Fault, planted};
use crate::ids::{HostBoot, MemberId};
use crate::mirror::Copy;
use crate::request::Request;
use crate::time::Moment;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of requests that this node itself makes; nobody waits for their answers.
pub const FENCE_REQUEST: u64 = u64::MAX;

/// A node that was fenced must be silent after this.
const FALLS_SILENT: Duration = Duration::from_secs(10);
/// What failed is tried again after this. Nor are devices used sooner for a node that had come back before they
/// had ended: its next silence may be their work, and it would be hit for ever.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// What was said is said again, until the document shows that it was heard.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Nodes this node is fencing.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Fences {
    at_work: BTreeMap<MemberId, Work>,
    /// When devices ended that were used for a node which had come back by then.
    late: BTreeMap<MemberId, Moment>,
}

#[derive(Clone, Debug, Hash)]
struct Work {
    boot: HostBoot,
    phase: Phase,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    /// The devices are being used.
    Runs,
    Confirmed {
        at: Moment,
    },
    Failed {
        detail: String,
    },
    /// It is off: said last at that time.
    Told {
        at: Moment,
    },
    Rests {
        until: Moment,
        detail: String,
    },
}

impl Fences {
    /// What is being done about a node, in words.
    pub fn text(&self, node: MemberId) -> Option<String> {
        Some(match &self.at_work.get(&node)?.phase {
            Phase::Runs | Phase::Confirmed { .. } | Phase::Told { .. } => "being fenced".into(),
            Phase::Failed { detail } | Phase::Rests { detail, .. } => {
                format!("could not be fenced, which is tried again: {detail}")
            }
        })
    }

    /// `back`: a later boot of the node has been heard by now.
    pub fn done(
        &mut self,
        now: Moment,
        node: MemberId,
        boot: HostBoot,
        result: Result<(), String>,
        back: bool,
    ) {
        let Some(work) = self.at_work.get_mut(&node) else {
            return;
        };
        if work.boot == boot && matches!(work.phase, Phase::Runs) {
            if back {
                self.late.insert(node, now);
            }
            work.phase = match result {
                Ok(()) => Phase::Confirmed { at: now },
                Err(detail) => Phase::Failed { detail },
            };
        }
    }
}

impl Node {
    pub(super) fn fence(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let wanted = self.to_fence(now);
        // What is under way ends by itself; so that no second one runs beside it, it is waited for.
        self.fences.at_work.retain(|node, work| {
            matches!(work.phase, Phase::Runs) || wanted.get(node) == Some(&work.boot)
        });
        for (&node, &boot) in &wanted {
            let idle = match self.fences.at_work.get(&node) {
                None => true,
                Some(work) => matches!(work.phase, Phase::Rests { until, .. } if now >= until),
            };
            let late = self.fences.late.get(&node);
            let idle = idle && late.is_none_or(|&at| now.since(at) >= TRY_AGAIN);
            if idle {
                let phase = if planted(Fault::FenceUnconfirmed) {
                    Phase::Confirmed { at: now }
                } else {
                    Phase::Runs
                };
                self.fences.at_work.insert(node, Work { boot, phase });
                actions.push(Action::Fence { node, boot });
            }
        }
        let nodes: Vec<MemberId> = self.fences.at_work.keys().copied().collect();
        for node in nodes {
            self.go_on_fencing(now, node, actions);
        }
    }

    fn go_on_fencing(&mut self, now: Moment, node: MemberId, actions: &mut Vec<Action>) {
        let Some(Work { boot, phase }) = self.fences.at_work.get(&node).cloned() else {
            return;
        };
        let heard = self.peers.present(node) && self.peers.boot(node) == Some(boot);
        let next = match phase {
            Phase::Confirmed { .. } if !heard => Phase::Told { at: now },
            Phase::Confirmed { at } if now.since(at) >= FALLS_SILENT => Phase::Failed {
                detail: "the device said that it is off, but it is still heard".into(),
            },
            Phase::Told { at } if now.since(at) >= SAY_AGAIN => Phase::Told { at: now },
            Phase::Failed { detail } => {
                self.say_fenced(now, node, boot, Err(detail.clone()), actions);
                Phase::Rests {
                    until: now.plus(TRY_AGAIN),
                    detail,
                }
            }
            _ => return,
        };
        let told = matches!(next, Phase::Told { .. });
        let failed = matches!(next, Phase::Failed { .. });
        if let Some(work) = self.fences.at_work.get_mut(&node) {
            work.phase = next;
        }
        if told {
            self.say_fenced(now, node, boot, Ok(()), actions);
        }
        if failed {
            self.go_on_fencing(now, node, actions);
        }
    }

    fn say_fenced(
        &mut self,
        now: Moment,
        node: MemberId,
        boot: HostBoot,
        result: Result<(), String>,
        actions: &mut Vec<Action>,
    ) {
        if !self.has_leader()
            && let Err(detail) = &result
        {
            let text = format!("could not be fenced: {detail}");
            actions.push(Event::of_node(Level::Error, node, What::Text(text)));
            return;
        }
        let by = self.id.me;
        let word = Request::NodeFenced {
            node,
            boot,
            by,
            result,
        };
        self.request(now, None, FENCE_REQUEST, word, false, actions);
    }

    pub(super) fn fence_deadline(&self) -> Option<Moment> {
        let due = self
            .fences
            .at_work
            .values()
            .filter_map(|work| match work.phase {
                Phase::Runs | Phase::Failed { .. } => None,
                Phase::Confirmed { at } => Some(at.plus(FALLS_SILENT)),
                Phase::Told { at } => Some(at.plus(SAY_AGAIN)),
                Phase::Rests { until, .. } => Some(until),
            });
        due.min()
    }

    /// What is to be fenced by this node now, and which boot of it.
    fn to_fence(&self, now: Moment) -> BTreeMap<MemberId, HostBoot> {
        let Some(document) = self.acting.as_deref() else {
            return BTreeMap::new();
        };
        let me = self.id.me;
        let orders = document.members.iter().filter_map(|(&node, member)| {
            let order = member.fencing.as_ref()?;
            let restarted = self.peers.boot(node).is_some_and(|boot| boot > order.boot);
            (order.by == me && !restarted).then_some((node, order.boot))
        });
        orders.chain(self.fences_alone(now, document)).collect()
    }

    /// Two nodes without a third vote lost each other: the one that is to go on fences the other one.
    ///
    /// Only one that was heard in this run of the daemon: else two nodes that cannot hear each other would
    /// switch each other off for ever.
    fn fences_alone(&self, now: Moment, document: &Document) -> Option<(MemberId, HostBoot)> {
        let config = &document.config;
        let me = self.id.me;
        let pair = document.voters.now.len() == 2
            && document.voters.next.is_none()
            && document.voters.contains(me);
        let peer = *document.voters.now.iter().find(|&&voter| voter != me)?;
        let nodes = config.nodes.contains_key(&me) && config.nodes.contains_key(&peer);
        let fences = config.without_witness == WithoutWitness::Fence && config.fencing.has(peer);
        let left = |node| {
            document
                .members
                .get(&node)
                .is_some_and(|member| member.left)
        };
        if !pair
            || !nodes
            || !fences
            || document.disarmed
            || left(me)
            || left(peer)
            || self.has_leader()
        {
            return None;
        }
        let (boot, silent) = self.peers.silence(now, peer)?;
        let patience = if favoured(document, me, peer) {
            Duration::ZERO
        } else {
            config.fencing.delay
        };
        (silent >= config.timing.down() + patience && self.worth_fencing(document, peer))
            .then_some((peer, boot))
    }

    /// Is there something of ours to defend, or of theirs to take over?
    fn worth_fencing(&self, document: &Document, peer: MemberId) -> bool {
        document.groups.iter().any(|(group, placement)| {
            let config = document.config.groups.get(group);
            let takes = config.is_some_and(|config| config.nodes.contains(&self.id.me))
                && self.fit_since.contains_key(group);
            placement.holder == Some(self.id.me) || placement.holder == Some(peer) && takes
        })
    }
}

/// Does `me` win a race of two nodes that fence each other? The active side; then up-to-date data; then more
/// groups that prefer it; then the smaller number.
fn favoured(document: &Document, me: MemberId, peer: MemberId) -> bool {
    let rank = |node: MemberId| {
        let active = document.held_by(node).next().is_some();
        let copies = document
            .groups
            .values()
            .flat_map(|placement| placement.mirrors.values());
        let stale = copies
            .filter_map(|data| data.copies.get(&node))
            .filter(|copy| !matches!(copy, Copy::UpToDate))
            .count();
        let groups = document.config.groups.values();
        let preferred = groups
            .filter(|group| group.nodes.first() == Some(&node))
            .count();
        (active, Reverse(stale), preferred, Reverse(node))
    };
    rank(me) > rank(peer)
}
