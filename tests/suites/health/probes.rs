//! Accounts are tried although nobody asks for them.

use crate::{asked, order, shown, told, two, wait_state};
use relay_tests::upstream::Received;
use relay_tests::{
    Account, Config, Exchange, Gateway, Mode, Request, Upstream, eventually, in_each_mode, openai,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between the bytes of an answer that trickles: far below any limit on silence.
const PACE: Duration = Duration::from_millis(20);

/// Often, but one after the other: a probe is over before the next one of the same account is due.
fn probing(config: Config) -> Config {
    let probe = r#"{ interval = "300ms", timeout = "240ms", per_second_max = 1000 }"#;
    config.upstream_key("openai", "probe", probe)
}

/// Blocks are over soon, and so is the recovery from them.
fn soon_tried(mut config: Config) -> Config {
    for key in [
        "backoff_min",
        "backoff_max",
        "refused_backoff_min",
        "refused_backoff_max",
    ] {
        config = config.set("health", key, "\"100ms\"");
    }
    config.set("health", "slow_start", "\"0s\"")
}

/// Waits until so many requests of this account have come.
fn wait_probed(upstream: &Upstream, name: &str, count: usize) {
    upstream.wait_for(&format!("{count} probes of {name}"), |record| {
        let probes = record
            .requests
            .iter()
            .filter(|request| asked(request) == name);
        (probes.count() >= count).then_some(())
    });
}

fn count(upstream: &Upstream, name: &str) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| asked(request) == name)
        .count()
}

fn every_account_is_asked_from_each_of_its_addresses(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::bare()
        .upstream("openai", &format!("http://{}/base", upstream.address()))
        .tenant(relay_tests::Tenant::acme())
        .account(Account::new("first", "127.0.7.1").egress("127.0.7.3"))
        .account(Account::new("second", "127.0.7.2"))
        .upstream_key("openai", "headers.request.set", r#"{ openai-beta = "x" }"#);
    let gateway = mode.gateway(&probing(config));
    let seen = |requests: &[Received]| -> BTreeSet<(String, String)> {
        let peer = |request: &Received| request.peer.expect("a peer").ip().to_string();
        requests
            .iter()
            .map(|request| (asked(request), peer(request)))
            .collect()
    };
    let expected: BTreeSet<_> = [
        ("first", "127.0.7.1"),
        ("first", "127.0.7.3"),
        ("second", "127.0.7.2"),
    ]
    .map(|(name, address)| (name.to_owned(), address.to_owned()))
    .into();
    upstream.wait_for("a probe of each", |record| {
        (seen(&record.requests) == expected).then_some(())
    });
    let probe = &upstream.requests()[0];
    assert_eq!((&*probe.method, &*probe.target), ("GET", "/base/v1/models"));
    let host = upstream.address().to_string();
    for (name, value) in [
        ("host", &*host),
        ("connection", "close"),
        ("openai-beta", "x"),
    ] {
        assert_eq!(probe.head.value(name), Some(value));
    }
    assert_eq!((probe.number_on_connection, probe.body.len()), (0, 0));
    upstream.wait_ended(probe.connection);
    eventually("they are counted", || {
        let labels = ["account=\"second\"", "result=\"succeeded\""];
        (gateway.metric("relay_probes_total", &labels) >= 1.0).then_some(())
    });
    for name in ["first", "second"] {
        assert_eq!(shown(&gateway, name)["state"], "usable");
    }
}

in_each_mode! {
    every_account_is_asked_from_each_of_its_addresses,
}

#[test]
fn what_an_answer_says_of_the_account_is_taken_from_a_probe_too() {
    type Act = fn(&mut Exchange);
    let cases: [(&str, Act, &str); 5] = [
        (
            "refused",
            |exchange| {
                exchange.send(openai::error(401, "invalid_api_key", &[]));
            },
            "account_refused",
        ),
        (
            "quota_exhausted",
            |exchange| {
                exchange.send(openai::error(429, "insufficient_quota", &[]));
            },
            "quota_exhausted",
        ),
        (
            "rate_limited",
            |exchange| {
                exchange.send(openai::error(429, "x", &[("retry-after", "600")]));
            },
            "rate_limited",
        ),
        ("resets", Exchange::reset, "broken"),
        (
            "time_outs",
            |exchange| {
                exchange.wait_closed();
            },
            "timeout",
        ),
    ];
    for (reason, act, result) in cases {
        let upstream = Upstream::start(move |exchange| {
            if asked(&exchange.request) == "first" {
                act(exchange);
            } else {
                exchange.send(openai::plain());
            }
        });
        let config = two(&upstream).set("health", "backoff_min", "\"10m\"");
        let config = config.set("health", "backoff_max", "\"10m\"");
        let gateway = Gateway::start(&probing(config));
        wait_state(&gateway, "first", "blocked", Some(reason));
        let labels = ["account=\"first\"", &format!("result=\"{result}\"")];
        assert!(
            gateway.metric("relay_probes_total", &labels) >= 1.0,
            "{reason}"
        );
        // As long as it is blocked it is left alone.
        let before = count(&upstream, "first");
        wait_probed(&upstream, "second", count(&upstream, "second") + 5);
        assert_eq!(count(&upstream, "first"), before, "{reason}");
        assert_eq!(shown(&gateway, "second")["state"], "usable", "{reason}");
        let stated = reason == "rate_limited";
        assert_eq!(shown(&gateway, "first")["stated"], stated, "{reason}");
    }
}

#[test]
fn a_destination_that_is_not_there_is_the_fault_of_the_way_not_of_the_account() {
    let nobody = relay_tests::dead_end::Refusing::start();
    let config = Config::for_upstream(nobody.address())
        .account(Account::first())
        .set("health", "backoff_min", "\"10m\"")
        .set("health", "backoff_max", "\"10m\"");
    let gateway = Gateway::start(&probing(config));
    wait_state(&gateway, "first", "blocked", Some("unreachable"));
    let account = shown(&gateway, "first");
    assert_eq!(account["addresses"][0]["state"], "blocked", "{account}");
    assert_eq!(account["openings"], 0, "{account}");
    let state = gateway.metric("relay_account_address_state", &["account=\"first\""]);
    assert_eq!(state, 3.0);
}

#[test]
fn an_account_recovers_by_probes_alone() {
    let fails = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::start({
        let fails = fails.clone();
        move |exchange| {
            if fails.load(Ordering::SeqCst) {
                exchange.send(openai::error(401, "invalid_api_key", &[]));
            } else {
                exchange.send(openai::plain());
            }
        }
    });
    let config = soon_tried(Config::simple(upstream.address()));
    let gateway = Gateway::start(&probing(config));
    told(&gateway, "first", 1);
    fails.store(false, Ordering::SeqCst);
    wait_state(&gateway, "first", "usable", None);
    let closed = gateway.log().wait_for("its recovery", |lines| {
        let closed = lines.iter().find(|line| line.json["to"] == "closed");
        closed.map(|line| line.json.clone())
    });
    assert_eq!(closed["reason"], "refused", "{closed}");
    assert!(closed["recovered_after_s"].is_string(), "{closed}");
    eventually("the recovery is counted", || {
        let count = gateway.metric("relay_account_recovery_seconds_count", &["first"]);
        (count >= 1.0).then_some(())
    });
}

#[test]
fn what_only_requests_can_tell_is_not_over_because_probes_go_well() {
    let fails = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::start({
        let fails = fails.clone();
        move |exchange| {
            let is_probe = exchange.request.method == "GET";
            if !is_probe && fails.load(Ordering::SeqCst) {
                exchange.send(openai::error(429, "insufficient_quota", &[]));
            } else {
                exchange.send(openai::plain());
            }
        }
    });
    let config = Config::for_upstream(upstream.address());
    let config = soon_tried(config.account(Account::new("first", "127.0.7.1")));
    let gateway = Gateway::start(&probing(config));
    assert_ne!(gateway.call(&Request::plain()).status(), 200);
    // Two of them would be enough, and probes go on while it is due.
    wait_probed(&upstream, "first", count(&upstream, "first") + 6);
    let account = shown(&gateway, "first");
    assert_eq!(account["state"], "due", "{account}");
    assert_eq!(account["reason"], "quota_exhausted", "{account}");
    fails.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    wait_state(&gateway, "first", "usable", None);
}

#[test]
fn an_error_whose_body_trickles_is_told_and_let_go() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 60000\r\nretry-after: 600\r\n\r\n",
        );
        while exchange.send(" ") {
            thread::sleep(PACE);
        }
    });
    let gateway = Gateway::start(&probing(Config::simple(upstream.address())));
    wait_state(&gateway, "first", "blocked", Some("rate_limited"));
    upstream.wait_ended(0);
}

