//! How many further attempts an upstream is spared: an upstream that fails must not be asked three times as often for it.
//!
//! A token bucket for each upstream. Every request pays in its share of an attempt, every second its own; whoever wants
//! another attempt takes a whole one out. Over any run, the further attempts are then at most what the bucket began with, that share
//! of all requests, and so many a second.

use crate::config::Policy;
use crate::config::policy::UpstreamId;
use crate::health::Moment;
use std::sync::atomic::{AtomicU64, Ordering};

/// The unit in which is counted: thousandths of an attempt.
const ATTEMPT: u64 = 1_000;

/// What a bucket begins with, so that the first failure after a start is not the client's.
const INITIAL: u64 = 10 * ATTEMPT;

/// Savings of good times end here, lest they be spent all at once. A larger allowance per second is not cut by it.
const SAVED_MAX: u64 = 100 * ATTEMPT;

/// The budgets of all upstreams. One per process, shared by all threads without a lock.
pub struct RetryBudgets {
    buckets: Box<[Bucket]>,
    per_request: u64,
    per_millisecond: u64,
    saved_max: u64,
}

/// On a cache line of its own: workers that ask different upstreams do not disturb each other.
#[repr(align(128))]
struct Bucket {
    saved: AtomicU64,
    /// When time paid in last, in milliseconds since 1970; 0 before anybody has asked.
    paid_at: AtomicU64,
    denied: AtomicU64,
}

impl RetryBudgets {
    /// What each begins with.
    pub fn new(policy: &Policy) -> Self {
        let limits = &policy.limits;
        Self::of(
            policy.upstreams.len(),
            limits.retry_budget_percent,
            limits.retry_budget_per_second_min,
        )
    }

    fn of(upstreams: usize, percent: u32, per_second_min: u32) -> Self {
        // A percent is ten thousandths; an attempt a second is a thousandth each millisecond.
        let per_request = u64::from(percent) * ATTEMPT / 100;
        let per_millisecond = u64::from(per_second_min) * ATTEMPT / 1_000;
        let is_none = per_request == 0 && per_millisecond == 0;
        let bucket = || Bucket {
            saved: AtomicU64::new(if is_none { 0 } else { INITIAL }),
            paid_at: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        };
        Self {
            buckets: (0..upstreams).map(|_| bucket()).collect(),
            per_request,
            per_millisecond,
            saved_max: SAVED_MAX.max(per_millisecond * 1_000),
        }
    }

    /// A first attempt: it pays in.
    pub fn note_request(&self, upstream: UpstreamId) {
        self.pay_in(self.bucket(upstream), self.per_request);
    }

