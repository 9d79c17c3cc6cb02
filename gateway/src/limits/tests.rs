//! Limits under a clock of the test's own, and under many threads.

mod calendar;
mod parallel;
mod properties;

use super::*;
use crate::config::policy::{Allowance, KeyNumber, Limit, LimitSet, Money, Scope, TenantId};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use relay_wire::dialect::Usage;
use std::time::{Duration, Instant, SystemTime};

const WHO: Who = Who {
    tenant: TenantId(0),
    key: KeyNumber(0),
};

/// Limits of one tenant and of its one key, noon of a day in UTC.
fn allowances(tenant: Allowance, key: Allowance) -> &'static Allowances {
    many(&[tenant], &[key])
}

fn many(tenants: &[Allowance], keys: &[Allowance]) -> &'static Allowances {
    let now = wall("2026-03-15T12:00:00Z");
    Box::leak(Box::new(Allowances::of(tenants, keys, TimeZone::UTC, now)))
}

fn wall(text: &str) -> SystemTime {
    text.parse::<Timestamp>().unwrap().into()
}

fn tokens(tokens: u64) -> Estimate {
    Estimate {
        tokens,
        ..Estimate::default()
    }
}

fn used(input_tokens: u64, output_tokens: u64, cost: u64) -> Consumption {
    Consumption {
        usage: Usage {
            input_tokens,
            output_tokens,
            ..Usage::default()
        },
        cost: Money::from_nano(cost),
    }
}

/// What is taken of a limit.
fn taken(allowances: &Allowances, key: Option<KeyNumber>, limit: Limit) -> u64 {
    let state = allowances.state(WHO.tenant, key, Instant::now());
    let is_it = |one: &&LimitState| one.limit == limit;
    state.limits.iter().find(is_it).unwrap().used
}

#[test]
fn what_is_settled_is_charged_and_what_is_dropped_is_given_back() {
    let limits = Allowance {
        concurrent_requests: Some(5),
        requests_per_day: Some(5),
        tokens_per_day: Some(1_000),
        tokens_per_month: Some(1_000),
        budget_per_month: Some(Money::from_nano(1_000)),
        ..Allowance::default()
    };
    let allowances = allowances(limits, limits);
    let now = Instant::now();
    let estimate = Estimate {
        tokens: 400,
        cost: Money::from_nano(300),
    };
    let mut dropped = allowances.admit(WHO, now).unwrap();
    dropped.reserve(estimate, now).unwrap();
    let mut settled = allowances.admit(WHO, now).unwrap();
    settled.reserve(estimate, now).unwrap();
    for key in [None, Some(WHO.key)] {
        assert_eq!(taken(allowances, key, Limit::RequestsPerDay), 2);
        assert_eq!(taken(allowances, key, Limit::TokensPerDay), 800);
        assert_eq!(taken(allowances, key, Limit::BudgetPerMonth), 600);
    }
    drop(dropped);
    settled.settle(&used(30, 20, 7), now);
    for key in [None, Some(WHO.key)] {
        assert_eq!(taken(allowances, key, Limit::ConcurrentRequests), 0);
        assert_eq!(taken(allowances, key, Limit::RequestsPerDay), 1);
        assert_eq!(taken(allowances, key, Limit::TokensPerDay), 50);
        assert_eq!(taken(allowances, key, Limit::TokensPerMonth), 50);
        assert_eq!(taken(allowances, key, Limit::BudgetPerMonth), 7);
        let state = allowances.state(WHO.tenant, key, now);
        assert_eq!((state.day.requests, state.day.output_tokens), (1, 20));
        assert_eq!(state.day, state.month);
    }
}

#[test]
fn what_was_used_beyond_the_estimate_refuses_those_that_come_later() {
    let limits = Allowance {
        tokens_per_day: Some(100),
        ..Allowance::default()
    };
    let allowances = allowances(limits, Allowance::default());
    let now = Instant::now();
    let mut first = allowances.admit(WHO, now).unwrap();
    first.reserve(tokens(100), now).unwrap();
    first.settle(&used(200, 50, 0), now);
    let mut second = allowances.admit(WHO, now).unwrap();
    let exceeded = second.reserve(tokens(1), now).unwrap_err();
    assert_eq!(
        (exceeded.limit, exceeded.scope),
        (Limit::TokensPerDay, Scope::Tenant)
    );
    assert!(!exceeded.never_fits);
    assert_eq!(exceeded.standing.remaining, 0);
    assert_eq!(exceeded.resets_at, Some(wall("2026-03-16T00:00:00Z")));
    assert_eq!(exceeded.retry_after, Duration::from_hours(12));
    drop(second);
    assert_eq!(taken(allowances, None, Limit::TokensPerDay), 250);
}

