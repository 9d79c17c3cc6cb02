//! What a refused client sees.

use super::*;
use std::time::{Duration, UNIX_EPOCH};

fn exceeded_by(limit: Limit, wait_ms: u64, change: impl FnOnce(&mut Exceeded)) -> Refusal {
    let mut exceeded = Exceeded {
        limit,
        scope: Scope::Tenant,
        retry_after: Duration::from_millis(wait_ms),
        resets_at: None,
        never_fits: false,
        standing: crate::limits::Standing::default(),
    };
    change(&mut exceeded);
    Refusal::LimitExceeded(Box::new(exceeded))
}

fn exceeded(limit: Limit, wait_ms: u64) -> Refusal {
    exceeded_by(limit, wait_ms, |_| {})
}

fn all() -> Vec<Refusal> {
    vec![
        Refusal::KeyMissing,
        Refusal::KeyUnknown,
        Refusal::KeyExpired,
        exceeded(Limit::ConcurrentRequests, 1),
        exceeded(Limit::RequestsPerSecond, 0),
        exceeded(Limit::TokensPerDay, 50_000_000),
        exceeded_by(Limit::TokensPerMinute, 0, |one| one.never_fits = true),
        Refusal::ModelNotPriced,
        Refusal::AuditUnavailable,
        Refusal::UsageUnavailable,
        Refusal::ReadOnly,
        Refusal::TenantConnectionLimit,
        Refusal::ModelNotAllowed,
        Refusal::ModelUnknown("which model?"),
        Refusal::MessageNotSupported,
        Refusal::Framing(FramingError::Malformed),
        Refusal::Upgrade(UpgradeRefusal::NotOffered),
        Refusal::Upgrade(UpgradeRefusal::TooMany),
        Refusal::Upgrade(UpgradeRefusal::Version),
        Refusal::Upgrade(UpgradeRefusal::Malformed("how?")),
        Refusal::HeadTooSlow,
        Refusal::BodyMalformed,
        Refusal::BodyTooSlow,
        Refusal::BodyTooLarge { bytes_max: 5 },
        Refusal::Overloaded,
        Refusal::NoUpstream,
        Refusal::NoAccountAvailable,
        Refusal::FairShareExceeded,
        Refusal::AccountsRateLimited {
            retry_after_seconds: 0,
        },
        Refusal::UpstreamQuotaExhausted {
            retry_after_seconds: 0,
            resets_at: Some(1_800_000_000),
        },
        Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: None,
        },
        Refusal::ResponseNotFound { in_path: false },
        Refusal::ResponseNotFound { in_path: true },
        Refusal::EgressUnavailable,
        Refusal::EgressPortsExhausted,
        Refusal::UpstreamRateLimited {
            retry_after_seconds: None,
        },
        Refusal::UpstreamTimeout,
        Refusal::UpstreamError { status: None },
        Refusal::UpstreamError { status: Some(500) },
        Refusal::UpstreamOverloaded {
            retry_after_seconds: Some(7),
        },
        Refusal::UpstreamStreamIncomplete,
        Refusal::UpstreamMalformed,
        Refusal::ShuttingDown,
        Refusal::ClientGone,
    ]
}

#[test]
fn every_429_and_503_says_when_to_come_back() {
    for refusal in all() {
        let shape = refusal.shape(1);
        assert_eq!(
            matches!(shape.status, 429 | 503),
            shape.retry_after_seconds.is_some(),
            "{refusal:?}"
        );
    }
}

#[test]
fn nobody_is_told_to_come_back_at_once() {
    for refusal in all() {
        let seconds = refusal.shape(1).retry_after_seconds;
        assert_ne!(seconds, Some(0), "{refusal:?}");
    }
    let at_once = Some(0);
    for refusal in [
        Refusal::UpstreamRateLimited {
            retry_after_seconds: at_once,
        },
        Refusal::UpstreamOverloaded {
            retry_after_seconds: at_once,
        },
        Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: at_once,
        },
    ] {
        let seconds = refusal.shape(1).retry_after_seconds;
        assert_eq!(seconds, Some(1), "{refusal:?}");
    }
}

#[test]
fn nobody_is_sent_away_for_longer_than_two_minutes() {
    let hours = 5 * 3600;
    let later = Some(hours);
    for refusal in [
        Refusal::AccountsRateLimited {
            retry_after_seconds: hours,
        },
        Refusal::UpstreamRateLimited {
            retry_after_seconds: later,
        },
        Refusal::UpstreamOverloaded {
            retry_after_seconds: later,
        },
        Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: later,
        },
        Refusal::UpstreamQuotaExhausted {
            retry_after_seconds: hours,
            resets_at: None,
        },
    ] {
        let seconds = refusal.shape(1).retry_after_seconds;
        assert_eq!(seconds, Some(120), "{refusal:?}");
    }
}