    /// May a further attempt be made? It is paid for if so.
    pub fn take_retry(&self, upstream: UpstreamId, now: Moment) -> bool {
        let bucket = self.bucket(upstream);
        self.pay_in(
            bucket,
            bucket.elapsed_ms(now).saturating_mul(self.per_millisecond),
        );
        let taken = bucket
            .saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                saved.checked_sub(ATTEMPT)
            });
        if taken.is_err() {
            bucket.denied.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Further attempts that were not allowed so far.
    pub fn denied(&self, upstream: UpstreamId) -> u64 {
        self.bucket(upstream).denied.load(Ordering::Relaxed)
    }

    fn bucket(&self, upstream: UpstreamId) -> &Bucket {
        &self.buckets[usize::from(upstream.0)]
    }

    fn pay_in(&self, bucket: &Bucket, amount: u64) {
        let more = |saved: u64| Some(saved.saturating_add(amount).min(self.saved_max));
        // While nothing fails the bucket is full: nothing is written then.
        let saved = bucket.saved.load(Ordering::Relaxed);
        if amount > 0 && saved < self.saved_max {
            let _ = bucket
                .saved
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }
}

impl Bucket {
    /// Milliseconds since this was last asked. Whoever moves the hand on is told, so each is counted once.
    fn elapsed_ms(&self, now: Moment) -> u64 {
        let now = now.unix_ms();
        match self.paid_at.fetch_max(now, Ordering::Relaxed) {
            0 => 0,
            before => now.saturating_sub(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU32;

    const ONE: UpstreamId = UpstreamId(0);
    const OTHER: UpstreamId = UpstreamId(1);

    fn at(milliseconds: u64) -> Moment {
        Moment::from_unix_ms(1_000_000 + milliseconds)
    }

    fn taken(budgets: &RetryBudgets, now: Moment) -> u64 {
        let mut count = 0;
        while budgets.take_retry(ONE, now) {
            count += 1;
        }
        count
    }

    #[test]
    fn it_begins_with_ten_and_requests_and_time_pay_in() {
        let budgets = RetryBudgets::of(2, 10, 2);
        assert_eq!(taken(&budgets, at(0)), 10);
        (0..9).for_each(|_| budgets.note_request(ONE));
        assert_eq!(taken(&budgets, at(0)), 0, "nine times a tenth");
        budgets.note_request(ONE);
        assert_eq!(taken(&budgets, at(0)), 1);
        assert_eq!(taken(&budgets, at(499)), 0);
        assert_eq!(taken(&budgets, at(500)), 1);
        assert_eq!(taken(&budgets, at(300)), 0, "a thread whose time is behind");
        assert_eq!(taken(&budgets, at(1_000)), 1);
        assert!(
            budgets.take_retry(OTHER, at(0)),
            "each upstream has its own"
        );
    }

    #[test]
    fn savings_are_bounded() {
        let budgets = RetryBudgets::of(1, 100, 1);
        assert!(budgets.take_retry(ONE, at(0)));
        (0..10_000).for_each(|_| budgets.note_request(ONE));
        assert_eq!(taken(&budgets, at(0)), 100);
        assert_eq!(taken(&budgets, at(1_000_000_000)), 100);
        let generous = RetryBudgets::of(1, 0, 500);
        assert!(generous.take_retry(ONE, at(0)));
        assert_eq!(
            taken(&generous, at(1_000)),
            500,
            "what a second pays is not cut"
        );
    }

    #[test]
    fn no_budget_is_none() {
        let budgets = RetryBudgets::of(1, 0, 0);
        (0..1_000).for_each(|_| budgets.note_request(ONE));
        assert!(!budgets.take_retry(ONE, at(0)));
        assert!(!budgets.take_retry(ONE, at(1_000_000)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Requests(u32),
        Retries(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..200u32).prop_map(Step::Requests),
            (1..200u32).prop_map(Step::Retries),
            (1..3_000u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn over_any_run_retries_keep_within_what_was_paid_in(
            percent in 0..=100u32, per_second_min in 0..50u32, steps in vec(step(), 1..60),
        ) {
            let budgets = RetryBudgets::of(1, percent, per_second_min);
            let (mut requests, mut retries, mut elapsed) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Requests(count) => {
                        (0..count).for_each(|_| budgets.note_request(ONE));
                        requests += u64::from(count);
                    }
                    Step::Retries(count) => {
                        let granted = (0..count).filter(|_| budgets.take_retry(ONE, at(elapsed)));
                        retries += granted.count() as u64;
                    }
                    Step::Pass(milliseconds) => elapsed += milliseconds,
                }
                let paid_in = 10 * 1_000
                    + u64::from(percent) * 10 * requests
                    + u64::from(per_second_min) * elapsed;
                prop_assert!(retries * 1_000 <= paid_in, "{} of {}", retries, paid_in);
            }
        }
    }

    #[test]
    fn many_threads_get_what_was_paid_in_and_no_more() {
        const THREADS: u64 = 4;
        const ROUNDS: u64 = 10_000;
        let budgets = RetryBudgets::of(1, 10, 10);
        let retries = AtomicU32::new(0);
        budgets.take_retry(ONE, at(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        budgets.note_request(ONE);
                        // All see the same times: each millisecond is paid once, not by each thread.
                        if budgets.take_retry(ONE, at(round / 10)) {
                            retries.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let last = taken(&budgets, at(ROUNDS / 10));
        let retries = u64::from(retries.into_inner()) + last;
        // One of the ten it began with is gone; a tenth of the requests; ten in the second that passed.
        let paid_in = 9 + THREADS * ROUNDS / 10 + 10;
        assert_eq!(retries, paid_in);
    }
}
