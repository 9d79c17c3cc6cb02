//! One account, its own addresses, and no others.

use crate::{config, key, source, two};
use relay_tests::{
    Account, Config, Gateway, Mode, Request, Signal, Tenant, Upstream, in_each_mode, openai,
};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

in_each_mode! {
    an_account_leaves_from_its_own_address,
    no_connection_ever_serves_two_accounts,
    an_account_may_have_several_addresses,
    a_missing_address_is_never_replaced,
    another_account_may_serve_where_an_address_is_missing,
}

fn an_account_leaves_from_its_own_address(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = mode.gateway(&config(&upstream, two()).set("node", "workers", 2));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..50 {
                    assert_eq!(client.call(&Request::plain()).status(), 200);
                }
            });
        }
    });
    let requests = upstream.requests();
    let seen: BTreeSet<_> = requests
        .iter()
        .map(|request| (source(request), key(request)))
        .collect();
    let expected = two().map(|account| account.key().to_owned());
    let [first, second] = expected;
    let expected = [
        ("127.0.7.1".to_owned(), first),
        ("127.0.7.2".to_owned(), second),
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

fn no_connection_ever_serves_two_accounts(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let accounts =
        (1..=8).map(|number| Account::new(&format!("a{number}"), &format!("127.0.7.{number}")));
    let gateway = mode.gateway(&config(&upstream, accounts));
    let mut client = gateway.client();
    for _ in 0..200 {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    let mut of_connection: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for request in upstream.requests() {
        of_connection
            .entry(request.connection)
            .or_default()
            .insert(key(&request));
    }
    assert!(
        of_connection.values().all(|keys| keys.len() == 1),
        "{of_connection:?}"
    );
    let keys: BTreeSet<_> = of_connection.values().flatten().collect();
    assert_eq!(keys.len(), 8, "some account was never used");
    assert_eq!(of_connection.len(), 8, "connections were not kept");
}

fn an_account_may_have_several_addresses(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let account = Account::first().egress("127.0.7.11").egress("127.0.7.12");
    let gateway = mode.gateway(&config(&upstream, [account]));
    for _ in 0..30 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    let seen: BTreeSet<_> = upstream.requests().iter().map(source).collect();
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["127.0.7.1", "127.0.7.11", "127.0.7.12"]
    );
}

/// RFC 5737: never the address of a host.
const MISSING: &str = "203.0.113.7";

fn a_missing_address_is_never_replaced(mode: &Mode) {
    let upstream = Upstream::untouched();
    let gateway = mode.gateway(&config(&upstream, [Account::new("lost", MISSING)]));
    for _ in 0..3 {
        let answer = gateway.call(&Request::plain().id("missing"));
        let error = answer.assert_refused(503, "egress_unavailable");
        assert!(error.retryable);
        for secret in [MISSING, "lost", Account::new("lost", MISSING).key()] {
            assert!(!error.message.contains(secret), "{error:?}");
        }
    }
    assert_eq!(upstream.connection_count(), 0);
    assert_eq!(gateway.logged("missing")["code"], "egress_unavailable");
}

fn another_account_may_serve_where_an_address_is_missing(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let accounts = [
        Account::new("lost", MISSING),
        Account::new("second", "127.0.7.2"),
    ];
    let gateway = mode.gateway(&config(&upstream, accounts));
    for _ in 0..10 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    let second = Account::new("second", "127.0.7.2");
    for request in upstream.requests() {
        assert_eq!(
            (source(&request).as_str(), key(&request).as_str()),
            ("127.0.7.2", second.key())
        );
    }
}

/// An upstream that answers `/v1/held` when the signal comes, and a gateway in front of it.
struct Held {
    upstream: Upstream,
    gateway: Gateway,
    reached: Signal,
    go_on: Signal,
}

impl Held {
    fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self::with(accounts, |config| config)
    }

    fn with(accounts: impl IntoIterator<Item = Account>, configure: fn(Config) -> Config) -> Self {
        let (reached, go_on) = (Signal::new(), Signal::new());
        let upstream = Upstream::start({
            let (reached, go_on) = (reached.clone(), go_on.clone());
            move |exchange| {
                if exchange.request.target == "/v1/held" {
                    reached.send();
                    go_on.wait();
                }
                exchange.send(openai::plain());
            }
        });
        let gateway = Gateway::start(&configure(config(&upstream, accounts)));
        Self {
            upstream,
            gateway,
            reached,
            go_on,
        }
    }

    /// Starts a request that is held at the upstream; returns its client.
    fn hold(&self) -> relay_tests::RawClient {
        let mut client = self.gateway.client();
        client.send(Request::get("/v1/held").bytes());
        self.reached.wait();
        client
    }

    /// The addresses of everything received so far.
    fn sources(&self) -> Vec<String> {
        self.upstream.requests().iter().map(source).collect()
    }
}

