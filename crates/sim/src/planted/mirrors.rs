//! Schedules against mirrors: A holds the group, whose mirror is on A and B.

use super::stage::{MS, Played, SECOND, Stage};
use crate::cluster::member;
use crate::fault::{Fault, Operator};
use crate::mirror::MirrorFault;
use hotpair_core::document::Pin;

/// A loses its power while the mirror is in use.
pub(super) fn holder_without_power(stage: &mut Stage) -> Played {
    let a = stage.a;
    stage.pause(SECOND);
    stage.world.power_cut(a, 5 * SECOND);
    let group = stage.group.clone();
    let b = stage.b;
    stage.until(5 * SECOND, |world| world.serves(b, &group))
}

/// B misses writes, because replication breaks; then A loses its power.
pub(super) fn outdated_successor(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    stage.fault(Fault::Mirror(MirrorFault::Break {
        for_us: 20 * SECOND,
    }));
    stage.until(10 * SECOND, |world| {
        world
            .mirror_data()
            .is_some_and(|data| !data.is_up_to_date(member(b)))
    })?;
    stage.pause(SECOND);
    stage.world.power_cut(a, 5 * SECOND);
    stage.wait(4 * SECOND);
    Some(())
}

/// Disarmed and isolated, A goes on alone on its own mark.
fn alone_on_its_mark(stage: &mut Stage) -> Played {
    let a = stage.a;
    stage.ask(stage.b, Operator::Disarm);
    let group = stage.group.clone();
    stage.until(3 * SECOND, |world| {
        world.hosts[a].gates.get(&group) == Some(&crate::host::Gate::UntilCut)
    })?;
    stage.pause(SECOND / 5);
    stage.isolate(a, true);
    stage.until(10 * SECOND, |world| world.writes_alone(a))?;
    stage.wait(SECOND);
    Some(())
}

/// What A wrote alone is given up by the operator's word that it is off; then it comes back.
pub(super) fn split_brain(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    alone_on_its_mark(stage)?;
    let off = Operator::DeclareDown {
        node: a,
        for_us: 8 * SECOND,
    };
    stage.ask(b, off);
    stage.wait(3 * SECOND);
    // Disarmed, nothing moves by itself.
    let on = Some(b);
    stage.ask(b, Operator::Start { group: 0, on });
    let group = stage.group.clone();
    stage.until(5 * SECOND, |world| world.serves(b, &group))?;
    stage.isolate(a, false);
    stage.wait(10 * SECOND);
    Some(())
}

/// Armed again while A's mirror process is not there to say what it wrote alone; then A loses its power.
pub(super) fn armed_before_it_has_spoken(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    alone_on_its_mark(stage)?;
    stage.ask(b, Operator::Arm);
    stage.until_placed(b, 3 * SECOND, |it| it.pin == Some(Pin::Releasing))?;
    stage.world.end_mirror(a, 20 * SECOND);
    stage.isolate(a, false);
    stage.wait(SECOND + stage.down_us);
    stage.pause(200 * MS);
    stage.world.power_cut(a, 10 * SECOND);
    stage.wait(4 * stage.lease_us + SECOND);
    Some(())
}
