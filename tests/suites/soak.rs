//! Many of everything: memory stays bounded, and what was taken is given back.

use relay_tests::http::{chunk, find};
use relay_tests::upstream::Options;
use relay_tests::{
    Account, Config, Gateway, RawClient, Request, Signal, Upstream, eventually, openai,
    raise_open_files_limit,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// One at a time: they measure memory, and need the machine for themselves.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn a_thousand_clients_that_do_not_read() {
    const CLIENTS: usize = 1_000;
    let _turn = alone();
    raise_open_files_limit(8 * CLIENTS as u64);
    let sent_bytes = Arc::new(AtomicU64::new(0));
    let upstream = Upstream::with(
        Options {
            at_head: false,
            record: false,
        },
        {
            let sent_bytes = Arc::clone(&sent_bytes);
            move |exchange| {
                if exchange.request.target == "/v1/models" {
                    exchange.send(openai::plain());
                    return;
                }
                exchange.narrow(16 * 1024);
                exchange.send(openai::STREAM_HEAD);
                let event = chunk(&openai::delta(&"x".repeat(4000)));
                while exchange.send(&event) {
                    sent_bytes.fetch_add(event.len() as u64, Ordering::Relaxed);
                }
            }
        },
    );
    let account = Account::first().set("max_concurrent", 2 * CLIENTS);
    let config = Config::for_upstream(upstream.address())
        .account(account)
        .set("node", "workers", 2)
        .set("log", "requests", false)
        .timeout("pool_idle", "500ms");
    let gateway = Gateway::start(&config);
    warm_up(&gateway, &upstream);
    let (fds, memory, threads) = (
        gateway.open_fds(),
        gateway.anonymous_bytes(),
        gateway.threads(),
    );

    let mut clients: Vec<RawClient> = (0..CLIENTS)
        .map(|_| {
            let mut client = RawClient::connect_narrow(gateway.address(), 4096);
            client.send(Request::streamed().bytes());
            client
        })
        .collect();
    eventually("all streams are open", || {
        (gateway.metric("relay_streams_open", &[]) == CLIENTS as f64).then_some(())
    });
    let stalled = until_unchanged(&sent_bytes);
    // The upstream was held back: what is on the way fits into the buffers of four sockets and a lease.
    let each = stalled / CLIENTS as u64;
    assert!(
        each < MIB,
        "the upstream could send {each} bytes to a client that does not read"
    );
    let grown = gateway.anonymous_bytes().saturating_sub(memory);
    assert!(
        grown < 160 * MIB,
        "{} MiB for {CLIENTS} stalled streams",
        grown / MIB
    );
    assert!(
        gateway.threads() <= threads + 4,
        "{} threads",
        gateway.threads()
    );

    // Others are served, and whoever reads on gets everything in order.
    for _ in 0..100 {
        assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    }
    let event = openai::delta(&"x".repeat(4000));
    let reader = &mut clients[CLIENTS / 2];
    assert_eq!(reader.begin_response().status(), 200);
    let count = usize::try_from(each + 4 * MIB).expect("a size") / event.len();
    for _ in 0..count {
        assert!(
            reader.read_payload(event.len()) == event,
            "something was lost"
        );
    }

    drop(clients);
    assert_all_given_back(&gateway, fds);
}

/// Every worker has served, and nobody is connected any more.
fn warm_up(gateway: &Gateway, upstream: &Upstream) {
    gateway.write_state("first");
    for _ in 0..50 {
        assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    }
    wait_all_ended(upstream);
    eventually("no client is connected", || {
        (gateway.metric("relay_client_connections", &[]) == 0.0).then_some(())
    });
}

fn wait_all_ended(upstream: &Upstream) {
    upstream.wait_for("the end of every connection", |record| {
        let ended = record
            .connections
            .iter()
            .all(|connection| connection.ended.is_some());
        ended.then_some(())
    });
}

/// The value of a counter that has stopped growing.
fn until_unchanged(counter: &AtomicU64) -> u64 {
    let mut last = 0;
    let mut same = 0;
    eventually("a counter that stands still", || {
        let now = counter.load(Ordering::Relaxed);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        thread::sleep(Duration::from_millis(50));
        (same >= 10).then_some(now)
    })
}