#[test]
fn no_account_has_more_requests_than_it_may_have() {
    let held = Held::with(
        two().map(|account| account.set("max_concurrent", 1)),
        |config| config.set("node", "workers", 2).timeout("queue", "0s"),
    );
    let mut clients = [held.hold(), held.hold()];
    let mut sources = held.sources();
    sources.sort();
    assert_eq!(sources, ["127.0.7.1", "127.0.7.2"]);
    for _ in 0..5 {
        let error = held
            .gateway
            .call(&Request::plain())
            .assert_refused(503, "no_account_available");
        assert!(error.retryable);
    }
    held.go_on.send();
    held.go_on.send();
    for client in &mut clients {
        assert_eq!(client.read_response().status(), 200);
    }
    relay_tests::eventually("a free account", || {
        (held.gateway.call(&Request::plain()).status() == 200).then_some(())
    });
}

#[test]
fn weights_share_the_load() {
    let [first, second] = two();
    let held = Held::new([first.set("weight", 3), second]);
    let _clients: Vec<_> = (0..8).map(|_| held.hold()).collect();
    let first = held
        .sources()
        .iter()
        .filter(|source| *source == "127.0.7.1")
        .count();
    assert_eq!(first, 6, "of 8 requests at a time");
    (0..8).for_each(|_| held.go_on.send());
}

#[test]
fn accounts_of_the_own_region_come_first() {
    let [far, near] = two();
    let near = near.set("region", "\"here\"").set("max_concurrent", 2);
    let held = Held::new([far.set("region", "\"there\""), near]);
    let _clients: Vec<_> = (0..4).map(|_| held.hold()).collect();
    assert_eq!(
        held.sources(),
        ["127.0.7.2", "127.0.7.2", "127.0.7.1", "127.0.7.1"]
    );
    (0..4).for_each(|_| held.go_on.send());
}

#[test]
fn the_credential_takes_the_form_that_the_provider_wants() {
    let styles = [
        ("bearer", "authorization"),
        ("x-api-key", "x-api-key"),
        ("x-goog-api-key", "x-goog-api-key"),
        ("api-key", "api-key"),
    ];
    for (style, field) in styles {
        let upstream = Upstream::answering(openai::plain());
        let config = Config::simple(upstream.address());
        let config = config.upstream_key("openai", "credential_style", &format!("{style:?}"));
        let gateway = Gateway::start(&config);
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
        let head = upstream.only_request().head;
        for (_, other) in styles {
            let value = head.value(other).unwrap_or_default();
            assert_eq!(
                value.ends_with(Account::first().key()),
                other == field,
                "{style}: {other}"
            );
        }
    }
}

#[test]
fn an_upstream_may_have_a_name() {
    let upstream = Upstream::answering(openai::plain());
    let authority = format!("localhost:{}", upstream.address().port());
    let config = Config::bare()
        .upstream("openai", &format!("http://{authority}"))
        .account(Account::first())
        .tenant(Tenant::acme());
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    // Of the addresses that the name has, one of the family of the account's own.
    let request = upstream.only_request();
    assert_eq!(source(&request), "127.0.7.1");
    assert_eq!(request.head.value("host"), Some(authority.as_str()));
}
