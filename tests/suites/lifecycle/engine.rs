//! Where io_uring is refused, epoll serves.

use relay_tests::config::ListenerTls;
use relay_tests::gateway::Launch;
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::http2::{Http2Upstream, Options, Peer, code};
use relay_tests::request::HOST;
use relay_tests::{
    Authority, Config, Ending, Gateway, Request, Signal, TlsClient, TlsServer, Upstream, openai,
};

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

#[test]
fn http_2_over_tls_on_both_sides_works_all_the_same() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];
    let go_on = Signal::new();
    let authority = Authority::default();
    let identity = authority.server(&[HOST, "127.0.0.1"]);
    let options = Options {
        tls: Some(TlsServer::new(&identity).alpn(&["h2"])),
        ..Options::default()
    };
    let upstream = Http2Upstream::with(options, {
        let go_on = go_on.clone();
        move |peer, request| match request.value(":path") {
            Some("/v1/responses") => {
                peer.answer_head(request.stream, 200, EVENTS, false);
                peer.queue(request.stream, &openai::created(), false);
                for number in 0..20 {
                    let event = openai::delta(&number.to_string());
                    peer.queue(request.stream, &event, false);
                    go_on.wait();
                }
                peer.queue(request.stream, &openai::completed(), true);
            }
            Some("/v1/left") => {
                peer.answer_head(request.stream, 200, EVENTS, false);
                let begun = [openai::created(), openai::delta("begun")].concat();
                peer.queue(request.stream, &begun, false);
                let reset = peer.wait("a reset", |peer| peer.incoming(request.stream).reset);
                assert_eq!(reset, code::CANCEL);
            }
            Some("/v1/files") => peer.answer(request.stream, 200, JSON, &request.body),
            _ => peer.answer(request.stream, 200, JSON, openai::PLAIN_BODY),
        }
    });
    let config = Config::simple_secure(upstream.address(), &authority)
        .protocol("openai", "http2")
        .tls(ListenerTls::new(&identity));
    let mut gateway = without_io_uring(&config);
    assert_eq!(gateway.log().wait_event("ready")["engine"], "epoll");
    let trusting = TlsClient::trusting(&authority).alpn(&["h2"]);
    let mut client = Peer::client(trusting.connect(gateway.address(), HOST).expect("TLS"));

    // Several at a time, and bodies that no buffer holds, both ways.
    let large: Vec<u8> = (0..3_000_000).map(|at| b'a' + (at % 23) as u8).collect();
    let plain: Vec<u32> = (0..20)
        .map(|_| client.request(&Request::get("/v1/models")))
        .collect();
    let answer = client.call(&Request::post("/v1/files", &large));
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert!(answer.payload == large, "{} bytes", answer.payload.len());
    for stream in plain {
        let answer = client.response(stream);
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert_eq!(answer.payload, openai::PLAIN_BODY);
    }

    // Event by event.
    let stream = client.request(&Request::streamed());
    client.begin_response(stream);
    let created = openai::created();
    assert_eq!(client.read_payload(stream, created.len()), created);
    for number in 0..20 {
        let event = openai::delta(&number.to_string());
        assert_eq!(client.read_payload(stream, event.len()), event);
        go_on.send();
    }
    let rest = client.finish_response(stream);
    assert_eq!(rest, (openai::completed(), Ending::Complete));

    // Who leaves, leaves alone.
    let left = client.request(&Request::get("/v1/left").id("left"));
    client.begin_response(left);
    client.cancel(left);
    assert_eq!(gateway.logged("left")["ended"], "client_gone");
    assert_eq!(client.call(&Request::get("/v1/models")).status(), 200);
    assert_eq!(upstream.connections().len(), 1);

    gateway.terminate();
    client.expect_goaway(&[code::NO_ERROR]);
    client.expect_closed();
    assert!(gateway.wait_exit().success());
}
