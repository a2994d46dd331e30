//! What the detectors of one resource found so far, and what that says about the resource.

use hotpair_core::group::ResourceFact;
use std::time::{Duration, Instant};

/// What one detector found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckResult {
    /// Which of the resource's detectors.
    pub index: usize,
    /// `Err`: it does not run, or does not answer, for this reason.
    pub found: Result<(), String>,
}

/// The results of all detectors of a resource since it was last started or stopped.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    detectors: Vec<Tally>,
    /// Shortest interval: how often an unchanged result is told again.
    interval: Duration,
    told: Option<(bool, Instant)>,
}

#[derive(Debug)]
struct Tally {
    tries: u32,
    /// Start of the newest check that counted.
    newest: Option<Instant>,
    failed_in_a_row: u32,
    /// `None`: not known yet.
    found: Option<Result<(), String>>,
}

impl Tallies {
    /// For detectors with these intervals and tries.
    pub(super) fn new(detectors: Vec<(Duration, u32)>) -> Self {
        Self {
            interval: detectors.iter().map(|(i, _)| *i).min().unwrap_or_default(),
            detectors: detectors
                .into_iter()
                .map(|(_, tries)| Tally::new(tries))
                .collect(),
            told: None,
        }
    }

    /// The resource was started or stopped: nothing is known any more.
    pub(super) fn forget(&mut self) {
        for tally in &mut self.detectors {
            *tally = Tally::new(tally.tries);
        }
        self.told = None;
    }

    /// Takes a result of a check begun at `began`; the fact to tell, if any.
    ///
    /// `asked`: somebody waits for the result, so it is told though nothing changed.
    pub(super) fn take(
        &mut self,
        began: Instant,
        result: CheckResult,
        asked: bool,
    ) -> Option<ResourceFact> {
        self.detectors
            .get_mut(result.index)?
            .take(began, result.found)?;
        let (running, detail) = self.verdict()?;
        let fresh = self.told.is_some_and(|(told, at)| {
            told == running && began.saturating_duration_since(at) < self.interval
        });
        if fresh && !asked {
            return None;
        }
        self.told = Some((running, began));
        Some(ResourceFact::Detected { running, detail })
    }

    fn verdict(&self) -> Option<(bool, String)> {
        let reasons: Vec<&str> = self
            .detectors
            .iter()
            .filter_map(|tally| tally.found.as_ref()?.as_ref().err())
            .map(String::as_str)
            .collect();
        if !reasons.is_empty() {
            return Some((false, reasons.join("; ")));
        }
        let all = self.detectors.iter().all(|tally| tally.found.is_some());
        all.then(|| (true, String::new()))
    }
}

impl Tally {
    fn new(tries: u32) -> Self {
        Self {
            tries: tries.max(1),
            newest: None,
            failed_in_a_row: 0,
            found: None,
        }
    }

    /// `None` if a newer check has counted already.
    fn take(&mut self, began: Instant, found: Result<(), String>) -> Option<()> {
        if self.newest.is_some_and(|newest| newest > began) {
            return None;
        }
        self.newest = Some(began);
        if found.is_ok() {
            self.failed_in_a_row = 0;
            self.found = Some(found);
            return Some(());
        }
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if self.failed_in_a_row >= self.tries {
            self.found = Some(found);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: usize, found: Result<(), &str>) -> CheckResult {
        CheckResult {
            index,
            found: found.map_err(str::to_owned),
        }
    }

    fn detected(fact: Option<ResourceFact>) -> Option<(bool, String)> {
        fact.map(|fact| match fact {
            ResourceFact::Detected { running, detail } => (running, detail),
            other => panic!("{other:?}"),
        })
    }

    const EVERY: Duration = Duration::from_secs(5);

    #[test]
    fn runs_only_when_all_detectors_agree() {
        let now = Instant::now();
        let mut tallies = Tallies::new(vec![(EVERY, 1), (EVERY, 1)]);
        assert_eq!(tallies.take(now, found(0, Ok(())), false), None);
        let fact = tallies.take(now, found(1, Ok(())), false);
        assert_eq!(detected(fact), Some((true, String::new())));
        let fact = tallies.take(now, found(1, Err("silent")), false);
        assert_eq!(detected(fact), Some((false, "silent".into())));
        assert_eq!(
            detected(tallies.take(now, found(1, Ok(())), false)).map(|(r, _)| r),
            Some(true)
        );
    }

    #[test]
    fn fails_after_its_tries_in_a_row() {
        let now = Instant::now();
        let mut tallies = Tallies::new(vec![(EVERY, 3)]);
        for result in [Err("1"), Err("2")] {
            assert_eq!(tallies.take(now, found(0, result), true), None);
        }
        assert!(tallies.take(now, found(0, Ok(())), true).is_some());
        for result in [Err("1"), Err("2")] {
            let fact = tallies.take(now, found(0, result), true);
            assert_eq!(detected(fact).map(|(r, _)| r), Some(true));
        }
        let fact = tallies.take(now, found(0, Err("3")), true);
        assert_eq!(detected(fact), Some((false, "3".into())));
    }

    #[test]
    fn tells_what_is_unchanged_once_an_interval() {
        let now = Instant::now();
        let mut tallies = Tallies::new(vec![(EVERY, 1)]);
        assert!(tallies.take(now, found(0, Ok(())), false).is_some());
        let soon = now + EVERY / 2;
        assert_eq!(tallies.take(soon, found(0, Ok(())), false), None);
        assert!(tallies.take(soon, found(0, Ok(())), true).is_some());
        assert!(
            tallies
                .take(soon + EVERY, found(0, Ok(())), false)
                .is_some()
        );
    }

    #[test]
    fn an_older_check_does_not_undo_a_newer_one() {
        let now = Instant::now();
        let mut tallies = Tallies::new(vec![(EVERY, 1)]);
        let newer = now + Duration::from_millis(1);
        assert!(tallies.take(newer, found(0, Ok(())), false).is_some());
        assert_eq!(tallies.take(now, found(0, Err("old")), true), None);
    }
}
