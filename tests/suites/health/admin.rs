//! `/accounts`: what is said, and what is obeyed.

use crate::{asked, order, post, post_to, shown, told, two, wait_state};
use relay_tests::{Account, Config, Gateway, Request, Signal, Upstream, eventually, openai};

/// The accounts that so many requests, one after the other, come to.
fn askeds(gateway: &Gateway, upstream: &Upstream, count: usize) -> Vec<String> {
    let before = upstream.completed();
    for _ in 0..count {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    upstream.requests()[before..].iter().map(asked).collect()
}

#[test]
fn accounts_are_shown_as_they_are() {
    let (held, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (held, go_on) = (held.clone(), go_on.clone());
        move |exchange| {
            held.send();
            go_on.wait();
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&two(&upstream));
    let mut client = gateway.client();
    client.send(Request::plain().bytes());
    held.wait();
    let listing = gateway.admin("/accounts").json();
    assert_eq!(listing["panic"], serde_json::json!([]), "{listing}");
    let accounts = listing["accounts"].as_array().expect("a list");
    assert_eq!(accounts.len(), 2, "{listing}");
    let in_flight: u64 = accounts
        .iter()
        .filter_map(|account| account["in_flight"].as_u64())
        .sum();
    assert_eq!(in_flight, 1, "{listing}");
    for (account, (name, address)) in accounts
        .iter()
        .zip([("first", "127.0.7.1"), ("second", "127.0.7.2")])
    {
        assert_eq!(account["name"], name);
        assert_eq!(account["upstream"], "openai");
        assert_eq!(account["state"], "usable");
        assert_eq!(account["share"], 1.0);
        assert_eq!(account["wish"]["word"], "enabled");
        assert_eq!(account["addresses"][0]["address"], address);
        assert_eq!(account["addresses"][0]["state"], "usable");
        let alone = gateway.admin(&format!("/accounts/{name}"));
        assert_eq!((alone.status(), &alone.json()), (200, account));
    }
    go_on.send();
    client.read_response();
}

#[test]
fn a_drained_account_takes_nothing_new_until_it_is_enabled() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&two(&upstream));
    let drained = order(&gateway, "first", "drain", r#"{"reason":"new key"}"#);
    assert_eq!(drained["state"], "draining", "{drained}");
    assert_eq!(drained["reason"], "new key", "{drained}");
    assert_eq!(drained["wish"]["word"], "drained", "{drained}");
    assert!(drained["wish"]["since"].is_string(), "{drained}");
    assert_eq!(drained["saved"], true, "{drained}");
    assert!(drained["unsaved_reason"].is_null(), "{drained}");
    let by = askeds(&gateway, &upstream, 20);
    assert!(by.iter().all(|name| name == "second"), "{by:?}");
    let ready = gateway.admin("/ready");
    assert_eq!(ready.status(), 200);
    let counts = &ready.json()["accounts"]["openai"];
    assert_eq!(
        (&counts["usable"], &counts["draining"]),
        (&1.into(), &1.into())
    );
    assert_eq!(counts["panic"], false);

    let enabled = order(&gateway, "first", "enable", "{}");
    assert_eq!(enabled["state"], "usable", "{enabled}");
    let by = askeds(&gateway, &upstream, 20);
    assert!(by.iter().any(|name| name == "first"), "{by:?}");
    let lines = told(&gateway, "first", 2);
    assert_eq!(
        (&lines[0]["to"], &lines[0]["words"]),
        (&"drained".into(), &"new key".into())
    );
    assert_eq!(
        (&lines[1]["to"], &lines[1]["reason"]),
        (&"enabled".into(), &"operator".into())
    );
}

#[test]
fn a_disabled_account_is_not_asked_even_if_it_is_the_only_one() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let disabled = order(&gateway, "first", "disable", "{}");
    assert_eq!(disabled["state"], "disabled", "{disabled}");
    gateway
        .call(&Request::plain())
        .assert_refused(503, "no_account_available");
    assert_eq!(upstream.connection_count(), 0);
    let ready = gateway.admin("/ready");
    assert_eq!(ready.status(), 200, "other things may still be asked of it");
    let counts = &ready.json()["accounts"]["openai"];
    assert_eq!(
        (&counts["disabled"], &counts["panic"]),
        (&1.into(), &false.into())
    );
}

#[test]
fn an_order_for_a_time_ends_by_itself() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&two(&upstream));
    let drained = order(&gateway, "second", "drain", r#"{"for_seconds":1}"#);
    assert!(drained["until"].is_string(), "{drained}");
    assert_eq!(drained["until"], drained["wish"]["until"], "{drained}");
    wait_state(&gateway, "second", "usable", None);
    let lines = told(&gateway, "second", 2);
    assert_eq!(
        (&lines[1]["to"], &lines[1]["reason"]),
        (&"enabled".into(), &"expired".into())
    );
    eventually("the end is saved", || {
        (shown(&gateway, "second")["saved"] == true).then_some(())
    });
}

