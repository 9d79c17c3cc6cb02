//! Every account fails in the same way: what the client is told.

use crate::{FAULTS, config};
use relay_tests::{Ending, Exchange, Gateway, Request, Upstream};

#[test]
fn what_the_client_is_told_when_all_accounts_fail() {
    for fault in FAULTS {
        let name = fault.name;
        let act = fault.act;
        let upstream = Upstream::start(act);
        let gateway = Gateway::start(&config(&upstream));
        let answer = gateway.call(&Request::streamed());
        let attempts = answer.head.value("x-relay-attempts");
        assert_eq!(attempts, Some(fault.attempts), "{name}: {answer:?}");
        match fault.told {
            Some((status, code)) => {
                assert_eq!(answer.status(), status, "{name}");
                assert_eq!(answer.json()["error"]["code"], code, "{name}");
                if !(400..=428).contains(&status) && status != 501 {
                    answer.assert_refused(status, code);
                }
            }
            None => {
                assert_eq!(answer.status(), 200, "{name}");
                assert_eq!(answer.ending, Ending::Truncated, "{name}");
            }
        }
        let asked = upstream.completed().to_string();
        assert_eq!(asked, fault.attempts, "{name}: requests at the provider");
    }
}

#[test]
fn accounts_that_the_provider_has_blocked_are_not_asked_before_their_time() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(relay_tests::openai::error(
            429,
            "rate_limit_exceeded",
            &[("retry-after", "600")],
        ));
    });
    let gateway = Gateway::start(&config(&upstream));
    let first = gateway.call(&Request::plain());
    first.assert_refused(429, "upstream_rate_limited");
    assert_eq!(upstream.completed(), 3);
    let second = gateway.call(&Request::plain());
    second.assert_refused(429, "upstream_rate_limited");
    assert_eq!(upstream.completed(), 3, "nobody is asked in vain");
    let after = second
        .head
        .value("retry-after")
        .and_then(|after| after.parse().ok());
    // Ten minutes are not slept through: who comes back too early is answered here.
    assert_eq!(after, Some(120));
}

#[test]
fn a_request_that_is_refused_everywhere_or_answered_nowhere_blocks_nobody() {
    type Act = fn(&mut Exchange);
    let acts: [(&str, u16, Act); 2] = [
        ("403", 503, |exchange| {
            exchange.send(relay_tests::openai::error(403, "missing_scope", &[]));
        }),
        ("stall", 504, |exchange| {
            exchange.wait_closed();
        }),
    ];
    for (name, told, act) in acts {
        let upstream = Upstream::start(act);
        let gateway = Gateway::start(&config(&upstream));
        for _ in 0..3 {
            assert_eq!(gateway.call(&Request::plain()).status(), told, "{name}");
        }
        assert_eq!(upstream.completed(), 9, "{name}");
        for account in crate::NAMES {
            let (state, reason) = crate::standing(&gateway, account);
            assert_eq!((state.as_str(), reason), ("usable", None), "{name}");
        }
    }
}

#[test]
fn the_only_account_is_to_blame_for_what_nobody_else_could_do_better() {
    let upstream = Upstream::answering(relay_tests::openai::error(401, "invalid_api_key", &[]));
    let gateway = Gateway::start(&config(&upstream).limit("attempts_max", 1));
    let name = crate::NAMES[0];
    let conversation = (0..200).map(|number| format!("conversation-{number}"));
    for id in conversation {
        gateway.call(&crate::of_conversation(&id).id(&id));
        if gateway.logged(&id)["account"] == name {
            break;
        }
    }
    let (state, reason) = crate::standing(&gateway, name);
    assert_eq!(
        (state.as_str(), reason.as_deref()),
        ("blocked", Some("refused"))
    );
}

#[test]
fn accounts_that_only_seem_unwell_are_asked_when_nobody_else_is_left() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let recovered = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let recovered = Arc::clone(&recovered);
        move |exchange| {
            if recovered.load(Ordering::SeqCst) {
                exchange.send(relay_tests::openai::plain());
            } else {
                exchange.send(relay_tests::openai::error(500, "server_error", &[]));
            }
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    for _ in 0..3 {
        gateway
            .call(&Request::plain())
            .assert_refused(502, "upstream_error");
    }
    for name in crate::NAMES {
        assert_eq!(crate::standing(&gateway, name).0, "blocked", "{name}");
    }
    gateway.log().wait_event("panic_mode");
    assert_eq!(gateway.metric("relay_upstream_panic", &["openai"]), 1.0);
    recovered.store(true, Ordering::SeqCst);
    let answer = gateway.call(&Request::plain().id("in-panic"));
    assert_eq!(answer.status(), 200);
    assert_eq!(gateway.logged("in-panic")["chosen"], "panic");
}
