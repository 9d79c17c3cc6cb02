//! Every time-out: what the client sees, what becomes of the upstream, what the log says.

use relay_tests::dead_end::Unresponsive;
use relay_tests::http::{chunk, find};
use relay_tests::{
    Config, Ending, Exchange, Gateway, RawClient, Request, Signal, Upstream, eventually, openai,
};
use serde_json::Value;
use std::thread;
use std::time::Duration;

/// Long enough that what is not meant to time out does not, short enough to be waited for.
const SHORT: &str = "300ms";

/// The same for what is over only after several steps. No step may be given more than the whole: no less is given to any, since
/// it would be over before the whole is, where this machine is busy.
const WHOLE: &str = "1s";

/// Much shorter than `SHORT`: the pace of those that are slow but not silent.
const PACE: Duration = Duration::from_millis(20);

fn gateway(upstream: &Upstream, timeouts: &[(&str, &str)]) -> Gateway {
    let config = Config::simple(upstream.address());
    // A heartbeat has to be shorter than the silence that ends a stream.
    let config = config.timeout("heartbeat", "0s");
    Gateway::start(
        &timeouts
            .iter()
            .fold(config, |config, (key, value)| config.timeout(key, value)),
    )
}

/// Sends a byte at a time until the gateway has had enough.
fn trickle(client: &mut RawClient, bytes: &[u8]) {
    for byte in bytes {
        if !client.try_send([*byte]) {
            return;
        }
        thread::sleep(PACE);
    }
}

/// Waits until the gateway gives up.
fn silent(exchange: &mut Exchange) {
    exchange.wait_closed();
}

#[test]
fn a_head_that_does_not_come_to_its_end() {
    let upstream = Upstream::untouched();
    let gateway = gateway(&upstream, &[("request_head", SHORT)]);
    let head = Request::plain().head_bytes();
    for bytes in [&b"P"[..], &head[..head.len() - 2]] {
        let mut client = gateway.client();
        client.send(bytes);
        client
            .read_response()
            .assert_refused(408, "request_timeout");
        client.assert_closed();
    }
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn a_head_that_comes_too_slowly() {
    let upstream = Upstream::untouched();
    let gateway = gateway(&upstream, &[("request_head", SHORT)]);
    let mut client = gateway.client();
    // Every byte in time, all of them not.
    trickle(&mut client, &Request::plain().head_bytes());
    client
        .read_response()
        .assert_refused(408, "request_timeout");
    client.assert_closed();
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn the_time_for_a_head_begins_with_its_first_byte() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(
        &upstream,
        &[("request_head", SHORT), ("keep_alive_idle", "30s")],
    );
    let mut client = gateway.client();
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(400));
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
}

#[test]
fn a_body_that_stops() {
    let upstream = Upstream::untouched();
    let gateway = gateway(&upstream, &[("request_body_idle", SHORT)]);
    let body = Request::plain().body_bytes().len();
    for left in [body, 5] {
        let request = Request::plain().id(&format!("left-{left}"));
        let bytes = request.bytes();
        let mut client = gateway.client();
        client.send(&bytes[..bytes.len() - left]);
        client
            .read_response()
            .assert_refused(408, "request_timeout");
        client.assert_closed();
        let line = gateway.logged(&format!("left-{left}"));
        assert_eq!(
            (&line["status"], &line["code"]),
            (&408.into(), &"request_timeout".into()),
            "{line}"
        );
    }
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn a_large_body_that_stops_on_its_way_to_the_upstream() {
    let upstream = Upstream::start_at_head(silent);
    let gateway = gateway(&upstream, &[("request_body_idle", SHORT)]);
    let mut client = gateway.client();
    client.send(
        Request::new("POST", "/v1/responses")
            .field("Content-Length", "5000000")
            .head_bytes(),
    );
    client.send([b'x'; 2_000_000]);
    client
        .read_response()
        .assert_refused(408, "request_timeout");
    client.assert_closed();
    upstream.wait_ended(0);
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn a_body_that_comes_too_slowly() {
    let upstream = Upstream::untouched();
    let gateway = gateway(
        &upstream,
        &[
            ("request_body_total", SHORT),
            ("request_body_idle", "200ms"),
        ],
    );
    let mut client = gateway.client();
    client.send(
        Request::new("POST", "/v1/responses")
            .field("Content-Length", "500")
            .head_bytes(),
    );
    trickle(&mut client, &[b'x'; 500]);
    client
        .read_response()
        .assert_refused(408, "request_timeout");
    client.assert_closed();
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn a_connection_without_a_request() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream, &[("keep_alive_idle", WHOLE)]);
    gateway.client().assert_closed();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    // In silence: nobody asked anything.
    client.assert_closed();
    let requests = gateway
        .log()
        .lines()
        .iter()
        .filter(|line| line.event() == "request")
        .count();
    assert_eq!(requests, 3);
}

#[test]
fn a_client_that_does_not_read() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        let event = chunk(&openai::delta(&"x".repeat(4000)));
        while exchange.send(&event) {}
    });
    let gateway = gateway(&upstream, &[("write_stall", SHORT)]);
    let mut client = RawClient::connect_narrow(gateway.address(), 4096);
    client.send(Request::streamed().id("stalled").bytes());
    upstream_gone(&upstream);
    let line = gateway.logged("stalled");
    assert_ne!(line["ended"], "complete", "{line}");
    let head = client.begin_response();
    assert_eq!(head.status(), 200);
    assert_eq!(client.finish_response().1, Ending::Truncated);
}

