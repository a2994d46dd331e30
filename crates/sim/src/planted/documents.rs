//! Schedules against votes, commits and changes of the voters.

use super::stage::{MS, Played, SECOND, Stage};
use crate::cluster::member;
use crate::fault::{Fault, Operator};
use hotpair_core::ids::MemberId;

fn voted_for(stage: &Stage, host: usize) -> Option<MemberId> {
    stage.world.hosts[host].disk.kept.as_ref()?.vote
}

/// Disks are slow, and a change is wanted.
pub(super) fn slow_disks(stage: &mut Stage) -> Played {
    for host in 0..stage.world.hosts.len() {
        let times = stage.rng.range(20, 60);
        stage.fault(Fault::SlowDisk {
            host,
            times,
            for_us: 5 * SECOND,
        });
    }
    stage.touch(stage.b);
    stage.wait(SECOND);
    Some(())
}

/// Raft's figure 8 with three voters: two leaders keep a document each that nobody else keeps; the
/// first leads again with the third voter, then the second does.
pub(super) fn figure_eight(stage: &mut Stage) -> Played {
    let (first, second) = (stage.b, stage.a);
    let long = 20 * stage.down_us + SECOND;
    let unheard_change = |stage: &mut Stage, leader: usize| {
        stage.isolate(leader, true);
        let before = stage.version(leader);
        stage.touch(leader);
        stage.until(stage.down_us, |world| {
            world.kept().get(&member(leader)) > Some(&before)
        })
    };
    unheard_change(stage, first)?;
    stage.until_leads(second, long)?;
    stage.wait(20 * MS);
    unheard_change(stage, second)?;
    stage.wait(stage.down_us);
    let before = stage.version(stage.third());
    stage.isolate(first, false);
    stage.cut(first, second, true);
    stage.until_leads(first, long)?;
    stage.until_committed(first, before, long)?;
    stage.isolate(first, true);
    stage.wait(stage.down_us);
    stage.isolate(second, false);
    stage.cut(first, second, true);
    stage.wait(long);
    Some(())
}

/// The leader of three nodes is gone, and messages take so long that both others stand in one term.
pub(super) fn two_candidates(stage: &mut Stage) -> Played {
    let leader = stage.b;
    let late = stage.beat_us / 2 + stage.rng.range(0, stage.beat_us / 4);
    for from in 0..stage.world.hosts.len() {
        for to in stage.others(from) {
            stage.lane(from, to).messages.more_us = late;
        }
    }
    stage.world.power_cut(leader, 60 * SECOND);
    // A heartbeat would tell of the first candidate's term before the second one stands.
    let (one, other) = (stage.a, stage.third());
    stage.lane(one, other).datagrams.cut = true;
    stage.lane(other, one).datagrams.cut = true;
    stage.wait(20 * stage.down_us);
    Some(())
}

/// A node misses a change and then stands for leader, heard by the third voter only in messages, so
/// that nobody notices in time what it lacks.
pub(super) fn candidate_behind(stage: &mut Stage) -> Played {
    let (behind, leader, third) = (stage.a, stage.b, stage.third());
    stage.isolate(behind, true);
    let before = stage.version(leader);
    stage.touch(leader);
    stage.until_committed(third, before, SECOND)?;
    stage.pause(stage.down_us);
    stage.world.power_cut(leader, 60 * SECOND);
    stage.cut(behind, third, false);
    stage.lane(behind, third).datagrams.cut = true;
    stage.lane(third, behind).datagrams.cut = true;
    stage.wait(20 * stage.down_us + SECOND);
    Some(())
}

/// A leader's last change is long under way to the third voter, which meanwhile votes for another
/// leader, whose own first document comes later still. The first leader is paused and wakes up to
/// an acceptance.
pub(super) fn offer_of_a_deposed_leader(stage: &mut Stage) -> Played {
    let (old, new, third) = (stage.b, stage.a, stage.third());
    stage.cut(old, new, true);
    stage.lane(third, old).datagrams.cut = true;
    stage.lane(old, third).messages.more_us = 3 * SECOND;
    let before = stage.version(old);
    stage.touch(old);
    stage.until(stage.down_us, |world| {
        world.kept().get(&member(old)) > Some(&before)
    })?;
    let asked_at = stage.world.now_us;
    stage.lane(old, third).messages.cut = true;
    stage.lane(old, third).datagrams.cut = true;
    let for_us = 4 * SECOND;
    stage.fault(Fault::Pause { host: old, for_us });
    let candidate = Some(member(new));
    let long = 2 * SECOND;
    stage.until(long, |world| {
        let kept = world.hosts[third].disk.kept.as_ref();
        kept.is_some_and(|kept| kept.vote == candidate)
    })?;
    stage.lane(new, third).messages.more_us = 5 * SECOND;
    stage.until_leads(new, stage.down_us)?;
    let arrives = asked_at + 3 * SECOND;
    let left = arrives.saturating_sub(stage.world.now_us);
    stage.wait(left + 10 * SECOND);
    (voted_for(stage, third).is_some()).then_some(())
}

/// Has `host` a document by which `voter` votes?
fn votes(stage: &mut Stage, host: usize, voter: usize) -> Played {
    stage.until(5 * SECOND, |world| {
        let document = world.hosts[host].document.as_ref();
        document.is_some_and(|document| document.voters.contains(member(voter)))
    })
}

/// The witness is replaced. Of the new voters the leader tells only the new witness, and then is left
/// with that one, the holder with the old one.
pub(super) fn old_and_new_witness(stage: &mut Stage) -> Played {
    let (a, b, old) = (stage.a, stage.b, stage.third());
    let new = stage.world.hosts.len() - 1;
    stage.cut(a, b, true);
    stage.cut(a, new, true);
    stage.cut(old, new, true);
    stage.wait(stage.lease_us + 2 * stage.beat_us);
    stage.ask(b, Operator::ReplaceWitness);
    votes(stage, b, new)?;
    stage.lane(b, old).messages.cut = true;
    votes(stage, new, new)?;
    stage.pause(stage.beat_us);
    stage.cut(b, old, true);
    stage.wait(4 * stage.lease_us);
    Some(())
}

/// The witness is replaced while only the old one hears the holder; what the leader says takes so
/// long to the old one that the new one is past its silence when the voters change. The holder does
/// not hear of that: its lease rests on the old witness while the new voters decide.
pub(super) fn lease_of_the_old_voters(stage: &mut Stage) -> Played {
    let (a, b, old) = (stage.a, stage.b, stage.third());
    stage.cut(a, b, true);
    stage.wait(stage.lease_us + 2 * stage.beat_us);
    stage.lane(b, old).messages.more_us = 2 * stage.lease_us;
    let new = stage.world.hosts.len() - 1;
    stage.cut(a, new, true);
    stage.ask(b, Operator::ReplaceWitness);
    stage.until(5 * SECOND, |world| world.hosts[new].on)?;
    stage.until(stage.lease_us, |world| {
        let document = world.hosts[a].document.as_ref();
        document.is_some_and(|document| document.config.members().contains(&member(new)))
    })?;
    stage.cut_messages(a, old, true);
    stage.wait(8 * stage.lease_us);
    Some(())
}
