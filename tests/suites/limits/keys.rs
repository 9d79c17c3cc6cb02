//! Keys have limits of their own, below those of their tenant.

use relay_tests::{Config, Gateway, Request, Tenant, Upstream, openai};

fn call(gateway: &Gateway, key: &str) -> relay_tests::Response {
    gateway.call(&Request::plain().key(key))
}

#[test]
fn a_key_has_its_own_limit_and_shares_that_of_its_tenant() {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::new("acme", "rk-wide")
        .key_with_limits("rk-narrow", "requests_per_day = 2")
        .set("limits", "{ requests_per_day = 5 }");
    let config = Config::simple(upstream.address()).tenant(tenant);
    let gateway = Gateway::start(&config);
    for _ in 0..2 {
        assert_eq!(call(&gateway, "rk-narrow").status(), 200);
    }
    let refused = call(&gateway, "rk-narrow");
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(refused.json()["error"]["scope"], "key");
    for _ in 0..3 {
        assert_eq!(
            call(&gateway, "rk-wide").status(),
            200,
            "refusals cost nothing"
        );
    }
    let refused = call(&gateway, "rk-wide");
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(refused.json()["error"]["scope"], "tenant");
    assert_eq!(upstream.completed(), 5);
}

#[test]
fn one_tenant_does_not_take_from_another() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().set(
            "limits",
            "{ requests_per_day = 1, requests_per_minute = 1 }",
        ))
        .tenant(Tenant::new("other", "rk-other").set("limits", "{ requests_per_day = 1 }"));
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    for _ in 0..20 {
        assert_eq!(gateway.call(&Request::plain()).status(), 429);
    }
    assert_eq!(call(&gateway, "rk-other").status(), 200);
    assert_eq!(call(&gateway, "rk-other").status(), 429);
}
