//! What a refused client is told: when to come again, what is used up, and in a form that Codex understands.

use super::gateway;
use relay_tests::{Config, Gateway, Request, Tenant, Upstream, openai};
use std::time::{SystemTime, UNIX_EPOCH};

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_secs()
}

#[test]
fn a_used_up_day_is_told_as_codex_understands_it() {
    let (upstream, gateway) = gateway("{ requests_per_day = 2 }");
    for _ in 0..2 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    let before = unix_now();
    let answer = gateway.call(&Request::plain().id("refused"));
    let error = answer.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(error.kind, "usage_limit_reached");
    let json = answer.json();
    let resets_at = json["error"]["resets_at"].as_u64().expect("a time");
    let midnight = (before / 86_400 + 1) * 86_400;
    assert!(
        resets_at == midnight || resets_at == midnight + 86_400,
        "{resets_at}: the next midnight in UTC"
    );
    let resets_in = json["error"]["resets_in_seconds"].as_u64().expect("a span");
    assert!(resets_in <= 86_400 && resets_in + before + 60 >= resets_at);
    assert_eq!(json["error"]["limit"], "requests_per_day");
    assert_eq!(super::number(&answer, "x-ratelimit-limit-requests"), 2);
    assert_eq!(super::number(&answer, "x-ratelimit-remaining-requests"), 0);
    let logged = gateway.logged("refused");
    assert_eq!(logged["code"], "tenant_quota_exceeded");
    assert_eq!(logged["limit"], "requests_per_day");
    assert_eq!(upstream.completed(), 2);
    let labels = ["tenant=\"acme\"", "limit=\"requests_per_day\""];
    assert_eq!(gateway.metric("relay_limit_refusals_total", &labels), 1.0);
}

#[test]
fn a_month_ends_when_it_does_where_the_operator_is() {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::acme().set("limits", "{ requests_per_month = 1 }");
    let config = Config::simple(upstream.address()).tenant(tenant).set(
        "usage",
        "time_zone",
        "\"Asia/Kolkata\"",
    );
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let answer = gateway.call(&Request::plain());
    answer.assert_refused(429, "tenant_quota_exceeded");
    let resets_at = answer.json()["error"]["resets_at"].as_u64();
    // Half past six in the evening in UTC is midnight in India.
    assert_eq!(resets_at.expect("a time") % 86_400, 18 * 3_600 + 1_800);
}

#[test]
fn what_was_not_answered_is_not_charged() {
    let upstream = Upstream::start(|exchange| {
        if exchange.request.number < 3 {
            exchange.send(openai::error(500, "server_error", &[]));
        } else {
            exchange.send(openai::plain());
        }
    });
    let tenant = Tenant::acme().set("limits", "{ requests_per_day = 1 }");
    let config = Config::simple(upstream.address())
        .tenant(tenant)
        .limit("attempts_max", 1)
        .set("health", "failures_max", 1_000);
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        let answer = gateway.call(&Request::plain());
        answer.assert_refused(502, "upstream_error");
    }
    // Nor is what never went anywhere.
    let unknown = Request::get("/health");
    assert_eq!(gateway.call(&unknown).status(), 200);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let answer = gateway.call(&Request::plain());
    answer.assert_refused(429, "tenant_quota_exceeded");
}

#[test]
fn the_providers_own_figures_are_hidden_behind_the_tenants() {
    let theirs = [
        ("content-type", "application/json"),
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-remaining-tokens", "777777"),
    ];
    let answer = relay_tests::http::response(200, &theirs, openai::PLAIN_BODY);
    let upstream = Upstream::answering(answer);
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().set("limits", "{ requests_per_day = 100 }"))
        .tenant(Tenant::new("free", "rk-free"));
    let gateway = Gateway::start(&config);
    let own = gateway.call(&Request::plain());
    assert_eq!(super::number(&own, "x-ratelimit-limit-requests"), 100);
    assert_eq!(super::number(&own, "x-ratelimit-remaining-requests"), 99);
    assert_eq!(own.head.value("x-ratelimit-remaining-tokens"), None);
    let free = gateway.call(&Request::plain().key("rk-free"));
    assert_eq!(super::number(&free, "x-ratelimit-limit-requests"), 5000);
    assert_eq!(
        super::number(&free, "x-ratelimit-remaining-tokens"),
        777_777
    );
}
