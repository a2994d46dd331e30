//! Schedules against leases, promises, permits and start checks.

use super::stage::{MS, Played, SECOND, Stage};
use crate::fault::Fault;
use hotpair_core::ids::Version;

/// The holder is cut off from everybody; the leader has it down long before its lease ends.
pub(super) fn isolated_holder(stage: &mut Stage) -> Played {
    stage.pause(stage.beat_us);
    stage.isolate(stage.a, true);
    stage.wait(2 * stage.lease_us + 3 * SECOND);
    Some(())
}

/// Only the third voter still hears the holder. The holder is cut off from it as well, and the third
/// voter forgets (`forget` restarts it) while the lease runs.
fn third_forgets(stage: &mut Stage, forget: impl FnOnce(&mut Stage, usize)) -> Played {
    let (a, b, third) = (stage.a, stage.b, stage.third());
    stage.cut(a, b, true);
    stage.wait(stage.lease_us + 2 * stage.beat_us);
    stage.pause(stage.beat_us);
    stage.isolate(a, true);
    stage.pause(stage.beat_us);
    forget(stage, third);
    stage.wait(2 * stage.lease_us + SECOND);
    Some(())
}

pub(super) fn voter_reboots(stage: &mut Stage) -> Played {
    third_forgets(stage, |stage, third| stage.world.power_cut(third, MS))
}

pub(super) fn voter_guard_restarts(stage: &mut Stage) -> Played {
    third_forgets(stage, |stage, third| stage.world.kill_guard(third, MS))
}

/// The third voter alone hears the holder, whose guard restarts; then nobody hears it.
pub(super) fn holder_guard_restarts(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    stage.cut(a, b, true);
    stage.wait(stage.lease_us + 2 * stage.beat_us);
    stage.pause(stage.beat_us);
    let for_us = stage.rng.range(MS, stage.beat_us);
    stage.world.kill_guard(a, for_us);
    stage.wait(for_us);
    stage.pause(2 * stage.beat_us);
    stage.isolate(a, true);
    stage.wait(2 * stage.lease_us + SECOND);
    Some(())
}

/// Answers to the holder take a third of a lease; then it is cut off, and the last ones reach it late.
pub(super) fn late_answers(stage: &mut Stage) -> Played {
    let (a, late) = (stage.a, stage.lease_us / 3);
    for voter in stage.others(a) {
        stage.lane(voter, a).datagrams.more_us = late;
    }
    stage.wait(stage.lease_us);
    stage.pause(stage.beat_us);
    stage.isolate(a, true);
    stage.wait(2 * stage.lease_us + SECOND);
    Some(())
}

/// The group is taken over from the isolated holder, whose heartbeats then reach the third voter
/// again, but no messages: it does not know the new document.
pub(super) fn old_holder_heard_again(stage: &mut Stage) -> Played {
    let (a, b, third) = (stage.a, stage.b, stage.third());
    let group = stage.group.clone();
    stage.isolate(a, true);
    stage.until(4 * stage.lease_us + SECOND, |world| world.serves(b, &group))?;
    stage.pause(stage.lease_us);
    stage.cut(a, third, false);
    stage.cut_messages(a, third, true);
    stage.wait(2 * stage.lease_us);
    Some(())
}

/// Acceptances reach the leader late, but heartbeats show at once what the third voter holds.
pub(super) fn late_acceptance(stage: &mut Stage) -> Played {
    let (a, b, third) = (stage.a, stage.b, stage.third());
    stage.lane(third, b).messages.more_us = stage.lease_us * 2 + stage.rng.range(0, SECOND / 4);
    stage.isolate(a, true);
    stage.wait(5 * stage.lease_us);
    Some(())
}

/// A voter that lacks the new document, since its disk hangs, has no promise left when it answers the
/// new holder; then it grants the old one a lease again, and only then keeps the new document.
pub(super) fn voter_without_the_document(stage: &mut Stage) -> Played {
    let (a, b, third) = (stage.a, stage.b, stage.third());
    let beat = stage.beat_us;
    let for_us = 16 * beat + stage.rng.range(0, beat / 2);
    stage.fault(Fault::StuckDisk {
        host: third,
        for_us,
    });
    stage.isolate(a, true);
    stage.wait(13 * beat + beat / 4);
    stage.pause(beat / 4);
    stage.lane(third, b).datagrams.cut = true;
    stage.cut(a, third, false);
    stage.cut_messages(a, third, true);
    stage.wait(3 * stage.lease_us);
    Some(())
}

