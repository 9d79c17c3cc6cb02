use super::word::Word;
use super::*;
use crate::config;
use crate::health::Fault;
use crate::health::breaker::State;
use std::path::Path;
use std::sync::mpsc;

mod operator;
mod probes;
mod restart;

pub(super) const START: Moment = Moment::from_unix_ms(1_800_000_000_000);

/// With two addresses.
pub(super) const FIRST: AccountId = AccountId(0);
/// With one.
pub(super) const SECOND: AccountId = AccountId(1);
/// Forgets everything, without a word.
pub(super) const RESET: Order = Order::Reset { reason: None };

/// Switched off in the configuration.
const THIRD: AccountId = AccountId(2);

pub(super) fn board(change: impl FnOnce(&mut Rules)) -> &'static Health {
    let text = r#"
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        [[account]]
        name = "first"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.1", "127.0.7.2"]
        [[account]]
        name = "second"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.3"]
        [[account]]
        name = "third"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.4"]
        enabled = false
    "#;
    let environment = |_: &str| Some("sk-test".into());
    let loaded = config::parse(text, Path::new("test.toml"), &environment)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let mut policy = loaded.policy;
    policy.health = Rules {
        failures_max: 3,
        failure_rate_max: 0.5,
        failure_rate_requests_min: 20,
        failure_window: Duration::from_secs(30),
        backoff_min: Duration::from_secs(2),
        backoff_max: Duration::from_secs(60),
        refused_backoff_min: Duration::from_secs(600),
        refused_backoff_max: Duration::from_secs(3_600),
        stated_block_max: Duration::from_secs(7_200),
        trials_max: 1,
        trial_successes: 1,
        slow_start: Duration::from_secs(30),
        ejection_max: 0.5,
    };
    change(&mut policy.health);
    Box::leak(Box::new(Health::new(&policy, Clock::start())))
}

fn after(seconds: u64) -> Moment {
    START + Duration::from_secs(seconds)
}

fn blocked(until: Moment, stated: bool, cause: Cause) -> Standing {
    Standing::Blocked {
        until,
        stated,
        cause,
    }
}

fn rate_limited(health: &Health, account: AccountId, until: Moment) {
    let fault = Fault::RateLimited { until: Some(until) };
    health.failed(account, 0, None, fault, START, 0.5);
}

fn unreachable(health: &Health, address: usize, now: Moment) {
    for _ in 0..3 {
        health.failed(FIRST, address, None, Fault::Unreachable, now, 0.5);
    }
}

fn wish(wish: Wish, until: Option<Moment>) -> Order {
    Order::Wish {
        wish,
        until,
        reason: Some("maintenance".into()),
    }
}

/// What readers see is what is behind the lock; all trials have given back their places if `is_quiet`.
pub(super) fn assert_words_agree(health: &Health, is_quiet: bool) {
    let one_place = Rules {
        trials_max: 1,
        ..health.rules
    };
    for shared in &health.accounts {
        let locked = shared.lock();
        let gates = shared.paths.iter().map(|path| &path.gate);
        let breakers = std::iter::once(&locked.breaker).chain(&locked.paths);
        for (gate, breaker) in std::iter::once(&shared.gate).chain(gates).zip(breakers) {
            assert_eq!(gate.word(), Word::of(breaker, &health.rules), "{breaker:?}");
            assert!(!is_quiet || breaker.next_place(&one_place).is_none());
        }
    }
}

#[test]
fn a_block_a_trial_and_a_slow_start() {
    let health = board(|_| {});
    assert_eq!(health.standing(FIRST, START), WELL);
    rate_limited(health, FIRST, after(20));
    let expected = blocked(after(20), true, Cause::RateLimited);
    assert_eq!(health.standing(FIRST, after(19)), expected);
    assert_eq!(health.standing(SECOND, after(19)), WELL);
    assert!(health.begin_trial(FIRST, 0, after(19)).is_none());
    assert_eq!(health.standing(FIRST, after(20)), Standing::Due);

    let trial = health.begin_trial(FIRST, 0, after(20));
    assert!(trial.is_some());
    assert!(health.begin_trial(FIRST, 1, after(20)).is_none());
    assert!(matches!(
        health.standing(FIRST, after(20)),
        Standing::Blocked { until, stated: false, .. }
            if until > after(20) && until < after(21)
    ));
    health.succeeded(FIRST, 0, trial, after(21));
    for (now, expected) in [(after(21), 0.1), (after(36), 0.55), (after(51), 1.0)] {
        let standing = health.standing(FIRST, now);
        let Standing::Usable { share } = standing else {
            panic!("{standing:?}");
        };
        assert!((share - expected).abs() < 1e-6, "{share}");
    }
    assert_words_agree(health, true);
}

