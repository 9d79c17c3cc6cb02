//! `GET /v1/relay/usage`: a tenant sees its own limits and what it has used.

use relay_tests::{Config, Gateway, Request, Tenant, Upstream, openai};
use serde_json::{Value, json};

fn usage(gateway: &Gateway, key: &str) -> Value {
    let answer = gateway.call(&Request::get("/v1/relay/usage").key(key));
    assert_eq!(answer.status(), 200);
    answer.json()
}

fn limit<'v>(list: &'v Value, name: &str) -> &'v Value {
    let all = list.as_array().expect("a list");
    let found = all.iter().find(|one| one["limit"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
fn a_tenant_sees_its_own() {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::new("acme", "rk-one")
        .key_with_limits("rk-two", "tokens_per_day = 5000")
        .set(
            "limits",
            "{ requests_per_day = 4, requests_per_minute = 50, shadow = [\"requests_per_minute\"] }",
        );
    let config = Config::simple(upstream.address())
        .tenant(tenant)
        .tenant(Tenant::new("other", "rk-other"));
    let gateway = Gateway::start(&config);
    for key in ["rk-one", "rk-two", "rk-two"] {
        assert_eq!(gateway.call(&Request::plain().key(key)).status(), 200);
    }
    let seen = usage(&gateway, "rk-two");
    assert_eq!(seen["object"], "relay.usage");
    assert_eq!(seen["tenant"], "acme");
    let day = limit(&seen["limits"]["tenant"], "requests_per_day");
    assert_eq!(
        (&day["max"], &day["used"], &day["remaining"]),
        (&json!(4), &json!(3), &json!(1))
    );
    assert!(
        day["resets_at"].is_u64() || day["resets_at"].is_string(),
        "{day}"
    );
    assert_eq!(
        limit(&seen["limits"]["tenant"], "requests_per_minute")["shadow"],
        true
    );
    assert_eq!(limit(&seen["limits"]["key"], "tokens_per_day")["used"], 36);
    assert_eq!(seen["day"]["requests"], 3);
    assert_eq!(seen["day"]["input_tokens"], 33);
    assert_eq!(seen["day"]["cached_tokens"], 9);
    assert_eq!(seen["day"]["output_tokens"], 21);
    assert_eq!(seen["day"]["reasoning_tokens"], 6);
    assert_eq!(seen["month"]["requests"], 3);
    assert_eq!(seen["key_day"]["requests"], 2);

    // Asking costs nothing, also when everything is used up.
    assert_eq!(gateway.call(&Request::plain().key("rk-one")).status(), 200);
    assert_eq!(gateway.call(&Request::plain().key("rk-one")).status(), 429);
    assert_eq!(usage(&gateway, "rk-one")["day"]["requests"], 4);
    let other = usage(&gateway, "rk-other");
    assert_eq!(other["tenant"], "other");
    assert_eq!(other["day"]["requests"], 0);
    assert_eq!(upstream.completed(), 4, "the provider hears nothing of it");
}

#[test]
fn only_with_a_key_and_only_by_get() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let anonymous = Request::get("/v1/relay/usage").without("Authorization");
    gateway
        .call(&anonymous)
        .assert_refused(401, "missing_api_key");
    let post = gateway.call(&Request::post("/v1/relay/usage", b"{}"));
    assert_eq!(post.status(), 405);
    assert_eq!(post.head.value("allow"), Some("GET, HEAD"));
    assert_eq!(upstream.completed(), 0);
}
