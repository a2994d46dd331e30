//! Deliberate bugs of the core, each of which the simulator must catch within a stated number of seeds.
//!
//! Random faults seldom make the moment a bug needs. So each bug has a schedule: cluster, roles and
//! order of events are scripted, their moments, delays and clock rates come from the seed. The
//! checkers are those of every other run, and without the bug the same seeds break nothing.

mod disks;
mod documents;
mod leases;
mod mirrors;
mod pins;
mod stage;

use crate::check::Rule;
use crate::rng::Rng;
use crate::run::{Outcome, heal, watch};
use crate::world::World;
use hotpair_core::config::{OnSplitBrain, ResourceKind, WithoutWitness};
use hotpair_core::fault::{Fault, plant};
use stage::{Played, Setting, Stage, setting};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bug, and how it is caught.
#[derive(Clone, Copy)]
pub struct Case {
    pub fault: Fault,
    /// So many seeds must be enough to catch it.
    pub within: u64,
    /// Why it breaks no promise, if so: then no seed may catch it.
    pub harmless: Option<&'static str>,
    schedule: Schedule,
}

/// A script: the cluster it needs, and what happens.
#[derive(Clone, Copy)]
struct Schedule {
    set: fn(&mut Rng) -> Setting,
    play: fn(&mut Stage) -> Played,
}

/// How a bug was caught.
#[derive(Clone, Copy, Debug)]
pub struct Catch {
    pub seed: u64,
    pub rule: Rule,
    /// Seeds tried up to the one that caught it.
    pub tried: u64,
}

/// What came of one seed of a schedule.
pub struct Play {
    pub outcome: Outcome,
    /// Everything the script waits for came about.
    pub complete: bool,
}

const fn case(
    fault: Fault,
    within: u64,
    set: fn(&mut Rng) -> Setting,
    play: fn(&mut Stage) -> Played,
) -> Case {
    let schedule = Schedule { set, play };
    Case {
        fault,
        within,
        harmless: None,
        schedule,
    }
}

const fn harmless(case: Case, why: &'static str) -> Case {
    Case {
        harmless: Some(why),
        ..case
    }
}

fn pair(rng: &mut Rng) -> Setting {
    setting(rng, 2, true)
}

/// A leader goes on for a while that hears no majority.
fn patient(rng: &mut Rng) -> Setting {
    let mut setting = pair(rng);
    setting.cluster.timing.down_after = 6;
    setting
}

fn three(rng: &mut Rng) -> Setting {
    setting(rng, 3, false)
}

/// Leases of thirty heartbeats: time for more than one takeover while one runs.
fn three_with_longer_leases(rng: &mut Rng) -> Setting {
    let mut setting = three(rng);
    let timing = &mut setting.cluster.timing;
    timing.lease = timing.heartbeat * 30;
    setting
}

fn four(rng: &mut Rng) -> Setting {
    setting(rng, 4, false)
}

/// The holder's clock is slow, those of the others fast, and the lease is long: the drift margin is
/// worth a tenth of a second.
fn drifting(rng: &mut Rng) -> Setting {
    let mut setting = pair(rng);
    let timing = &mut setting.cluster.timing;
    timing.lease = timing.heartbeat * 100;
    let slow = rng.index(2);
    for (host, ppm) in setting.machines.raw_ppm.iter_mut().enumerate() {
        *ppm = if host == slow { -10_000 } else { 10_000 };
    }
    setting
}

/// The group has effects that no gate stops.
fn ungated(rng: &mut Rng) -> Setting {
    let mut setting = pair(rng);
    for group in setting.cluster.groups.values_mut() {
        group.ungated = true;
    }
    setting
}

/// The third vote is a quorum disk.
fn with_disk(rng: &mut Rng) -> Setting {
    let mut setting = pair(rng);
    let fast = rng.range(100, 500);
    setting.machines.quorum_us = Some((fast, fast + rng.range(100, 2_000)));
    setting
}

