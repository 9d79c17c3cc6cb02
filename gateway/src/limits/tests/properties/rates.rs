//! Rates.

use crate::limits::pace::{Pace, Place, Ticks};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A bucket in whole numbers: nanoseconds times units.
struct Bucket {
    level: u128,
    whole: u128,
    units: u128,
    window: u128,
    at: Duration,
}

impl Bucket {
    fn new(units: u64, window: Duration, burst: u64) -> Self {
        let whole = u128::from(burst) * window.as_nanos();
        Self {
            level: whole,
            whole,
            units: units.into(),
            window: window.as_nanos(),
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, amount: u64, now: Duration) -> bool {
        let since = (now - self.at).as_nanos();
        self.at = now;
        self.level = (self.level + since * self.units).min(self.whole);
        let cost = u128::from(amount) * self.window;
        let fits = cost <= self.level;
        if fits {
            self.level -= cost;
        }
        fits
    }
}

/// Moments, with what is asked for at each.
fn demand(most: u64) -> impl Strategy<Value = Vec<(Duration, u64)>> {
    let gap = prop_oneof![
        3 => Just(0),
        3 => 0..1_000_000u64,
        3 => 0..3_000_000_000u64,
        1 => 0..200_000_000_000u64,
    ];
    let steps = vec((gap, 0..=most), 1..120);
    steps.prop_map(|steps| {
        let mut now = Duration::from_millis(1);
        let moments = steps.into_iter().map(|(gap, amount)| {
            now += Duration::from_nanos(gap);
            (now, amount)
        });
        moments.collect()
    })
}

/// Units whose share of the window is a whole number of ticks: there the rate is exact.
fn round_rate() -> impl Strategy<Value = (u64, Duration, u64)> {
    let seconds = (prop::sample::select(vec![1, 2, 5, 50, 1_000]), 1..200u64)
        .prop_map(|(units, burst)| (units, SECOND, burst));
    let minutes = prop::sample::select(vec![1, 3, 60, 500, 30_000, 1_000_000])
        .prop_map(|units| (units, MINUTE, units));
    prop_oneof![seconds, minutes]
}

/// Any rate, with its window and its burst.
fn any_rate() -> impl Strategy<Value = (u64, Duration, u64)> {
    let seconds = (1..10_000u64, 1..500u64).prop_map(|(units, burst)| (units, SECOND, burst));
    let minutes = (1..50_000_000u64).prop_map(|units| (units, MINUTE, units));
    prop_oneof![seconds, minutes]
}

fn rate_and_demand(
    rate: impl Strategy<Value = (u64, Duration, u64)>,
) -> impl Strategy<Value = ((u64, Duration, u64), Vec<(Duration, u64)>)> {
    rate.prop_flat_map(|rate| (Just(rate), demand(rate.2 + rate.2 / 8 + 1)))
}

proptest! {
    /// Never less than may pass while it is asked for, and never more.
    #[test]
    fn as_a_bucket_would((rate, demand) in rate_and_demand(round_rate())) {
        let (units, window, burst) = rate;
        let (pace, arrival) = (Pace::new(units, window, burst), AtomicU64::new(0));
        let mut bucket = Bucket::new(units, window, burst);
        let origin = Instant::now();
        for (at, amount) in demand {
            let now = Ticks::at(origin + at, origin);
            let expected = bucket.take(amount, at);
            let passed = pace.take(&arrival, amount, now).is_some();
            prop_assert_eq!(passed, expected, "{} at {:?}", amount, at);
            let left = (bucket.level / bucket.window) as u64;
            prop_assert_eq!(pace.level(arrival.load(Ordering::Relaxed), now).remaining, left);
        }
    }

    /// In no window more than the burst and what the window brings back.
    #[test]
    fn never_too_much((rate, demand) in rate_and_demand(any_rate())) {
        let (units, window, burst) = rate;
        let (pace, arrival) = (Pace::new(units, window, burst), AtomicU64::new(0));
        let origin = Instant::now();
        let passed: Vec<_> = demand
            .into_iter()
            .filter(|&(at, amount)| {
                let now = Ticks::at(origin + at, origin);
                pace.take(&arrival, amount, now).is_some()
            })
            .collect();
        for (first, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (to, amount) in &passed[first..] {
                sum += u128::from(*amount);
                let back = (*to - *from).as_nanos() * u128::from(units);
                let most = u128::from(burst) * window.as_nanos() + back;
                prop_assert!(sum * window.as_nanos() <= most);
            }
        }
    }

    /// Who comes back when he was told to is served; a little earlier he is not.
    #[test]
    fn the_wait_is_right((rate, demand) in rate_and_demand(any_rate())) {
        let (units, window, burst) = rate;
        let (pace, arrival) = (Pace::new(units, window, burst), AtomicU64::new(0));
        let origin = Instant::now();
        let mut now = Duration::ZERO;
        for (at, amount) in demand {
            now = now.max(at);
            let ticks = |now| Ticks::at(origin + now, origin);
            if amount > burst || pace.take(&arrival, amount, ticks(now)).is_some() {
                continue;
            }
            let wait = pace.wait(&arrival, amount, ticks(now));
            prop_assert!(wait > Duration::ZERO);
            let early = now + wait - Duration::from_nanos(1);
            prop_assert_eq!(pace.take(&arrival, amount, ticks(early)), None);
            now += wait;
            prop_assert!(pace.take(&arrival, amount, ticks(now)).is_some());
        }
    }

    /// What is set aside and not used is there again at once, in whatever order, and what is used beyond it is owed.
    #[test]
    fn estimates_leave_no_trace(
        units in 1..50_000_000u64,
        uses in vec((0..1_000_000u64, 0..1_000_000u64), 1..50),
        order in any::<prop::sample::Index>(),
    ) {
        let plain = AtomicU64::new(0);
        let rate = Rate::new(units, MINUTE, units);
        let take = |(estimate, used)| Some((rate.take(estimate, SECOND)?, used));
        let mut taken: Vec<_> = uses.into_iter().filter_map(take).collect();
        if !taken.is_empty() {
            let first = order.index(taken.len());
            taken.rotate_left(first);
            taken.reverse();
        }
        for (taken, used) in taken {
            rate.settle(&taken, used, SECOND);
            rate.pace.owe(&plain, used, rate.ticks(SECOND));
        }
        let now = rate.ticks(SECOND);
        prop_assert_eq!(rate.pace.level(rate.arrival.load(Ordering::Relaxed), now), rate.pace.level(plain.load(Ordering::Relaxed), now));
    }

    /// However long it takes until it is known what was used: of that, and of what is still set aside, in no window more
    /// passes than the burst and what the window brings back.
    #[test]
    fn never_too_much_is_used((rate, steps) in any_rate().prop_flat_map(|rate| (Just(rate), uses(rate.2)))) {
        let (units, window, burst) = rate;
        let rate = Rate::new(units, window, burst);
        let mut passed: Vec<(Duration, u64)> = Vec::new();
        let mut running: Vec<(usize, Taken)> = Vec::new();
        let mut now = Duration::from_millis(1);
        for (gap, step) in steps {
            now += gap;
            match step {
                Use::Take { amount } => {
                    let Some(taken) = rate.take(amount, now) else {
                        continue;
                    };
                    running.push((passed.len(), taken));
                    passed.push((now, amount));
                }
                Use::Settle { which, share } => {
                    let Some(index) = which.checked_rem(running.len()) else {
                        continue;
                    };
                    let (place, taken) = running.swap_remove(index);
                    let used = taken.amount * share / 100;
                    passed[place].1 = used;
                    rate.settle(&taken, used, now);
                }
            }
            let mut sum = 0;
            for (from, amount) in passed.iter().rev() {
                sum += u128::from(*amount);
                let back = (now - *from).as_nanos() * u128::from(units);
                let most = u128::from(burst) * window.as_nanos() + back;
                prop_assert!(sum * window.as_nanos() <= most, "{} since {:?}", sum, from);
            }
        }
    }
}

/// Something happens to a rate, after a while.
#[derive(Clone, Copy, Debug)]
enum Use {
    Take {
        amount: u64,
    },
    /// In percent of what was set aside.
    Settle {
        which: usize,
        share: u64,
    },
}

fn uses(burst: u64) -> impl Strategy<Value = Vec<(Duration, Use)>> {
    let gap = prop_oneof![
        3 => Just(0),
        2 => 0..1_000_000_000u64,
        2 => 0..40_000_000_000u64,
    ];
    let amount = prop_oneof![0..=burst, 0..=burst / 4, Just(burst), Just(burst / 2)];
    let share = prop_oneof![Just(0), 0..=100u64];
    let step = prop_oneof![
        3 => amount.prop_map(|amount| Use::Take { amount }),
        2 => (0..50usize, share).prop_map(|(which, share)| Use::Settle { which, share }),
    ];
    vec((gap.prop_map(Duration::from_nanos), step), 1..100)
}

/// A rate with its numbers.
struct Rate {
    pace: Pace,
    arrival: AtomicU64,
    returned: AtomicU64,
    origin: Instant,
}

struct Taken {
    amount: u64,
    place: Place,
}

impl Rate {
    fn new(units: u64, window: Duration, burst: u64) -> Self {
        Self {
            pace: Pace::new(units, window, burst),
            arrival: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    fn ticks(&self, now: Duration) -> Ticks {
        Ticks::at(self.origin + now, self.origin)
    }

    fn take(&self, amount: u64, now: Duration) -> Option<Taken> {
        let at = self.ticks(now);
        let returned = self.returned.load(Ordering::Relaxed);
        let end = self.pace.take(&self.arrival, amount, at)?;
        let place = Place { at, end, returned };
        Some(Taken { amount, place })
    }

    fn settle(&self, taken: &Taken, used: u64, now: Duration) {
        let now = self.ticks(now);
        if used >= taken.amount {
            self.pace.owe(&self.arrival, used - taken.amount, now);
        } else {
            let (arrival, returned) = (&self.arrival, &self.returned);
            let unused = taken.amount - used;
            self.pace
                .give_back_unused(arrival, returned, unused, &taken.place, now);
        }
    }

    fn remaining(&self, now: Duration) -> u64 {
        self.pace
            .level(self.arrival.load(Ordering::Relaxed), self.ticks(now))
            .remaining
    }
}

#[test]
fn what_time_has_given_back_is_not_given_back_again() {
    let rate = Rate::new(60, MINUTE, 60);
    let first = rate.take(60, SECOND).unwrap();
    // Time has given back half of it, then all of it; others have taken that.
    let second = rate.take(30, 31 * SECOND).unwrap();
    let third = rate.take(30, 61 * SECOND).unwrap();
    assert_eq!(rate.remaining(61 * SECOND), 0);
    rate.settle(&first, 0, 61 * SECOND);
    assert_eq!(rate.remaining(61 * SECOND), 0);
    // It has given back ten of the second by now, and none of the third.
    rate.settle(&second, 0, 71 * SECOND);
    assert_eq!(rate.remaining(71 * SECOND), 30);
    rate.settle(&third, 0, 71 * SECOND);
    assert_eq!(rate.remaining(71 * SECOND), 60);
}

#[test]
fn what_has_moved_up_is_over_earlier() {
    let rate = Rate::new(60, MINUTE, 60);
    let first = rate.take(30, SECOND).unwrap();
    let second = rate.take(30, SECOND).unwrap();
    rate.settle(&first, 0, SECOND);
    // Without the first one, time has given back the second by now.
    rate.take(60, 31 * SECOND).unwrap();
    rate.settle(&second, 0, 31 * SECOND);
    assert_eq!(rate.remaining(31 * SECOND), 0);
}

#[test]
fn rounding_is_never_in_favour_of_who_asks() {
    // 1,066 ⅔ ticks for each: cut off to 1,066, more would pass than may.
    let units = 900_000_000;
    let (pace, arrival) = (Pace::new(units, MINUTE, units), AtomicU64::new(0));
    let origin = Instant::now();
    assert!(
        pace.take(&arrival, units, Ticks::at(origin, origin))
            .is_some()
    );
    let mut passed = 0;
    for second in 1..=600 {
        let now = Ticks::at(origin + second * SECOND, origin);
        let there = pace.level(arrival.load(Ordering::Relaxed), now).remaining;
        assert!(pace.take(&arrival, there, now).is_some());
        passed += there;
    }
    assert!(passed <= 10 * units);
    assert!(passed >= 10 * units / 1_000 * 999);
}

#[test]
fn extremes_do_not_overflow() {
    let origin = Instant::now();
    let later = Ticks::at(origin + Duration::from_hours(24 * 365 * 30), origin);
    for units in [0, 1, u64::MAX] {
        let (pace, arrival) = (Pace::new(units, MINUTE, units), AtomicU64::new(0));
        assert_eq!(
            pace.take(&arrival, 1, later).is_some(),
            units > 0,
            "{units}"
        );
        pace.owe(&arrival, u64::MAX, later);
        assert_eq!(
            pace.take(&arrival, 1, later).is_some(),
            units == u64::MAX,
            "{units}"
        );
        pace.give_back(&arrival, u64::MAX);
        assert_eq!(
            pace.take(&arrival, 1, later).is_some(),
            units > 0,
            "{units}"
        );
        assert!(
            pace.wait(&arrival, u64::MAX, later) <= Duration::from_secs(u64::MAX / 1_000_000_000)
        );
    }
}