/// The script's `send` failed: its thread has ended, and with it the connection.
fn upstream_gone(upstream: &Upstream) {
    upstream.wait_for("the end of the first connection", |record| {
        record.connections.first()?.ended.map(|_| ())
    });
}

#[test]
fn an_upstream_that_does_not_read() {
    let gone = Signal::new();
    let upstream = Upstream::start_at_head({
        let gone = gone.clone();
        move |_| gone.wait()
    });
    let gateway = gateway(&upstream, &[("write_stall", SHORT)]);
    let mut client = gateway.client();
    client.send(
        Request::new("POST", "/v1/responses")
            .field("Content-Length", "30000000")
            .head_bytes(),
    );
    // The gateway takes as much as it can pass on; the answer comes while the client is still writing.
    while client.try_send_now(&[b'x'; 65_536]) {}
    client
        .read_response()
        .assert_refused(504, "upstream_timeout");
    gone.send();
}

#[test]
fn an_upstream_that_cannot_be_reached() {
    let nobody = Unresponsive::start();
    let config = Config::simple(nobody.address()).timeout("upstream_connect", SHORT);
    let gateway = Gateway::start(&config);
    let answer = gateway.call(&Request::plain().id("connect"));
    let error = answer.assert_refused(504, "upstream_timeout");
    assert!(error.retryable);
    assert_eq!(gateway.logged("connect")["code"], "upstream_timeout");
}

#[test]
fn an_upstream_that_does_not_answer() {
    let starts = [
        "",
        "HTTP/1.1 200 OK\r\ncontent-",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ];
    for start in starts {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(start);
            silent(exchange);
        });
        let gateway = gateway(&upstream, &[("response_head", SHORT)]);
        let mut client = gateway.client();
        let answer = client.call(&Request::plain().id("silent"));
        answer.assert_refused(504, "upstream_timeout");
        upstream.wait_ended(0);
        let line = gateway.logged("silent");
        assert_eq!(
            (&line["status"], &line["code"]),
            (&504.into(), &"upstream_timeout".into()),
            "{line}"
        );
        // The client did nothing wrong: its connection goes on.
        assert_eq!(client.call(&Request::get("/health")).status(), 200);
    }
}

#[test]
fn a_head_that_trickles_in() {
    let upstream = Upstream::start(|exchange| {
        for byte in
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
        {
            if !exchange.send([*byte]) {
                return;
            }
            thread::sleep(PACE);
        }
    });
    let gateway = gateway(&upstream, &[("response_head", SHORT)]);
    gateway
        .call(&Request::plain())
        .assert_refused(504, "upstream_timeout");
    upstream_gone(&upstream);
}

#[test]
fn a_stream_whose_first_event_does_not_come() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        silent(exchange);
    });
    let gateway = gateway(&upstream, &[("first_event", SHORT)]);
    let answer = gateway.call(&Request::streamed().id("first"));
    answer.assert_refused(504, "upstream_timeout");
    upstream.wait_ended(0);
    assert_eq!(gateway.logged("first")["code"], "upstream_timeout");
}

/// A stream that was given up: everything so far, one error event, no last chunk.
fn assert_given_up(payload: &[u8], ending: Ending, sent: &[u8]) {
    assert_eq!(ending, Ending::Truncated);
    let rest = payload.strip_prefix(sent).expect("what was sent");
    let rest = std::str::from_utf8(rest).expect("an event in UTF-8");
    let data = rest
        .strip_prefix("event: error\ndata: ")
        .and_then(|rest| rest.strip_suffix("\n\n"));
    let data = data.unwrap_or_else(|| panic!("not one error event: {rest:?}"));
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["type"], "error");
}

