//! Connections to providers: those that are in use count, those that are kept for later make room.

use crate::{capped, two_workers};
use relay_tests::{
    Account, Config, Gateway, Mode, Request, Signal, Upstream, in_each_mode, openai,
};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;

in_each_mode! {
    idle_connections_of_an_account_never_keep_a_request_out,
    idle_connections_of_a_tenant_never_keep_its_requests_out,
    an_account_whose_connections_are_in_use_is_passed_over,
    a_request_in_need_of_a_place_costs_one_idle_connection,
    a_connection_that_has_ended_makes_room_for_the_next,
}

const SHORT_LIVED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 7, 2));

/// An account with so many addresses that a kept connection is seldom from the right one.
fn with_many_addresses(name: &str, third: u8) -> Account {
    let first = Account::new(name, &format!("127.0.{third}.1"));
    (2..=6).fold(first, |account, last| {
        account.egress(&format!("127.0.{third}.{last}"))
    })
}

/// So many clients at once, on connections that they keep, ask so often; all must be served.
fn assert_all_are_served(gateway: &Gateway, clients: usize, requests: usize) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..requests {
                    let answer = client.call(&Request::plain());
                    assert_eq!(answer.payload, openai::PLAIN_BODY, "{answer:?}");
                }
            });
        }
    });
}

fn idle_connections_of_an_account_never_keep_a_request_out(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let account = with_many_addresses("first", 7).set("max_connections", 3);
    let gateway = mode.gateway(&two_workers(&upstream).account(account));
    assert_all_are_served(&gateway, 3, 12);
    // One after the other, on either worker.
    for _ in 0..12 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
}

fn idle_connections_of_a_tenant_never_keep_its_requests_out(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let config = capped(&upstream, 4);
    let config = config.account(with_many_addresses("first", 7));
    let gateway = mode.gateway(&config.account(with_many_addresses("second", 8)));
    assert_all_are_served(&gateway, 4, 25);
}

fn an_account_whose_connections_are_in_use_is_passed_over(mode: &Mode) {
    let (reached, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (reached, go_on) = (reached.clone(), go_on.clone());
        move |exchange| {
            reached.send();
            go_on.wait();
            exchange.send(openai::plain());
        }
    });
    let account = |name, egress| Account::new(name, egress).set("max_connections", 1);
    let config = two_workers(&upstream)
        .timeout("queue", "0s")
        .account(account("first", "127.0.7.1"));
    let gateway = mode.gateway(&config.account(account("second", "127.0.7.2")));
    let mut busy: Vec<_> = (0..2)
        .map(|_| {
            let mut client = gateway.client();
            client.send(Request::plain().bytes());
            reached.wait();
            client
        })
        .collect();
    let mut sources: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.peer.expect("a connected peer").ip().to_string())
        .collect();
    sources.sort();
    assert_eq!(sources, ["127.0.7.1", "127.0.7.2"]);
    let error = gateway
        .call(&Request::plain())
        .assert_refused(503, "no_account_available");
    assert!(error.retryable);
    (0..busy.len()).for_each(|_| go_on.send());
    for client in &mut busy {
        assert_eq!(client.read_response().status(), 200);
    }
}

/// Connections of the account that are open, as whoever counts them says at this moment.
fn open_connections(gateway: &Gateway) -> f64 {
    gateway.metric("relay_account_connections", &["account=\"first\""])
}

fn a_request_in_need_of_a_place_costs_one_idle_connection(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let account = with_many_addresses("first", 7).set("max_connections", 4);
    let config = Config::for_upstream(upstream.address()).set("node", "workers", 1);
    let gateway = mode.gateway(&config.account(account));
    // Each from the next address, so that no kept connection serves.
    for count in [1.0, 2.0, 3.0, 4.0, 4.0, 4.0] {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
        assert_eq!(open_connections(&gateway), count);
    }
}

fn a_connection_that_has_ended_makes_room_for_the_next(mode: &Mode) {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::plain());
        // Nothing in the answer announces it.
        if exchange
            .request
            .peer
            .is_some_and(|peer| peer.ip() == SHORT_LIVED)
        {
            exchange.close();
        }
    });
    let account = Account::new("first", "127.0.7.1").egress(&SHORT_LIVED.to_string());
    let account = account.set("max_connections", 2);
    let config = Config::for_upstream(upstream.address()).set("node", "workers", 1);
    let gateway = mode.gateway(&config.account(account));
    for _ in 0..20 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    let kept = upstream.connections();
    let kept = kept.iter().filter(|one| one.peer.ip() != SHORT_LIVED);
    assert_eq!(kept.count(), 1, "the other one never had to go for it");
}
