//! Streams and connections that end before their answers do.

use super::{EVENTS, JSON, config, events};
use relay_tests::http2::{Frame, Http2Upstream, Peer, code};
use relay_tests::openai::{PLAIN_BODY, created, delta};
use relay_tests::{Ending, Gateway, Request};
use std::net::Shutdown;

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
        let answer = gateway.call(&Request::post("/v1/files", &body));
        assert_eq!((answer.status(), answer.ending), (413, Ending::Complete));
    }
    assert_eq!(upstream.connections().len(), 1);
}
