//! Answers that come before the body is complete.

use crate::{BEGINNING_BYTES, RETRY_BODY_BYTES_MAX, head, long_body, send_unless_answered};
use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::{Config, Ending, Exchange, Gateway, Signal, Upstream, openai};
use std::time::{Duration, Instant};

/// How long a client may be silent in the middle of its body.
const BODY_IDLE: &str = "1s";

/// Certainly longer than that.
const LONGER: Duration = Duration::from_millis(2500);

fn gateway(upstream: &Upstream) -> Gateway {
    let config = Config::simple(upstream.address())
        .limit("retry_body_bytes_max", RETRY_BODY_BYTES_MAX)
        .timeout("request_body_idle", BODY_IDLE);
    Gateway::start(&config)
}

#[test]
fn a_stream_outlives_the_time_for_the_body() {
    let (next, over) = (Signal::new(), Signal::new());
    let upstream = Upstream::start_at_head({
        let (next, over) = (next.clone(), over.clone());
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::created()));
            next.wait();
            while !over.is_pending() && exchange.send(chunk(&openai::delta("a"))) {
                next.wait();
            }
            exchange.send(chunk(&openai::completed()));
            exchange.send(LAST_CHUNK);
            exchange.wait_closed();
        }
    });
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    client.send(head(8 << 20).id("early").head_bytes());
    client.send(&long_body(8 << 20)[..BEGINNING_BYTES]);
    assert_eq!(client.begin_response().status(), 200);
    let created = openai::created();
    assert_eq!(client.read_payload(created.len()), created);
    let (began, delta) = (Instant::now(), openai::delta("a"));
    while began.elapsed() < LONGER {
        next.send();
        assert_eq!(client.read_payload(delta.len()), delta);
        std::thread::sleep(Duration::from_millis(50));
    }
    over.send();
    next.send();
    let (rest, ending) = client.finish_response();
    assert_eq!((rest, ending), (openai::completed(), Ending::Complete));
    client.assert_closed();
    assert_eq!(gateway.logged("early")["ended"], "complete");
    // Half of a request is on this connection.
    upstream.wait_ended(0);
}

fn too_large() -> Vec<u8> {
    let fields = [
        ("content-type", "application/json"),
        ("connection", "close"),
    ];
    response(413, &fields, br#"{"error":{"message":"theirs"}}"#)
}

/// An upstream that reads the head and then does this.
fn assert_413_passes(name: &str, script: fn(&mut Exchange)) {
    let upstream = Upstream::start_at_head(script);
    let gateway = gateway(&upstream);
    // It never comes to its end, however much of it finds room on the way.
    let body = long_body(8 << 20);
    let mut client = gateway.client();
    client.send(head(2 * body.len()).head_bytes());
    send_unless_answered(&mut client, &body);
    let answer = client.read_response();
    assert_eq!(answer.status(), 413, "{name}: {answer:?}");
    assert_eq!(
        answer.payload, br#"{"error":{"message":"theirs"}}"#,
        "{name}"
    );
    let source = answer.head.value("x-relay-error-source");
    assert_eq!(source, Some("upstream"), "{name}");
    assert_eq!(answer.ending, Ending::Complete, "{name}");
    client.assert_closed();
    assert_eq!(upstream.completed(), 0, "{name}");
    assert_eq!(upstream.connection_count(), 1, "{name}");
}

#[test]
fn a_refusal_of_the_provider_reaches_a_client_that_still_sends() {
    assert_413_passes("orderly", |exchange| {
        exchange.send(too_large());
        exchange.wait_closed();
    });
    // What it has not read makes a reset of this.
    assert_413_passes("closed at once", |exchange| {
        exchange.send(too_large());
        exchange.close();
    });
    assert_413_passes("bytewise", |exchange| {
        exchange.send_bytewise(too_large());
        exchange.wait_closed();
    });
}

#[test]
fn an_informational_answer_before_the_refusal() {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_413_passes("in one segment", |exchange| {
        exchange.send([CONTINUE, &too_large()].concat());
        exchange.wait_closed();
    });
    assert_413_passes("in one segment with the end", |exchange| {
        exchange.send([CONTINUE, &too_large()].concat());
        exchange.close();
    });
    assert_413_passes("one after the other", |exchange| {
        exchange.send(CONTINUE);
        exchange.send(CONTINUE);
        exchange.send(too_large());
        exchange.wait_closed();
    });
}

#[test]
fn after_an_informational_answer_the_body_goes_on() {
    let upstream = Upstream::start_at_head(|exchange| {
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        exchange.read_body();
        exchange.send(openai::plain());
    });
    let gateway = gateway(&upstream);
    let body = long_body(4 << 20);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(head(body.len()).head_bytes());
        client.send(&body);
        let answer = client.read_response();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.payload, openai::PLAIN_BODY);
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.body == body)
    );
    assert_eq!(upstream.completed(), 2);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn a_wrong_key_is_refused_though_the_body_stalls() {
    let upstream = Upstream::untouched();
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    let request = head(1000).key("rk-wrong");
    client.send(request.head_bytes());
    client.send([b'x'; 10]);
    client
        .read_response()
        .assert_refused(401, "invalid_api_key");
    client.assert_closed();
    assert_eq!(upstream.connection_count(), 0);
}
