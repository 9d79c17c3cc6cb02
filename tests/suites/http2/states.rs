//! The life of a stream, and its number.

use crate::{
    Case, FrameOf, Opened, case, expect_answer, expect_nothing_of, expect_service, finished, get,
    held, post, unfinished,
};
use relay_tests::http2::{Frame, Peer, code};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(idle());
    cases.extend(half_closed());
    cases.extend(closed());
    cases.extend(numbers());
    cases
}

fn idle() -> Vec<Case> {
    let frames: [(&str, Frame); 3] = [
        ("DATA", Frame::data(1, *b"body", true)),
        ("RST_STREAM", Frame::reset(1, code::CANCEL)),
        ("WINDOW_UPDATE", Frame::window_update(1, 1)),
    ];
    let mut cases = Vec::new();
    for (name, frame) in frames {
        cases.push(case(
            "9113 5.1",
            format!("{name} on an idle stream"),
            move |peer| {
                peer.frame(&frame);
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            },
        ));
    }
    cases
}

/// The request is complete, and the answer is not.
fn half_closed() -> Vec<Case> {
    vec![
        case("9113 5.1", "DATA behind the end of the request", |peer| {
            let stream = held(peer);
            peer.frame(&Frame::data(stream, *b"more", true));
            expect_stream_closed(peer, stream);
        }),
        case("9113 5.1", "DATA behind END_STREAM on DATA", |peer| {
            let stream = peer.open_with(post("/v1/held"), false);
            peer.frame(&Frame::data(stream, *b"body", true));
            peer.frame(&Frame::data(stream, *b"more", true));
            expect_stream_closed(peer, stream);
        }),
        case(
            "9113 5.1",
            "HEADERS behind the end of the request",
            |peer| {
                let stream = held(peer);
                peer.frame(&Frame::headers(stream, get("/v1/malformed"), true));
                expect_stream_closed(peer, stream);
            },
        ),
        case(
            "9113 5.1",
            "WINDOW_UPDATE, PRIORITY and RST_STREAM behind the end of the request",
            |peer| {
                let stream = held(peer);
                peer.frame(&Frame::window_update(stream, 1));
                peer.frame(&Frame::priority(stream, 0, 1));
                peer.frame(&Frame::reset(stream, code::CANCEL));
                expect_service(peer);
            },
        ),
        case(
            "9113 8.1",
            "HEADERS that are no trailers, as the stream goes on",
            |peer| {
                let stream = unfinished(peer);
                peer.frame(&Frame::headers(stream, *b"\0\x01a\x011", false));
                peer.frame(&Frame::data(stream, *b"body", true));
                expect_reset_or_refusal(peer, stream, &[code::PROTOCOL_ERROR]);
            },
        ),
    ]
}

/// RFC 9113, section 5.1: a stream error. An error of the connection is what section 5.4.1 lets an endpoint make of any.
fn expect_stream_closed(peer: &mut Peer, stream: u32) {
    peer.wait("an error", |peer| {
        (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
    });
    match peer.incoming(stream).reset {
        Some(reset) => {
            assert_eq!(reset, code::STREAM_CLOSED);
            expect_service(peer);
        }
        None => drop(peer.expect_goaway(&[code::STREAM_CLOSED, code::PROTOCOL_ERROR])),
    }
    assert_eq!(peer.incoming(stream).heads.len(), 0, "an answer");
}

fn expect_reset_or_refusal(peer: &mut Peer, stream: u32, codes: &[u32]) {
    peer.wait("an error", |peer| {
        (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
    });
    match peer.incoming(stream).reset {
        Some(reset) => assert!(codes.contains(&reset), "RST_STREAM with {reset}"),
        None if peer.is_over() => drop(peer.expect_goaway(codes)),
        None => drop(peer.response(stream).assert_refused(400, "bad_request")),
    }
}

fn closed() -> Vec<Case> {
    let ends: [(&str, Opened); 2] = [
        ("was answered", finished),
        ("the client has reset", |peer| {
            let stream = held(peer);
            peer.cancel(stream);
            stream
        }),
    ];
    let frames: [(&str, FrameOf); 2] = [
        ("DATA", |stream| Frame::data(stream, *b"body", true)),
        ("HEADERS", |stream| {
            Frame::headers(stream, get("/v1/malformed"), true)
        }),
    ];
    let mut cases = Vec::new();
    for (end, close) in ends {
        for (name, frame) in frames {
            let name = format!("{name} on a stream that {end}");
            cases.push(case("9113 5.1", name, move |peer| {
                let stream = close(peer);
                peer.frame(&frame(stream));
                expect_nothing_of(peer, stream);
            }));
        }
        let name = format!("WINDOW_UPDATE, RST_STREAM and PRIORITY on a stream that {end}");
        cases.push(case("9113 5.1", name, move |peer| {
            let stream = close(peer);
            peer.frame(&Frame::window_update(stream, 1));
            peer.frame(&Frame::reset(stream, code::NO_ERROR));
            peer.frame(&Frame::priority(stream, 0, 1));
            expect_service(peer);
        }));
    }
    cases.push(case(
        "9113 5.1",
        "DATA that was on its way when the server gave the stream up",
        |peer| {
            let mut fields = crate::head("POST", "/v1/malformed");
            fields.push(crate::field("connection", "close"));
            let bad = peer.open(&fields, false);
            for _ in 0..3 {
                peer.frame(&Frame::data(bad, *b"on its way", false));
            }
            peer.frame(&Frame::data(bad, [], true));
            crate::expect_malformed(peer, bad);
        },
    ));
    cases
}

fn numbers() -> Vec<Case> {
    vec![
        case("9113 5.1.1", "an even number", |peer| {
            peer.frame(&Frame::headers(2, get("/v1/malformed"), true));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 5.1.1", "a number below the last one", |peer| {
            peer.expect_answer_on(9);
            peer.frame(&Frame::headers(9, get("/v1/plain"), true));
            expect_answer(peer, 9);
            peer.frame(&Frame::headers(7, get("/v1/malformed"), true));
            peer.expect_goaway(&[code::PROTOCOL_ERROR, code::STREAM_CLOSED]);
        }),
        case(
            "9113 5.1.1",
            "numbers that are left out are closed",
            |peer| {
                peer.expect_answer_on(7);
                peer.expect_answer_on(3);
                peer.frame(&Frame::headers(7, get("/v1/plain"), true));
                expect_answer(peer, 7);
                peer.frame(&Frame::data(3, *b"body", true));
                expect_nothing_of(peer, 3);
            },
        ),
        case("9113 5.1.1", "the largest number there is", |peer| {
            let last = (1 << 31) - 1;
            peer.expect_answer_on(last);
            peer.frame(&Frame::headers(last, get("/v1/plain"), true));
            expect_answer(peer, last);
        }),
        case("9113 5.1.1", "one number twice, at once", |peer| {
            let stream = peer.next_stream();
            let head = Frame::headers(stream, get("/v1/held"), true);
            peer.frames(&[head.clone(), head]);
            expect_stream_closed(peer, stream);
        }),
        case(
            "9113 5.1",
            "many streams at once, each with its own answer",
            |peer| {
                let streams: Vec<u32> = (0..crate::STREAMS_MAX).map(|_| unfinished(peer)).collect();
                for stream in streams.iter().rev() {
                    peer.frame(&Frame::data(*stream, stream.to_string(), true));
                }
                for stream in streams {
                    assert_eq!(peer.response(stream).payload, stream.to_string().as_bytes());
                }
            },
        ),
    ]
}
