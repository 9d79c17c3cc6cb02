//! When a provider's accounts are full, tenants share them max-min: who has least is next, and who has most makes room.

use crate::config;
use crate::queue::{OTHER_KEY, begun, on_order, wait_until_queued};
use relay_tests::{Account, Config, Gateway, RawClient, Request, Signal, Tenant, Upstream};

/// One account with so many places, and a second tenant.
fn shared(upstream: &Upstream, places: u32) -> Config {
    let account = Account::new("only", "127.0.7.1").set("max_concurrent", places);
    config(upstream, [account])
        .tenant(Tenant::new("globex", OTHER_KEY))
        .timeout("queue", "60s")
}

fn of_other() -> Request {
    let body = r#"{"model":"gpt-5","input":"of the other"}"#;
    Request::post("/v1/responses", body).key(OTHER_KEY)
}

/// So many requests of the first tenant, one after the other.
fn queued(gateway: &Gateway, already: usize, count: usize) -> Vec<RawClient> {
    let queue = |number| {
        let client = begun(gateway, &Request::plain());
        wait_until_queued(gateway, already + number);
        client
    };
    (1..=count).map(queue).collect()
}

fn wait_for_requests(upstream: &Upstream, count: usize) {
    upstream.wait_for("requests in flight", |record| {
        (record.requests.len() == count).then_some(())
    });
}

/// Which of the requests that the provider has seen are of the other tenant.
fn are_of_other(upstream: &Upstream) -> Vec<bool> {
    let requests = upstream.requests().into_iter();
    requests
        .map(|request| request.body.ends_with(b"of the other\"}"))
        .collect()
}

#[test]
fn whoever_has_fewer_requests_in_flight_gets_the_next_place_however_late_it_came() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let gateway = Gateway::start(&shared(&upstream, 4));
    // Nobody else is there: all places are for whoever wants them.
    let mut own: Vec<_> = (0..4).map(|_| begun(&gateway, &Request::plain())).collect();
    wait_for_requests(&upstream, 4);
    own.extend(queued(&gateway, 0, 4));
    let mut other = Vec::new();
    for number in 5..=6 {
        other.push(begun(&gateway, &of_other()));
        wait_until_queued(&gateway, number);
    }
    for count in 5..=6 {
        go_on.send();
        wait_for_requests(&upstream, count);
    }
    let order = are_of_other(&upstream);
    assert_eq!(order, [false, false, false, false, true, true]);
    for _ in 0..8 {
        go_on.send();
    }
    for client in own.iter_mut().chain(&mut other) {
        assert_eq!(client.read_response().status(), 200);
    }
    wait_until_queued(&gateway, 0);
}

#[test]
fn a_full_queue_is_left_by_the_latest_of_the_tenant_that_has_most() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let config = shared(&upstream, 1)
        .limit("queue_max", 3)
        .limit("queue_per_tenant_max", 3);
    let gateway = Gateway::start(&config);
    let mut running = begun(&gateway, &Request::plain());
    wait_for_requests(&upstream, 1);
    let mut own = queued(&gateway, 0, 3);
    gateway
        .call(&Request::plain())
        .assert_refused(503, "no_account_available");

    let mut other = begun(&gateway, &of_other());
    let displaced = own.pop().expect("three").read_response();
    displaced.assert_refused(429, "tenant_fair_share_exceeded");
    assert_eq!(displaced.head.value("retry-after"), Some("1"));
    wait_until_queued(&gateway, 3);
    // It still has more than the other.
    gateway
        .call(&Request::plain())
        .assert_refused(429, "tenant_fair_share_exceeded");

    go_on.send();
    assert_eq!(running.read_response().status(), 200);
    wait_for_requests(&upstream, 2);
    for _ in 0..3 {
        go_on.send();
    }
    for client in own.iter_mut().chain([&mut other]) {
        assert_eq!(client.read_response().status(), 200);
    }
    assert_eq!(
        are_of_other(&upstream).len(),
        4,
        "the refused ones never left"
    );
    assert!(are_of_other(&upstream).contains(&true));
}