#[test]
fn a_trial_that_comes_to_nothing_gives_its_place_back() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(20));
    drop(health.begin_trial(FIRST, 0, after(20)));
    assert_eq!(health.standing(FIRST, after(20)), Standing::Due);
    let trial = health.begin_trial(FIRST, 0, after(20));
    // The way was at fault: it says nothing about the account.
    health.failed(FIRST, 0, trial, Fault::Unreachable, after(20), 0.5);
    assert_eq!(health.standing(FIRST, after(20)), Standing::Due);
    let trial = health.begin_trial(FIRST, 0, after(20));
    let fault = Fault::ServerError { until: None };
    health.failed(FIRST, 0, trial, fault, after(20), 0.5);
    let expected = blocked(after(22), false, Cause::ServerErrors);
    assert_eq!(health.standing(FIRST, after(20)), expected);
    assert_words_agree(health, true);
}

#[test]
fn who_is_due_has_a_place_for_a_trial() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(20));
    let trial = health.begin_trial(FIRST, 0, after(20));
    // Another request reports that it is blocked, and the trial outlasts that block.
    let fault = Fault::RateLimited {
        until: Some(after(25)),
    };
    health.failed(FIRST, 0, None, fault, after(21), 0.5);
    let expected = blocked(after(50), false, Cause::RateLimited);
    assert_eq!(health.standing(FIRST, after(25)), expected);
    assert!(health.begin_trial(FIRST, 0, after(25)).is_none());
    drop(trial);
    assert_eq!(health.standing(FIRST, after(25)), Standing::Due);
    assert!(health.begin_trial(FIRST, 0, after(25)).is_some());
}

#[test]
fn an_address_that_is_cut_off_does_not_take_its_account_with_it() {
    let health = board(|_| {});
    unreachable(health, 0, START);
    let expected = blocked(after(2), false, Cause::Unreachable);
    assert_eq!(health.path_standing(FIRST, 0, START), expected);
    assert_eq!(health.path_standing(FIRST, 1, START), WELL);
    assert_eq!(health.standing(FIRST, START), WELL);
    for turn in 0..4 {
        assert_eq!(health.pick_address(FIRST, turn, true, START), 1);
    }
    // All of them: it waits for the first one.
    health.failed(FIRST, 1, None, Fault::AddressMissing, after(1), 0.5);
    assert_eq!(health.standing(FIRST, after(1)), expected);
    assert_eq!(health.pick_address(FIRST, 0, false, after(1)), 0);
    assert_eq!(health.standing(FIRST, after(2)), Standing::Due);
    assert_eq!(health.standing(FIRST, after(4)), Standing::Due);
    assert_words_agree(health, true);
}

#[test]
fn addresses_take_turns_and_one_that_is_due_comes_first() {
    let health = board(|_| {});
    let picked =
        |may_try, now| [0, 1, 2].map(|turn| health.pick_address(FIRST, turn, may_try, now));
    assert_eq!(picked(true, START), [0, 1, 0]);
    unreachable(health, 1, START);
    assert_eq!(picked(true, START), [0, 0, 0]);
    assert_eq!(picked(true, after(2)), [1, 1, 1]);
    assert_eq!(picked(false, after(2)), [0, 0, 0]);
    let trial = health.begin_trial(FIRST, 1, after(2));
    assert!(trial.is_some());
    assert_eq!(picked(true, after(2)), [0, 0, 0], "its only place is taken");
    drop(trial);
    assert_eq!(picked(true, after(2)), [1, 1, 1]);
    assert_eq!(health.pick_address(SECOND, 7, true, START), 0);
}

#[test]
fn an_answer_that_refuses_has_come_all_the_way() {
    let health = board(|_| {});
    unreachable(health, 0, START);
    let trial = health.begin_trial(FIRST, 0, after(2));
    let fault = Fault::RateLimited {
        until: Some(after(9)),
    };
    health.failed(FIRST, 0, trial, fault, after(2), 0.5);
    assert!(matches!(
        health.path_standing(FIRST, 0, after(2)),
        Standing::Usable { .. }
    ));
    let expected = blocked(after(9), true, Cause::RateLimited);
    assert_eq!(health.standing(FIRST, after(2)), expected);
}

