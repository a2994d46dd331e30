//! What becomes of members: who is back, who is held out, who votes.

use super::{Change, Draft, Presence, fence};
use crate::ids::{HostBoot, MemberId};

/// Plans for every member, then for the votes.
pub(super) fn plan(draft: &mut Draft<'_>) {
    let members: Vec<MemberId> = draft.document.members.keys().copied().collect();
    for member in members {
        rejoin(draft, member);
        hold_out(draft, member);
        fence::plan(draft, member);
    }
    voters(draft);
}

fn rejoin(draft: &mut Draft<'_>, node: MemberId) {
    let Presence::Online { boot } = draft.presence(node) else {
        return;
    };
    let member = draft.membership(node);
    let run = draft.report(node).map(|r| (r.boot, r.incarnation));
    let back =
        member.left && (member.left_run.is_none() || run.is_some_and(|_| member.left_run != run));
    let denied = member
        .down_boot
        .is_some_and(|word| word == boot || word == HostBoot::UNHEARD);
    if back || denied {
        draft.change(Change::Rejoined { node });
    }
}

fn hold_out(draft: &mut Draft<'_>, node: MemberId) {
    let Some(failures) = draft.view.members.get(&node).map(|view| view.failures) else {
        return;
    };
    let times = draft.document.config.flapping.times;
    let member = draft.membership(node);
    let (held_out, forgiven) = (member.held_out, member.forgiven);
    let counted = failures.saturating_sub(forgiven);
    if !draft.document.config.nodes.contains_key(&node) {
        return;
    }
    if !held_out && times > 0 && counted >= times && draft.online(node) {
        let times = counted;
        draft.change(Change::HoldOut { node, times });
    } else if failures == 0 && draft.online(node) && (held_out || forgiven > 0) {
        draft.change(Change::EndHold { node, forgiven: 0 });
    }
}

/// A joint change, one step a call; begun only when a majority of the new voters is there to agree.
fn voters(draft: &mut Draft<'_>) {
    if draft.document.voters.next.is_some() {
        draft.change(Change::FinishVoters);
        return;
    }
    let mut next = draft.document.config.voters();
    // Without a witness those that left in good order would leave no majority behind.
    if draft.document.config.witness.is_none() {
        let members = &draft.document.members;
        next.retain(|voter| !members.get(voter).is_some_and(|member| member.left));
    }
    if next == draft.document.voters.now || next.is_empty() {
        return;
    }
    let online = next.iter().filter(|&&voter| draft.online(voter)).count();
    if online * 2 > next.len() {
        draft.change(Change::StartVoters { next });
    }
}
