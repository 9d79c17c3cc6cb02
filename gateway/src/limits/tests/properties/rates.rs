//! Rates.

use crate::limits::pace::{Pace, Ticks};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;
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
            prop_assert_eq!(pace.take(&arrival, amount, now), expected, "{} at {:?}", amount, at);
            let left = (bucket.level / bucket.window) as u64;
            prop_assert_eq!(pace.level(&arrival, now).remaining, left);
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
            .filter(|&(at, amount)| pace.take(&arrival, amount, Ticks::at(origin + at, origin)))
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
            if amount > burst || pace.take(&arrival, amount, ticks(now)) {
                continue;
            }
            let wait = pace.wait(&arrival, amount, ticks(now));
            prop_assert!(wait > Duration::ZERO);
            let early = now + wait - Duration::from_nanos(1);
            prop_assert!(!pace.take(&arrival, amount, ticks(early)));
            now += wait;
            prop_assert!(pace.take(&arrival, amount, ticks(now)));
        }
    }

    /// What is set aside and not used is there again, and what is used beyond it is owed.
    #[test]
    fn estimates_leave_no_trace(
        units in 1..50_000_000u64,
        uses in vec((0..1_000_000u64, 0..1_000_000u64), 1..50),
    ) {
        let pace = Pace::new(units, MINUTE, units);
        let (estimated, plain) = (AtomicU64::new(0), AtomicU64::new(0));
        let origin = Instant::now();
        let now = Ticks::at(origin + SECOND, origin);
        for (estimate, used) in uses {
            if !pace.take(&estimated, estimate, now) {
                continue;
            }
            if used >= estimate {
                pace.owe(&estimated, used - estimate, now);
            } else {
                pace.give_back(&estimated, estimate - used);
            }
            pace.owe(&plain, used, now);
            prop_assert_eq!(pace.level(&estimated, now), pace.level(&plain, now));
        }
    }
}

#[test]
fn rounding_is_never_in_favour_of_who_asks() {
    // 1,066 ⅔ ticks for each: cut off to 1,066, more would pass than may.
    let units = 900_000_000;
    let (pace, arrival) = (Pace::new(units, MINUTE, units), AtomicU64::new(0));
    let origin = Instant::now();
    assert!(pace.take(&arrival, units, Ticks::at(origin, origin)));
    let mut passed = 0;
    for second in 1..=600 {
        let now = Ticks::at(origin + second * SECOND, origin);
        let there = pace.level(&arrival, now).remaining;
        assert!(pace.take(&arrival, there, now));
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
        assert_eq!(pace.take(&arrival, 1, later), units > 0, "{units}");
        pace.owe(&arrival, u64::MAX, later);
        assert_eq!(pace.take(&arrival, 1, later), units == u64::MAX, "{units}");
        pace.give_back(&arrival, u64::MAX);
        assert_eq!(pace.take(&arrival, 1, later), units > 0, "{units}");
        assert!(
            pace.wait(&arrival, u64::MAX, later) <= Duration::from_secs(u64::MAX / 1_000_000_000)
        );
    }
}
