//! Rates, by the generic cell rate algorithm (ITU-T I.371, annex A): one number for each, moved by compare-and-swap.
//!
//! The number is the theoretical arrival time: when all that was taken will have come back. It lies in the past while
//! nothing is taken, and never further ahead than the whole burst takes, but for what turned out to be more than was set
//! aside. From this it follows that in any time W at most `burst + W × rate` pass. A limit per minute has the whole
//! minute's as its burst: within one minute up to twice the limit may pass, in the long run never more than the limit.
//!
//! Time gives back what was set aside whether it is used or not. What turns out to be unused must therefore not be given
//! back as a whole, or it would come back twice. What was taken stands in a queue, and time takes away from its front: given
//! back is what time has not come to yet, as far as that is certain (`Pace::left`). So of what is really used no more
//! than `burst + W × rate` pass in any time either.

use super::counter::{subtract, update};
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
    per_unit: Divisor,
    /// Ticks until the whole burst is there again.
    whole: u64,
}

/// A number that is divided by for every request, with its reciprocal: to multiply by that takes a fraction of the time of a
/// division.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    value: u64,
    /// So many times the divisor fit into 2^64 - 1.
    reciprocal: u64,
}

/// What was taken of a rate stands here, for when less of it turns out to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// When it was taken.
    pub(super) at: Ticks,
    /// When all of it will have come back, unless something in front of it is given back.
    pub(super) end: u64,
    /// What had been given back of the rate before.
    pub(super) returned: u64,
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
            per_unit: Divisor::new(per_unit),
            whole: burst.saturating_mul(per_unit),
        }
    }

    /// Takes so many, if they are there, and tells when they will have come back.
    pub(super) fn take(&self, arrival: &AtomicU64, amount: u64, now: Ticks) -> Option<u64> {
        let cost = self.ticks(amount);
        let mut seen = arrival.load(Ordering::Relaxed);
        loop {
            let next = seen.max(now.0).saturating_add(cost);
            if next - now.0 > self.whole {
                return None;
            }
            match arrival.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next),
                Err(now_seen) => seen = now_seen,
            }
        }
    }

    /// So many more were used than had been taken: they are taken too, whether they are there or not.
    pub(super) fn owe(&self, arrival: &AtomicU64, amount: u64, now: Ticks) {
        let cost = self.ticks(amount);
        update(arrival, |arrival| arrival.max(now.0).saturating_add(cost));
    }

    /// So many were taken in this very moment, and are not used after all.
    pub(super) fn give_back(&self, arrival: &AtomicU64, amount: u64) {
        subtract(arrival, self.ticks(amount));
    }

    /// So many of what was taken were not used after all. `returned` counts what is given back of this rate.
    ///
    /// Who takes reads `returned` before, so what he misses of it has not moved him, and what he counts too much only makes
    /// him give back less. Two that give back in the same moment may miss each other's: that is the one case in which time
    /// and they give back the same.
    pub(super) fn give_back_unused(
        &self,
        arrival: &AtomicU64,
        returned: &AtomicU64,
        amount: u64,
        place: &Place,
        now: Ticks,
    ) {
        let left = self.left(place, amount, returned.load(Ordering::Acquire), now);
        if left > 0 {
            subtract(arrival, left);
            returned.fetch_add(left, Ordering::Release);
        }
    }

    /// What of so many that were not used time has certainly not given back yet.
    ///
    /// In the queue it is the last part of what was taken together. Time can have taken away no more than has passed since
    /// then. Nor has it come there before it has taken away all that is in front: the place has moved up by no more than
    /// all that has been given back since, by whomever.
    fn left(&self, place: &Place, amount: u64, returned: u64, now: Ticks) -> u64 {
        let unused = self.ticks(amount);
        let by_age = unused.saturating_sub(now.0.saturating_sub(place.at.0));
        let moved_up = returned.wrapping_sub(place.returned);
        let end = place.end.saturating_sub(moved_up);
        let by_place = unused.min(end.saturating_sub(now.0));
        by_age.max(by_place)
    }

    /// Until so many are there; of more than the burst, until all of it is.
    pub(super) fn wait(&self, arrival: &AtomicU64, amount: u64, now: Ticks) -> Duration {
        let needed = self.ticks(amount).min(self.whole);
        let ahead = arrival.load(Ordering::Relaxed).saturating_sub(now.0);
        duration(ahead.saturating_add(needed).saturating_sub(self.whole))
    }

    /// How it stands with this theoretical arrival time.
    pub(super) fn level(&self, arrival: u64, now: Ticks) -> Level {
        let ahead = arrival.saturating_sub(now.0);
        Level {
            used: ahead.div_ceil(self.per_unit.value),
            remaining: self.remaining(arrival, now),
            reset: self.reset(arrival, now),
        }
    }

    /// Units that may be used now.
    pub(super) fn remaining(&self, arrival: u64, now: Ticks) -> u64 {
        let ahead = arrival.saturating_sub(now.0);
        self.per_unit.of(self.whole.saturating_sub(ahead))
    }

    /// Until all of it is there again.
    pub(super) fn reset(&self, arrival: u64, now: Ticks) -> Duration {
        duration(arrival.saturating_sub(now.0))
    }

    /// Units that may be used at once when nothing is.
    pub(super) fn burst(&self) -> u64 {
        self.per_unit.of(self.whole)
    }

    fn ticks(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.per_unit.value)
    }
}

impl Divisor {
    /// Not zero.
    fn new(value: u64) -> Self {
        Self {
            value,
            reciprocal: u64::MAX / value,
        }
    }

    /// How often it fits into this.
    fn of(self, dividend: u64) -> u64 {
        let product = u128::from(dividend) * u128::from(self.reciprocal);
        // The reciprocal is too small by less than one, and so is what comes of it.
        let quotient = (product >> 64) as u64;
        quotient + u64::from(dividend - quotient * self.value >= self.value)
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.div_ceil(TICKS_PER_NS))
}

#[cfg(test)]
mod tests {
    use super::Divisor;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_divisor_divides(
            dividend in any::<u64>(), shift in 0..64u32, value in 1..=u64::MAX, by in 0..64u32,
        ) {
            let (dividend, value) = (dividend >> shift, (value >> by).max(1));
            prop_assert_eq!(Divisor::new(value).of(dividend), dividend / value);
        }

        #[test]
        fn multiples_and_their_neighbours(value in 1..=u64::MAX, by in 0..64u32, times in any::<u64>()) {
            let value = (value >> by).max(1);
            let multiple = times % (u64::MAX / value) * value;
            for dividend in [multiple, multiple.saturating_sub(1), multiple + 1, u64::MAX] {
                prop_assert_eq!(Divisor::new(value).of(dividend), dividend / value);
            }
        }
    }
}
