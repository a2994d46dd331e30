//! Time as an argument: two clocks of one host, and how long a span lasted by each.
//!
//! A lease must not outlive the promises it rests on, whatever the clocks do. So the holder counts
//! elapsed time by the *faster* of two clocks and the voter by the *slower*. CLOCK_MONOTONIC_RAW is
//! not slewed (chrony may slew the others by 8.3 %), CLOCK_BOOTTIME goes on while a host is
//! suspended. What is left, their true difference in rate between hosts, is bounded by
//! [`DRIFT_PPM`].

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bound on the difference of clock *rates* between two hosts: 1 %, in parts per million.
pub const DRIFT_PPM: u64 = 10_000;

/// A reading of both clocks of one host, in microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Now {
    /// CLOCK_BOOTTIME.
    pub boot_us: u64,
    /// CLOCK_MONOTONIC_RAW. Timers are measured by this one.
    pub raw_us: u64,
}

/// A moment of a host's CLOCK_MONOTONIC_RAW in microseconds: what deadlines are given in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash,
)]
pub struct Moment(pub u64);

impl Now {
    /// Both clocks at the same reading, for tests and simulation.
    #[must_use]
    pub const fn at(us: u64) -> Self {
        Self {
            boot_us: us,
            raw_us: us,
        }
    }

    /// The moment timers are compared with.
    #[must_use]
    pub const fn moment(self) -> Moment {
        Moment(self.raw_us)
    }

    /// Time since `earlier` by the faster clock: never less than either clock says.
    #[must_use]
    pub fn elapsed_fast(self, earlier: Self) -> Duration {
        let (boot, raw) = self.elapsed(earlier);
        Duration::from_micros(boot.max(raw))
    }

    /// Time since `earlier` by the slower clock: never more than either clock says.
    #[must_use]
    pub fn elapsed_slow(self, earlier: Self) -> Duration {
        let (boot, raw) = self.elapsed(earlier);
        Duration::from_micros(boot.min(raw))
    }

    fn elapsed(self, earlier: Self) -> (u64, u64) {
        (
            self.boot_us.saturating_sub(earlier.boot_us),
            self.raw_us.saturating_sub(earlier.raw_us),
        )
    }
}

impl Moment {
    /// This moment and `span` more.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// `span` in whole microseconds; spans beyond 584,000 years are cut.
#[must_use]
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What the holder may use of a lease of `length`: shortened by twice the drift bound, since its
/// clock may be slow by the bound and the voter's fast by it.
#[must_use]
pub fn usable(length: Duration) -> Duration {
    let us = micros(length);
    Duration::from_micros(
        us - (us / 1_000_000 * 2 * DRIFT_PPM + us % 1_000_000 * 2 * DRIFT_PPM / 1_000_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holder_counts_by_the_faster_clock_and_voter_by_the_slower() {
        let start = Now {
            boot_us: 100,
            raw_us: 100,
        };
        let later = Now {
            boot_us: 600,
            raw_us: 300,
        };
        assert_eq!(later.elapsed_fast(start), Duration::from_micros(500));
        assert_eq!(later.elapsed_slow(start), Duration::from_micros(200));
    }

    #[test]
    fn usable_lease_is_two_percent_shorter() {
        assert_eq!(
            usable(Duration::from_millis(600)),
            Duration::from_millis(588)
        );
        assert_eq!(usable(Duration::from_secs(10)), Duration::from_millis(9800));
    }
}