#[test]
fn a_request_without_an_estimate_is_charged_all_the_same() {
    let limits = Allowance {
        tokens_per_minute: Some(60_000),
        tokens_per_day: Some(100_000),
        ..Allowance::default()
    };
    let allowances = allowances(limits, Allowance::default());
    let now = Instant::now() + Duration::from_hours(1);
    let admission = allowances.admit(WHO, now).unwrap();
    admission.settle(&used(1_000, 0, 0), now);
    let state = allowances.state(WHO.tenant, None, now);
    assert_eq!(state.limits[0].used, 1_000);
    assert_eq!(state.limits[1].used, 1_000);
}

#[test]
fn a_refusal_takes_nothing_anywhere() {
    let full = Allowance {
        requests_per_second: Some(1_000),
        burst: 1_000,
        requests_per_minute: Some(1_000),
        tokens_per_minute: Some(1_000),
        concurrent_requests: Some(10),
        requests_per_day: Some(1_000),
        tokens_per_day: Some(1_000),
        requests_per_month: Some(1_000),
        tokens_per_month: Some(1_000),
        budget_per_month: Some(Money::from_nano(1_000)),
        shadow: LimitSet::EMPTY,
    };
    let estimate = Estimate {
        tokens: 10,
        cost: Money::from_nano(10),
    };
    for limit in Limit::ALL {
        let mut short = full;
        match limit {
            Limit::RequestsPerSecond => short.burst = 0,
            Limit::RequestsPerMinute => short.requests_per_minute = Some(0),
            Limit::TokensPerMinute => short.tokens_per_minute = Some(9),
            Limit::ConcurrentRequests => short.concurrent_requests = Some(0),
            Limit::RequestsPerDay => short.requests_per_day = Some(0),
            Limit::TokensPerDay => short.tokens_per_day = Some(9),
            Limit::RequestsPerMonth => short.requests_per_month = Some(0),
            Limit::TokensPerMonth => short.tokens_per_month = Some(9),
            Limit::BudgetPerMonth => short.budget_per_month = Some(Money::from_nano(9)),
        }
        for (tenant, key, scope) in [(short, full, Scope::Tenant), (full, short, Scope::Key)] {
            let allowances = allowances(tenant, key);
            let now = Instant::now();
            let asked = allowances.admit(WHO, now).and_then(|mut admission| {
                admission.reserve(estimate, now)?;
                Ok(admission)
            });
            let exceeded = asked.err().unwrap();
            assert_eq!((exceeded.limit, exceeded.scope), (limit, scope));
            assert!(exceeded.never_fits, "{exceeded:?}");
            assert!(exceeded.retry_after > Duration::ZERO);
            for key in [None, Some(WHO.key)] {
                for one in allowances.state(WHO.tenant, key, now).limits {
                    // Who is refused for what it will use was admitted, and a request all the same.
                    let is_rate_of_requests = matches!(
                        one.limit,
                        Limit::RequestsPerSecond | Limit::RequestsPerMinute
                    );
                    let was_admitted = matches!(
                        limit,
                        Limit::TokensPerMinute
                            | Limit::TokensPerDay
                            | Limit::TokensPerMonth
                            | Limit::BudgetPerMonth
                    );
                    let used = u64::from(is_rate_of_requests && was_admitted);
                    assert_eq!(one.used, used, "{one:?}");
                }
            }
        }
    }
}

