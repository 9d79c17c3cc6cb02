//! `codex-relay kernel …`

use crate::two_accounts;
use relay_tests::{Gateway, Mode, Request, Upstream, openai};
use serde_json::Value;

fn status(gateway: &Gateway) -> (Option<i32>, Value) {
    let finished = gateway.command(&["kernel", "status", "--json"]);
    (finished.code, finished.json())
}

#[test]
fn what_is_in_force_is_shown_and_taken_away_when_no_gateway_uses_it() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let mut gateway = mode.gateway(&two_accounts(&upstream));
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let (code, running) = status(&gateway);
    assert_eq!(
        (code, &running["held_by"]),
        (Some(0), &gateway.pid().into())
    );
    assert!(
        running["lease_s"].as_u64().is_some_and(|left| left > 0),
        "{running}"
    );
    let links = running["links"].as_array().expect("a list");
    let in_force = |link: &Value| link["attached_to"] == "the gateway's cgroup";
    assert!(!links.is_empty() && links.iter().all(in_force), "{running}");
    let live = running["live"].as_array().expect("a list");
    let of_account = live.iter().any(|count| {
        count["count"] == "accounts_upstream" && (count["of"] == "first" || count["of"] == "second")
    });
    assert!(of_account, "one connection is kept: {running}");
    assert!(running["counters"]["egress_violation"] == 0, "{running}");
    let table = gateway.command(&["kernel", "status"]);
    assert!(table.output.contains("relay_connect4"), "{table:?}");

    let refused = gateway.command(&["kernel", "detach"]);
    assert_eq!(refused.code, Some(1), "a gateway uses it: {refused:?}");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);

    gateway.terminate();
    gateway.wait_exit();
    let (code, left) = status(&gateway);
    assert_eq!(
        (code, &left["held_by"]),
        (Some(0), &Value::Null),
        "egress stays closed"
    );
    assert_eq!(left["links"], running["links"]);
    let detached = gateway.command(&["kernel", "detach", "--json"]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    assert!(
        detached.json()["removed"]
            .as_array()
            .is_some_and(|paths| !paths.is_empty())
    );
    let (code, gone) = status(&gateway);
    assert_eq!((code, &gone["links"]), (Some(1), &Value::Array(Vec::new())));
    let again = gateway.command(&["kernel", "detach"]);
    assert_eq!(again.code, Some(0), "{again:?}");
}