#[test]
fn who_is_disabled_is_not_probed_and_who_is_drained_is() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::for_upstream(upstream.address())
        .account(Account::new("first", "127.0.7.1").set("enabled", false))
        .account(Account::new("second", "127.0.7.2"));
    let gateway = Gateway::start(&probing(config));
    order(&gateway, "second", "drain", "{}");
    wait_probed(&upstream, "second", count(&upstream, "second") + 5);
    assert_eq!(count(&upstream, "first"), 0);
    order(&gateway, "first", "enable", "{}");
    wait_probed(&upstream, "first", 1);
}

#[test]
fn an_answer_that_tells_nothing_of_the_account_is_reported_once() {
    let upstream = Upstream::answering(openai::error(404, "not_found", &[]));
    let gateway = Gateway::start(&probing(two(&upstream)));
    let told = gateway.log().wait_event("probe_answer_unexpected");
    assert_eq!(
        (&told["upstream"], &told["status"]),
        (&"openai".into(), &"404".into())
    );
    wait_probed(&upstream, "first", 4);
    wait_probed(&upstream, "second", 4);
    for name in ["first", "second"] {
        assert_eq!(shown(&gateway, name)["state"], "usable");
    }
    let lines = gateway.log().lines();
    let told = lines
        .iter()
        .filter(|line| line.event() == "probe_answer_unexpected");
    assert_eq!(told.count(), 1);
    assert!(gateway.metric("relay_probes_total", &["result=\"unexpected\""]) >= 1.0);
}

#[test]
fn a_gateway_that_probes_ends_in_order() {
    let upstream = Upstream::start(|exchange| {
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&probing(two(&upstream)));
    wait_probed(&upstream, "first", 1);
    gateway.stop();
}
