//! Deliberate bugs of the core, each of which the simulator must catch within a stated number of seeds.

use crate::check::Rule;
use crate::run::Plan;
use hotpair_core::fault::{Fault, plant};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bug, and within how many seeds it must be caught.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub fault: Fault,
    pub within: u64,
}

/// How a bug was caught.
#[derive(Clone, Copy, Debug)]
pub struct Catch {
    pub seed: u64,
    pub rule: Rule,
    /// Seeds tried up to the one that caught it.
    pub tried: u64,
}

const fn case(fault: Fault, within: u64) -> Case {
    Case { fault, within }
}

/// Every planted fault with the number of seeds that must be enough to catch it.
pub const CASES: [Case; 26] = [
    case(Fault::StartWithoutCheck, 20),
    case(Fault::NoSilenceAfterHostRestart, 2000),
    case(Fault::LeaseFromReceipt, 2000),
    case(Fault::NoDriftMargin, 2000),
    case(Fault::GrantToOlderVersion, 2000),
    case(Fault::CheckUncommitted, 2000),
    case(Fault::CheckIgnoresHeld, 2000),
    case(Fault::CommitEarlierTerm, 2000),
    case(Fault::AnswerBeforeDurable, 20),
    case(Fault::GuardForgetsPromises, 2000),
    case(Fault::RunTakenForBoot, 2000),
    case(Fault::AckOfEarlierBoot, 2000),
    case(Fault::SingleStepVoters, 2000),
    case(Fault::FinishVotersUnchecked, 2000),
    case(Fault::UnpinWithoutHolder, 2000),
    case(Fault::TakeOverPinned, 2000),
    case(Fault::VoteTwice, 2000),
    case(Fault::VoteForOlderDocument, 2000),
    case(Fault::AcceptEarlierTerm, 2000),
    case(Fault::ShowBeforeCut, 2000),
    case(Fault::PermitOutlivesLease, 2000),
    case(Fault::PermitAcrossEpochs, 2000),
    case(Fault::BeatWithoutCredit, 2000),
    case(Fault::AskWithoutAnswers, 2000),
    case(Fault::StaleStopMoves, 2000),
    case(Fault::HalfIsMajority, 2000),
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

/// Runs seeds from `from` on with the bug planted, in `jobs` threads, until one of them catches it.
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
                    let Some(violation) = Plan::draw(seed).run(0).violation else {
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
