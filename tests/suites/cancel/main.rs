//! Clients that leave: whatever the request was doing, the upstream's connection ends with them, unless the tenant's streams are
//! read to their end.

mod drained;

use relay_tests::config::Account;
use relay_tests::dead_end::Unresponsive;
use relay_tests::http::{chunk, response};
use relay_tests::{
    Config, Exchange, Gateway, RawClient, Request, Signal, Upstream, eventually, openai,
};
use std::time::{Duration, Instant};

/// The promise.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// Where the machine is busy, one of so many is noticed in time. That none is noticed later is shown tick by tick where the wheel
/// is; here, that the whole program keeps what the wheel promises.
const ATTEMPTS: usize = 20;

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Fin,
    Reset,
}

fn leave(client: RawClient, how: Leaving) {
    match how {
        Leaving::Fin => drop(client),
        Leaving::Reset => client.reset(),
    }
}

/// Starts a request at an upstream that runs `script`, which has to send the signal and to wait for the end of its
/// connection; then `at` says what the client does before it leaves.
fn assert_cancelled(
    request: &[u8],
    script: impl Fn(&mut Exchange, &Signal) + Send + Sync + Clone + 'static,
    at: impl Fn(&mut RawClient),
) {
    for how in [Leaving::Fin, Leaving::Reset] {
        let reached = Signal::new();
        let upstream = Upstream::start_at_head({
            let (script, reached) = (script.clone(), reached.clone());
            move |exchange| {
                if exchange.request.target == "/v1/next" {
                    exchange.send(openai::plain());
                } else {
                    script(exchange, &reached);
                }
            }
        });
        // One place at the account: it has to be free again for the next request.
        let account = Account::first().set("max_concurrent", 1);
        let config = Config::for_upstream(upstream.address()).account(account);
        let gateway = Gateway::start(&config);
        let mut client = gateway.client();
        client.send(request);
        reached.wait();
        at(&mut client);
        leave(client, how);
        upstream.wait_ended(0);
        let line = gateway.logged("cancelled");
        assert_eq!(line["ended"], "client_gone", "{how:?}: {line}");
        eventually("a free place at the account", || {
            (gateway.call(&Request::get("/v1/next")).status() == 200).then_some(())
        });
    }
}

#[test]
fn before_the_first_byte_of_the_answer() {
    assert_cancelled(
        &Request::plain().id("cancelled").bytes(),
        |exchange, reached| {
            exchange.read_body();
            reached.send();
            exchange.wait_closed();
        },
        |_| {},
    );
}

#[test]
fn before_the_first_event() {
    assert_cancelled(
        &Request::streamed().id("cancelled").bytes(),
        |exchange, reached| {
            exchange.read_body();
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::created()));
            reached.send();
            exchange.wait_closed();
        },
        |_| {},
    );
}

#[test]
fn between_two_events() {
    assert_cancelled(
        &Request::streamed().id("cancelled").bytes(),
        |exchange, reached| {
            exchange.read_body();
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::delta("a")));
            reached.send();
            exchange.wait_closed();
        },
        |client| {
            client.begin_response();
            client.read_payload(openai::delta("a").len());
        },
    );
}

#[test]
fn in_the_middle_of_an_event() {
    assert_cancelled(
        &Request::streamed().id("cancelled").bytes(),
        |exchange, reached| {
            exchange.read_body();
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::delta("a")));
            exchange.send(chunk(b"event: response.output_te"));
            reached.send();
            exchange.wait_closed();
        },
        |client| {
            client.begin_response();
            client.read_payload(openai::delta("a").len() + 25);
        },
    );
}

#[test]
fn in_the_middle_of_a_chunk_and_of_a_length() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n40\r\nhello",
    ] {
        assert_cancelled(
            &Request::plain().id("cancelled").bytes(),
            move |exchange, reached| {
                exchange.read_body();
                exchange.send(head);
                reached.send();
                exchange.wait_closed();
            },
            |client| {
                client.begin_response();
                client.read_payload(5);
            },
        );
    }
}