#[test]
fn a_quota_that_is_used_up_has_the_form_that_clients_know() {
    let error = |retry_after_seconds, resets_at| {
        let refusal = Refusal::UpstreamQuotaExhausted {
            retry_after_seconds,
            resets_at,
        };
        let shape = refusal.shape(1);
        assert_eq!((shape.status, shape.source), (429, Source::Upstream));
        let body: serde_json::Value = serde_json::from_slice(&shape.body("req-1")).unwrap();
        body["error"].clone()
    };
    let known = error(18_000, Some(1_800_018_000));
    assert_eq!(known["type"], "usage_limit_reached");
    assert_eq!(known["code"], "upstream_quota_exhausted");
    assert_eq!(known["resets_at"], 1_800_018_000);
    assert_eq!(known["retryable"], false, "five hours are not waited for");
    assert!(known["message"].is_string() && known["request_id"] == "req-1");
    let unknown = error(60, None);
    assert!(unknown.get("resets_at").is_none(), "only what is known");
    assert_eq!(unknown["retryable"], true);
}

#[test]
fn a_limit_that_is_reached_is_told_with_what_helps() {
    let (rate, usage) = (RATE_LIMIT, USAGE_LIMIT);
    for (limit, code, kind, wait_ms, retryable, seconds) in [
        (
            Limit::RequestsPerSecond,
            "tenant_rate_limited",
            rate,
            20,
            true,
            1,
        ),
        (
            Limit::RequestsPerMinute,
            "tenant_rate_limited",
            rate,
            1_001,
            true,
            2,
        ),
        (
            Limit::TokensPerMinute,
            "tenant_rate_limited",
            rate,
            60_000,
            true,
            60,
        ),
        (
            Limit::TokensPerMinute,
            "tenant_rate_limited",
            rate,
            120_001,
            false,
            120,
        ),
        (
            Limit::ConcurrentRequests,
            "tenant_concurrency_exceeded",
            rate,
            1_000,
            true,
            1,
        ),
        (
            Limit::RequestsPerDay,
            "tenant_quota_exceeded",
            usage,
            119_500,
            true,
            120,
        ),
        (
            Limit::TokensPerDay,
            "tenant_quota_exceeded",
            usage,
            7_200_000,
            false,
            120,
        ),
        (
            Limit::RequestsPerMonth,
            "tenant_quota_exceeded",
            usage,
            7_200_000,
            false,
            120,
        ),
        (
            Limit::TokensPerMonth,
            "tenant_quota_exceeded",
            usage,
            7_200_000,
            false,
            120,
        ),
        (
            Limit::BudgetPerMonth,
            "tenant_quota_exceeded",
            usage,
            7_200_000,
            false,
            120,
        ),
    ] {
        let shape = exceeded(limit, wait_ms).shape(0);
        assert_eq!(
            (shape.status, shape.source),
            (429, Source::Gateway),
            "{limit:?}"
        );
        assert_eq!((shape.code, shape.kind), (code, kind), "{limit:?}");
        assert_eq!(shape.retryable, retryable, "{limit:?}");
        assert_eq!(shape.retry_after_seconds, Some(seconds), "{limit:?}");
        let body: serde_json::Value = serde_json::from_slice(&shape.body("req-1")).unwrap();
        assert_eq!(body["error"]["limit"], limit.as_str());
        assert_eq!(body["error"]["scope"], "tenant");
        assert!(body["error"].get("resets_at").is_none());
    }
}

#[test]
fn a_quota_of_the_tenant_has_the_form_that_clients_know_too() {
    let resets_at = UNIX_EPOCH + Duration::from_millis(1_800_000_000_001);
    let refusal = exceeded_by(Limit::TokensPerDay, 7_199_999, |one| {
        one.resets_at = Some(resets_at);
        one.scope = Scope::Key;
    });
    assert_eq!(refusal.limit(), Some((Scope::Key, Limit::TokensPerDay)));
    let body = refusal.shape(0).body("req-1");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let error = &body["error"];
    assert_eq!(error["type"], "usage_limit_reached");
    assert_eq!(error["resets_at"], 1_800_000_001);
    assert_eq!(error["resets_in_seconds"], 7_200);
    assert_eq!(error["scope"], "key");
    assert_eq!(error["retryable"], false);
}

