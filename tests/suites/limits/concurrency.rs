//! Requests in flight: never above the cap, and none left in the end, however they end.

use super::connections;
use relay_tests::http::chunk;
use relay_tests::{
    Account, Config, Gateway, RawClient, Request, Signal, Tenant, Upstream, eventually, openai,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CAP: usize = 5;

/// Counts requests that the provider is busy with, and the most there ever were at a time.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

#[test]
fn the_cap_holds_under_cancels_and_failures_and_the_count_returns_to_zero() {
    let gauge = Arc::new(Gauge::default());
    let upstream = {
        let gauge = gauge.clone();
        Upstream::start(move |exchange| {
            // Whoever leaves gives its place up at once, whatever the provider is busy with: only the others are counted.
            if exchange.request.head.value("x-codex-leaves").is_none() {
                gauge.enter();
                // Until as many are here as there may be, or nobody else comes: only then could one be too many.
                let patience = Instant::now() + Duration::from_millis(20);
                while gauge.now() < CAP && Instant::now() < patience {
                    thread::yield_now();
                }
                // What follows ends the request at the gateway, which is no sooner than it is counted out here.
                gauge.leave();
            }
            match exchange.request.number % 5 {
                0 => {
                    exchange.send(openai::plain());
                }
                1 => {
                    exchange.send(openai::error(500, "server_error", &[]));
                }
                2 => exchange.reset(),
                3 => {
                    exchange.send(openai::STREAM_HEAD);
                    exchange.send(chunk(&openai::delta("some")));
                    exchange.reset();
                }
                _ => {
                    exchange.send(openai::stream(&["a", "b"]));
                }
            }
        })
    };
    let tenant = Tenant::acme().limits(&format!("concurrent_requests = {CAP}"));
    let mut config = Config::for_upstream(upstream.address())
        .tenant(tenant)
        .set("node", "workers", 4)
        .set("log", "requests", false)
        .set("health", "failures_max", 1_000)
        .set("health", "failure_percent_max", 100)
        .limit("attempts_max", 1);
    for number in 1..=4 {
        let account = Account::new(&format!("a{number}"), &format!("127.0.7.{number}"));
        config = config.account(account.set("max_concurrent", 1_000));
    }
    let gateway = Gateway::start(&config);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4 * CAP {
            let (gateway, refused) = (&gateway, &refused);
            scope.spawn(move || {
                for number in 0..30_usize {
                    let mut client = gateway.client();
                    if (thread + number).is_multiple_of(5) {
                        client.send(Request::streamed().field("X-Codex-Leaves", "yes").bytes());
                        // Gone, at whatever point the gateway is by now.
                        client.reset();
                        continue;
                    }
                    client.send(Request::streamed().bytes());
                    if let Some(head) = client.try_begin_response(false) {
                        refused.fetch_add(usize::from(head.status() == 429), Ordering::SeqCst);
                        client.finish_response();
                    }
                }
            });
        }
    });
    eventually("no request is in flight", || {
        let of_tenant = gateway.metric("relay_tenant_requests_in_flight", &[]);
        let of_accounts = gateway.metric("relay_account_requests_in_flight", &[]);
        (of_tenant == 0.0 && of_accounts == 0.0).then_some(())
    });
    assert_eq!(gauge.most.load(Ordering::SeqCst), CAP);
    assert!(refused.into_inner() > 0, "nobody was too many");
    assert_eq!(gateway.metric("relay_panics_total", &[]), 0.0);
}

#[test]
fn as_many_as_the_cap_run_and_one_more_does_not() {
    let release = Signal::new();
    let upstream = {
        let release = release.clone();
        Upstream::start(move |exchange| {
            release.wait();
            exchange.send(openai::plain());
        })
    };
    let tenant = Tenant::acme().set("limits", format!("{{ concurrent_requests = {CAP} }}"));
    let config = Config::simple(upstream.address())
        .tenant(tenant)
        .set("node", "workers", 4);
    let gateway = Gateway::start(&config);
    let mut clients: Vec<RawClient> = connections(gateway.address(), CAP);
    for client in &mut clients {
        client.send(Request::plain().bytes());
    }
    upstream.wait_for("all of them", |record| {
        (record.completed == CAP).then_some(())
    });
    let answer = gateway.call(&Request::plain());
    let error = answer.assert_refused(429, "tenant_concurrency_exceeded");
    assert!(error.retryable);
    assert_eq!(answer.json()["error"]["limit"], "concurrent_requests");
    assert_eq!(answer.json()["error"]["scope"], "tenant");
    for _ in 0..=CAP {
        release.send();
    }
    for client in &mut clients {
        assert_eq!(client.read_response().status(), 200);
    }
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}