#[test]
fn an_account_that_is_disabled_in_the_configuration_waits_for_the_operator() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::for_upstream(upstream.address())
        .account(Account::new("first", "127.0.7.1").set("enabled", false));
    let gateway = Gateway::start(&config);
    let account = shown(&gateway, "first");
    assert_eq!(account["state"], "disabled", "{account}");
    assert_eq!(account["reason"], "configuration", "{account}");
    gateway
        .call(&Request::plain())
        .assert_refused(503, "no_account_available");
    order(&gateway, "first", "enable", "{}");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn a_reset_forgets_what_has_failed() {
    let upstream = Upstream::start(|exchange| {
        if asked(&exchange.request) == "first" {
            exchange.send(openai::error(401, "invalid_api_key", &[]));
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&two(&upstream));
    eventually("the first one was asked", || {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
        (shown(&gateway, "first")["state"] == "blocked").then_some(())
    });
    let blocked = shown(&gateway, "first");
    assert_eq!(
        (&blocked["reason"], &blocked["stated"]),
        (&"refused".into(), &false.into())
    );
    assert_eq!(
        (&blocked["openings"], &blocked["share"]),
        (&1.into(), &0.0.into())
    );
    for member in ["until", "since"] {
        let time = blocked[member].as_str().unwrap_or_default();
        assert!(time.ends_with('Z'), "{blocked}");
    }
    // An order covers the block, and neither hides nor ends it.
    let drained = order(&gateway, "first", "drain", "{}");
    assert_eq!(drained["state"], "draining", "{drained}");
    assert!(drained["until"].is_null(), "{drained}");
    for member in ["state", "reason", "until", "stated"] {
        assert_eq!(drained["health"][member], blocked[member], "{drained}");
    }
    assert_eq!(order(&gateway, "first", "enable", "{}")["state"], "blocked");
    let well = order(&gateway, "first", "reset", r#"{"reason":"new key"}"#);
    assert!(
        ["usable", "recovering"].contains(&well["state"].as_str().unwrap_or_default()),
        "{well}"
    );
    assert!(well["until"].is_null(), "{well}");
    let lines = told(&gateway, "first", 5);
    assert_eq!(
        (&lines[0]["to"], &lines[0]["reason"]),
        (&"open".into(), &"refused".into())
    );
    assert_eq!(
        (&lines[3]["to"], &lines[3]["reason"]),
        (&"closed".into(), &"operator".into())
    );
    assert_eq!(
        (&lines[4]["to"], &lines[4]["ordered"], &lines[4]["words"]),
        (&"reset".into(), &"true".into(), &"new key".into())
    );
}

#[test]
fn a_page_whose_name_leads_here_gives_no_orders() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&two(&upstream));
    let json = "application/json";
    for path in ["/accounts/first/disable", "/egress/check"] {
        let answer = post_to(&gateway, "page.example:9901", path, json, "{}");
        assert_eq!(answer.status(), 403, "{path}");
        let error = answer.json()["error"].clone();
        let said = error.as_str().unwrap_or_default();
        assert!(said.contains("localhost"), "{path}: {said}");
    }
    assert_eq!(shown(&gateway, "first")["state"], "usable");
    let path = "/accounts/first/disable";
    let answer = post_to(
        &gateway,
        "localhost",
        path,
        "application/json; charset=utf-8",
        "{}",
    );
    assert_eq!(answer.status(), 200);
    assert_eq!(shown(&gateway, "first")["state"], "disabled");
}

#[test]
fn what_cannot_be_obeyed_is_refused_with_what_helps_and_changes_nothing() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&two(&upstream));
    let json = "application/json";
    for (path, content_type, body, status, said) in [
        (
            "/accounts/first/drain",
            "text/plain",
            "{}",
            415,
            "application/json",
        ),
        (
            "/accounts/frist/drain",
            json,
            "{}",
            404,
            "did you mean `first`?",
        ),
        (
            "/accounts/first/stop",
            json,
            "{}",
            404,
            "drain, enable, disable, reset",
        ),
        ("/accounts/first/drain", json, "", 400, "cannot be read"),
        (
            "/accounts/first/drain",
            json,
            r#"{"for":60}"#,
            400,
            "for_seconds",
        ),
        (
            "/accounts/first/drain",
            json,
            r#"{"for_seconds":-1}"#,
            400,
            "cannot be read",
        ),
        (
            "/accounts/first/drain",
            json,
            r#"{"for_seconds":0}"#,
            400,
            "already",
        ),
        (
            "/accounts/first/drain",
            json,
            r#"{"until":"tomorrow"}"#,
            400,
            "tomorrow",
        ),
        (
            "/accounts/first/reset",
            json,
            r#"{"for_seconds":60}"#,
            400,
            "neither",
        ),
        ("/accounts/first", json, "{}", 405, "another method"),
    ] {
        let answer = post(&gateway, path, content_type, body);
        let error = answer.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(answer.status(), status, "{path} {body}: {error}");
        assert!(error.contains(said), "{path} {body}: {error}");
    }
    let unknown = gateway.admin("/accounts/third");
    assert_eq!(unknown.status(), 404);
    assert_eq!(gateway.admin("/accounts/first/drain").status(), 405);
    for name in ["first", "second"] {
        assert_eq!(shown(&gateway, name)["wish"]["word"], "enabled");
    }
    // Tenants do not reach it through the listener.
    let answer = gateway.call(&Request::get("/accounts").without("Authorization"));
    answer.assert_refused(401, "missing_api_key");
}
