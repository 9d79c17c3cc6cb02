//! Field blocks in several frames: nothing may come in between.

use crate::{Case, FrameOf, Opened, case, expect_answer, finished, get, held, post, unfinished};
use relay_tests::http2::{Frame, code, flag, kind};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = whole();
    cases.extend(broken());
    cases.extend(misplaced());
    cases
}

fn whole() -> Vec<Case> {
    vec![
        case("9113 6.10", "a block in three frames", |peer| {
            let stream = peer.next_stream();
            let block = get("/v1/plain");
            let (first, rest) = block.split_at(10);
            let (second, third) = rest.split_at(20);
            peer.frames(&[
                Frame::begin_headers(stream, first, true),
                Frame::continuation(stream, second, false),
                Frame::continuation(stream, third, true),
            ]);
            expect_answer(peer, stream);
        }),
        case("9113 6.10", "frames with a byte, and with none", |peer| {
            let stream = peer.next_stream();
            let block = get("/v1/plain");
            peer.frames(&[
                Frame::begin_headers(stream, [], true),
                Frame::continuation(stream, [], false),
                Frame::continuation(stream, [block[0]], false),
                Frame::continuation(stream, &block[1..], true),
            ]);
            expect_answer(peer, stream);
        }),
        case(
            "9113 10.5",
            "far more frames than a block has bytes",
            |peer| {
                // The RFC allows it and names it as a flood: the connection ends as soon as it looks like one.
                let stream = peer.next_stream();
                peer.frame(&Frame::begin_headers(stream, get("/v1/malformed"), true));
                let more = Frame::continuation(stream, [], false).bytes();
                peer.try_send(more.repeat(1000));
                peer.expect_goaway(&[code::ENHANCE_YOUR_CALM]);
            },
        ),
        case(
            "9113 6.10",
            "padding and a priority before CONTINUATION",
            |peer| {
                let stream = peer.next_stream();
                let block = get("/v1/plain");
                let (first, rest) = block.split_at(7);
                let head = Frame::begin_headers(stream, first, true);
                peer.frame(&head.with_priority(0, 1).padded(11));
                peer.frame(&Frame::continuation(stream, rest, true));
                expect_answer(peer, stream);
            },
        ),
        case("9113 6.10", "END_STREAM belongs to HEADERS", |peer| {
            let stream = peer.next_stream();
            let block = post("/v1/echo");
            let (first, rest) = block.split_at(30);
            peer.frame(&Frame::begin_headers(stream, first, false));
            // CONTINUATION has no such flag: it means nothing there.
            let last = Frame::continuation(stream, rest, true);
            peer.frame(&last.flags(flag::END_STREAM));
            peer.frame(&Frame::data(stream, *b"body", true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 6.10", "trailers in two frames", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::begin_headers(stream, *b"\0\x03abc", true));
            peer.frame(&Frame::continuation(stream, *b"\x031 2", true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
    ]
}

/// What comes where only CONTINUATION of the same stream may.
fn broken() -> Vec<Case> {
    let mut cases = Vec::new();
    let of_connection: [(&str, Frame); 6] = [
        ("PING", Frame::ping(*b"interval")),
        ("SETTINGS", Frame::settings(&[])),
        ("WINDOW_UPDATE", Frame::window_update(0, 1)),
        ("GOAWAY", Frame::goaway(0, code::NO_ERROR)),
        ("an unknown type", Frame::new(0x42, 0, 0, [])),
        (
            "CONTINUATION of the connection",
            Frame::continuation(0, [], true),
        ),
    ];
    for (name, frame) in of_connection {
        cases.push(case(
            "9113 6.10",
            format!("{name} within a block"),
            move |peer| {
                let stream = peer.next_stream();
                peer.frame(&Frame::begin_headers(stream, get("/v1/malformed"), true));
                peer.try_frame(&frame);
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            },
        ));
    }
    let of_streams: [(&str, FrameOf); 6] = [
        ("DATA", |stream| Frame::data(stream, *b"body", true)),
        ("HEADERS", |stream| {
            Frame::headers(stream, get("/v1/malformed"), true)
        }),
        ("HEADERS of another stream", |stream| {
            Frame::headers(stream + 2, get("/v1/malformed"), true)
        }),
        ("PRIORITY", |stream| Frame::priority(stream, 0, 1)),
        ("RST_STREAM", |stream| Frame::reset(stream, code::CANCEL)),
        ("CONTINUATION of another stream", |stream| {
            Frame::continuation(stream + 2, [], true)
        }),
    ];
    for (name, frame) in of_streams {
        cases.push(case(
            "9113 6.10",
            format!("{name} within a block"),
            move |peer| {
                let stream = peer.next_stream();
                peer.frame(&Frame::begin_headers(stream, get("/v1/malformed"), true));
                peer.try_frame(&frame(stream));
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            },
        ));
    }
    cases
}

/// CONTINUATION where no block is open.
fn misplaced() -> Vec<Case> {
    let streams: [(&str, Opened); 4] = [
        ("an idle stream", |_| 1),
        ("a stream whose request is complete", held),
        ("a stream whose request is not", unfinished),
        ("a closed stream", finished),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, stream) in streams {
        cases.push(case(
            "9113 6.10",
            format!("CONTINUATION on {name}"),
            move |peer| {
                let stream = stream(peer);
                peer.frame(&Frame::continuation(stream, get("/v1/malformed"), true));
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            },
        ));
    }
    cases.push(case(
        "9113 6.10",
        "CONTINUATION on the connection",
        |peer| {
            peer.frame(&Frame::new(kind::CONTINUATION, 0, 0, []));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        },
    ));
    cases.push(case("9113 6.10", "CONTINUATION behind DATA", |peer| {
        let stream = unfinished(peer);
        peer.frame(&Frame::data(stream, *b"body", false));
        peer.frame(&Frame::continuation(stream, [], true));
        peer.expect_goaway(&[code::PROTOCOL_ERROR]);
    }));
    cases
}
