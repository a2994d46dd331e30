//! One resource in the executor: who works on it now, and what its detectors found.
//!
//! Start and stop take turns in the lane of the resource. A kill does not queue: it raises `kills`,
//! which makes a start or stop under way give up, kills the processes these wait for, and then
//! finds the lane free.

use super::ExecEvent;
use super::service::Running;
use super::tally::Tallies;
use hotpair_core::group::{ActionId, ResourceFact, Work};
use hotpair_core::ids::{GroupId, ResourceId};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How often a hook is killed until it has ended: it may just have been about to start its program.
const HOOK_ROUND: Duration = Duration::from_millis(10);

/// Names a resource in the cluster.
pub(super) type Key = (GroupId, ResourceId);

/// Takes a lock whatever a panicking holder left: all states here are whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where results go.
#[derive(Clone, Debug)]
pub(super) struct Out(pub UnboundedSender<ExecEvent>);

impl Out {
    /// Sends; the daemon may be ending, then nobody listens.
    pub(super) fn send(&self, event: ExecEvent) {
        let _ = self.0.send(event);
    }

    pub(super) fn fact(&self, key: &Key, fact: ResourceFact) {
        let (group, resource) = key.clone();
        self.send(ExecEvent::Fact {
            group,
            resource,
            fact,
        });
    }

    pub(super) fn log(&self, key: &Key, text: impl std::fmt::Display) {
        self.send(ExecEvent::Log(format!("{}.{}: {text}", key.0, key.1)));
    }
}

pub(super) struct Slot {
    pub key: Key,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody is in the lane.
    busy: bool,
    /// Kills asked for so far.
    kills: u64,
    /// A hook runs.
    hook: bool,
    /// Starts, stops and kills that have not ended.
    under_way: u32,
    /// Starts, stops and kills that have ended.
    ended: u64,
    running: Option<Running>,
    tallies: Tallies,
}

/// The number of kills before an action was asked for; a later kill overtakes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

/// When a check began, in terms of the resource's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    ended: u64,
    quiet: bool,
    at: Instant,
}

impl Slot {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Notes that an action was asked for.
    pub(super) fn begin(self: &Arc<Self>, id: ActionId, work: Work, out: &Out) -> Completion {
        let mut state = lock(&self.state);
        if work == Work::Kill {
            state.kills += 1;
        }
        if work != Work::Check {
            state.under_way += 1;
        }
        Completion {
            id,
            changes: work != Work::Check,
            ticket: Ticket(state.kills),
            slot: Arc::clone(self),
            out: out.clone(),
            sent: false,
        }
    }

    /// Has a kill been asked for since?
    pub(super) fn overtaken(&self, ticket: Ticket) -> bool {
        lock(&self.state).kills != ticket.0
    }

    /// Enters the lane, or gives up after `limit`.
    pub(super) fn enter(&self, limit: Duration) -> Option<Lane<'_>> {
        let state = lock(&self.state);
        let (mut state, _) = self
            .freed
            .wait_timeout_while(state, limit, |state| state.busy)
            .unwrap_or_else(PoisonError::into_inner);
        if state.busy {
            return None;
        }
        state.busy = true;
        let running = state.running.take();
        Some(Lane {
            slot: self,
            running,
        })
    }

    /// The right to run a hook, unless a kill has been asked for since; whoever has it is waited for by
    /// [`end_hook`](Self::end_hook).
    pub(super) fn enter_hook(&self, ticket: Ticket) -> Option<InHook<'_>> {
        let mut state = lock(&self.state);
        if state.kills != ticket.0 {
            return None;
        }
        state.hook = true;
        Some(InHook(self))
    }

    /// Does `kill` again and again until no hook runs any more. False: one still does after `limit`.
    ///
    /// For a kill: no hook of an action before it can begin from then on.
    pub(super) fn end_hook(&self, limit: Duration, kill: impl Fn()) -> bool {
        let end = Instant::now() + limit;
        let mut state = lock(&self.state);
        while state.hook && Instant::now() < end {
            drop(state);
            kill();
            let (next, _) = self
                .freed
                .wait_timeout_while(lock(&self.state), HOOK_ROUND, |state| state.hook)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
        !state.hook
    }

    /// Does `work` with the running service, unless somebody is in the lane.
    pub(super) fn with_running(&self, work: impl FnOnce(&Running)) {
        if let Some(running) = &lock(&self.state).running {
            work(running);
        }
    }

    /// A check begins.
    pub(super) fn began(&self) -> Began {
        let state = lock(&self.state);
        Began {
            ended: state.ended,
            quiet: state.under_way == 0,
            at: Instant::now(),
        }
    }

    /// Takes the result of one detector, and tells what it means for the resource.
    ///
    /// A check that ran beside a start, stop or kill tells nothing.
    pub(super) fn detected(
        &self,
        out: &Out,
        began: Began,
        result: super::tally::CheckResult,
        asked: bool,
    ) {
        let mut state = lock(&self.state);
        if !began.quiet || state.under_way > 0 || state.ended != began.ended {
            return;
        }
        if let Some(fact) = state.tallies.take(began.at, result, asked) {
            out.fact(&self.key, fact);
        }
    }

    /// Counts afresh, for so many detectors.
    pub(super) fn reset_tallies(&self, intervals: Vec<(Duration, u32)>) {
        lock(&self.state).tallies = Tallies::new(intervals);
    }
}

impl Began {
    pub(super) fn may_count(&self) -> bool {
        self.quiet
    }
}

/// A hook runs until this is dropped.
pub(super) struct InHook<'a>(&'a Slot);

impl Drop for InHook<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).hook = false;
        self.0.freed.notify_all();
    }
}

/// The right to change a resource; handed on when dropped.
pub(super) struct Lane<'a> {
    slot: &'a Slot,
    pub running: Option<Running>,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.slot.state);
        state.busy = false;
        state.running = self.running.take();
        drop(state);
        self.slot.freed.notify_all();
    }
}

/// Sends the one `Done` of an action, also when its thread cannot start or panics.
pub(super) struct Completion {
    pub id: ActionId,
    changes: bool,
    pub ticket: Ticket,
    slot: Arc<Slot>,
    out: Out,
    sent: bool,
}

impl Completion {
    pub(super) fn send(mut self, result: Result<(), String>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<(), String>) {
        if std::mem::replace(&mut self.sent, true) {
            return;
        }
        let mut state = lock(&self.slot.state);
        if self.changes {
            state.under_way -= 1;
            state.ended += 1;
            state.tallies.forget();
        }
        self.out.send(ExecEvent::Done {
            id: self.id,
            result,
        });
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.finish(Err(
            "its thread did not start or broke off; see the log of the daemon".into(),
        ));
    }
}
