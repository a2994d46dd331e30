//! The two clocks of one simulated host: piecewise linear in true time, or stopped.

use hotpair_core::time::{Moment, Now};

const MILLION: u64 = 1_000_000;

/// CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW of a host. True time is in microseconds.
#[derive(Clone, Debug)]
pub struct Clocks {
    since_us: u64,
    at: Now,
    /// Microseconds of the clock in a million true ones.
    raw_rate: u64,
    boot_rate: u64,
    stopped: bool,
}

impl Clocks {
    /// Clocks that run `raw_ppm` and `boot_ppm` faster than true time, reading `start_us` at `now_us`.
    #[must_use]
    pub fn new(now_us: u64, start_us: u64, raw_ppm: i64, boot_ppm: i64) -> Self {
        Self {
            since_us: now_us,
            at: Now::at(start_us),
            raw_rate: rate(raw_ppm),
            boot_rate: rate(boot_ppm),
            stopped: false,
        }
    }

    /// Both readings at the true time `now_us`.
    #[must_use]
    pub fn read(&self, now_us: u64) -> Now {
        if self.stopped {
            return self.at;
        }
        let passed = now_us.saturating_sub(self.since_us);
        Now {
            boot_us: self.at.boot_us + scaled(passed, self.boot_rate, MILLION),
            raw_us: self.at.raw_us + scaled(passed, self.raw_rate, MILLION),
        }
    }

    /// First true time at which the raw clock has reached `moment`; `None` while it stands.
    #[must_use]
    pub fn when(&self, moment: Moment) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let ahead = moment.0.saturating_sub(self.at.raw_us);
        let wide = u128::from(ahead) * u128::from(MILLION);
        let true_us = wide.div_ceil(u128::from(self.raw_rate));
        Some(
            self.since_us
                .saturating_add(u64::try_from(true_us).unwrap_or(u64::MAX)),
        )
    }

    /// From now on CLOCK_BOOTTIME runs `boot_ppm` faster than true time.
    pub fn slew(&mut self, now_us: u64, boot_ppm: i64) {
        self.rebase(now_us);
        self.boot_rate = rate(boot_ppm);
    }

    /// Both clocks stand still (a stopped virtual machine), or go on.
    pub fn stop(&mut self, now_us: u64, stopped: bool) {
        self.rebase(now_us);
        self.stopped = stopped;
    }

    /// Do they stand still?
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    fn rebase(&mut self, now_us: u64) {
        self.at = self.read(now_us);
        self.since_us = now_us;
    }
}

fn rate(ppm: i64) -> u64 {
    MILLION.saturating_add_signed(ppm).max(1)
}

fn scaled(value: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_a_moment_when_it_says_so_and_not_before() {
        for ppm in [-10_000, -3, 0, 7, 10_000] {
            let clocks = Clocks::new(500, 1_000_000, ppm, ppm);
            for ahead in [1, 99, 12_345, 7_000_001] {
                let moment = Moment(1_000_000 + ahead);
                let when = clocks.when(moment).unwrap_or_default();
                assert!(clocks.read(when).moment() >= moment);
                assert!(clocks.read(when - 1).moment() < moment);
            }
        }
    }

    #[test]
    fn stopped_clocks_stand_and_then_go_on_from_there() {
        let mut clocks = Clocks::new(0, 0, 0, 0);
        clocks.stop(100, true);
        assert_eq!(clocks.read(900), Now::at(100));
        assert_eq!(clocks.when(Moment(101)), None);
        clocks.stop(900, false);
        assert_eq!(clocks.read(950), Now::at(150));
    }

    #[test]
    fn slewing_touches_only_the_boot_clock() {
        let mut clocks = Clocks::new(0, 0, 0, 0);
        clocks.slew(1000, 80_000);
        let now = clocks.read(101_000);
        assert_eq!((now.raw_us, now.boot_us), (101_000, 109_000));
    }
}
