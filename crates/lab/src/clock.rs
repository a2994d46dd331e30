//! The one time base of the lab: CLOCK_MONOTONIC, which all namespaces of a machine share.

use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use std::time::Duration;

/// CLOCK_MONOTONIC now, in microseconds.
pub fn now_us() -> u64 {
    // CLOCK_MONOTONIC exists on every Linux; zero would show up at once as absurd figures.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Sleeps until CLOCK_MONOTONIC shows `at_us`; returns at once if that is past.
pub fn sleep_until_us(at_us: u64) {
    let at = Duration::from_micros(at_us).into();
    while clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        ClockNanosleepFlags::TIMER_ABSTIME,
        &at,
    ) == Err(nix::errno::Errno::EINTR)
    {}
}

/// Asks `done` every `step` until it says yes or `limit` is over; tells whether it said yes.
pub fn wait_until(limit: Duration, step: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end_us = now_us() + u64::try_from(limit.as_micros()).unwrap_or(u64::MAX / 2);
    loop {
        if done() {
            return true;
        }
        if now_us() >= end_us {
            return false;
        }
        std::thread::sleep(step);
    }
}
