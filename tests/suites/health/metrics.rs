//! What the metrics tell of accounts.

use crate::{asked, order, shown, two};
use relay_tests::{Config, Gateway, Request, Upstream, eventually, openai};
use std::collections::BTreeSet;

#[test]
fn an_account_is_in_one_state_and_so_is_each_of_its_addresses() {
    let upstream = Upstream::answering(openai::error(401, "invalid_api_key", &[]));
    // Asked one at a time: who is not compared with another one is to blame.
    let gateway = Gateway::start(&two(&upstream).limit("attempts_max", 1));
    let state = |account: &str, state: &str| {
        let labels = [
            format!("account=\"{account}\""),
            format!("state=\"{state}\""),
        ];
        gateway.metric("relay_account_state", &[&labels[0], &labels[1]])
    };
    let text = String::from_utf8(gateway.admin("/metrics").payload).expect("text");
    let is_address = |line: &&str| line.starts_with("relay_account_address_state{");
    assert_eq!(
        text.lines().filter(is_address).count(),
        2,
        "one series for each"
    );
    let panics = || gateway.metric("relay_upstream_panic", &["upstream=\"openai\""]);
    assert_eq!(
        (state("first", "usable"), state("first", "blocked")),
        (1.0, 0.0)
    );
    assert_eq!(panics(), 0.0);
    for _ in 0..2 {
        gateway
            .call(&Request::plain())
            .assert_refused(503, "no_account_available");
    }
    for account in ["first", "second"] {
        assert_eq!(shown(&gateway, account)["state"], "blocked");
        assert_eq!(
            (state(account, "usable"), state(account, "blocked")),
            (0.0, 1.0)
        );
        let account = format!("account=\"{account}\"");
        assert_eq!(
            gateway.metric("relay_account_state", &[&account]),
            1.0,
            "one state"
        );
        // The credential is refused, not the address.
        assert_eq!(
            gateway.metric("relay_account_address_state", &[&account]),
            0.0
        );
    }
    assert_eq!(panics(), 1.0);
    gateway.log().wait_event("panic_mode");
    let opened = ["to=\"open\"", "reason=\"refused\""];
    eventually("both openings are counted", || {
        let count = gateway.metric("relay_account_transitions_total", &opened);
        (count == 2.0).then_some(())
    });
    order(&gateway, "first", "reset", "{}");
    gateway.log().wait_event("panic_mode_over");
    assert_eq!(panics(), 0.0);
    order(&gateway, "first", "drain", "{}");
    assert_eq!(
        (state("first", "draining"), state("first", "blocked")),
        (1.0, 0.0)
    );
}

#[test]
fn attempts_choices_and_tokens_are_counted_by_account_and_upstream() {
    let upstream = Upstream::start(|exchange| {
        if asked(&exchange.request) == "first" {
            exchange.send(openai::error(500, "server_error", &[]));
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&two(&upstream));
    let requests = 20;
    for _ in 0..requests {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    gateway.log().wait_requests(requests);
    let asked_first = upstream
        .requests()
        .iter()
        .filter(|one| asked(one) == "first")
        .count();
    assert!(asked_first > 0, "nobody asked the first one");
    let metric = |name: &str, labels: &[&str]| gateway.metric(name, labels);
    eventually("all requests are counted", || {
        let count = metric("relay_request_attempts_count", &[]);
        (count == requests as f64).then_some(())
    });
    let attempts = requests + asked_first;
    assert_eq!(metric("relay_request_attempts_sum", &[]), attempts as f64);
    let at_once = metric("relay_request_attempts_bucket", &["le=\"1\""]);
    assert_eq!(at_once, (requests - asked_first) as f64);
    let openai = "upstream=\"openai\"";
    assert_eq!(
        metric("relay_failovers_total", &[openai]),
        asked_first as f64
    );
    assert_eq!(metric("relay_choices_total", &[openai]), requests as f64);
    let tokens = |kind| metric("relay_account_tokens_total", &["account=\"second\"", kind]);
    let requests = requests as f64;
    assert_eq!(tokens("kind=\"input\""), 11.0 * requests);
    assert_eq!(tokens("kind=\"cached\""), 3.0 * requests);
    assert_eq!(tokens("kind=\"output\""), 7.0 * requests);
    assert_eq!(
        metric("relay_account_tokens_total", &["account=\"first\""]),
        0.0
    );
    let line = &gateway.log().wait_requests(1)[0];
    assert!(line["chosen"].is_string(), "{line}");
}

#[test]
fn a_denied_attempt_is_counted() {
    let upstream = Upstream::answering(openai::error(500, "server_error", &[]));
    let config = two(&upstream)
        .limit("retry_budget_percent", 0)
        .limit("retry_budget_per_second_min", 0);
    let gateway = Gateway::start(&config);
    let denied = || gateway.metric("relay_retries_denied_total", &["upstream=\"openai\""]);
    assert_eq!(denied(), 0.0);
    gateway
        .call(&Request::plain())
        .assert_refused(502, "upstream_error");
    assert_eq!(upstream.completed(), 1);
    assert_eq!(denied(), 1.0);
}

#[test]
fn everything_is_described() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    gateway.call(&Request::plain());
    gateway.log().wait_requests(1);
    eventually("what is said each second", || {
        (gateway.metric("relay_state_saving", &[]) == 1.0).then_some(())
    });
    let text = String::from_utf8(gateway.admin("/metrics").payload).expect("text");
    let named = |kind: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        let names = lines.filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    };
    let (described, typed) = (named("# HELP "), named("# TYPE "));
    assert!(typed.len() > 30, "{typed:?}");
    let missing: Vec<_> = typed.difference(&described).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
