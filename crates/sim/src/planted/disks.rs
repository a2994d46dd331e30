//! Schedules against a quorum disk. All links between the nodes are cut: only the disk is between them.

use super::stage::{Played, SECOND, Stage};
use crate::fault::Fault;
use crate::quorum::Side;
use hotpair_core::ids::MemberId;

/// Later than any schedule lasts.
const LONG_US: u64 = 3_600 * SECOND;

fn side<'s>(stage: &'s mut Stage<'_>, host: usize) -> Option<&'s mut Side> {
    stage.world.quorum.as_mut()?.sides.get_mut(host)
}

/// The holder's lease and the leader's majority rest on the disk.
fn apart(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    stage.cut(a, b, true);
    stage.wait(2 * stage.lease_us);
    let group = stage.group.clone();
    stage.pause(2 * stage.beat_us);
    stage.world.serves(a, &group).then_some(())
}

/// Then the holder loses the disk, too.
pub(super) fn holder_without_disk(stage: &mut Stage) -> Played {
    apart(stage)?;
    let a = stage.a;
    side(stage, a)?.lost_until = LONG_US;
    stage.wait(2 * stage.lease_us + 3 * SECOND);
    Some(())
}

/// Then the holder stands still until it is nearly taken to be down; its next write takes half a lease, and
/// meanwhile the leader takes over.
pub(super) fn late_writes(stage: &mut Stage) -> Played {
    apart(stage)?;
    let (a, beat) = (stage.a, stage.beat_us);
    let for_us = 4 * beat + stage.rng.range(0, beat);
    stage.fault(Fault::FreezeGuard { host: a, for_us });
    stage.wait(2 * beat);
    side(stage, a)?.late_writes_us = 6 * beat;
    stage.wait(4 * stage.lease_us);
    Some(())
}

/// Then the leader reads old sectors; if it believes them and takes the group over, the holder loses the disk
/// before it can read of that.
pub(super) fn old_sectors(stage: &mut Stage) -> Played {
    apart(stage)?;
    let (a, b) = (stage.a, stage.b);
    side(stage, b)?.old_until = LONG_US;
    let taker = MemberId(u8::try_from(b + 1).unwrap_or(u8::MAX));
    let most = 4 * stage.lease_us;
    let taken = stage.until_placed(b, most, |placement| placement.holder == Some(taker));
    if taken.is_some() {
        side(stage, a)?.lost_until = LONG_US;
    }
    stage.wait(2 * stage.lease_us);
    Some(())
}
