//! Shadow limits count and report, and refuse nothing.

use super::gateway;
use relay_tests::{Request, eventually};

#[test]
fn a_shadow_is_reported_and_refuses_nothing() {
    let (upstream, gateway) = gateway(
        "{ requests_per_day = 1, requests_per_minute = 100, shadow = [\"requests_per_day\"] }",
    );
    let mut client = gateway.client();
    for number in 0..3 {
        let id = format!("shadow-{number}");
        let answer = client.call(&Request::plain().id(&id));
        assert_eq!(answer.status(), 200);
        // What it is told is the limit that could refuse it.
        assert_eq!(super::number(&answer, "x-ratelimit-limit-requests"), 100);
        let shadowed = gateway.logged(&id)["shadowed"].clone();
        if number == 0 {
            assert!(shadowed.is_null(), "{shadowed}");
        } else {
            assert!(
                shadowed.to_string().contains("requests_per_day"),
                "{shadowed}"
            );
        }
    }
    let labels = ["tenant=\"acme\"", "limit=\"requests_per_day\""];
    eventually("the metric", || {
        (gateway.metric("relay_limit_shadow_total", &labels) == 2.0).then_some(())
    });
    assert_eq!(gateway.metric("relay_limit_refusals_total", &labels), 0.0);
    assert_eq!(upstream.completed(), 3);
}

#[test]
fn a_shadow_of_concurrency_lets_everybody_in() {
    let (_upstream, gateway) =
        gateway("{ concurrent_requests = 1, shadow = [\"concurrent_requests\"] }");
    let mut clients = super::connections(gateway.address(), 20);
    let statuses = super::at_once(&mut clients, &Request::plain().bytes());
    assert_eq!(super::count(&statuses, 200), 20);
}