/// Descriptors and gauges are back where they were.
fn assert_all_given_back(gateway: &Gateway, fds: usize) {
    for gauge in [
        "relay_streams_open",
        "relay_tenant_requests_in_flight",
        "relay_account_requests_in_flight",
        "relay_held_body_bytes",
    ] {
        eventually(&format!("{gauge} is 0"), || {
            (gateway.metric(gauge, &[]) == 0.0).then_some(())
        });
    }
    let mut last = Vec::new();
    let given_back = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("descriptors are closed", || {
            last = gateway.open_files();
            (last.len() <= fds).then_some(())
        });
    }));
    assert!(
        given_back.is_ok(),
        "{} descriptors, {fds} at the start: {last:#?}",
        last.len()
    );
    assert_eq!(gateway.metric("relay_panics_total", &[]), 0.0);
}

#[test]
fn a_hundred_thousand_requests_and_ten_thousand_cancels() {
    const THREADS: usize = 8;
    const REQUESTS: usize = 100_000;
    const CANCELS: usize = 10_000;
    let _turn = alone();
    raise_open_files_limit(4_000);
    let reached: Arc<Vec<Signal>> = Arc::new((0..THREADS).map(|_| Signal::new()).collect());
    let upstream = Upstream::with(
        Options {
            at_head: false,
            record: false,
        },
        {
            let reached = Arc::clone(&reached);
            move |exchange| {
                let target = exchange.request.target.clone();
                let cancelled = target.strip_prefix("/v1/cancelled/");
                match cancelled.and_then(|rest| rest.split_once('/')) {
                    None => drop(exchange.send(openai::plain())),
                    Some((thread, how)) => {
                        if how == "streaming" {
                            exchange.send(openai::STREAM_HEAD);
                            exchange.send(chunk(&openai::delta("a")));
                        }
                        if how != "at-once" {
                            reached[thread.parse::<usize>().expect("a number")].send();
                        }
                        exchange.wait_closed();
                    }
                }
            }
        },
    );
    // A client that left may be noticed a little later: until then its request has its place.
    let account = Account::first().set("max_concurrent", CANCELS);
    let config = Config::for_upstream(upstream.address())
        .account(account)
        .set("node", "workers", 2)
        .set("log", "requests", false)
        .timeout("pool_idle", "500ms");
    let gateway = Gateway::start(&config);
    warm_up(&gateway, &upstream);
    let fds = gateway.open_fds();
    let run = |requests: usize, cancels: usize| {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (gateway, reached) = (&gateway, &reached[thread]);
                scope.spawn(move || {
                    let mut client = gateway.client();
                    let bytes = Request::plain().bytes();
                    for number in 0..requests / THREADS {
                        client.send(&bytes);
                        let answer = client.read_response();
                        if answer.payload != openai::PLAIN_BODY {
                            let text = String::from_utf8_lossy(&answer.payload);
                            panic!("request {number}: {} {text}", answer.status());
                        }
                        if number % (requests / cancels) == 0 {
                            cancel(gateway, thread, number, reached);
                        }
                    }
                });
            }
        });
    };
    // What is allocated once has been allocated after this.
    run(4_000, 400);
    let memory = gateway.anonymous_bytes();
    run(REQUESTS - 4_000, CANCELS - 400);
    assert_all_given_back(&gateway, fds);
    let grown = gateway.anonymous_bytes().saturating_sub(memory);
    assert!(grown < 24 * MIB, "{} KiB were not given back", grown / 1024);
    let begun = gateway.metric("relay_requests_begun_total", &[]);
    assert!(
        begun >= (REQUESTS + CANCELS) as f64 * 0.99,
        "{begun} requests"
    );
    // Nobody is left at the upstream either.
    wait_all_ended(&upstream);
}

/// A request whose client leaves: right away, while it waits for the answer, or in the middle of a stream.
fn cancel(gateway: &Gateway, thread: usize, number: usize, reached: &Signal) {
    let how = ["at-once", "waiting", "streaming"][number / 10 % 3];
    let mut client = gateway.client();
    client.send(
        Request::post(
            &format!("/v1/cancelled/{thread}/{how}"),
            r#"{"stream":true}"#,
        )
        .bytes(),
    );
    if how != "at-once" {
        reached.wait();
    }
    if how == "streaming" {
        assert!(find(&client.begin_response().start_line.into_bytes(), b"200").is_some());
    }
    if (number / 30).is_multiple_of(2) {
        client.reset();
    }
}