fn with_disk_and_patience(rng: &mut Rng) -> Setting {
    let mut setting = with_disk(rng);
    setting.cluster.timing.down_after = 6;
    setting
}

/// No third vote: a takeover needs the holder fenced.
fn with_fences(rng: &mut Rng) -> Setting {
    let mut setting = setting(rng, 2, false);
    crate::cluster::draw_fences(rng, &mut setting.cluster);
    setting.cluster.without_witness = WithoutWitness::Fence;
    setting.cluster.fencing.delay = std::time::Duration::from_secs(1);
    setting
}

/// The group rests on a mirror; the operator decides about split-brain.
fn mirrored(rng: &mut Rng) -> Setting {
    let mut setting = pair(rng);
    for group in setting.cluster.groups.values_mut() {
        crate::mirror::add(group, rng);
        for resource in group.resources.values_mut() {
            if let ResourceKind::Mirror(mirror) = &mut resource.kind {
                mirror.on_split_brain = OnSplitBrain::ByHand;
            }
        }
    }
    setting
}

/// Every planted fault with its schedule and the number of seeds that must be enough to catch it.
pub const CASES: [Case; 36] = [
    case(Fault::StartWithoutCheck, 10, pair, leases::isolated_holder),
    case(
        Fault::NoSilenceAfterHostRestart,
        10,
        pair,
        leases::voter_reboots,
    ),
    case(Fault::LeaseFromReceipt, 10, pair, leases::late_answers),
    case(Fault::NoDriftMargin, 20, drifting, leases::isolated_holder),
    case(
        Fault::GrantToOlderVersion,
        10,
        pair,
        leases::old_holder_heard_again,
    ),
    case(Fault::CheckUncommitted, 10, pair, leases::late_acceptance),
    case(
        Fault::CheckIgnoresHeld,
        10,
        patient,
        leases::voter_without_the_document,
    ),
    case(Fault::CommitEarlierTerm, 10, pair, documents::figure_eight),
    case(Fault::AnswerBeforeDurable, 10, pair, documents::slow_disks),
    case(
        Fault::GuardForgetsPromises,
        10,
        pair,
        leases::voter_guard_restarts,
    ),
    harmless(
        case(
            Fault::RunTakenForBoot,
            20,
            pair,
            leases::holder_guard_restarts,
        ),
        "a new run of the guard cuts everything before its first heartbeat, so that what the dropped promise covered has ended",
    ),
    case(
        Fault::AckOfEarlierBoot,
        10,
        pair,
        leases::answers_to_an_earlier_boot,
    ),
    case(
        Fault::SingleStepVoters,
        10,
        pair,
        documents::old_and_new_witness,
    ),
    case(
        Fault::FinishVotersUnchecked,
        10,
        pair,
        documents::lease_of_the_old_voters,
    ),
    case(
        Fault::UnpinWithoutHolder,
        10,
        pair,
        pins::armed_behind_its_back,
    ),
    case(
        Fault::TakeOverPinned,
        10,
        pair,
        pins::pinned_by_a_silent_witness,
    ),
    case(Fault::VoteTwice, 10, three, documents::two_candidates),
    case(
        Fault::VoteForOlderDocument,
        10,
        pair,
        documents::candidate_behind,
    ),
    case(
        Fault::AcceptEarlierTerm,
        20,
        pair,
        documents::offer_of_a_deposed_leader,
    ),
    case(Fault::ShowBeforeCut, 20, pair, leases::slow_cut),
    case(
        Fault::PermitOutlivesLease,
        10,
        ungated,
        leases::isolated_holder,
    ),
    case(
        Fault::PermitAcrossEpochs,
        10,
        three_with_longer_leases,
        leases::away_and_back,
    ),
    case(Fault::BeatWithoutCredit, 10, pair, leases::hung_daemon),
    case(Fault::AskWithoutAnswers, 10, pair, leases::deaf_holder),
    case(Fault::StaleStopMoves, 10, pair, pins::stale_report),
    case(Fault::HalfIsMajority, 10, four, leases::half_of_the_voters),
    case(
        Fault::ClearedBeforeJoint,
        10,
        pair,
        documents::lease_of_the_old_voters,
    ),
    case(Fault::IgnoreDivergence, 10, mirrored, mirrors::split_brain),
    case(
        Fault::TakenForClean,
        10,
        mirrored,
        mirrors::holder_without_power,
    ),
    case(
        Fault::PromoteOutdated,
        10,
        mirrored,
        mirrors::outdated_successor,
    ),
    case(
        Fault::UnpinSolo,
        10,
        mirrored,
        mirrors::armed_before_it_has_spoken,
    ),
    case(
        Fault::DiskReadsFirst,
        10,
        with_disk_and_patience,
        disks::late_writes,
    ),
    case(
        Fault::DiskKeepsOldRead,
        10,
        with_disk_and_patience,
        disks::late_writes,
    ),
    case(
        Fault::DiskDoesNotWait,
        10,
        with_disk,
        disks::holder_without_disk,
    ),
    case(
        Fault::DiskTrustsOldSectors,
        20,
        with_disk,
        disks::old_sectors,
    ),
    case(
        Fault::FenceUnconfirmed,
        10,
        with_fences,
        pins::frozen_holder,
    ),
];

