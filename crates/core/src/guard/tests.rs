//! What the guard keeps, closes and says, step by step.

use super::{Guard, GuardAction, GuardEvent, GuardIdentity, GuardInput, Hold, Promises, Wanted};
use crate::document::Voters;
use crate::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, Term, Version};
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ME: MemberId = MemberId(1);
const OTHER: MemberId = MemberId(2);

fn group() -> GroupId {
    GroupId::from("g")
}

fn wanted(voters: &[MemberId], committed: Option<u64>, pinned: bool) -> Wanted {
    let hold = Hold {
        epoch: Epoch(3),
        committed: committed.map(|index| Version::new(1, index)),
        pinned,
        margin: Duration::ZERO,
    };
    Wanted {
        peers: BTreeSet::from([OTHER]),
        holds: true,
        voters: Voters::new(voters.iter().copied().collect()),
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_millis(600),
        longest_lease: Duration::from_millis(600),
        held: Version::new(1, committed.unwrap_or(9)),
        shown: Version::new(1, committed.unwrap_or(9)),
        committed: Version::new(1, committed.unwrap_or(0)),
        term: Term(1),
        leads: false,
        floors: BTreeMap::new(),
        groups: BTreeMap::from([(group(), hold)]),
    }
}

fn at(ms: u64) -> Now {
    Now::at(1_000_000 + ms * 1_000)
}

fn tell(guard: &mut Guard, ms: u64, wanted: Wanted) -> Vec<GuardAction> {
    guard.step(at(ms), GuardInput::Wanted(Box::new(wanted)))
}

/// A guard that holds a lease of its own vote alone, and a permit under document 1.1.
fn permitted(pinned: bool) -> Guard {
    let id = GuardIdentity {
        me: ME,
        boot: HostBoot(1),
        run: Incarnation(1),
    };
    let mut guard = Guard::restore(id, Some(Promises::default()), at(0));
    tell(&mut guard, 0, wanted(&[ME], Some(1), pinned));
    guard
}

fn cuts(actions: &[GuardAction]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, GuardAction::Cut { .. }))
}

fn last_leased(actions: &[GuardAction]) -> Option<(Version, bool)> {
    actions.iter().rev().find_map(|action| match action {
        GuardAction::Event(GuardEvent::Leased { under, groups }) => {
            Some((*under, groups.contains(&group())))
        }
        _ => None,
    })
}

#[test]
fn pinned_group_outlives_a_restart_of_the_daemon_without_a_lease() {
    let mut guard = permitted(true);
    // Both votes are needed from here on, and the other never answers.
    tell(&mut guard, 10, wanted(&[ME, OTHER], Some(2), true));
    let end = guard.step(at(2_000), GuardInput::Tick);
    assert!(!cuts(&end) && guard.lease_left(at(2_000)).is_zero());
    let new = tell(&mut guard, 2_010, wanted(&[ME, OTHER], None, false));
    assert!(
        !cuts(&new),
        "a daemon that has just started knows of no commit"
    );
    let unpinned = tell(&mut guard, 2_020, wanted(&[ME, OTHER], Some(3), false));
    assert!(cuts(&unpinned));
}

#[test]
fn group_under_a_lease_is_cut_with_it_whatever_a_new_daemon_knows() {
    let mut guard = permitted(false);
    tell(&mut guard, 10, wanted(&[ME, OTHER], None, false));
    assert!(cuts(&guard.step(at(2_000), GuardInput::Tick)));
}

#[test]
fn says_leased_only_under_a_committed_document_that_does_not_pin() {
    let mut guard = permitted(true);
    let still = tell(&mut guard, 10, wanted(&[ME], Some(2), true));
    assert_eq!(last_leased(&still), Some((Version::new(1, 2), false)));
    let released = tell(&mut guard, 20, wanted(&[ME], Some(3), false));
    assert_eq!(last_leased(&released), Some((Version::new(1, 3), true)));
}
