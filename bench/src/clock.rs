//! The one clock of all programs here: CLOCK_MONOTONIC is the same in every process of a machine.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since the machine started.
#[must_use]
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * SECOND_NS + time.tv_nsec.unsigned_abs()
}

/// A length of time given in seconds on a command line.
#[must_use]
pub fn seconds_to_ns(seconds: f64) -> u64 {
    (seconds * SECOND_NS as f64) as u64
}