#[test]
fn while_the_upstream_sends_as_fast_as_it_can() {
    assert_cancelled(
        &Request::streamed().id("cancelled").bytes(),
        |exchange, reached| {
            exchange.read_body();
            exchange.send(openai::STREAM_HEAD);
            reached.send();
            let event = chunk(&openai::delta(&"x".repeat(1000)));
            while exchange.send(&event) {}
            exchange.wait_closed();
        },
        |client| {
            client.begin_response();
            client.read_payload(1_000_000);
        },
    );
}

#[test]
fn before_the_large_body_is_complete() {
    let request = Request::new("POST", "/v1/responses").id("cancelled");
    let mut bytes = request.field("Content-Length", "8000000").head_bytes();
    bytes.extend_from_slice(br#"{"model":"gpt-5","input":""#);
    bytes.resize(bytes.len() + 3_000_000, b'x');
    assert_cancelled(
        &bytes,
        |exchange, reached| {
            reached.send();
            exchange.wait_closed();
        },
        |_| {},
    );
}

#[test]
fn before_the_small_body_is_complete() {
    for how in [Leaving::Fin, Leaving::Reset] {
        let upstream = Upstream::answering(openai::plain());
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let request = Request::plain().id("half");
        let bytes = request.bytes();
        let mut client = gateway.client();
        client.send(&bytes[..bytes.len() - 5]);
        leave(client, how);
        let line = gateway.logged("half");
        assert_eq!(line["ended"], "client_gone", "{how:?}: {line}");
        assert_eq!(upstream.completed(), 0);
        for index in 0..upstream.connection_count() {
            upstream.wait_ended(index);
        }
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
}

#[test]
fn with_a_pipelined_request_behind() {
    let pipelined = [
        Request::plain().id("cancelled").bytes(),
        Request::get("/v1/models").bytes(),
    ];
    assert_cancelled(
        &pipelined.concat(),
        |exchange, reached| {
            exchange.read_body();
            reached.send();
            exchange.wait_closed();
        },
        |_| {},
    );
}

#[test]
fn with_an_answer_that_nobody_reads() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        let event = chunk(&openai::delta(&"x".repeat(4000)));
        while exchange.send(&event) {}
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = RawClient::connect_narrow(gateway.address(), 4096);
    client.send(Request::streamed().id("stalled").bytes());
    client.begin_response();
    client.read_payload(100);
    leave(client, Leaving::Fin);
    upstream.wait_ended(0);
    assert_eq!(gateway.logged("stalled")["ended"], "client_gone");
}

#[test]
fn a_head_that_never_came_is_no_request() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut stays = gateway.client();
    assert_eq!(stays.call(&Request::get("/health")).status(), 200);
    let before = gateway.open_fds();
    for bytes in [&b""[..], b"P", b"POST /v1/responses HTTP/1.1\r\nHost: gate"] {
        for how in [Leaving::Fin, Leaving::Reset] {
            let mut client = gateway.client();
            client.send(bytes);
            leave(client, how);
        }
    }
    eventually("all connections closed", || {
        (gateway.open_fds() <= before).then_some(())
    });
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn others_on_the_worker_do_not_notice() {
    let (go_on, reached) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (go_on, reached) = (go_on.clone(), reached.clone());
        move |exchange| {
            reached.send();
            if exchange.request.target == "/v1/left" {
                exchange.wait_closed();
            } else {
                go_on.wait();
                exchange.send(response(200, &[], b"stayed"));
            }
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut stays = gateway.client();
    stays.send(Request::get("/v1/stays").bytes());
    reached.wait();
    for _ in 0..20 {
        let mut leaves = gateway.client();
        leaves.send(Request::get("/v1/left").bytes());
        reached.wait();
        leave(leaves, Leaving::Reset);
    }
    upstream.wait_for("20 ends", |record| {
        let ended = record
            .connections
            .iter()
            .filter(|connection| connection.ended.is_some());
        (ended.count() == 20).then_some(())
    });
    go_on.send();
    assert_eq!(stays.read_response().payload, b"stayed");
}

#[test]
fn within_a_second() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("some")));
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut connections = 0..;
    for how in [Leaving::Fin, Leaving::Reset] {
        let mut took = connections.by_ref().take(ATTEMPTS).map(|connection| {
            let mut client = gateway.client();
            client.send(Request::streamed().bytes());
            client.begin_response();
            let left = Instant::now();
            leave(client, how);
            upstream
                .wait_ended(connection)
                .1
                .saturating_duration_since(left)
        });
        assert!(took.any(|took| took <= NOTICED_WITHIN), "{how:?}");
    }
}