/// There is no planted fault of this number.
#[derive(Debug, thiserror::Error)]
#[error("there is no planted fault {0}: give a number below {len}", len = CASES.len())]
pub struct NoSuchFault(usize);

/// Plants fault `number` of [`CASES`] in this thread; `None` removes it.
///
/// # Errors
/// When there is none of that number.
pub fn plant_number(number: Option<usize>) -> Result<(), NoSuchFault> {
    let fault = match number {
        None => None,
        Some(number) => Some(CASES.get(number).ok_or(NoSuchFault(number))?.fault),
    };
    plant(fault);
    Ok(())
}

impl Case {
    /// Plays the schedule with `seed`, keeping at most `trace` lines; with the bug if it is planted
    /// in this thread.
    #[must_use]
    pub fn play(&self, seed: u64, trace: usize) -> Play {
        let mut rng = Rng::new(seed, 5);
        let Setting { cluster, machines } = (self.schedule.set)(&mut rng);
        let world = World::new(&cluster, &machines, seed);
        let mut complete = false;
        let outcome = watch(world, trace, |world| {
            let played =
                Stage::open(world, rng).and_then(|mut stage| (self.schedule.play)(&mut stage));
            complete = played.is_some();
            heal(world);
        });
        Play { outcome, complete }
    }
}

/// The first of the case's seeds from `from` on that breaks a promise without the bug: then the
/// schedule finds something else. Removes what is planted in this thread.
#[must_use]
pub fn without(case: &Case, from: u64) -> Option<Catch> {
    plant(None);
    (from..from + case.within).find_map(|seed| {
        let rule = case.play(seed, 0).outcome.violation?.rule;
        let tried = seed - from + 1;
        Some(Catch { seed, rule, tried })
    })
}

/// Plays seeds from `from` on with the bug planted, in `jobs` threads, until one of them catches it.
#[must_use]
pub fn hunt(case: &Case, from: u64, jobs: usize) -> Option<Catch> {
    let next = AtomicU64::new(from);
    let end = AtomicU64::new(from + case.within);
    let caught = Mutex::new(None::<Catch>);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                plant(Some(case.fault));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let Some(violation) = case.play(seed, 0).outcome.violation else {
                        continue;
                    };
                    end.fetch_min(seed, Ordering::Relaxed);
                    let Ok(mut best) = caught.lock() else { return };
                    if best.is_none_or(|best| seed < best.seed) {
                        let tried = seed - from + 1;
                        *best = Some(Catch {
                            seed,
                            rule: violation.rule,
                            tried,
                        });
                    }
                }
            });
        }
    });
    caught.into_inner().unwrap_or_default()
}
