//! Runs every detector on its own schedule: one thread waits, each check has a short-lived one.

use super::Shared;
use super::check::Watch;
use super::slot::{Key, Slot, lock};
use super::tally::CheckResult;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most checks that run at the same time; the others wait.
const CHECKS_LIMIT: usize = 64;

/// How often the waiting thread looks up when there is nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// When the detectors of this node are due.
#[derive(Default)]
pub(super) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<(Key, usize), Entry>,
    under_way: usize,
    serial: u64,
    closing: bool,
}

struct Entry {
    /// Tells it from an earlier detector in its place.
    serial: u64,
    detector: Arc<Watch>,
    due: Instant,
    under_way: bool,
}

/// A check that is due.
struct Due {
    key: Key,
    index: usize,
    serial: u64,
    detector: Arc<Watch>,
}

impl Schedule {
    /// Looks at these detectors from now on, and at no others; unchanged ones keep their time.
    pub(super) fn replace(&self, wanted: &BTreeMap<Key, Vec<Watch>>) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        state.entries.retain(|(key, index), entry| {
            wanted
                .get(key)
                .and_then(|detectors| detectors.get(*index))
                .is_some_and(|detector| *detector == *entry.detector)
        });
        for (key, detectors) in wanted {
            for (index, detector) in detectors.iter().enumerate() {
                let place = (key.clone(), index);
                if state.entries.contains_key(&place) {
                    continue;
                }
                state.serial += 1;
                let entry = Entry {
                    serial: state.serial,
                    detector: Arc::new(detector.clone()),
                    due: now,
                    under_way: false,
                };
                state.entries.insert(place, entry);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.changed.notify_all();
    }

    /// Starts the checks that are due until closed.
    pub(super) fn run(shared: &Arc<Shared>) {
        let schedule = &shared.schedule;
        let mut state = lock(&schedule.state);
        while !state.closing {
            for due in state.take_due(Instant::now()) {
                spawn(shared, due, &mut state);
            }
            let wait = state.wait(Instant::now());
            (state, _) = schedule
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, due: &Due, began: Instant) {
        let mut state = lock(&self.state);
        state.under_way -= 1;
        let place = (due.key.clone(), due.index);
        if let Some(entry) = state.entries.get_mut(&place)
            && entry.serial == due.serial
        {
            entry.under_way = false;
            entry.due = began + entry.detector.interval;
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let mut all = Vec::new();
        for ((key, index), entry) in &mut self.entries {
            if self.under_way + all.len() >= CHECKS_LIMIT {
                break;
            }
            if !entry.under_way && entry.due <= now {
                entry.under_way = true;
                all.push(Due {
                    key: key.clone(),
                    index: *index,
                    serial: entry.serial,
                    detector: Arc::clone(&entry.detector),
                });
            }
        }
        self.under_way += all.len();
        all
    }

    fn wait(&self, now: Instant) -> Duration {
        if self.under_way >= CHECKS_LIMIT {
            return IDLE;
        }
        let next = self
            .entries
            .values()
            .filter(|entry| !entry.under_way)
            .map(|entry| entry.due)
            .min();
        next.map_or(IDLE, |due| due.saturating_duration_since(now))
    }
}

fn spawn(shared: &Arc<Shared>, due: Due, state: &mut State) {
    let of_thread = Arc::clone(shared);
    let place = (due.key.clone(), due.index);
    let pause = due.detector.interval;
    let started = std::thread::Builder::new()
        .name("check".into())
        .stack_size(512 << 10)
        .spawn(move || {
            let began = Instant::now();
            let ended = Ended {
                shared: &of_thread,
                due: &due,
                began,
            };
            if let Some(slot) = of_thread.known(&due.key) {
                check(&of_thread, &slot, due.index, &due.detector, false);
            }
            drop(ended);
        });
    if started.is_err() {
        state.under_way -= 1;
        if let Some(entry) = state.entries.get_mut(&place) {
            entry.under_way = false;
            entry.due = Instant::now() + pause;
        }
    }
}

/// Gives the place of a check back, also when the check panics.
struct Ended<'a> {
    shared: &'a Shared,
    due: &'a Due,
    began: Instant,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.schedule.ended(self.due, self.began);
    }
}

/// Runs one detector and takes its result; nothing while the resource is started or stopped.
fn check(shared: &Shared, slot: &Slot, index: usize, detector: &Watch, asked: bool) {
    let began = slot.began();
    if !began.may_count() {
        return;
    }
    let found = shared.check(&slot.key, index, detector);
    slot.detected(&shared.out, began, CheckResult { index, found }, asked);
}

/// Runs all detectors of a resource now, side by side.
pub(super) fn check_all(shared: &Shared, slot: &Slot, detectors: &[Watch]) {
    std::thread::scope(|scope| {
        for (index, detector) in detectors.iter().enumerate().skip(1) {
            let work = move || check(shared, slot, index, detector, true);
            let started = std::thread::Builder::new()
                .name("check".into())
                .stack_size(512 << 10)
                .spawn_scoped(scope, work);
            if started.is_err() {
                check(shared, slot, index, detector, true);
            }
        }
        if let Some(first) = detectors.first() {
            check(shared, slot, 0, first, true);
        }
    });
}