/// The holder reboots within its lease. Answers to heartbeats of its earlier boot reach it when it
/// has sent heartbeats of the same numbers.
pub(super) fn answers_to_an_earlier_boot(stage: &mut Stage) -> Played {
    let (a, b, third) = (stage.a, stage.b, stage.third());
    // A young boot: its heartbeats have low numbers.
    stage.world.power_cut(a, MS);
    let life = stage.lease_us * 2;
    let begun = stage.world.now_us;
    let group = stage.group.clone();
    stage.until(2 * life, |world| world.serving(&group).is_some())?;
    if !stage.world.serves(a, &group) {
        stage.switch(a);
        stage.until(2 * life, |world| world.serves(a, &group))?;
    }
    stage.wait(2 * stage.beat_us);
    let lived = stage.world.now_us - begun + life;
    let lag = stage.rng.range(stage.lease_us / 4, stage.lease_us / 2);
    stage.lane(third, a).datagrams.more_us = lived + lag;
    stage.lane(a, third).messages.cut = true;
    stage.wait(life);
    stage.world.power_cut(a, MS);
    for other in stage.others(a) {
        stage.cut_outward(a, other);
    }
    // It still hears that its document is committed, and nothing newer.
    stage.until(stage.down_us, |world| {
        let wanted = world.hosts[a].wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.committed > Version::ZERO)
    })?;
    stage.lane(b, a).datagrams.cut = true;
    stage.cut_messages(a, b, true);
    stage.cut_messages(a, third, true);
    stage.wait(2 * lived + 2 * stage.lease_us);
    Some(())
}

/// The group is taken from the isolated holder by a document that reaches it while its lease still
/// runs; cutting the group off takes a while.
pub(super) fn slow_cut(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    stage.world.slow_cut_us[a] = stage.rng.range(30, 60) * MS;
    let before = stage.version(b);
    stage.isolate(a, true);
    stage.until_committed(b, before, stage.lease_us)?;
    stage.pause(stage.beat_us);
    stage.isolate(a, false);
    stage.wait(2 * stage.lease_us);
    Some(())
}

/// The group goes from an isolated holder to another node and back, faster than a lease ends: the
/// first holder sees only that it holds it again, the other one only that it was given it.
pub(super) fn away_and_back(stage: &mut Stage) -> Played {
    let (a, leader) = (stage.a, stage.b);
    let between = stage.third();
    stage.touch(leader);
    stage.wait(SECOND / 5);
    stage.settle()?;
    stage.isolate(a, true);
    let holder = crate::cluster::member(between);
    stage.until_placed(leader, stage.lease_us, |it| it.holder == Some(holder))?;
    let given = stage.version(leader);
    stage.until(stage.lease_us, |world| {
        world.hosts[between].committed >= given
    })?;
    stage.cut(leader, between, true);
    stage.cut(a, leader, false);
    stage.lane(leader, a).messages.cut = true;
    let holder = crate::cluster::member(a);
    stage.until_placed(leader, stage.lease_us, |it| it.holder == Some(holder))?;
    stage.lane(leader, a).messages.cut = false;
    stage.cut(a, between, false);
    stage.cut_messages(a, between, true);
    stage.wait(3 * stage.lease_us);
    Some(())
}

/// Of four voters two hear the holder no more, then the third one neither.
pub(super) fn half_of_the_voters(stage: &mut Stage) -> Played {
    let (a, b) = (stage.a, stage.b);
    let (last, lost) = (*stage.rest.first()?, *stage.rest.get(1)?);
    stage.cut(a, b, true);
    stage.cut(a, lost, true);
    stage.wait(stage.lease_us + 2 * stage.beat_us);
    stage.pause(stage.beat_us);
    stage.cut(a, last, true);
    stage.wait(2 * stage.lease_us + SECOND);
    Some(())
}

/// The holder's daemon hangs, and what it ran dies.
pub(super) fn hung_daemon(stage: &mut Stage) -> Played {
    let host = stage.a;
    let for_us = 60 * SECOND;
    stage.fault(Fault::FreezeDaemon { host, for_us });
    stage.pause(stage.lease_us);
    for resource in 0..2 {
        stage.fault(Fault::Die { group: 0, resource });
    }
    stage.demand_service(3 * stage.lease_us + 2 * SECOND, 8 * SECOND);
    Some(())
}

/// The holder is heard, but hears nobody.
pub(super) fn deaf_holder(stage: &mut Stage) -> Played {
    let host = stage.a;
    stage.pause(stage.beat_us);
    stage.fault(Fault::Isolate {
        host,
        inward: true,
        outward: false,
        for_us: 60 * SECOND,
    });
    stage.demand_service(3 * stage.lease_us + 2 * SECOND, 8 * SECOND);
    Some(())
}
