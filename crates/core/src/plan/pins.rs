//! Pins: when a group needs no lease, and how it comes back under one.
//!
//! ```text
//!            a reason holds                  no reason holds
//!   none ───────────────────> Pinned(why) ───────────────────> Releasing
//!    ^                             ^──── a reason holds again ─────┤
//!    └── the holder, acting on the document that says so, holds ───┘
//!        a lease in this epoch; or has nothing running; or there is none
//! ```

use super::{Change, Draft, Presence};
use crate::config::{Takeover, WithoutWitness};
use crate::document::{Pin, PinReason};
use crate::fault::{Fault, planted};
use crate::ids::{GroupId, MemberId};
use std::time::Duration;

/// Silence of the witness after which groups need no lease.
pub const WITNESS_SILENCE: Duration = Duration::from_secs(10);

pub(super) fn plan(draft: &mut Draft<'_>, group: &GroupId) {
    let group = group.clone();
    let pin = draft.placement(&group).pin;
    match (pin, reason(draft, &group)) {
        (Some(Pin::Pinned(present)), Some(why)) if present == why => {}
        (_, Some(why)) => draft.change(Change::Pin { group, why }),
        (Some(Pin::Pinned(_)), None) => draft.change(Change::ReleasePin { group }),
        (Some(Pin::Releasing), None) if released(draft, &group) => {
            draft.change(Change::Unpin { group });
        }
        _ => {}
    }
}

/// The first reason for which the group shall be pinned now.
fn reason(draft: &Draft<'_>, group: &GroupId) -> Option<PinReason> {
    if draft.document.disarmed {
        return Some(PinReason::Disarmed);
    }
    if draft.in_maintenance(group) {
        return Some(PinReason::Maintenance);
    }
    if draft.group(group).takeover == Takeover::Never {
        return Some(PinReason::Never);
    }
    let config = &draft.document.config;
    let voters = &draft.view.document.voters.now;
    let nodes = voters.iter().filter(|v| config.nodes.contains_key(v));
    if voters.len() == 2 && nodes.clone().count() == 2 {
        return Some(match config.without_witness {
            WithoutWitness::Wait => PinReason::Wait,
            WithoutWitness::Fence => PinReason::Fence,
        });
    }
    let witness = config.witness.as_ref()?.id;
    let pinned = draft.placement(group).pin == Some(Pin::Pinned(PinReason::WitnessSilent));
    let together = nodes.clone().all(|&node| draft.online(node));
    let last_majority = voters.len() == 3 && nodes.count() == 2 && voters.contains(&witness);
    (last_majority && witness_silent(draft, witness) && (pinned || together))
        .then_some(PinReason::WitnessSilent)
}

fn witness_silent(draft: &Draft<'_>, witness: MemberId) -> bool {
    match draft.presence(witness) {
        Presence::Online { .. } => false,
        Presence::Silent { silent, .. } | Presence::Down { silent, .. } => {
            silent >= WITNESS_SILENCE
        }
        Presence::NeverHeard => draft.view.deciding_for >= WITNESS_SILENCE,
    }
}

/// The committed document asks the holder for a lease, and the holder acts on it and holds one, or
/// has nothing running.
fn released(draft: &Draft<'_>, group: &GroupId) -> bool {
    if planted(Fault::UnpinWithoutHolder) {
        return true;
    }
    let Some(holder) = draft.placement(group).holder else {
        return true;
    };
    if draft.declared_down(holder)
        || draft.reported_down(group, holder) && draft.mirrors_agree(group, holder)
    {
        return true;
    }
    let Some(report) = draft.report(holder) else {
        return false;
    };
    let epoch = draft.placement(group).epoch;
    draft.online(holder)
        && report.version >= draft.view.document.version
        && report
            .groups
            .get(group)
            .is_some_and(|state| state.leased && state.epoch == epoch)
        && draft.mirrors_agree(group, holder)
}

impl Draft<'_> {
    /// The group is in maintenance, as a whole or where it is held.
    pub(crate) fn in_maintenance(&self, group: &GroupId) -> bool {
        let placement = self.placement(group);
        placement.maintenance
            || placement.holder.is_some_and(|holder| {
                placement.maintenance_on.contains(&holder) || self.membership(holder).maintenance
            })
    }
}