#[test]
fn one_request_may_try_both_the_account_and_its_address() {
    let health = board(|_| {});
    unreachable(health, 0, START);
    rate_limited(health, FIRST, after(2));
    let both = health.begin_trial(FIRST, 0, after(2));
    assert!(both.is_some());
    assert!(health.begin_trial(FIRST, 0, after(2)).is_none());
    assert!(health.begin_trial(FIRST, 1, after(2)).is_none());
    drop(both);
    // The account has a place, the address has none: the account alone is tried.
    health.obey(FIRST, RESET, after(2));
    unreachable(health, 0, after(3));
    let address = health.begin_trial(FIRST, 0, after(60));
    assert!(address.is_some());
    health.failed(
        FIRST,
        1,
        None,
        Fault::RateLimited { until: None },
        after(60),
        0.5,
    );
    let account = health.begin_trial(FIRST, 0, after(70));
    assert!(account.is_some());
    drop((address, account));
    let both = health.begin_trial(FIRST, 0, after(70));
    health.succeeded(FIRST, 0, both, after(70));
    assert!(matches!(
        health.standing(FIRST, after(70)),
        Standing::Usable { .. }
    ));
    assert_words_agree(health, true);
}

#[test]
fn what_changes_is_told() {
    let health = board(|_| {});
    health.succeeded(FIRST, 0, None, START);
    health.failed(FIRST, 0, None, Fault::Reset, START, 0.5);
    assert_eq!(
        health.take_transitions(),
        [],
        "one failure changes nothing yet"
    );
    rate_limited(health, FIRST, after(20));
    let trial = health.begin_trial(FIRST, 0, after(20));
    health.succeeded(FIRST, 0, trial, after(21));
    let told: Vec<_> = health.take_transitions();
    let expected = [
        (State::Closed, State::Open, Some(after(20)), None),
        (State::Open, State::HalfOpen, None, None),
        (
            State::HalfOpen,
            State::Closed,
            None,
            Some(Duration::from_secs(21)),
        ),
    ];
    assert_eq!(told.len(), expected.len());
    for (transition, (from, to, until, recovered_after)) in told.into_iter().zip(expected) {
        let change = Change::Breaker {
            from,
            to,
            cause: Cause::RateLimited,
            until,
            recovered_after,
            ordered: false,
        };
        assert_eq!(transition.change, change);
    }
}

#[test]
fn readers_and_clean_successes_take_no_lock() {
    let health = board(|_| {});
    // Was ill, is well: still clean.
    rate_limited(health, FIRST, after(20));
    let trial = health.begin_trial(FIRST, 0, after(20));
    health.succeeded(FIRST, 0, trial, after(20));
    let guards: Vec<_> = health.accounts.iter().map(Shared::lock).collect();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        for now in [after(21), after(100)] {
            let _ = health.standing(FIRST, now);
            let _ = health.path_standing(FIRST, 1, now);
            let _ = health.wish(FIRST, now);
            let _ = health.pick_address(FIRST, 1, true, now);
            let _ = health.latency(FIRST, now);
            assert!(health.begin_trial(FIRST, 0, now).is_none());
            health.note_latency(FIRST, Duration::from_millis(5), now);
            health.succeeded(FIRST, 0, None, now);
            health.tick(now);
        }
        let _ = done.send(());
    });
    // Who waits for a lock here waits for ever; the time only ends the test.
    let ended = is_done.recv_timeout(Duration::from_secs(60));
    drop(guards);
    assert_eq!(ended, Ok(()));
}

#[test]
fn a_success_after_a_failure_is_noted() {
    let health = board(|_| {});
    for _ in 0..10 {
        for fault in [
            Fault::Reset,
            Fault::TimedOut,
            Fault::Unreachable,
            Fault::Unreachable,
        ] {
            health.failed(FIRST, 0, None, fault, START, 0.5);
        }
        // Enough of them that the share of failures remains small.
        for _ in 0..8 {
            health.succeeded(FIRST, 0, None, START);
        }
    }
    assert_eq!(health.standing(FIRST, START), WELL);
    assert_eq!(health.take_transitions(), []);
}
