//! Balances are exact, whoever asks at the same time.

use super::{connections, count, from_threads};
use relay_tests::upstream::Options;
use relay_tests::{
    Account, Config, Gateway, Request, Tenant, Upstream, openai, raise_open_files_limit,
};

const WORKERS: usize = 8;
const PARALLEL: usize = 500;
const BALANCE: usize = 10;

/// Each round is a tenant of its own, so that each begins with a fresh balance.
fn rounds() -> usize {
    let set = std::env::var("RELAY_BALANCE_ROUNDS").ok();
    set.map_or(1_000, |rounds| rounds.parse().expect("a number of rounds"))
}

fn key(round: usize) -> String {
    format!("rk-round-{round:05}")
}

#[test]
fn five_hundred_at_once_against_a_balance_of_ten() {
    raise_open_files_limit(4_096);
    let upstream = Upstream::with(
        Options {
            at_head: false,
            record: false,
        },
        |exchange| {
            exchange.send(openai::plain());
        },
    );
    let mut config = Config::simple(upstream.address())
        .account(Account::new("second", "127.0.7.2").set("max_concurrent", 1_000))
        .set("node", "workers", WORKERS)
        .set("log", "requests", false);
    for round in 0..rounds() {
        // Each kind of limit has its turn; what tokens are set aside for a request is what it says it wants at most.
        let limits = match round % 4 {
            0 => format!("{{ requests_per_day = {BALANCE} }}"),
            1 => format!("{{ requests_per_month = {BALANCE}, requests_per_day = 100 }}"),
            2 => format!("{{ requests_per_day = {BALANCE}, requests_per_month = {BALANCE} }}"),
            _ => format!("{{ requests_per_day = {BALANCE}, tokens_per_day = 1000000 }}"),
        };
        let tenant = Tenant::new(&format!("round-{round}"), &key(round)).set("limits", limits);
        config = config.tenant(tenant);
    }
    let gateway = Gateway::start(&config);
    let mut groups: Vec<_> = (0..WORKERS)
        .map(|_| connections(gateway.address(), PARALLEL.div_ceil(WORKERS)))
        .collect();
    let sent: usize = groups.iter().map(Vec::len).sum();
    assert!(sent >= PARALLEL);
    for round in 0..rounds() {
        let statuses = from_threads(&mut groups, &Request::plain().key(&key(round)));
        assert_eq!(
            (count(&statuses, 200), count(&statuses, 429)),
            (BALANCE, sent - BALANCE),
            "round {round}"
        );
    }
    assert_eq!(upstream.completed(), rounds() * BALANCE);
}

#[test]
fn tokens_that_are_set_aside_are_exact_too() {
    // Each request sets aside its estimate; there is room for exactly so many until the first one is settled.
    raise_open_files_limit(4_096);
    let held = relay_tests::Signal::new();
    let (upstream, admitted) = {
        let held = held.clone();
        let admitted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = admitted.clone();
        let upstream = Upstream::start(move |exchange| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            held.wait();
            exchange.send(openai::plain());
        });
        (upstream, admitted)
    };
    let body = br#"{"model":"gpt-5","max_output_tokens":990,"input":"say hi"}"#;
    let estimate = body.len().div_ceil(4) + 990;
    let limits = format!("{{ tokens_per_day = {} }}", estimate * BALANCE);
    let config = Config::simple(upstream.address())
        .set("node", "workers", WORKERS)
        .tenant(Tenant::acme().set("limits", limits));
    let gateway = Gateway::start(&config);
    let request = Request::post("/v1/responses", body).bytes();
    let mut clients = connections(gateway.address(), 100);
    for client in &mut clients {
        client.send(&request);
    }
    // All that are refused are answered at once; the others wait for the provider.
    upstream.wait_for("as many as there is room for", |record| {
        (record.completed >= BALANCE).then_some(())
    });
    relay_tests::eventually("the others are refused", || {
        let refused = gateway.metric("relay_requests_total", &["tenant_quota_exceeded"]);
        (refused == 90.0).then_some(())
    });
    assert_eq!(admitted.load(std::sync::atomic::Ordering::SeqCst), BALANCE);
    for _ in 0..BALANCE {
        held.send();
    }
    let statuses: Vec<u16> = clients
        .iter_mut()
        .map(|client| client.read_response().status())
        .collect();
    assert_eq!(
        (count(&statuses, 200), count(&statuses, 429)),
        (BALANCE, 90)
    );
    // Each of the ten has used 18 tokens: what was set aside beyond that is there again.
    held.send();
    let answer = gateway.call(&Request::post("/v1/responses", body));
    assert_eq!(answer.status(), 200);
}
