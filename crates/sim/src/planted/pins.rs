//! Schedules against pins: a pinned group runs on without a lease.

use super::stage::{MS, Played, SECOND, Stage};
use crate::cluster::member;
use crate::fault::{Fault, Operator};
use hotpair_core::document::Pin;

/// Disarms, waits until the holder's gate stands open by the pin, and isolates it.
fn disarmed_and_isolated(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    stage.ask(b, Operator::Disarm);
    until_lasting(stage)?;
    stage.pause(SECOND / 5);
    stage.isolate(a, true);
    Some(())
}

/// Waits until the holder's gate needs no lease.
fn until_lasting(stage: &mut Stage) -> Played {
    let (a, group) = (stage.a, stage.group.clone());
    stage.until(3 * SECOND, |world| {
        world.hosts[a].gates.get(&group) == Some(&crate::host::Gate::UntilCut)
    })
}

/// The cluster is armed again while the pinned holder hears nothing of it.
pub(super) fn armed_behind_its_back(stage: &mut Stage) -> Played {
    disarmed_and_isolated(stage)?;
    stage.wait(2 * stage.lease_us);
    stage.ask(stage.b, Operator::Arm);
    stage.wait(4 * stage.lease_us + SECOND);
    Some(())
}

/// The witness was silent for so long that the group was pinned; it is back when the holder is
/// isolated.
pub(super) fn pinned_by_a_silent_witness(stage: &mut Stage) -> Played {
    let (a, witness) = (stage.a, stage.third());
    stage.isolate(witness, true);
    stage.wait(10 * SECOND);
    until_lasting(stage)?;
    stage.pause(SECOND);
    stage.isolate(a, true);
    stage.cut(stage.b, witness, false);
    stage.wait(4 * stage.lease_us + SECOND);
    Some(())
}

/// The leader's newest word of the holder is that nothing runs there: it is from before the holder
/// got the group, and later ones do not arrive. Pinned meanwhile, the holder is to be unpinned.
pub(super) fn stale_report(stage: &mut Stage) -> Played {
    let (a, b, group) = (stage.b, stage.a, stage.group.clone());
    // The leader holds the group last: bring it there first, then move it to the other node.
    stage.switch(a);
    stage.until(5 * SECOND, |world| world.serves(a, &group))?;
    stage.settle()?;
    stage.wait(SECOND);
    (stage.a, stage.b) = (b, a);
    let (holder, leader) = (stage.a, stage.b);
    stage.switch(holder);
    stage.until_placed(leader, 5 * SECOND, |it| it.holder == Some(member(holder)))?;
    stage.lane(holder, leader).messages.cut = true;
    stage.until(5 * SECOND, |world| world.serves(holder, &group))?;
    stage.ask(leader, Operator::Disarm);
    until_lasting(stage)?;
    stage.lane(leader, holder).messages.cut = true;
    let third = stage.third();
    stage.cut_messages(holder, third, true);
    stage.ask(leader, Operator::Arm);
    stage.until_placed(leader, SECOND, |it| it.pin == Some(Pin::Releasing))?;
    stage.wait(200 * MS);
    stage.isolate(holder, true);
    stage.wait(4 * stage.lease_us + SECOND);
    Some(())
}

/// The daemon of the pinned holder hangs: its group runs on, and the other node has it fenced.
pub(super) fn frozen_holder(stage: &mut Stage) -> Played {
    until_lasting(stage)?;
    stage.pause(SECOND / 5);
    let host = stage.a;
    stage.fault(Fault::FreezeDaemon {
        host,
        for_us: 20 * SECOND,
    });
    stage.wait(10 * SECOND);
    Some(())
}
