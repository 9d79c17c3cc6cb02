//! Rates, by the generic cell rate algorithm (ITU-T I.371, annex A): one number for each, moved by compare-and-swap.
//!
//! The number is the theoretical arrival time: when all that was taken will have come back. It lies in the past while
//! nothing is taken, and never further ahead than the whole burst takes, but for what turned out to be more than was set
//! aside. From this it follows that in any time W at most `burst + W × rate` pass; what was set aside and has come back
//! counts as if it had never been taken. A limit per minute has the whole minute's as its burst: after a pause up to
//! twice the limit may pass within one minute, in the long run never more than the limit.

use super::counter::update;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Ticks in a nanosecond: fine enough for a billion tokens a minute at an error of a thousandth, coarse enough for 36
/// years in 64 bits.
const TICKS_PER_NS: u64 = 16;

/// A point in time: ticks since the limits were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(u64);

/// How fast something may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Ticks until one unit is there again, rounded up: what passes is never more than the limit.
    per_unit: u64,
    /// Ticks until the whole burst is there again.
    whole: u64,
}

/// What of a rate is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Units that are not there again yet; more than the burst where more was used than was set aside.
    pub(super) used: u64,
    /// Units that may be used at once.
    pub(super) remaining: u64,
    /// Until all of it is there again.
    pub(super) reset: Duration,
}

impl Ticks {
    /// Of this moment; nothing is before the origin.
    pub(super) fn at(now: Instant, origin: Instant) -> Self {
        let since = now.saturating_duration_since(origin);
        let nanos = since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos());
        Self(nanos.saturating_mul(TICKS_PER_NS))
    }
}

impl Pace {
    /// `units` in `window`, of which `burst` may come at once.
    pub(super) fn new(units: u64, window: Duration, burst: u64) -> Self {
        let ticks = window.as_nanos() as u64 * TICKS_PER_NS;
        let per_unit = ticks.div_ceil(units.max(1));
        Self {
            per_unit,
            whole: burst.saturating_mul(per_unit),
        }
    }

    /// Takes so many, if they are there.
    pub(super) fn take(&self, arrival: &AtomicU64, amount: u64, now: Ticks) -> bool {
        let cost = self.ticks(amount);
        let next = |arrival: u64| {
            let next = arrival.max(now.0).saturating_add(cost);
            (next - now.0 <= self.whole).then_some(next)
        };
        arrival
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    /// So many more were used than had been taken: they are taken too, whether they are there or not.
    pub(super) fn owe(&self, arrival: &AtomicU64, amount: u64, now: Ticks) {
        let cost = self.ticks(amount);
        update(arrival, |arrival| arrival.max(now.0).saturating_add(cost));
    }

    /// So many were not used after all.
    pub(super) fn give_back(&self, arrival: &AtomicU64, amount: u64) {
        let cost = self.ticks(amount);
        update(arrival, |arrival| arrival.saturating_sub(cost));
    }

    /// Until so many are there; of more than the burst, until all of it is.
    pub(super) fn wait(&self, arrival: &AtomicU64, amount: u64, now: Ticks) -> Duration {
        let needed = self.ticks(amount).min(self.whole);
        let ahead = arrival.load(Ordering::Relaxed).saturating_sub(now.0);
        duration(ahead.saturating_add(needed).saturating_sub(self.whole))
    }

    /// How it stands.
    pub(super) fn level(&self, arrival: &AtomicU64, now: Ticks) -> Level {
        let ahead = arrival.load(Ordering::Relaxed).saturating_sub(now.0);
        Level {
            used: ahead.div_ceil(self.per_unit),
            remaining: self.whole.saturating_sub(ahead) / self.per_unit,
            reset: duration(ahead),
        }
    }

    /// Units that may be used at once.
    pub(super) fn burst(&self) -> u64 {
        self.whole / self.per_unit
    }

    fn ticks(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.per_unit)
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.div_ceil(TICKS_PER_NS))
}
