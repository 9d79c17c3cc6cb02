//! DATA, HEADERS, PRIORITY and RST_STREAM: what they carry, and where they may not be.

use crate::{Case, case, expect_answer, expect_service, finished, get, held, unfinished};
use relay_tests::http2::{Frame, Peer, code, flag, kind};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(data());
    cases.extend(headers());
    cases.extend(priority());
    cases.extend(reset());
    cases
}

fn data() -> Vec<Case> {
    vec![
        case("9113 6.1", "DATA on the connection", |peer| {
            peer.frame(&Frame::data(0, *b"body", false));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.1", "padding is no content", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, *b"bo", false).padded(255));
            peer.frame(&Frame::data(stream, *b"dy", true).padded(0));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 6.1", "nothing but padding", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, [], false).padded(7));
            peer.frame(&Frame::data(stream, *b"body", true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 6.1", "padding as long as the payload", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::new(kind::DATA, flag::PADDED, stream, [4, 0, 0, 0]));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.1", "padding longer than the payload", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::new(
                kind::DATA,
                flag::PADDED,
                stream,
                [200, 0, 0, 0],
            ));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case(
            "9113 6.1",
            "a padded frame without the length of its padding",
            |peer| {
                let stream = unfinished(peer);
                peer.frame(&Frame::new(kind::DATA, flag::PADDED, stream, []));
                peer.expect_goaway(&[code::PROTOCOL_ERROR, code::FRAME_SIZE_ERROR]);
            },
        ),
        case("9113 6.1", "empty DATA, also as the end", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, [], false));
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::data(stream, [], true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        case("9113 6.2", "HEADERS on the connection", |peer| {
            peer.frame(&Frame::headers(0, get("/v1/malformed"), true));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.2", "padded HEADERS", |peer| {
            answered(peer, |frame| frame.padded(100));
        }),
        case("9113 6.2", "HEADERS with a priority", |peer| {
            answered(peer, |frame| frame.with_priority(0, 16));
        }),
        case(
            "9113 6.2",
            "padded HEADERS with an exclusive priority",
            |peer| {
                answered(peer, |frame| {
                    frame.with_priority(1 << 31 | 77, 255).padded(9)
                });
            },
        ),
        case("9113 6.2", "padding as long as what follows", |peer| {
            let stream = peer.next_stream();
            let mut frame = Frame::headers(stream, get("/v1/malformed"), true).padded(0);
            frame.payload[0] = u8::try_from(frame.payload.len()).expect("a short frame");
            peer.frame(&frame);
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case(
            "9113 6.2",
            "padding that reaches into the priority",
            |peer| {
                let stream = peer.next_stream();
                let flags = flag::PADDED | flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM;
                peer.frame(&Frame::new(
                    kind::HEADERS,
                    flags,
                    stream,
                    [3, 0, 0, 0, 0, 0],
                ));
                peer.expect_goaway(&[code::PROTOCOL_ERROR, code::FRAME_SIZE_ERROR]);
            },
        ),
        case("9113 6.2", "a priority that is cut", |peer| {
            let stream = peer.next_stream();
            let flags = flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM;
            peer.frame(&Frame::new(kind::HEADERS, flags, stream, [0, 0, 0]));
            peer.expect_goaway(&[code::PROTOCOL_ERROR, code::FRAME_SIZE_ERROR]);
        }),
        case("9113 6.2", "empty HEADERS", |peer| {
            // A block without fields lacks all that a request has: malformed.
            let stream = peer.open_with([], true);
            crate::expect_malformed(peer, stream);
        }),
    ]
}

fn answered(peer: &mut Peer, change: fn(Frame) -> Frame) {
    let stream = peer.next_stream();
    peer.frame(&change(Frame::headers(stream, get("/v1/plain"), true)));
    expect_answer(peer, stream);
}

fn priority() -> Vec<Case> {
    vec![
        case("9113 6.3", "PRIORITY on the connection", |peer| {
            peer.frame(&Frame::priority(0, 1, 16));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case(
            "9113 6.3",
            "PRIORITY on idle, open and closed streams",
            |peer| {
                let done = finished(peer);
                let open = unfinished(peer);
                for stream in [done, open, 99] {
                    peer.frame(&Frame::priority(stream, 0, 16));
                }
                peer.frame(&Frame::data(open, *b"body", true));
                assert_eq!(peer.response(open).payload, b"body");
                expect_service(peer);
            },
        ),
        case(
            "9113 5.3",
            "a stream that depends on itself, by PRIORITY",
            |peer| {
                // RFC 7540 made this an error of the stream; RFC 9113 has no priorities any more.
                let stream = held(peer);
                peer.frame(&Frame::priority(stream, stream, 16));
                expect_nothing_or_protocol_error(peer, stream);
            },
        ),
        case(
            "9113 5.3",
            "a stream that depends on itself, by HEADERS",
            |peer| {
                let stream = peer.next_stream();
                let head = Frame::headers(stream, get("/v1/held"), true);
                peer.frame(&head.with_priority(stream, 16));
                expect_nothing_or_protocol_error(peer, stream);
            },
        ),
    ]
}

fn expect_nothing_or_protocol_error(peer: &mut Peer, stream: u32) {
    peer.try_frame(&Frame::ping(*b"dependen"));
    while !peer.is_over() && !peer.has_pong(*b"dependen") {
        peer.step();
    }
    if peer.is_over() {
        peer.expect_goaway(&[code::PROTOCOL_ERROR]);
    } else {
        let reset = peer.incoming(stream).reset;
        assert!(
            reset.is_none_or(|code| code == code::PROTOCOL_ERROR),
            "{reset:?}"
        );
        expect_service(peer);
    }
}

fn reset() -> Vec<Case> {
    vec![
        case("9113 6.4", "RST_STREAM on the connection", |peer| {
            peer.frame(&Frame::reset(0, code::CANCEL));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.4", "RST_STREAM on an idle stream", |peer| {
            peer.frame(&Frame::reset(9, code::CANCEL));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 7", "RST_STREAM with an unknown code", |peer| {
            let stream = held(peer);
            peer.frame(&Frame::reset(stream, 0xbad0_c0de));
            expect_service(peer);
            assert_eq!(peer.incoming(stream).heads.len(), 0);
        }),
        case(
            "9113 6.4",
            "RST_STREAM before the request is complete",
            |peer| {
                let stream = unfinished(peer);
                peer.frame(&Frame::data(stream, *b"half of", false));
                peer.frame(&Frame::reset(stream, code::CANCEL));
                expect_service(peer);
            },
        ),
        case(
            "9113 5.4.2",
            "an error of one stream is none of another",
            |peer| {
                let other = unfinished(peer);
                let mut fields = crate::head("GET", "/v1/malformed");
                fields.push(crate::field("connection", "close"));
                let bad = peer.open(&fields, true);
                crate::expect_malformed(peer, bad);
                peer.frame(&Frame::data(other, *b"body", true));
                assert_eq!(peer.response(other).payload, b"body");
            },
        ),
    ]
}
