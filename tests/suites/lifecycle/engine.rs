//! Where io_uring is refused, epoll serves.

use relay_tests::gateway::Launch;
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, openai};

/// A gateway whose calls of io_uring fail with EPERM, as in many containers.
fn without_io_uring(config: &Config) -> Gateway {
    Launch::new()
        .under(env!("CARGO_BIN_EXE_without-io-uring"))
        .gateway(config)
}

#[test]
fn one_line_says_so() {
    let upstream = Upstream::untouched();
    let gateway = without_io_uring(&Config::simple(upstream.address()));
    let lines = gateway.log().lines();
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line.event() == "io_uring_refused")
        .collect();
    assert_eq!(refused.len(), 1, "{}", gateway.log().text());
    assert!(refused[0].text.contains("epoll"), "{}", refused[0].text);
    assert_eq!(gateway.log().wait_event("ready")["engine"], "epoll");
    assert_eq!(gateway.errors().text(), "");
}

#[test]
fn with_io_uring_no_line_says_so() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    if gateway.log().wait_event("ready")["engine"] == "io_uring" {
        let lines = gateway.log().lines();
        assert!(lines.iter().all(|line| line.event() != "io_uring_refused"));
    }
}

#[test]
fn requests_streams_and_cancels_work_all_the_same() {
    let arrived = Signal::new();
    let upstream = Upstream::start({
        let arrived = arrived.clone();
        move |exchange| match exchange.request.target.as_str() {
            "/v1/left" => {
                arrived.send();
                exchange.wait_closed();
            }
            "/v1/responses" => {
                exchange.send(openai::STREAM_HEAD);
                for number in 0..50 {
                    exchange.send(chunk(&openai::delta(&number.to_string())));
                    arrived.wait();
                }
                exchange.send(chunk(&openai::completed()));
                exchange.send(LAST_CHUNK);
            }
            _ => drop(exchange.send(openai::plain())),
        }
    });
    let config = Config::simple(upstream.address()).set("node", "workers", 2);
    let mut gateway = without_io_uring(&config);
    let mut client = gateway.client();
    let large = Request::post("/v1/other", vec![b' '; 3_000_000]);
    for request in [&Request::get("/v1/models"), &large] {
        assert_eq!(client.call(request).payload, openai::PLAIN_BODY);
    }
    client.send(Request::streamed().bytes());
    client.begin_response();
    for number in 0..50 {
        let event = openai::delta(&number.to_string());
        assert_eq!(client.read_payload(event.len()), event);
        arrived.send();
    }
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );

    let mut leaves = gateway.client();
    leaves.send(Request::get("/v1/left").id("left").bytes());
    arrived.wait();
    let connection = upstream.requests().last().expect("the request").connection;
    drop(leaves);
    upstream.wait_ended(connection);
    assert_eq!(gateway.logged("left")["ended"], "client_gone");

    gateway.terminate();
    assert!(gateway.wait_exit().success());
}

#[test]
fn time_outs_work_all_the_same() {
    let upstream = Upstream::start(|exchange| {
        exchange.wait_closed();
    });
    let config = Config::simple(upstream.address())
        .timeout("response_head", "300ms")
        .timeout("request_head", "300ms")
        .timeout("keep_alive_idle", "300ms");
    let gateway = without_io_uring(&config);
    gateway
        .call(&Request::plain())
        .assert_refused(504, "upstream_timeout");
    upstream.wait_ended(0);
    let mut slow = gateway.client();
    slow.send(b"POST /v1");
    slow.read_response().assert_refused(408, "request_timeout");
    gateway.client().assert_closed();
}
