//! What the operator does while tenants are served: nothing is dropped, and a restart forgets nothing.

use crate::{Client, NAMES, config, of_conversation, standing};
use relay_tests::gateway::Finished;
use relay_tests::http::chunk;
use relay_tests::{Ending, Gateway, Request, Signal, Upstream, eventually, openai};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const CLIENTS: usize = 4;

fn accounts(gateway: &Gateway, arguments: &[&str]) -> Finished {
    let admin = gateway.admin_address().to_string();
    let all = [&["accounts"], arguments, &["--admin", &admin]].concat();
    gateway.command(&all)
}

fn order(gateway: &Gateway, arguments: &[&str]) {
    let finished = accounts(gateway, arguments);
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
}

/// Requests of one account that have come to the provider.
fn asked(upstream: &Upstream, name: &str) -> usize {
    let key = crate::account_key(name);
    let of_it = |request: &&relay_tests::upstream::Received| {
        let value = request.head.value("authorization");
        value.is_some_and(|value| value.ends_with(&key))
    };
    upstream.requests().iter().filter(of_it).count()
}

#[test]
fn adding_draining_and_removing_an_account_under_load_drops_nothing() {
    let upstream = Upstream::answering(openai::stream(&["a", "b"]));
    let accounts = [
        crate::account(0),
        crate::account(1),
        crate::account(2).set("enabled", false),
    ];
    let config = accounts
        .into_iter()
        .fold(
            relay_tests::Config::for_upstream(upstream.address()),
            relay_tests::Config::account,
        )
        .set("node", "workers", 2)
        .set("log", "requests", false);
    let gateway = Gateway::start(&config);
    let stop = AtomicBool::new(false);
    let (served, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (gateway, stop, served, failed) = (&gateway, &stop, &served, &failed);
            scope.spawn(move || {
                let mut client = Client::new(gateway);
                let mut turn = 0;
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    let id = format!("{number}-{}", turn % 7);
                    let counted = if client.is_served(&of_conversation(&id)) {
                        served
                    } else {
                        failed
                    };
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let a_while = |what: &str| {
            let before = served.load(Ordering::SeqCst);
            eventually(what, || {
                (served.load(Ordering::SeqCst) > before + 200).then_some(())
            });
        };
        a_while("requests with two accounts");
        assert_eq!(asked(&upstream, NAMES[2]), 0, "not added yet");
        order(&gateway, &["enable", NAMES[2]]);
        eventually("the added one is asked", || {
            (asked(&upstream, NAMES[2]) > 0).then_some(())
        });
        order(
            &gateway,
            &["drain", NAMES[0], "--reason", "moves to another host"],
        );
        assert_eq!(standing(&gateway, NAMES[0]).0, "draining");
        eventually("nothing runs on the drained one", || {
            let running = gateway.metric("relay_account_requests_in_flight", &[NAMES[0]]);
            (running == 0.0).then_some(())
        });
        let before = asked(&upstream, NAMES[0]);
        a_while("requests while one is drained");
        assert_eq!(
            asked(&upstream, NAMES[0]),
            before,
            "a drained one gets nothing new"
        );
        order(&gateway, &["disable", NAMES[0]]);
        a_while("requests while one is gone");
        order(&gateway, &["enable", NAMES[0]]);
        order(&gateway, &["disable", NAMES[1]]);
        eventually("the returned one is asked", || {
            (asked(&upstream, NAMES[0]) > before).then_some(())
        });
        a_while("requests while another one is gone");
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {served:?}");
}

#[test]
fn a_stream_that_runs_survives_the_removal_of_its_account() {
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |exchange| {
            exchange.send([openai::STREAM_HEAD, &chunk(&openai::delta("a"))].concat());
            go_on.wait();
            let last = [chunk(&openai::completed()), b"0\r\n\r\n".to_vec()].concat();
            exchange.send(last);
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    client.begin_response();
    client.read_payload(openai::delta("a").len());
    for name in NAMES {
        order(&gateway, &["disable", name, "--for", "1h"]);
        assert_eq!(standing(&gateway, name).0, "disabled");
    }
    let refused = gateway.call(&Request::plain());
    refused.assert_refused(503, "no_account_available");
    go_on.send();
    let (payload, ending) = client.finish_response();
    assert_eq!(ending, Ending::Complete);
    assert_eq!(payload, openai::completed());
}

#[test]
fn a_restart_keeps_blocks_and_the_operators_word() {
    let state = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::start(|exchange| {
        if crate::asked(exchange) == NAMES[0] {
            let wait = [("retry-after", "3600")];
            exchange.send(openai::error(429, "rate_limit_exceeded", &wait));
        } else {
            exchange.send(openai::plain());
        }
    });
    let directory = format!("{:?}", state.path().join("state"));
    let config = config(&upstream).set("node", "state_dir", directory);
    let shown = |gateway: &Gateway, name: &str| gateway.admin(&format!("/accounts/{name}")).json();
    let gateway = Gateway::start(&config);
    eventually("the first account is blocked", || {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
        (standing(&gateway, NAMES[0]).0 == "blocked").then_some(())
    });
    order(&gateway, &["drain", NAMES[1], "--reason", "contract ends"]);
    eventually("the block is saved", || {
        (shown(&gateway, NAMES[0])["saved"] == true).then_some(())
    });
    let before = NAMES.map(|name| shown(&gateway, name));
    // Killed, not stopped: it has no time to put anything in order.
    drop(gateway);
    let gateway = Gateway::start(&config);
    // On a slow disk it comes after the start.
    gateway.log().wait_event("state_restored");
    for (name, before) in NAMES.iter().zip(&before) {
        let after = shown(&gateway, name);
        for member in ["state", "reason", "until", "stated", "wish", "openings"] {
            assert_eq!(
                after[member], before[member],
                "{name}: {member}\n{before}\n{after}"
            );
        }
    }
    let count = asked(&upstream, NAMES[0]);
    for _ in 0..20 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    assert_eq!(asked(&upstream, NAMES[0]), count, "still blocked");
    gateway.stop();
    let gateway = Gateway::start(&config);
    gateway.log().wait_event("state_restored");
    assert_eq!(
        standing(&gateway, NAMES[0]).0,
        "blocked",
        "after an orderly end too"
    );
    order(&gateway, &["reset", NAMES[0]]);
    assert_eq!(standing(&gateway, NAMES[0]).0, "usable");
}