#[test]
fn a_shadow_is_counted_and_refuses_nothing() {
    let limits = Allowance {
        requests_per_minute: Some(2),
        tokens_per_minute: Some(10),
        concurrent_requests: Some(1),
        requests_per_day: Some(2),
        tokens_per_day: Some(10),
        shadow: LimitSet::EMPTY
            .with(Limit::RequestsPerMinute)
            .with(Limit::TokensPerMinute)
            .with(Limit::ConcurrentRequests)
            .with(Limit::RequestsPerDay)
            .with(Limit::TokensPerDay),
        ..Allowance::default()
    };
    let allowances = allowances(limits, Allowance::default());
    let now = Instant::now();
    let admit = |estimate| {
        let mut admission = allowances.admit(WHO, now).unwrap();
        admission.reserve(tokens(estimate), now).unwrap();
        admission
    };
    let first = admit(10);
    assert!(first.shadowed().is_empty());
    let second = admit(1);
    let shadowed: Vec<_> = second.shadowed().iter().map(Limit::as_str).collect();
    assert_eq!(
        shadowed,
        ["tokens_per_minute", "concurrent_requests", "tokens_per_day"]
    );
    first.settle(&used(10, 0, 0), now);
    let third = admit(0);
    assert!(third.shadowed().contains(Limit::RequestsPerMinute));
    assert!(third.shadowed().contains(Limit::RequestsPerDay));
    // A rate does not owe what it would have refused; a quota shows it.
    second.settle(&used(5, 0, 0), now);
    third.settle(&used(0, 0, 0), now);
    assert_eq!(taken(allowances, None, Limit::RequestsPerDay), 3);
    assert_eq!(taken(allowances, None, Limit::TokensPerDay), 15);
    let state = allowances.state(WHO.tenant, None, now);
    assert_eq!((state.limits[0].used, state.limits[1].used), (2, 10));
    assert!(state.limits.iter().all(|limit| limit.is_shadow));
    assert_eq!(admit(0).standings(now)[0], None);
    assert_eq!(admit(0).standings(now)[1], None);
    assert_eq!(taken(allowances, None, Limit::ConcurrentRequests), 0);
}

#[test]
fn header_fields_tell_of_the_limit_of_which_least_is_left() {
    let tenant = Allowance {
        requests_per_second: Some(10),
        burst: 20,
        requests_per_day: Some(1_000),
        tokens_per_minute: Some(6_000),
        ..Allowance::default()
    };
    let key = Allowance {
        requests_per_minute: Some(60),
        tokens_per_day: Some(2_000),
        ..Allowance::default()
    };
    let allowances = allowances(tenant, key);
    let now = Instant::now();
    let mut first = allowances.admit(WHO, now).unwrap();
    let standing = |limit, remaining, reset| {
        Some(Standing {
            limit,
            remaining,
            reset,
        })
    };
    let of_burst = standing(20, 19, Duration::from_millis(100));
    assert_eq!(first.standings(now)[0], of_burst);
    // The burst comes back within a moment, the minute does not.
    let later = now + Duration::from_millis(500);
    let of_minute = standing(60, 59, Duration::from_millis(500));
    assert_eq!(first.standings(later)[0], of_minute);
    first.reserve(tokens(600), now).unwrap();
    let of_day = standing(2_000, 1_400, Duration::from_hours(12));
    assert_eq!(first.standings(now)[1], of_day);
    first.settle(&used(0, 0, 0), now);
    let second = allowances.admit(WHO, now).unwrap();
    assert_eq!(
        second.standings(now)[1],
        standing(2_000, 2_000, Duration::from_hours(12))
    );
}

#[test]
fn what_was_used_before_the_start_counts() {
    let limits = Allowance {
        requests_per_day: Some(10),
        tokens_per_month: Some(500),
        budget_per_month: Some(Money::from_nano(50)),
        ..Allowance::default()
    };
    let allowances = allowances(limits, limits);
    let mut totals = crate::usage::Totals::default();
    totals.add(&used(300, 150, 0).usage, Money::from_nano(45));
    allowances.restore(WHO.tenant, None, Span::Day, &totals);
    allowances.restore(WHO.tenant, None, Span::Month, &totals);
    allowances.restore(WHO.tenant, Some(WHO.key), Span::Month, &totals);
    assert_eq!(taken(allowances, None, Limit::RequestsPerDay), 1);
    assert_eq!(taken(allowances, None, Limit::TokensPerMonth), 450);
    assert_eq!(taken(allowances, None, Limit::BudgetPerMonth), 45);
    assert_eq!(taken(allowances, Some(WHO.key), Limit::RequestsPerDay), 0);
    let now = Instant::now();
    let mut admission = allowances.admit(WHO, now).unwrap();
    let exceeded = admission.reserve(tokens(51), now).unwrap_err();
    assert_eq!(
        (exceeded.limit, exceeded.scope),
        (Limit::TokensPerMonth, Scope::Key)
    );
    assert!(admission.reserve(tokens(50), now).is_ok());
}
