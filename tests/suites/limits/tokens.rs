//! Tokens and money: set aside before, charged after.

use relay_tests::{Config, Gateway, Request, Tenant, Upstream, openai};

/// A request that says how much it wants at most.
fn modest() -> Request {
    Request::post(
        "/v1/responses",
        br#"{"model":"gpt-5","max_output_tokens":10,"input":"hi"}"#,
    )
}

fn start(limits: &str, more: impl FnOnce(Config) -> Config) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::acme().set("limits", limits);
    let config = Config::simple(upstream.address()).tenant(tenant);
    let gateway = Gateway::start(&more(config));
    (upstream, gateway)
}

fn priced(config: Config) -> Config {
    config
        .set("[price]", "models", "[\"gpt-5*\"]")
        .set("[price]", "input", 1.0)
        .set("[price]", "cached_input", 0.5)
        .set("[price]", "output", 10)
}

#[test]
fn what_was_used_is_charged_and_not_what_was_set_aside() {
    // Each request uses 18 tokens and sets aside 10 + 14.
    let (upstream, gateway) = start("{ tokens_per_day = 60 }", |config| config);
    let statuses: Vec<u16> = (0..4).map(|_| gateway.call(&modest()).status()).collect();
    // 0 + 24 ≤ 60, 18 + 24 ≤ 60, 36 + 24 ≤ 60, 54 + 24 > 60
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = gateway.call(&modest());
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(refused.json()["error"]["limit"], "tokens_per_day");
    assert_eq!(super::number(&refused, "x-ratelimit-limit-tokens"), 60);
    assert_eq!(super::number(&refused, "x-ratelimit-remaining-tokens"), 6);
    assert_eq!(upstream.completed(), 3);
}

#[test]
fn a_request_that_alone_is_larger_than_the_limit_is_told_so() {
    let (upstream, gateway) = start("{ tokens_per_minute = 20 }", |config| config);
    let refused = gateway.call(&modest());
    let error = refused.assert_refused(429, "tenant_rate_limited");
    assert!(!error.retryable, "waiting does not help: {}", error.message);
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn requests_that_use_no_tokens_are_not_held_up_by_them() {
    let (_upstream, gateway) = start("{ tokens_per_day = 1 }", |config| config);
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    assert_eq!(gateway.call(&modest()).status(), 429);
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
}

#[test]
fn a_budget_is_spent_at_the_prices_of_the_table() {
    // A request costs 8 × 1 + 3 × 0.5 + 7 × 10 = 79.5 millionths; it sets aside 14 × 1 + 10 × 10 = 114.
    let (upstream, gateway) = start("{ budget_per_month = 0.0003 }", priced);
    let statuses: Vec<u16> = (0..4)
        .map(|number| {
            gateway
                .call(&modest().id(&format!("paid-{number}")))
                .status()
        })
        .collect();
    // 0 + 114, 79.5 + 114, 159 + 114 ≤ 300; 238.5 + 114 > 300
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(gateway.logged("paid-0")["cost"].as_str(), Some("0.0000795"));
    let refused = gateway.call(&modest());
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(refused.json()["error"]["limit"], "budget_per_month");
    assert_eq!(upstream.completed(), 3);
}

#[test]
fn with_a_budget_what_has_no_price_is_refused() {
    let (upstream, gateway) = start("{ budget_per_month = 5.0 }", priced);
    let unpriced = Request::post("/v1/responses", br#"{"model":"o9","input":"hi"}"#);
    gateway
        .call(&unpriced)
        .assert_refused(403, "model_not_priced");
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    assert_eq!(upstream.completed(), 1);
}
