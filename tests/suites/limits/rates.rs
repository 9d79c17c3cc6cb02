//! Rates: a burst at once, and after that no more than the average.

use super::{count, gateway};
use relay_tests::Request;
use std::time::{Duration, Instant};

#[test]
fn a_burst_passes_and_then_the_average_holds() {
    let (upstream, gateway) = gateway("{ requests_per_second = 2, burst = 6 }");
    let mut client = gateway.client();
    let began_at = Instant::now();
    let statuses: Vec<u16> = (0..40)
        .map(|_| client.call(&Request::plain()).status())
        .collect();
    let refilled = (began_at.elapsed().as_secs_f64() * 2.0) as usize + 1;
    let passed = count(&statuses, 200);
    assert!(
        (6..=6 + refilled).contains(&passed),
        "{passed}: {statuses:?}"
    );
    assert!(statuses[..6].iter().all(|status| *status == 200));
    assert_eq!(count(&statuses, 429), 40 - passed);
    assert_eq!(upstream.completed(), passed);
}

#[test]
fn who_waits_as_long_as_told_is_served() {
    let (_upstream, gateway) = gateway("{ requests_per_second = 1, burst = 1 }");
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 200);
    // One of two in a row at least is too early, however slow this machine is: unless a second passes between them.
    let refused = std::iter::repeat_with(|| client.call(&Request::plain()))
        .take(1_000)
        .find(|answer| answer.status() == 429);
    let refused = refused.expect("a refusal");
    refused.assert_refused(429, "tenant_rate_limited");
    let after = super::number(&refused, "retry-after");
    assert_eq!(after, 1);
    std::thread::sleep(Duration::from_secs(after));
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

#[test]
fn a_minute_has_its_requests_and_says_how_many_are_left() {
    let (_upstream, gateway) = gateway("{ requests_per_minute = 3 }");
    let mut client = gateway.client();
    for left in [2, 1, 0] {
        let answer = client.call(&Request::plain());
        assert_eq!(answer.status(), 200);
        assert_eq!(super::number(&answer, "x-ratelimit-limit-requests"), 3);
        assert_eq!(
            super::number(&answer, "x-ratelimit-remaining-requests"),
            left
        );
        let reset = answer.head.value("x-ratelimit-reset-requests");
        assert!(reset.is_some_and(|reset| reset.ends_with('s')), "{reset:?}");
    }
    let refused = client.call(&Request::plain());
    let error = refused.assert_refused(429, "tenant_rate_limited");
    assert!(error.retryable);
    assert_eq!(refused.json()["error"]["limit"], "requests_per_minute");
    assert_eq!(super::number(&refused, "x-ratelimit-remaining-requests"), 0);
    let after = super::number(&refused, "retry-after");
    assert!(
        (1..=20).contains(&after),
        "one more in twenty seconds: {after}"
    );
}
