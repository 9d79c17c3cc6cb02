//! What a probe that goes well is worth.

use super::*;

const FAULTS: [(Fault, bool); 8] = [
    (Fault::Refused, true),
    (Fault::Reset, true),
    (Fault::TimedOut, true),
    (Fault::Malformed, true),
    (Fault::RateLimited { until: None }, false),
    (Fault::QuotaExhausted { until: None }, false),
    (Fault::ServerError { until: None }, false),
    (Fault::BrokenOff, false),
];

const PATH_FAULTS: [Fault; 6] = [
    Fault::Unreachable,
    Fault::TlsRefused,
    Fault::AddressMissing,
    Fault::ForeignAddress,
    Fault::PortsShort,
    Fault::Retransmits,
];

/// Later than any block of these tests.
const LATER: Moment = Moment::from_unix_ms(START.unix_ms() + 3_600_000);

fn fail(health: &Health, fault: Fault) {
    for _ in 0..3 {
        health.failed(SECOND, 0, None, fault, START, 0.5);
    }
}

fn is_usable(standing: Standing) -> bool {
    matches!(standing, Standing::Usable { .. })
}

#[test]
fn a_probe_closes_only_what_it_can_tell_of() {
    for (fault, is_told) in FAULTS {
        let health = board(|_| {});
        fail(health, fault);
        assert!(matches!(
            health.standing(SECOND, START),
            Standing::Blocked { .. }
        ));
        let trial = health.begin_probe_trial(SECOND, 0, LATER);
        assert_eq!(trial.is_some(), is_told, "{fault:?}");
        health.probe_succeeded(SECOND, 0, trial, LATER);
        assert_eq!(is_usable(health.standing(SECOND, LATER)), is_told);
        // A tenant's request tells in any case, and has found its place free.
        let trial = health.begin_trial(SECOND, 0, LATER);
        assert_eq!(trial.is_some(), !is_told, "{fault:?}");
        health.succeeded(SECOND, 0, trial, LATER);
        assert!(is_usable(health.standing(SECOND, LATER)), "{fault:?}");
        assert_words_agree(health, true);
    }
    for fault in PATH_FAULTS {
        let health = board(|_| {});
        fail(health, fault);
        let trial = health.begin_probe_trial(SECOND, 0, LATER);
        assert!(trial.is_some(), "{fault:?}");
        health.probe_succeeded(SECOND, 0, trial, LATER);
        assert!(is_usable(health.standing(SECOND, LATER)), "{fault:?}");
    }
}

#[test]
fn a_probe_may_be_a_trial_of_the_address_but_not_of_the_account() {
    let health = board(|_| {});
    fail(health, Fault::Unreachable);
    fail(health, Fault::QuotaExhausted { until: None });
    let trial = health.begin_probe_trial(SECOND, 0, LATER);
    assert!(trial.is_some());
    health.probe_succeeded(SECOND, 0, trial, LATER);
    assert!(is_usable(health.path_standing(SECOND, 0, LATER)));
    assert_eq!(health.standing(SECOND, LATER), Standing::Due);
    assert_words_agree(health, true);
}

#[test]
fn probes_that_go_well_do_not_make_up_for_requests_that_fail() {
    let health = board(|_| {});
    for fault in [Fault::ServerError { until: None }, Fault::Unreachable] {
        health.obey(FIRST, RESET, START);
        for _ in 0..2 {
            health.failed(FIRST, 0, None, fault, START, 0.5);
            health.probe_succeeded(FIRST, 0, None, START);
            assert!(is_usable(health.path_standing(FIRST, 0, START)));
            assert!(is_usable(health.standing(FIRST, START)));
        }
        health.failed(FIRST, 0, None, fault, START, 0.5);
        let standings = [
            health.standing(FIRST, START),
            health.path_standing(FIRST, 0, START),
        ];
        assert!(
            standings
                .into_iter()
                .any(|standing| matches!(standing, Standing::Blocked { .. })),
            "{fault:?}"
        );
    }
}

#[test]
fn probes_do_not_count_among_the_requests_whose_share_fails() {
    let health = board(|rules| rules.failures_max = 1_000);
    for _ in 0..100 {
        health.probe_succeeded(SECOND, 0, None, START);
    }
    let fault = Fault::Reset;
    for _ in 0..100 {
        health.probe_failed(SECOND, 0, None, fault, START, 0.5);
        health.probe_succeeded(SECOND, 0, None, START);
    }
    assert_eq!(health.standing(SECOND, START), WELL, "nobody has asked");
    for failed in 0..20 {
        assert_eq!(health.standing(SECOND, START), WELL, "{failed}");
        health.failed(SECOND, 0, None, fault, START, 0.5);
        health.probe_succeeded(SECOND, 0, None, START);
    }
    let expected = blocked(after(2), false, Cause::Resets);
    assert_eq!(health.standing(SECOND, START), expected);
}

#[test]
fn a_probe_that_fails_counts_like_a_request_until_one_goes_well() {
    let health = board(|_| {});
    let failed = |is_probe: bool| {
        let fault = Fault::Reset;
        if is_probe {
            health.probe_failed(SECOND, 0, None, fault, START, 0.5);
        } else {
            health.failed(SECOND, 0, None, fault, START, 0.5);
        }
    };
    // One now and then is nothing, also where nobody asks.
    for _ in 0..10 {
        failed(true);
        failed(true);
        health.probe_succeeded(SECOND, 0, None, START);
    }
    // A request that goes well makes up for both.
    failed(true);
    failed(false);
    health.succeeded(SECOND, 0, None, START);
    failed(true);
    failed(false);
    assert_eq!(health.standing(SECOND, START), WELL);
    failed(true);
    let expected = blocked(after(2), false, Cause::Resets);
    assert_eq!(health.standing(SECOND, START), expected);
    // A trial that fails is the end of it, and what blocks at once does so.
    let trial = health.begin_probe_trial(SECOND, 0, after(2));
    assert!(trial.is_some());
    health.probe_failed(SECOND, 0, trial, Fault::Reset, after(2), 0.5);
    let expected = blocked(after(6), false, Cause::Resets);
    assert_eq!(health.standing(SECOND, after(2)), expected);
    let limited = Fault::RateLimited {
        until: Some(after(600)),
    };
    health.probe_failed(SECOND, 0, None, limited, after(6), 0.5);
    let expected = blocked(after(600), true, Cause::RateLimited);
    assert_eq!(health.standing(SECOND, after(6)), expected);
    assert_words_agree(health, true);
}
