//! The way from one address to the provider is broken: the address is passed over, its account is not to blame.

use crate::one_of_three::{REQUESTS, SERVED_MIN, served, with_default_blocks};
use crate::{NAMES, account, config, standing};
use relay_tests::dead_end::{Refusing, Unresponsive};
use relay_tests::{Account, Config, Gateway, Request, Upstream, openai};
use serde_json::Value;
use std::net::SocketAddr;

/// An address that no host has (RFC 5737).
const MISSING: &str = "192.0.2.7";

/// The provider listens on the IPv4 address of its name only.
fn by_name(upstream: &Upstream) -> String {
    format!("http://localhost:{}", upstream.address().port())
}

/// The first account with this address, the others as ever.
fn with_first(first: &str, url: &str, upstream: &Upstream) -> Config {
    let first = Account::new(NAMES[0], first).set("max_concurrent", 1_000);
    let base = config(upstream);
    [first, account(1), account(2)]
        .into_iter()
        .fold(base.only_upstream("openai", url), Config::account)
}

/// How the first address of an account stands.
fn address(gateway: &Gateway, name: &str) -> (String, String) {
    let shown: Value = gateway.admin(&format!("/accounts/{name}")).json();
    let first = &shown["addresses"][0];
    let text = |member: &str| first[member].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn blocked(reason: &str) -> (String, String) {
    ("blocked".to_owned(), reason.to_owned())
}

#[test]
fn tenants_hardly_notice_an_address_from_which_there_is_no_way() {
    let upstream = Upstream::answering(openai::stream(&["a", "b"]));
    for (name, first, reason) in [
        ("refused", "::1", "unreachable"),
        ("missing", MISSING, "address_missing"),
    ] {
        let config = with_default_blocks(with_first(first, &by_name(&upstream), &upstream));
        let gateway = Gateway::start(&config);
        let served = served(&gateway);
        assert!(served >= SERVED_MIN, "{name}: {served} of {REQUESTS}");
        let labels = ["account=\"first\"", &format!("reason=\"{reason}\"")];
        let opened = gateway.metric("relay_account_transitions_total", &labels);
        assert!(opened >= 1.0, "{name}");
    }
}

#[test]
fn the_account_is_not_to_blame_and_is_called_from_its_other_address() {
    let upstream = Upstream::answering(openai::plain());
    for (name, first, reason) in [
        ("refused", "::1", "unreachable"),
        ("missing", MISSING, "address_missing"),
    ] {
        let two = Account::new(NAMES[0], first).egress("127.0.7.9");
        let config = config(&upstream)
            .only_upstream("openai", &by_name(&upstream))
            .account(two);
        let gateway = Gateway::start(&config);
        let mut failed = 0;
        for _ in 0..12 {
            failed += usize::from(gateway.call(&Request::plain()).status() != 200);
        }
        assert_eq!(address(&gateway, NAMES[0]), blocked(reason), "{name}");
        assert_eq!(standing(&gateway, NAMES[0]).0, "usable", "{name}");
        assert!(failed <= 3, "{name}: {failed} of 12 failed");
        let before = upstream.completed();
        assert_eq!(gateway.call(&Request::plain()).status(), 200, "{name}");
        assert_eq!(upstream.completed(), before + 1);
        let peer = upstream.requests().last().and_then(|request| request.peer);
        assert_eq!(
            peer.map(|peer| peer.ip().to_string()).as_deref(),
            Some("127.0.7.9")
        );
    }
}

/// What a client is told, and how the only account and its address stand, when nobody answers there.
fn alone(address_of_upstream: SocketAddr) -> (u16, (String, String)) {
    let config = Config::bare()
        .upstream("openai", &format!("http://{address_of_upstream}"))
        .tenant(relay_tests::Tenant::acme())
        .account(account(0))
        .timeout("upstream_connect", "100ms")
        .set("health", "backoff_min", "\"5m\"");
    let gateway = Gateway::start(&config);
    let mut told = 0;
    for _ in 0..3 {
        told = gateway.call(&Request::plain()).status();
    }
    (told, address(&gateway, NAMES[0]))
}

#[test]
fn a_provider_that_cannot_be_reached_is_told_as_that_and_counted_against_the_way() {
    let refusing = Refusing::start();
    assert_eq!(alone(refusing.address()), (502, blocked("unreachable")));
    let unresponsive = Unresponsive::start();
    assert_eq!(alone(unresponsive.address()), (504, blocked("unreachable")));
}