#[test]
fn what_never_fits_is_not_to_be_tried_again() {
    for limit in [Limit::TokensPerMinute, Limit::TokensPerMonth] {
        let shape = exceeded_by(limit, 10, |one| one.never_fits = true).shape(0);
        assert_eq!((shape.status, shape.kind), (429, USAGE_LIMIT));
        assert!(
            !shape.retryable && shape.message.contains("alone"),
            "{}",
            shape.message
        );
        assert_eq!(shape.retry_after_seconds, Some(120));
    }
}

#[test]
fn a_method_that_is_refused_comes_with_those_that_are_not() {
    let allow = |refusal: Refusal| refusal.shape(0).allow;
    assert_eq!(allow(Refusal::ReadOnly), Some("GET, HEAD"));
    assert_eq!(allow(Refusal::Framing(FramingError::Malformed)), None);
    for refusal in all() {
        let shape = refusal.shape(0);
        assert_eq!(shape.allow.is_some(), shape.status == 405, "{refusal:?}");
    }
}

/// Status, code, parameter, whether a retry may help, when, and whose fault it was.
type Row = (
    u16,
    &'static str,
    Option<&'static str>,
    bool,
    Option<u32>,
    Source,
);

#[test]
fn what_accounts_that_cannot_be_asked_look_like() {
    let rows: [(Refusal, Row); 7] = [
        (
            Refusal::NoAccountAvailable,
            (
                503,
                "no_account_available",
                None,
                true,
                Some(1),
                Source::Gateway,
            ),
        ),
        (
            Refusal::AccountsRateLimited {
                retry_after_seconds: 90,
            },
            (
                429,
                "upstream_rate_limited",
                None,
                true,
                Some(90),
                Source::Upstream,
            ),
        ),
        (
            Refusal::UpstreamRateLimited {
                retry_after_seconds: Some(7),
            },
            (
                429,
                "upstream_rate_limited",
                None,
                true,
                Some(7),
                Source::Upstream,
            ),
        ),
        (
            Refusal::ResponseOwnerUnavailable {
                retry_after_seconds: Some(30),
            },
            (
                503,
                "response_owner_unavailable",
                None,
                true,
                Some(30),
                Source::Gateway,
            ),
        ),
        (
            Refusal::ResponseOwnerUnavailable {
                retry_after_seconds: None,
            },
            (
                503,
                "response_owner_unavailable",
                None,
                true,
                Some(5),
                Source::Gateway,
            ),
        ),
        (
            Refusal::ResponseNotFound { in_path: false },
            (
                400,
                "previous_response_not_found",
                Some("previous_response_id"),
                false,
                None,
                Source::Gateway,
            ),
        ),
        (
            Refusal::ResponseNotFound { in_path: true },
            (
                404,
                "previous_response_not_found",
                None,
                false,
                None,
                Source::Gateway,
            ),
        ),
    ];
    for (refusal, row) in rows {
        let shape = refusal.shape(0);
        let seen = (
            shape.status,
            shape.code,
            shape.param,
            shape.retryable,
            shape.retry_after_seconds,
            shape.source,
        );
        assert_eq!(seen, row, "{refusal:?}");
        assert_eq!(shape.code, refusal.code());
    }
}

#[test]
fn codes_that_stop_codex_are_never_used() {
    for refusal in all() {
        assert!(
            !matches!(refusal.code(), "server_is_overloaded" | "slow_down"),
            "{refusal:?}"
        );
    }
}

#[test]
fn the_three_kinds_of_bad_keys_look_alike_but_for_code_and_message() {
    let shapes = [
        Refusal::KeyMissing,
        Refusal::KeyUnknown,
        Refusal::KeyExpired,
    ]
    .map(|refusal| refusal.shape(0));
    for shape in &shapes {
        assert_eq!((shape.status, shape.kind), (401, AUTHENTICATION));
    }
    assert_ne!(shapes[0].code, shapes[1].code);
    assert_ne!(shapes[1].code, shapes[2].code);
}

#[test]
fn the_envelope_has_all_members() {
    let body = Refusal::ModelNotAllowed.shape(0).body("req-1");
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let error = &value["error"];
    assert_eq!(error["code"], "model_not_allowed");
    assert_eq!(error["param"], "model");
    assert_eq!(error["request_id"], "req-1");
    assert_eq!(error["retryable"], false);
    assert!(error["message"].is_string() && error["type"].is_string());
}