/// A request that has not reached any upstream when its client leaves.
fn assert_noticed(gateway: &Gateway, client: RawClient, how: Leaving) {
    leave(client, how);
    let line = gateway.logged("cancelled");
    assert_eq!(line["ended"], "client_gone", "{how:?}: {line}");
}

#[test]
fn while_the_connection_to_the_upstream_is_being_made() {
    for how in [Leaving::Fin, Leaving::Reset] {
        let nobody = Unresponsive::start();
        let gateway =
            Gateway::start(&Config::simple(nobody.address()).timeout("upstream_connect", "30s"));
        let mut client = gateway.client();
        client.send(Request::plain().id("cancelled").bytes());
        eventually("the attempt", || {
            (gateway.metric("relay_account_requests_in_flight", &[]) == 1.0).then_some(())
        });
        assert_noticed(&gateway, client, how);
    }
}

#[test]
fn in_the_pause_before_another_attempt() {
    for how in [Leaving::Fin, Leaving::Reset] {
        let upstream = Upstream::answering(openai::error(500, "x", &[]));
        let config = Config::simple(upstream.address())
            .account(Account::new("second", "127.0.7.2"))
            .set("limits", "retry_pause", "\"10s\"");
        let gateway = Gateway::start(&config);
        let mut client = gateway.client();
        client.send(Request::plain().id("cancelled").bytes());
        upstream.wait_for("the first attempt", |record| {
            (record.completed == 1).then_some(())
        });
        assert_noticed(&gateway, client, how);
        assert_eq!(upstream.completed(), 1);
    }
}

#[test]
fn while_the_upstream_does_not_take_the_body() {
    let (reached, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start_at_head({
        let (reached, go_on) = (reached.clone(), go_on.clone());
        move |exchange| {
            reached.send();
            go_on.wait();
            exchange.wait_closed();
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let request = Request::new("POST", "/v1/responses").id("cancelled");
    let mut client = gateway.client();
    client.send(request.field("Content-Length", "30000000").head_bytes());
    client.send_until_stalled(&[b'x'; 65_536]);
    reached.wait();
    // A FIN would stand behind everything that waits; a reset overtakes it.
    assert_noticed(&gateway, client, Leaving::Reset);
    go_on.send();
    upstream.wait_ended(0);
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn who_leaves_is_no_failure_of_the_upstream() {
    const FAILURES: &str = "relay_upstream_failures_total";
    let reached = Signal::new();
    let upstream = Upstream::start_at_head({
        let reached = reached.clone();
        move |exchange| match exchange.request.target.as_str() {
            "/v1/fails" => drop(exchange.send(openai::error(500, "x", &[]))),
            _ => {
                reached.send();
                exchange.wait_closed();
            }
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    for how in [Leaving::Fin, Leaving::Reset] {
        // In the answer's stead, and in the middle of the body.
        for declared_bytes in ["0", "5000000"] {
            let id = format!("{how:?}-{declared_bytes}");
            let request = Request::new("POST", "/v1/responses").id(&id);
            let mut client = gateway.client();
            client.send(request.field("Content-Length", declared_bytes).head_bytes());
            if declared_bytes != "0" {
                client.send([b'x'; 2_000_000]);
            }
            reached.wait();
            leave(client, how);
            assert_eq!(gateway.logged(&id)["ended"], "client_gone");
        }
    }
    assert_eq!(gateway.metric(FAILURES, &["kind=\"client\""]), 0.0);
    assert_eq!(gateway.metric(FAILURES, &[]), 0.0);
    // One of its own is counted.
    assert_eq!(gateway.call(&Request::get("/v1/fails")).status(), 502);
    eventually("a failure of the upstream", || {
        (gateway.metric(FAILURES, &["kind=\"status_5xx\""]) == 1.0).then_some(())
    });
}
