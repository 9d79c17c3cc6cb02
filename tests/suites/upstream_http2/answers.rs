//! What goes there and what comes back.

use super::{EVENTS, JSON, config, events};
use relay_tests::config::ACCOUNT_KEY;
use relay_tests::http2::{Frame, Http2Upstream, Peer, hpack};
use relay_tests::openai::PLAIN_BODY;
use relay_tests::{Ending, Gateway, Request, Signal};
use std::sync::Arc;

#[test]
fn a_request_is_the_same_but_for_its_form() {
    let upstream = Http2Upstream::start(|peer, request| {
        peer.answer(request.stream, 200, JSON, PLAIN_BODY);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let body = br#"{"model":"gpt-5","input":"hello"}"#;
    let request = Request::post("/v1/responses?x=1", body)
        .field("Session_Id", "one")
        .field("Connection", "keep-alive, x-hop")
        .field("x-hop", "stays here")
        .field("TE", "trailers");
    let answer = gateway.call(&request);
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert_eq!(answer.payload, PLAIN_BODY);
    let [received] = &upstream.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(received.body, body);
    let authority = upstream.address().to_string();
    let bearer = format!("Bearer {ACCOUNT_KEY}");
    for (name, value) in [
        (":method", Some("POST")),
        (":scheme", Some("http")),
        (":path", Some("/v1/responses?x=1")),
        (":authority", Some(authority.as_str())),
        ("host", None),
        ("session_id", Some("one")),
        ("authorization", Some(bearer.as_str())),
        ("content-length", Some(body.len().to_string().as_str())),
        ("connection", None),
        ("x-hop", None),
        ("te", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(received.value(name), value, "{name}");
    }
}

#[test]
fn a_stream_arrives_event_by_event() {
    let seen = Arc::new(Signal::new());
    let waits_for = seen.clone();
    let upstream = Http2Upstream::start(move |peer, request| {
        peer.answer_head(request.stream, 200, EVENTS, false);
        let [created, first, last @ ..] = &events(&["one", "two"])[..] else {
            panic!("four events");
        };
        peer.queue(
            request.stream,
            &[created.clone(), first.clone()].concat(),
            false,
        );
        waits_for.wait();
        peer.queue(request.stream, &last.concat(), true);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    let head = client.begin_response();
    assert_eq!(head.value("content-type"), Some("text/event-stream"));
    let all = events(&["one", "two"]);
    let begun = all[..2].concat();
    assert_eq!(client.read_payload(begun.len()), begun);
    seen.send();
    let (rest, ending) = client.finish_response();
    assert_eq!((rest, ending), (all[2..].concat(), Ending::Complete));
}

#[test]
fn trailers_stay_here_and_the_answer_is_whole() {
    let upstream = Http2Upstream::start(|peer, request| {
        peer.answer_head(request.stream, 200, JSON, false);
        peer.queue(request.stream, PLAIN_BODY, false);
        let trailers = hpack::block(&[("x-checksum", "1")]);
        peer.frame(&Frame::headers(request.stream, trailers, true));
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for _ in 0..2 {
        let answer = gateway.call(&Request::plain());
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert_eq!(answer.payload, PLAIN_BODY);
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Http2Upstream::start(|peer: &mut Peer, request| {
        peer.answer(request.stream, 200, JSON, &request.body);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let filler = "0123456789abcdef".repeat(300_000);
    let body = format!(r#"{{"model":"gpt-5","input":"{filler}"}}"#).into_bytes();
    for request in [
        Request::post("/v1/responses", &body),
        Request::new("POST", "/v1/responses").chunked(&[&body[..70_000], &body[70_000..]]),
    ] {
        let answer = gateway.call(&request);
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert!(answer.payload == body, "{} bytes", answer.payload.len());
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Http2Upstream::start(|peer, request| {
        let status = match request.value(":path") {
            Some("/v1/none") => 204,
            _ => 200,
        };
        peer.answer_head(request.stream, status, JSON, true);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut client = gateway.client();
    for (request, status) in [
        (Request::get("/v1/none"), 204),
        (Request::get("/v1/empty"), 200),
        (Request::new("HEAD", "/v1/models"), 200),
    ] {
        let answer = client.call(&request);
        assert_eq!((answer.status(), answer.ending), (status, Ending::Complete));
        assert!(answer.payload.is_empty());
    }
    assert_eq!(upstream.connections().len(), 1);
}
