//! Many threads at the same limits.

use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

const THREADS: usize = 8;
const ATTEMPTS: usize = 500;
const ROUNDS: usize = 1_000;
const BALANCE: usize = 10;

/// What each request sets aside: a tenth of what is there.
const ESTIMATE: Estimate = Estimate {
    tokens: 7,
    cost: Money::from_nano(3),
};

/// Of 500 attempts on eight threads at once exactly ten pass, each time; half of them are settled, the others dropped.
/// One tenant for each round, with a key for each limit in `keys`.
fn exactly_ten_pass(tenant: Allowance, keys: &[Allowance]) {
    let tenants = vec![tenant; ROUNDS];
    let allowances = many(&tenants, &keys.repeat(ROUNDS));
    // Ahead of the clock by which what is dropped is given back, so that time gives back nothing meanwhile.
    let now = Instant::now() + Duration::from_hours(1);
    let passed: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (passed, barrier) = (&passed, &barrier);
            scope.spawn(move || {
                let mut held = Vec::new();
                for (round, passed) in passed.iter().enumerate() {
                    barrier.wait();
                    for attempt in (thread..ATTEMPTS).step_by(THREADS) {
                        let who = who(round, keys.len(), attempt % keys.len());
                        let Ok(mut admission) = allowances.admit(who, now) else {
                            continue;
                        };
                        if admission.reserve(ESTIMATE, now).is_ok() {
                            held.push(admission);
                        }
                    }
                    passed.fetch_add(held.len(), Ordering::Relaxed);
                    barrier.wait();
                    for (index, admission) in held.drain(..).enumerate() {
                        if index % 2 == 0 {
                            admission.settle(&used(1, 0, 1), now);
                        }
                    }
                }
            });
        }
    });
    for (round, passed) in passed.iter().enumerate() {
        assert_eq!(passed.load(Ordering::Relaxed), BALANCE, "round {round}");
        assert_eq!(allowances.in_flight(TenantId(round as u16)), 0);
        let tenant = allowances.state(TenantId(round as u16), None, now);
        let charged = tenant.day.requests;
        // Each thread settles the first of its own, and every second one.
        assert!((BALANCE as u64 / 2..=BALANCE as u64).contains(&charged));
        for key in 0..keys.len() {
            let who = who(round, keys.len(), key);
            let key = allowances.state(who.tenant, Some(who.key), now);
            for one in key.limits {
                assert!(one.used <= one.max, "{one:?}");
            }
        }
        for one in tenant.limits {
            let left = match one.limit {
                Limit::ConcurrentRequests => 0,
                Limit::RequestsPerDay | Limit::RequestsPerMonth => charged,
                Limit::TokensPerMinute | Limit::TokensPerDay | Limit::TokensPerMonth => charged,
                Limit::BudgetPerMonth => charged,
                // What was dropped was a request all the same.
                Limit::RequestsPerSecond | Limit::RequestsPerMinute => BALANCE as u64,
            };
            assert_eq!(one.used, left, "{one:?}");
        }
    }
}

fn who(round: usize, keys: usize, key: usize) -> Who {
    Who {
        tenant: TenantId(round as u16),
        key: KeyNumber((round * keys + key) as u32),
    }
}

fn everything() -> Allowance {
    Allowance {
        requests_per_second: Some(10),
        burst: 10,
        requests_per_minute: Some(10),
        tokens_per_minute: Some(70),
        concurrent_requests: Some(10),
        requests_per_day: Some(10),
        tokens_per_day: Some(70),
        requests_per_month: Some(10),
        tokens_per_month: Some(70),
        budget_per_month: Some(Money::from_nano(30)),
        shadow: LimitSet::EMPTY,
    }
}

/// No limits but those of `all` that are in the set.
fn only(all: Allowance, limits: &[Limit]) -> Allowance {
    let has = |limit| limits.contains(&limit);
    Allowance {
        requests_per_second: all
            .requests_per_second
            .filter(|_| has(Limit::RequestsPerSecond)),
        requests_per_minute: all
            .requests_per_minute
            .filter(|_| has(Limit::RequestsPerMinute)),
        tokens_per_minute: all
            .tokens_per_minute
            .filter(|_| has(Limit::TokensPerMinute)),
        concurrent_requests: all
            .concurrent_requests
            .filter(|_| has(Limit::ConcurrentRequests)),
        requests_per_day: all.requests_per_day.filter(|_| has(Limit::RequestsPerDay)),
        tokens_per_day: all.tokens_per_day.filter(|_| has(Limit::TokensPerDay)),
        requests_per_month: all
            .requests_per_month
            .filter(|_| has(Limit::RequestsPerMonth)),
        tokens_per_month: all.tokens_per_month.filter(|_| has(Limit::TokensPerMonth)),
        budget_per_month: all.budget_per_month.filter(|_| has(Limit::BudgetPerMonth)),
        ..all
    }
}

#[test]
fn requests_of_a_tenant() {
    for limit in [
        Limit::RequestsPerDay,
        Limit::RequestsPerMinute,
        Limit::ConcurrentRequests,
    ] {
        exactly_ten_pass(only(everything(), &[limit]), &[Allowance::default()]);
    }
}

#[test]
fn tokens_and_money_that_are_set_aside() {
    for limit in [
        Limit::TokensPerDay,
        Limit::TokensPerMinute,
        Limit::BudgetPerMonth,
    ] {
        exactly_ten_pass(only(everything(), &[limit]), &[Allowance::default()]);
    }
}

#[test]
fn all_limits_of_a_tenant_and_its_key() {
    exactly_ten_pass(everything(), &[everything()]);
}

#[test]
fn keys_that_share_what_their_tenant_may_use() {
    // Each of the keys could have all of it, and one less than half.
    let short = Allowance {
        requests_per_day: Some(4),
        tokens_per_month: Some(28),
        ..Allowance::default()
    };
    exactly_ten_pass(everything(), &[everything(), short, Allowance::default()]);
}

#[test]
fn a_cap_on_requests_in_flight_is_never_exceeded() {
    let cap = Allowance {
        concurrent_requests: Some(3),
        ..Allowance::default()
    };
    let allowances = allowances(cap, Allowance::default());
    let now = Instant::now();
    let running = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for attempt in 0..20_000 {
                    let Ok(admission) = allowances.admit(WHO, now) else {
                        continue;
                    };
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    running.fetch_sub(1, Ordering::SeqCst);
                    if attempt % 3 == 0 {
                        admission.settle(&used(1, 1, 0), now);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(allowances.in_flight(WHO.tenant), 0);
}
