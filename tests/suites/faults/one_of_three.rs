//! One of three accounts fails: tenants hardly notice, and the account is kept out.

use crate::{Client, FAULTS, Fault, NAMES, WELL, config, failing_for, of_conversation, standing};
use relay_tests::{Config, Gateway, Upstream, eventually};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(crate) const REQUESTS: usize = 10_000;

/// Of 10,000 requests: 99.9 %.
pub(crate) const SERVED_MIN: usize = 9_990;

const CLIENTS: usize = 6;

/// A conversation that belongs to this account: the first of some that is served by it.
fn conversation_of(gateway: &Gateway, name: &str) -> String {
    let mut client = Client::new(gateway);
    for number in 0..200 {
        let id = format!("conversation-{number}");
        let request = of_conversation(&id).id(&id);
        client.is_served(&request);
        let line = gateway.logged(&id);
        if line["account"] == name && line["attempts"] == 1 {
            return id;
        }
    }
    panic!("no conversation of 200 belongs to {name}");
}

/// The fault begins when the provider is told so.
fn failing_from_now_on(fault: &Fault) -> (Upstream, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let begins = std::sync::Arc::clone(&fails);
    let act = fault.act;
    let upstream = Upstream::start(move |exchange| {
        if begins.load(Ordering::SeqCst) && crate::asked(exchange) == NAMES[0] {
            act(exchange);
        } else {
            exchange.send(relay_tests::openai::stream(&["a", "b"]));
        }
    });
    (upstream, fails)
}

#[test]
fn how_the_account_stands_afterwards_and_how_often_somebody_is_asked() {
    for fault in FAULTS {
        let name = fault.name;
        let (upstream, fails) = failing_from_now_on(fault);
        let gateway = Gateway::start(&config(&upstream));
        let conversation = conversation_of(&gateway, NAMES[0]);
        assert_eq!(standing(&gateway, NAMES[0]).0, "usable", "{name}");
        fails.store(true, Ordering::SeqCst);
        for number in 1..=fault.requests {
            let id = format!("{number}-with-fault");
            let answer = gateway.call(&of_conversation(&conversation).id(&id));
            let is_passed_on = fault.told.is_none() || fault.state == WELL;
            let attempts = if is_passed_on { "1" } else { "2" };
            assert_eq!(
                answer.head.value("x-relay-attempts"),
                Some(attempts),
                "{name}"
            );
            if !is_passed_on {
                assert_eq!(answer.status(), 200, "{name}: {answer:?}");
            }
            gateway.logged(&id);
        }
        let (state, reason) = (fault.state.0.to_owned(), fault.state.1.map(str::to_owned));
        assert_eq!(standing(&gateway, NAMES[0]), (state, reason), "{name}");
        for other in &NAMES[1..] {
            assert_eq!(standing(&gateway, other).0, "usable", "{name}: {other}");
        }
        // Whoever is kept out is not asked any more, not even for his own conversations.
        if fault.state != WELL {
            let answer = gateway.call(&of_conversation(&conversation).id("escaped"));
            assert_eq!(answer.status(), 200, "{name}");
            assert_eq!(answer.head.value("x-relay-attempts"), Some("1"), "{name}");
            assert_eq!(gateway.logged("escaped")["chosen"], "escaped", "{name}");
        }
    }
}

/// How many of 10,000 requests are served, by some clients at the same time.
pub(crate) fn served(gateway: &Gateway) -> usize {
    let begun = AtomicUsize::new(0);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(gateway);
                while begun.fetch_add(1, Ordering::SeqCst) < REQUESTS {
                    if client.is_served(&relay_tests::Request::streamed()) {
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    served.load(Ordering::SeqCst)
}

/// With blocks as short as they are by default: the account comes back again and again.
pub(crate) fn with_default_blocks(config: Config) -> Config {
    config
        .set("health", "backoff_min", "\"2s\"")
        .set("health", "backoff_max", "\"5m\"")
        .set("log", "requests", false)
        .set("node", "workers", 2)
}

#[test]
fn tenants_hardly_notice() {
    for fault in FAULTS.iter().filter(|fault| fault.state != WELL) {
        let upstream = failing_for(NAMES[0], fault.act);
        let gateway = Gateway::start(&with_default_blocks(config(&upstream)));
        let served = served(&gateway);
        let name = fault.name;
        assert!(served >= SERVED_MIN, "{name}: {served} of {REQUESTS}");
        let transitions = |to: &str| {
            let labels = ["account=\"first\"", &format!("to=\"{to}\"")];
            gateway.metric("relay_account_transitions_total", &labels)
        };
        eventually("the opening is counted", || {
            (transitions("open") >= 1.0).then_some(())
        });
    }
}

#[test]
fn an_account_whose_answers_are_slow_to_begin_gets_less_of_the_load() {
    use std::sync::Arc;
    use std::time::Duration;
    let by_slow = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::with(
        relay_tests::upstream::Options {
            at_head: false,
            record: false,
        },
        {
            let by_slow = Arc::clone(&by_slow);
            move |exchange| {
                if crate::asked(exchange) == NAMES[0] {
                    by_slow.fetch_add(1, Ordering::SeqCst);
                    // The fault itself, not a wait for something.
                    thread::sleep(Duration::from_millis(100));
                }
                exchange.send(relay_tests::openai::stream(&["a"]));
            }
        },
    );
    let gateway = Gateway::start(&with_default_blocks(config(&upstream)));
    let served = served(&gateway);
    assert_eq!(served, REQUESTS, "slow is not broken");
    let share = by_slow.load(Ordering::SeqCst);
    assert!(
        share > 0 && share < REQUESTS / 5,
        "{share} of {REQUESTS} by the slow one"
    );
    assert_eq!(standing(&gateway, NAMES[0]).0, "usable");
}

#[test]
fn an_account_that_recovers_is_asked_again() {
    let fault = &FAULTS[0];
    let (upstream, fails) = failing_from_now_on(fault);
    let config = config(&upstream)
        .set("health", "backoff_min", "\"100ms\"")
        .set("health", "backoff_max", "\"200ms\"")
        .set("health", "slow_start", "\"1s\"");
    let gateway = Gateway::start(&config);
    let conversation = conversation_of(&gateway, NAMES[0]);
    fails.store(true, Ordering::SeqCst);
    let mut client = Client::new(&gateway);
    eventually("it is blocked", || {
        assert!(client.is_served(&of_conversation(&conversation)));
        (standing(&gateway, NAMES[0]).0 != "usable").then_some(())
    });
    fails.store(false, Ordering::SeqCst);
    eventually("it is well again", || {
        assert!(client.is_served(&of_conversation(&conversation)));
        let state = standing(&gateway, NAMES[0]).0;
        ["usable", "recovering"]
            .contains(&state.as_str())
            .then_some(())
    });
    eventually("its conversation is back", || {
        let id = format!("back-{}", upstream.completed());
        assert!(client.is_served(&of_conversation(&conversation).id(&id)));
        let line = gateway.logged(&id);
        (line["account"] == NAMES[0] && line["chosen"] == "conversation").then_some(())
    });
    let seconds = gateway.metric("relay_account_recovery_seconds_count", &["first"]);
    assert!(seconds >= 1.0, "{seconds}");
}
