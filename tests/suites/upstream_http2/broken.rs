//! Streams and connections that end before their answers do.

use super::{EVENTS, JSON, config, events};
use relay_tests::http2::{Frame, Http2Upstream, Peer, code};
use relay_tests::openai::{PLAIN_BODY, created, delta};
use relay_tests::{Ending, Gateway, RawClient, Request};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::Mutex;

#[test]
fn a_reset_within_an_answer_cuts_it_and_nothing_else() {
    let upstream = Http2Upstream::start(|peer, request| {
        if request.value(":path") != Some("/v1/responses") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        peer.answer_head(request.stream, 200, EVENTS, false);
        peer.queue(request.stream, &[created(), delta("one")].concat(), false);
        peer.frame(&Frame::reset(request.stream, code::INTERNAL_ERROR));
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for _ in 0..3 {
        let answer = gateway.call(&Request::streamed());
        assert_eq!((answer.status(), answer.ending), (200, Ending::Truncated));
        let begun = [created(), delta("one")].concat();
        assert!(
            answer.payload.starts_with(&begun),
            "what had come is passed on"
        );
        let rest = String::from_utf8_lossy(&answer.payload[begun.len()..]).into_owned();
        assert!(rest.contains("upstream_stream_incomplete"), "{rest}");
        assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn what_the_provider_has_not_begun_is_asked_again_on_another_connection() {
    for refuse in [
        (|peer: &mut Peer, stream| peer.frame(&Frame::reset(stream, code::REFUSED_STREAM)))
            as fn(&mut Peer, u32),
        |peer, stream| peer.frame(&Frame::goaway(stream - 2, code::NO_ERROR)),
        |peer, _| {
            let _ = peer.wire().socket().shutdown(Shutdown::Both);
        },
    ] {
        let upstream = Http2Upstream::start(move |peer, request| {
            if request.connection == 0 && request.stream > 1 {
                return refuse(peer, request.stream);
            }
            peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        });
        let gateway = Gateway::start(&config(upstream.address()));
        for number in 0..3 {
            let answer = gateway.call(&Request::plain());
            assert_eq!(
                (answer.status(), answer.ending),
                (200, Ending::Complete),
                "{number}"
            );
        }
        assert_eq!(upstream.connections().len(), 2);
    }
}

#[test]
fn a_connection_that_is_given_up_still_brings_what_it_has_begun() {
    let upstream = Http2Upstream::start(|peer, request| {
        let [first, rest @ ..] = &events(&["one", "two"])[..] else {
            panic!("four events");
        };
        peer.answer_head(request.stream, 200, EVENTS, false);
        peer.queue(request.stream, first, false);
        peer.frame(&Frame::goaway(request.stream, code::NO_ERROR));
        peer.queue(request.stream, &rest.concat(), true);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for connections in 1..4 {
        let answer = gateway.call(&Request::streamed());
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert_eq!(answer.payload, events(&["one", "two"]).concat());
        assert_eq!(upstream.connections().len(), connections);
    }
}

#[test]
fn what_was_begun_and_failed_is_not_asked_again() {
    let upstream = Http2Upstream::start(|peer, request| match request.stream {
        1 => peer.answer(request.stream, 200, JSON, PLAIN_BODY),
        _ => peer.frame(&Frame::reset(request.stream, code::INTERNAL_ERROR)),
    });
    let gateway = Gateway::start(&config(upstream.address()));
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let answer = gateway.call(&Request::plain());
    answer.assert_refused(502, "upstream_error");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_whole_answer_is_one_though_the_rest_of_the_request_is_not_wanted() {
    let body = vec![b'x'; 4 << 20];
    let upstream = Http2Upstream::with(
        relay_tests::http2::Options {
            at_head: true,
            ..relay_tests::http2::Options::default()
        },
        |peer, request| {
            peer.answer(request.stream, 413, JSON, b"{}");
            peer.frame(&Frame::reset(request.stream, code::NO_ERROR));
        },
    );
    let gateway = Gateway::start(&config(upstream.address()));
    for _ in 0..3 {
        let mut client = gateway.client();
        // The answer may come, and the connection end, before all of it was taken.
        client.try_send(Request::post("/v1/files", &body).bytes());
        let answer = client.read_response();
        assert_eq!((answer.status(), answer.ending), (413, Ending::Complete));
    }
    assert_eq!(upstream.connections().len(), 1);
}

/// More of them in a row would block the account.
const LOST_STREAMS: usize = 8;

#[test]
fn a_lost_connection_is_one_failure_however_many_requests_were_on_it() {
    let open: Mutex<BTreeMap<usize, usize>> = Mutex::default();
    let upstream = Http2Upstream::start(move |peer, request| {
        if request.value(":path") != Some("/v1/responses") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        let mut open = open.lock().expect("no holder panics");
        let streams = open.entry(request.connection).or_default();
        *streams += 1;
        if *streams == LOST_STREAMS {
            let _ = peer.wire().socket().shutdown(Shutdown::Both);
        }
    });
    let gateway = Gateway::start(&config(upstream.address()));
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    let clients: Vec<RawClient> = (0..LOST_STREAMS)
        .map(|_| {
            let mut client = gateway.client();
            client.send(Request::plain().bytes());
            client
        })
        .collect();
    // Each of them is asked once more, since the connection had been used before; and that one is lost too.
    for mut client in clients {
        client.read_response().assert_refused(502, "upstream_error");
    }
    assert_eq!(upstream.connections().len(), 2);
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
}

/// A stream that has begun, and stays open.
fn begin_stream(gateway: &Gateway) -> RawClient {
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    client.begin_response();
    client
}

fn answer_without_end(peer: &mut Peer, stream: u32) {
    peer.answer_head(stream, 200, EVENTS, false);
    peer.queue(stream, &[created(), delta("one")].concat(), false);
}

#[test]
fn connections_that_are_given_up_one_after_the_other_fail_nobody() {
    let upstream = Http2Upstream::start(|peer, request| {
        if request.value(":path") != Some("/v1/responses") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        answer_without_end(peer, request.stream);
        if matches!((request.connection, request.stream), (0, 5) | (1, 1)) {
            peer.frame(&Frame::goaway(request.stream, code::NO_ERROR));
        }
    });
    let config = config(upstream.address()).limit("upstream_http2_streams_max", 3);
    let gateway = Gateway::start(&config);
    let mut clients: Vec<_> = (0..4).map(|_| begin_stream(&gateway)).collect();
    assert_eq!(upstream.connections().len(), 2);
    // There would be room on both of them now.
    drop(clients.remove(2));
    for _ in 0..3 {
        let answer = gateway.call(&Request::get("/v1/models"));
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    }
    assert_eq!(upstream.connections().len(), 3);
}

#[test]
fn a_connection_that_refuses_is_asked_again_when_one_of_its_streams_has_ended() {
    let upstream =
        Http2Upstream::start(
            |peer, request| match (request.connection, request.value(":path")) {
                (_, Some("/v1/responses")) => answer_without_end(peer, request.stream),
                (0, _) => peer.frame(&Frame::reset(request.stream, code::REFUSED_STREAM)),
                _ => peer.answer(request.stream, 200, JSON, PLAIN_BODY),
            },
        );
    let gateway = Gateway::start(&config(upstream.address()));
    let clients: Vec<_> = (0..2).map(|_| begin_stream(&gateway)).collect();
    for _ in 0..3 {
        assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    }
    let on_the_first = |request: &&_| {
        let request: &relay_tests::http2::ReceivedStream = request;
        request.connection == 0
    };
    assert_eq!(upstream.requests().iter().filter(on_the_first).count(), 3);
    assert_eq!(upstream.connections().len(), 2);
    drop(clients);
}

#[test]
fn a_provider_that_begins_with_nothing_is_not_asked_for_ever_and_not_blamed() {
    let upstream = Http2Upstream::start(|peer, request| match request.value(":path") {
        Some("/v1/responses") => peer.frame(&Frame::reset(request.stream, code::REFUSED_STREAM)),
        _ => peer.answer(request.stream, 200, JSON, PLAIN_BODY),
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for number in 1..5 {
        let answer = gateway.call(&Request::plain());
        answer.assert_refused(502, "upstream_error");
        assert_eq!(upstream.requests().len(), number * 4);
    }
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
}