#[test]
fn a_stream_that_falls_silent() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("a")));
        silent(exchange);
    });
    let gateway = gateway(&upstream, &[("event_idle", SHORT)]);
    let answer = gateway.call(&Request::streamed().id("idle"));
    assert_given_up(&answer.payload, answer.ending, &openai::delta("a"));
    upstream.wait_ended(0);
    assert_eq!(gateway.logged("idle")["ended"], "deadline");
}

#[test]
fn a_stream_that_goes_on_for_too_long() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        while exchange.send(chunk(&openai::delta("a"))) {
            thread::sleep(PACE);
        }
    });
    let total = [
        ("stream_total", WHOLE),
        ("event_idle", WHOLE),
        ("first_event", WHOLE),
        ("response_head", WHOLE),
    ];
    let gateway = gateway(&upstream, &total);
    let answer = gateway.call(&Request::streamed().id("total"));
    let error = find(&answer.payload, b"event: error").expect("an error event");
    assert_given_up(
        &answer.payload,
        answer.ending,
        &openai::delta("a").repeat(error / openai::delta("a").len()),
    );
    upstream_gone(&upstream);
    assert_eq!(gateway.logged("total")["ended"], "deadline");
}

#[test]
fn an_answer_that_takes_too_long() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
    ];
    for head in heads {
        for trickling in [false, true] {
            let upstream = Upstream::start(move |exchange| {
                exchange.send(head);
                exchange.send(b"{");
                while trickling && exchange.send(b" ") {
                    thread::sleep(PACE);
                }
                if !trickling {
                    silent(exchange);
                }
            });
            let total = [
                ("answer_total", WHOLE),
                ("response_head", WHOLE),
                ("upstream_connect", WHOLE),
            ];
            let gateway = gateway(&upstream, &total);
            let answer = gateway.call(&Request::plain().id("total"));
            assert_eq!(
                (answer.status(), answer.ending),
                (200, Ending::Truncated),
                "{head:?}"
            );
            upstream_gone(&upstream);
            assert_eq!(gateway.logged("total")["ended"], "deadline");
        }
    }
}

#[test]
fn a_kept_connection_that_nobody_uses() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream, &[("pool_idle", SHORT)]);
    gateway.write_state("first");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    upstream.wait_ended(0);
    let before = gateway.open_fds();
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    upstream.wait_ended(1);
    eventually("the descriptor is closed", || {
        (gateway.open_fds() <= before).then_some(())
    });
}

#[test]
fn a_kept_connection_that_grew_old() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream, &[("pool_age", WHOLE), ("pool_idle", WHOLE)]);
    let mut client = gateway.client();
    // In use all the time, and still replaced.
    eventually("a second connection", || {
        assert_eq!(client.call(&Request::plain()).status(), 200);
        (upstream.connection_count() > 1).then_some(())
    });
    let served = upstream
        .requests()
        .iter()
        .filter(|request| request.connection == 0)
        .count();
    assert!(served > 1, "it was never used again");
    upstream.wait_ended(0);
}

#[test]
fn heartbeats_while_the_upstream_is_silent() {
    let heard = Signal::new();
    let upstream = Upstream::start({
        let heard = heard.clone();
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::delta("a")));
            heard.wait();
            // Half of an event: nothing may come in between.
            let (one, other) = (openai::delta("b"), openai::completed());
            let (half, rest) = one.split_at(20);
            exchange.send(chunk(half));
            thread::sleep(Duration::from_millis(400));
            exchange.send(chunk(rest));
            exchange.send(chunk(&other));
            exchange.send(b"0\r\n\r\n");
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()).timeout("heartbeat", "100ms"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("heartbeat").bytes());
    client.begin_response();
    client.read_payload(openai::delta("a").len());
    let beat: &[u8] = b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";
    for _ in 0..3 {
        assert_eq!(client.read_payload(beat.len()), beat);
    }
    heard.send();
    let (mut rest, ending) = client.finish_response();
    assert_eq!(ending, Ending::Complete);
    while let Some(more) = rest.strip_prefix(beat) {
        rest = more.to_vec();
    }
    assert_eq!(rest, [openai::delta("b"), openai::completed()].concat());
    assert_eq!(gateway.logged("heartbeat")["ended"], "complete");
}

#[test]
fn heartbeats_do_not_keep_a_dead_upstream_alive() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("a")));
        silent(exchange);
    });
    let config = Config::simple(upstream.address());
    let gateway = Gateway::start(
        &config
            .timeout("heartbeat", "100ms")
            .timeout("event_idle", "500ms"),
    );
    let answer = gateway.call(&Request::streamed());
    assert_eq!(answer.ending, Ending::Truncated);
    assert!(find(&answer.payload, b"event: keepalive\n").is_some());
    upstream.wait_ended(0);
}
