//! What outlives the process.

use super::*;
use crate::health::{BreakerRecord, Record};

#[test]
fn a_restart_changes_nothing() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(3_600));
    unreachable(health, 1, START);
    health.obey(FIRST, wish(Wish::Drained, Some(after(60))), START);
    health.note_latency(FIRST, Duration::from_millis(700), START);
    health.failed(SECOND, 0, None, Fault::Refused, START, 0.5);
    let trial = health.begin_trial(SECOND, 0, after(600));
    health.succeeded(SECOND, 0, trial, after(600));
    let restarted = board(|_| {});
    for account in [FIRST, SECOND, THIRD] {
        let record = health.record(account);
        restarted.restore(account, &record, after(601));
        assert_eq!(restarted.record(account), record);
        for now in [after(601), after(3_599), after(3_600), after(5_000)] {
            assert_eq!(
                restarted.standing(account, now),
                health.standing(account, now)
            );
            let path = |health: &Health| health.path_standing(account, 0, now);
            assert_eq!(path(restarted), path(health));
        }
        let latency = |health: &Health| health.latency(account, after(601));
        assert_eq!(latency(restarted), latency(health));
    }
    assert_eq!(restarted.take_transitions(), [], "nothing has happened");
    assert_words_agree(restarted, true);
}

#[test]
fn what_this_process_has_learned_stands_against_what_was_kept() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(10));
    health.obey(FIRST, wish(Wish::Disabled, None), START);
    let present = health.record(FIRST);
    let kept = Record {
        operator: Some(Override {
            wish: Wish::Drained,
            since: START,
            until: None,
            reason: None,
        }),
        account: BreakerRecord {
            state: State::Open,
            since: Some(START),
            cause: Some(Cause::Refused),
            until: Some(after(3_600)),
            ..BreakerRecord::default()
        },
        addresses: vec![
            // An address that it no longer has, and one that it has.
            (
                [127, 0, 7, 9].into(),
                BreakerRecord {
                    state: State::Open,
                    ..BreakerRecord::default()
                },
            ),
            (
                [127, 0, 7, 2].into(),
                BreakerRecord {
                    state: State::Open,
                    until: Some(after(30)),
                    cause: Some(Cause::PortsShort),
                    ..BreakerRecord::default()
                },
            ),
        ],
        latency: None,
    };
    health.restore(FIRST, &kept, START);
    assert_eq!(health.record(FIRST).operator, present.operator);
    assert_eq!(health.record(FIRST).account, present.account);
    assert_eq!(health.path_standing(FIRST, 0, START), WELL);
    let expected = blocked(after(30), false, Cause::PortsShort);
    assert_eq!(health.path_standing(FIRST, 1, START), expected);
}
