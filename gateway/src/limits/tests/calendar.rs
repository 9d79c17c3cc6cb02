//! The turn of days and months.

use super::*;
use crate::limits::calendar::Calendar;

fn calendar(zone: &str, now: &str) -> Calendar {
    Calendar::new(TimeZone::get(zone).unwrap(), wall(now))
}

#[test]
fn a_day_ends_at_midnight_of_the_time_zone() {
    for (zone, now, day_ends, month_ends) in [
        (
            "UTC",
            "2026-12-31T23:59:59.999Z",
            "2027-01-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        ),
        (
            "UTC",
            "2028-02-28T00:00:00Z",
            "2028-02-29T00:00:00Z",
            "2028-03-01T00:00:00Z",
        ),
        // East of Greenwich the day and the month have begun already.
        (
            "Asia/Tokyo",
            "2026-02-28T15:00:00Z",
            "2026-03-01T15:00:00Z",
            "2026-03-31T15:00:00Z",
        ),
        // The clock is put forward: a day of 23 hours, and back: one of 25.
        (
            "Europe/Berlin",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
            "2026-03-31T22:00:00Z",
        ),
        (
            "Europe/Berlin",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
            "2026-10-31T23:00:00Z",
        ),
        // There is no midnight: the day begins at one.
        (
            "America/Sao_Paulo",
            "2018-11-03T12:00:00Z",
            "2018-11-04T03:00:00Z",
            "2018-12-01T02:00:00Z",
        ),
        // Midnight comes twice: the day begins at the first.
        (
            "America/Havana",
            "2025-11-01T12:00:00Z",
            "2025-11-02T04:00:00Z",
            "2025-12-01T05:00:00Z",
        ),
        // There is no 30 December.
        (
            "Pacific/Apia",
            "2011-12-30T09:59:59Z",
            "2011-12-30T10:00:00Z",
            "2011-12-31T10:00:00Z",
        ),
    ] {
        let calendar = calendar(zone, now);
        for (span, end) in [(Span::Day, day_ends), (Span::Month, month_ends)] {
            assert_eq!(calendar.ends(span), wall(end), "{zone} {now} {span:?}");
            let left = wall(end).duration_since(wall(now)).unwrap();
            assert_eq!(calendar.left(span), left, "{zone} {now} {span:?}");
        }
        let last = wall(day_ends) - Duration::from_millis(1);
        assert!(calendar.due(last).is_none(), "{zone} {now}");
        assert!(calendar.due(wall(day_ends)).is_some(), "{zone} {now}");
    }
}

#[test]
fn a_day_that_has_begun_goes_on_when_the_clock_goes_back() {
    // At a minute past midnight it was put back by an hour, into the day before.
    let calendar = calendar("America/St_Johns", "2006-10-29T02:29:59Z");
    let saturday = calendar.today();
    // Who did not look within that minute sees Saturday.
    assert!(calendar.due(wall("2006-10-29T02:31:30Z")).is_none());
    let turn = calendar.due(wall("2006-10-29T02:30:00Z")).unwrap();
    calendar.turn(&turn);
    let sunday = calendar.today();
    assert_ne!(sunday, saturday);
    for later in ["2006-10-29T02:31:00Z", "2006-10-29T03:30:00Z"] {
        assert!(calendar.due(wall(later)).is_none());
    }
    assert_eq!(calendar.ends(Span::Day), wall("2006-10-30T03:30:00Z"));
    // Neither does anything else take it back.
    assert!(calendar.due(wall("2001-01-01T00:00:00Z")).is_none());
    assert!(calendar.due(SystemTime::UNIX_EPOCH).is_none());
    assert_eq!(calendar.today(), sunday);
}

fn per_day_and_month() -> Allowance {
    Allowance {
        requests_per_day: Some(10),
        tokens_per_day: Some(100),
        requests_per_month: Some(20),
        tokens_per_month: Some(200),
        budget_per_month: Some(Money::from_nano(200)),
        ..Allowance::default()
    }
}

/// Requests of the day, tokens of the day, requests of the month, tokens of the month, money.
fn all_taken(allowances: &Allowances) -> [u64; 5] {
    let state = allowances.state(WHO.tenant, None, Instant::now());
    let used: Vec<_> = state.limits.iter().map(|limit| limit.used).collect();
    used.try_into().unwrap()
}

fn admitted(allowances: &'static Allowances) -> Admission {
    let now = Instant::now();
    let mut admission = allowances.admit(WHO, now).unwrap();
    let estimate = Estimate {
        tokens: 50,
        cost: Money::from_nano(50),
    };
    admission.reserve(estimate, now).unwrap();
    admission
}

#[test]
fn a_request_is_settled_in_the_day_in_which_it_was_admitted() {
    let allowances = allowances(per_day_and_month(), Allowance::default());
    let now = Instant::now();
    let of_the_15th = admitted(allowances);
    let dropped = admitted(allowances);
    assert_eq!(all_taken(allowances), [2, 100, 2, 100, 100]);
    allowances.turn(wall("2026-03-16T00:00:00Z"));
    assert_eq!(all_taken(allowances), [0, 0, 2, 100, 100]);
    let of_the_16th = admitted(allowances);
    of_the_15th.settle(&used(20, 10, 7), now);
    drop(dropped);
    assert_eq!(all_taken(allowances), [1, 50, 2, 80, 57]);
    of_the_16th.settle(&used(1, 0, 1), now);
    assert_eq!(all_taken(allowances), [1, 1, 2, 31, 8]);
    let state = allowances.state(WHO.tenant, None, now);
    assert_eq!((state.day.requests, state.day.input_tokens), (1, 1));
    assert_eq!((state.month.requests, state.month.input_tokens), (2, 21));
}

#[test]
fn what_ends_after_its_day_is_long_over_is_not_taken_from_another() {
    // Places are used again after three days and months: none of these may come into one that has another's.
    for now in [
        "2026-03-16T00:00:00Z",
        "2026-03-17T12:00:00Z",
        "2026-03-18T12:00:00Z",
        "2026-03-19T12:00:00Z",
        "2026-04-15T12:00:00Z",
        "2026-05-15T12:00:00Z",
        "2026-06-15T12:00:00Z",
        "2026-07-15T12:00:00Z",
        "2029-03-15T12:00:00Z",
    ] {
        let allowances = allowances(per_day_and_month(), Allowance::default());
        let (settled, dropped) = (admitted(allowances), admitted(allowances));
        allowances.turn(wall(now));
        let is_march = now < "2026-04";
        let march = if is_march { 100 } else { 0 };
        assert_eq!(all_taken(allowances), [0, 0, march / 50, march, march]);
        let fresh = admitted(allowances);
        settled.settle(&used(500, 0, 500), Instant::now());
        drop(dropped);
        let march = if is_march { 500 } else { 0 };
        let requests = u64::from(is_march) + 1;
        let taken = [1, 50, requests, march + 50, march + 50];
        assert_eq!(all_taken(allowances), taken, "{now}");
        drop(fresh);
        let state = allowances.state(WHO.tenant, None, Instant::now());
        assert_eq!(state.day.requests, 0);
        assert_eq!(state.month.requests, u64::from(is_march));
        assert_eq!(allowances.in_flight(WHO.tenant), 0);
    }
}

#[test]
fn what_is_set_aside_after_midnight_belongs_to_the_new_day() {
    let limits = Allowance {
        tokens_per_day: Some(100),
        ..Allowance::default()
    };
    let allowances = allowances(limits, Allowance::default());
    let now = Instant::now();
    let mut late = allowances.admit(WHO, now).unwrap();
    let mut first = allowances.admit(WHO, now).unwrap();
    first.reserve(tokens(100), now).unwrap();
    first.settle(&used(100, 0, 0), now);
    // Its body came slowly; that yesterday's are used up is no reason to refuse it today.
    allowances.turn(wall("2026-03-16T00:00:01Z"));
    late.reserve(tokens(60), now).unwrap();
    assert_eq!(taken(allowances, None, Limit::TokensPerDay), 60);
    late.settle(&used(10, 0, 0), now);
    assert_eq!(taken(allowances, None, Limit::TokensPerDay), 10);
}

#[test]
fn nothing_is_lost_while_days_turn_under_many_threads() {
    let limits = Allowance {
        requests_per_month: Some(u64::MAX),
        tokens_per_month: Some(u64::MAX),
        budget_per_month: Some(Money::from_nano(u64::MAX)),
        ..Allowance::default()
    };
    let allowances = allowances(limits, limits);
    let (threads, each) = (4, 5_000);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for index in 0..each {
                    let now = Instant::now();
                    let mut admission = allowances.admit(WHO, now).unwrap();
                    let estimate = Estimate {
                        tokens: 9,
                        cost: Money::from_nano(9),
                    };
                    admission.reserve(estimate, now).unwrap();
                    if index % 5 != 0 {
                        admission.settle(&used(index % 20, 3, index % 7), now);
                    }
                }
            });
        }
        for day in 16..=31 {
            allowances.turn(wall(&format!("2026-03-{day}T00:00:00Z")));
            std::thread::yield_now();
        }
    });
    let settled = || (0..each).filter(|index| index % 5 != 0);
    let tokens = threads * settled().map(|index| index % 20 + 3).sum::<u64>();
    let cost = threads * settled().map(|index| index % 7).sum::<u64>();
    let requests = threads * settled().count() as u64;
    for key in [None, Some(WHO.key)] {
        let state = allowances.state(WHO.tenant, key, Instant::now());
        let used: Vec<_> = state.limits.iter().map(|limit| limit.used).collect();
        assert_eq!(used, [requests, tokens, cost]);
        let month = state.month;
        assert_eq!((month.requests, month.cost.nano()), (requests, cost));
        assert_eq!(month.input_tokens + month.output_tokens, tokens);
    }
    assert_eq!(allowances.in_flight(WHO.tenant), 0);
}
