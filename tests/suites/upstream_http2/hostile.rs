//! Answers that cannot be trusted, and frames that break the rules: never something that looks complete.

use super::{JSON, config};
use relay_tests::http2::{Frame, Http2Upstream, Peer, flag, hpack, kind};
use relay_tests::openai::PLAIN_BODY;
use relay_tests::{Ending, Gateway, Request};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// A name, and what is done on the stream.
type Case = (&'static str, fn(&mut Peer, u32));

fn head(peer: &mut Peer, stream: u32, fields: Fields<'_>, end: bool) {
    peer.try_frame(&Frame::headers(stream, hpack::block(fields), end));
}

/// Each of these in place of an answer has to be seen as an error, or as an answer that is cut.
fn assert_hostile(name: &str, act: fn(&mut Peer, u32)) {
    let upstream = Http2Upstream::start(move |peer, request| {
        if request.value(":path") == Some("/v1/fence") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        act(peer, request.stream);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    assert_eq!(gateway.call(&Request::get("/v1/fence")).status(), 200);
    let answer = gateway.call(&Request::plain());
    match answer.status() {
        200 => assert_eq!(answer.ending, Ending::Truncated, "{name}: {answer:?}"),
        _ => drop(answer.assert_refused(502, "upstream_error")),
    }
    let fence = gateway.call(&Request::get("/v1/fence"));
    assert_eq!(
        (fence.status(), fence.ending),
        (200, Ending::Complete),
        "{name}"
    );
}

#[test]
fn heads_that_are_malformed() {
    let cases: [Case; 10] = [
        ("no status", |peer, stream| {
            head(peer, stream, &[("content-type", "text/plain")], true);
        }),
        ("a status that is none", |peer, stream| {
            head(peer, stream, &[(":status", "2x0")], true);
        }),
        ("upper case", |peer, stream| {
            head(peer, stream, &[(":status", "200"), ("X-Upper", "1")], true);
        }),
        ("a field of a connection", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("connection", "close")],
                true,
            );
        }),
        ("transfer-encoding", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("transfer-encoding", "chunked")],
                true,
            );
        }),
        ("two lengths", |peer, stream| {
            let fields = [
                (":status", "200"),
                ("content-length", "2"),
                ("content-length", "3"),
            ];
            head(peer, stream, &fields, false);
            peer.try_frame(&Frame::data(stream, *b"{}", true));
        }),
        ("a switch of protocols", |peer, stream| {
            head(peer, stream, &[(":status", "101")], true);
        }),
        ("an early answer that ends", |peer, stream| {
            head(peer, stream, &[(":status", "103")], true);
        }),
        ("a line break in a value", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("x-value", "a\r\nb: c")],
                true,
            );
        }),
        ("more fields than fit", |peer, stream| {
            let value = "x".repeat(3000);
            let mut fields = vec![(":status", "200")];
            fields.extend((0..14).map(|_| ("x-filler", value.as_str())));
            let block = hpack::block(&fields);
            let mut pieces = block.chunks(16_000);
            let first = pieces.next().expect("a piece");
            peer.try_frame(&Frame::begin_headers(stream, first, true));
            let rest: Vec<_> = pieces.collect();
            for (index, piece) in rest.iter().enumerate() {
                let is_last = index + 1 == rest.len();
                peer.try_frame(&Frame::continuation(stream, *piece, is_last));
            }
        }),
    ];
    for (name, act) in cases {
        assert_hostile(name, act);
    }
}

#[test]
fn bodies_that_are_not_as_announced() {
    let cases: [Case; 3] = [
        ("too short", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("content-length", "10")],
                false,
            );
            peer.try_frame(&Frame::data(stream, *b"{}", true));
        }),
        ("too long", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("content-length", "1")],
                false,
            );
            peer.try_frame(&Frame::data(stream, *b"{}", true));
        }),
        ("announced and not there", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("content-length", "2")],
                true,
            );
        }),
    ];
    for (name, act) in cases {
        assert_hostile(name, act);
    }
}

#[test]
fn frames_that_break_the_connection() {
    let cases: [Case; 7] = [
        ("data before a head", |peer, stream| {
            peer.try_frame(&Frame::data(stream, *b"{}", true));
        }),
        ("data on stream 0", |peer, _| {
            peer.try_frame(&Frame::data(0, *b"{}", false));
        }),
        ("a head on stream 0", |peer, _| {
            head(peer, 0, &[(":status", "200")], true);
        }),
        ("a push", |peer, stream| {
            let promise = [&[0, 0, 0, 2][..], &hpack::block(&[(":method", "GET")])].concat();
            let frame = Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, promise);
            peer.try_frame(&frame);
        }),
        ("a table that does not exist", |peer, stream| {
            peer.try_frame(&Frame::headers(stream, hpack::indexed(100), true));
        }),
        ("a frame that is too large", |peer, stream| {
            head(peer, stream, &[(":status", "200")], false);
            peer.try_frame(&Frame::data(stream, vec![0; 16_385], true));
        }),
        ("more than the window", |peer, stream| {
            head(
                peer,
                stream,
                &[(":status", "200"), ("content-length", "9999999")],
                false,
            );
            for _ in 0..400 {
                peer.try_frame(&Frame::data(stream, vec![b'x'; 16_384], false));
            }
        }),
    ];
    for (name, act) in cases {
        assert_hostile(name, act);
    }
}

#[test]
fn more_informational_answers_than_anybody_needs() {
    assert_hostile("a storm", |peer, stream| {
        for _ in 0..100 {
            head(peer, stream, &[(":status", "103")], false);
        }
    });
}

#[test]
fn a_few_informational_answers_are_skipped() {
    let upstream = Http2Upstream::start(|peer, request| {
        for _ in 0..3 {
            head(
                peer,
                request.stream,
                &[(":status", "103"), ("link", "</style>")],
                false,
            );
        }
        peer.answer(request.stream, 200, JSON, PLAIN_BODY);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let answer = gateway.call(&Request::plain());
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert_eq!(answer.payload, PLAIN_BODY);
}
