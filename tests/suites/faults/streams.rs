//! Answers that go wrong behind their beginning, or do not begin: what the account's health makes of it.

use crate::{FAILURES_MAX, account, answer, asked, config, standing};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Ending, Gateway, RawClient, Request, Upstream, eventually, openai};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// One account; whoever blocks it does so for longer than any test.
fn alone(upstream: &Upstream) -> Config {
    Config::for_upstream(upstream.address())
        .account(account(0))
        .timeout("queue", "0s")
        .set("health", "backoff_min", "\"5m\"")
        .set("health", "backoff_max", "\"5m\"")
}

/// Some output, and then a report that the account has to wait until then.
fn rate_limited(resets_at: u64) -> Vec<u8> {
    let report = format!(
        "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"error\":\
         {{\"code\":\"rate_limit_exceeded\",\"resets_at\":{resets_at}}}}}}}\n\n"
    );
    [
        openai::created(),
        openai::delta("half"),
        report.into_bytes(),
    ]
    .concat()
}

#[test]
fn a_reported_failure_counts_though_the_client_leaves_first() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&rate_limited(4_102_444_800)));
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&alone(&upstream));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    client.read_payload(rate_limited(4_102_444_800).len());
    drop(client);
    let line = gateway.logged("left");
    assert_eq!(line["ended"], "client_gone", "{line}");
    let blocked = ("blocked".to_owned(), Some("rate_limited".to_owned()));
    assert_eq!(standing(&gateway, "first"), blocked);
}

#[test]
fn a_stream_that_ends_in_order_but_without_its_last_event_is_broken() {
    let upstream = Upstream::start(|exchange| {
        let events = [chunk(&openai::created()), chunk(&openai::delta("half"))].concat();
        exchange.send([openai::STREAM_HEAD, &events, LAST_CHUNK].concat());
    });
    let gateway = Gateway::start(&alone(&upstream));
    for id in ["one", "two"] {
        gateway.call(&Request::streamed().id(id));
        assert_eq!(gateway.logged(id)["ended"], "unfinished");
    }
    let blocked = ("blocked".to_owned(), Some("broken_streams".to_owned()));
    assert_eq!(standing(&gateway, "first"), blocked);
}

#[test]
fn a_time_in_a_reported_failure_is_meant_by_the_providers_clock() {
    const TEN_MINUTES_SECONDS: u64 = 600;
    // 1994-11-06 08:49:37 UTC, and 2100-01-01 00:00:00 UTC.
    for (date, unix_seconds) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 4_102_444_800),
    ] {
        let upstream = Upstream::start(move |exchange| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
            exchange.send(format!("{head}date: {date}\r\n\r\n"));
            exchange.send(chunk(&rate_limited(unix_seconds + TEN_MINUTES_SECONDS)));
            exchange.send(LAST_CHUNK);
        });
        let gateway = Gateway::start(&alone(&upstream).account(account(1)));
        let until = |name: &str| -> String {
            let shown: Value = gateway.admin(&format!("/accounts/{name}")).json();
            shown["until"].as_str().unwrap_or_default().to_owned()
        };
        let order = |seconds: u64| {
            let body = format!("{{\"for_seconds\":{seconds}}}");
            let admin = gateway.admin_address();
            let drain = Request::post("/accounts/second/drain", body).without("Host");
            let answer = RawClient::connect(admin).call(&drain.field("Host", &admin.to_string()));
            assert_eq!(answer.status(), 200, "{answer:?}");
            until("second")
        };
        order(3_600);
        gateway.call(&Request::streamed().id("limited"));
        gateway.logged("limited");
        let blocked_until = until("first");
        let (nine, eleven) = (order(540), order(660));
        assert!(
            nine < blocked_until && blocked_until < eleven,
            "{date}: {blocked_until} is not between {nine} and {eleven}"
        );
    }
}

#[test]
fn an_answer_that_takes_too_long_is_the_accounts_fault_only_where_it_fell_silent() {
    for (event_idle, state) in [("9m", "usable"), ("50ms", "blocked")] {
        let upstream = Upstream::start(|exchange| {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
            exchange.send(head);
            exchange.wait_closed();
        });
        let config = alone(&upstream)
            .timeout("heartbeat", "0s")
            .timeout("response_head", "1s")
            .timeout("upstream_connect", "1s")
            .timeout("answer_total", "1s")
            .timeout("event_idle", event_idle);
        let gateway = Gateway::start(&config);
        thread::scope(|scope| {
            for number in 0..FAILURES_MAX {
                let gateway = &gateway;
                scope.spawn(move || {
                    let id = format!("long-{number}");
                    let answer = gateway.call(&Request::plain().id(&id));
                    assert_eq!(answer.ending, Ending::Truncated);
                    assert_eq!(gateway.logged(&id)["ended"], "deadline");
                });
            }
        });
        assert_eq!(standing(&gateway, "first").0, state, "{event_idle}");
    }
}

#[test]
fn the_time_of_an_answer_that_is_over_is_not_the_accounts_fault_where_its_client_took_nothing() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        let delta = chunk(&openai::delta(&"x".repeat(10_000)));
        while exchange.send(&delta) {}
    });
    let config = alone(&upstream)
        .timeout("heartbeat", "0s")
        .timeout("write_stall", "9m")
        .timeout("response_head", "1s")
        .timeout("first_event", "1s")
        .timeout("event_idle", "300ms")
        .timeout("stream_total", "1s");
    let gateway = Gateway::start(&config);
    let clients: Vec<RawClient> = (0..FAILURES_MAX)
        .map(|number| {
            let id = format!("slow-{number}");
            let mut client = RawClient::connect_narrow(gateway.address(), 4096);
            client.send(Request::streamed().id(&id).bytes());
            client.begin_response();
            assert_eq!(gateway.logged(&id)["ended"], "deadline");
            client
        })
        .collect();
    assert_eq!(standing(&gateway, "first").0, "usable");
    drop(clients);
}

/// A stream is wanted of an account that is tried, and does not begin it.
fn assert_a_trial_is_given_up_soon(begin: &'static [u8]) {
    let recovers = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let recovers = Arc::clone(&recovers);
        move |exchange| {
            if asked(exchange) != "first" {
                exchange.send(openai::stream(&["a"]));
            } else if recovers.load(Ordering::SeqCst) {
                // And nothing more, for as long as the gateway waits for it.
                exchange.send(begin);
            } else {
                answer(exchange, 500, "server_error", &[]);
            }
        }
    });
    let gateway = Gateway::start(
        &config(&upstream)
            .timeout("response_head", "9m")
            .timeout("first_event", "9m")
            .set("health", "backoff_min", "\"1s\"")
            .set("health", "backoff_max", "\"1s\""),
    );
    let is = |state: &str| (standing(&gateway, "first").0 == state).then_some(());
    eventually("the first account is blocked", || {
        gateway.call(&Request::streamed());
        is("blocked")
    });
    recovers.store(true, Ordering::SeqCst);
    eventually("the first account may be tried", || is("due"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("trial").bytes());
    client.be_patient(Duration::from_secs(30));
    let head = client.begin_response();
    assert_eq!(head.value("x-relay-attempts"), Some("2"));
    assert_eq!(client.finish_response().1, Ending::Complete);
    assert_eq!(gateway.logged("trial")["chosen"], "balanced");
}

#[test]
fn a_trial_that_is_not_answered_is_given_up_soon() {
    assert_a_trial_is_given_up_soon(b"");
}

#[test]
fn a_trial_whose_stream_does_not_begin_is_given_up_soon() {
    assert_a_trial_is_given_up_soon(openai::STREAM_HEAD);
}
