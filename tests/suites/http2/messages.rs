//! Requests and answers as messages (RFC 9113, section 8.1).

use crate::{
    Case, Field, case, expect_answer, expect_malformed, expect_service, expect_unspeakable, field,
    finished, get, head, post,
};
use relay_tests::http2::hpack::block;
use relay_tests::http2::{Frame, Peer, setting};
use relay_tests::{Ending, Request, openai};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(answers());
    cases.extend(trailers());
    cases.extend(lengths());
    cases
}

fn answers() -> Vec<Case> {
    vec![
        case("9113 8.1", "an answer is a head, then content", |peer| {
            let stream = peer.open_with(get("/v1/plain"), true);
            let answer = peer.response(stream);
            assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
            assert_eq!(answer.head.value("content-type"), Some("application/json"));
            let length = answer.head.value("content-length");
            assert_eq!(length, Some(openai::PLAIN_BODY.len().to_string().as_str()));
            assert_eq!(peer.incoming(stream).heads.len(), 1);
        }),
        case(
            "9113 8.1",
            "an error of the gateway is an answer like any other",
            |peer| {
                let refused = peer.call(&Request::get("/v1/malformed").key("nobody"));
                refused.assert_refused(401, "invalid_api_key");
                expect_service(peer);
            },
        ),
        case("9113 8.1", "a refusal does not wait for the body", |peer| {
            let mut fields = head("POST", "/v1/malformed");
            fields.retain(|field| field.0 != "authorization");
            let stream = peer.open(&fields, false);
            let refused = peer.response(stream);
            refused.assert_refused(401, "missing_api_key");
            // RST_STREAM with NO_ERROR may follow; the connection goes on.
            peer.try_frame(&Frame::data(stream, *b"on its way", true));
            expect_service(peer);
        }),
        case("9110 9.3.2", "the answer to HEAD has no content", |peer| {
            let stream = peer.open(&head("HEAD", "/v1/echo"), true);
            let answer = peer.response(stream);
            assert_eq!((answer.payload.len(), answer.ending), (0, Ending::Complete));
        }),
        case("9113 8.5", "CONNECT", |peer| {
            let mut fields = head("CONNECT", "/v1/malformed");
            fields.retain(|field| !matches!(field.0.as_str(), ":scheme" | ":path"));
            let stream = peer.open(&fields, false);
            // 405, or what a request without `:path` gets.
            refused_with(peer, stream, 405);
        }),
        case("9113 8.5", "CONNECT with a path", |peer| {
            let stream = peer.open(&head("CONNECT", "/v1/malformed"), true);
            refused_with(peer, stream, 405);
        }),
        case(
            "8441 4",
            "CONNECT with a protocol that was not offered",
            |peer| {
                let mut fields = head("CONNECT", "/v1/malformed");
                fields.insert(1, field(":protocol", "websocket"));
                let stream = peer.open(&fields, false);
                refused_with(peer, stream, 405);
            },
        ),
        case(
            "9113 8.1",
            "requests one after the other on a connection",
            |peer| {
                for _ in 0..20 {
                    finished(peer);
                }
            },
        ),
        case("9113 8.1", "a body of one byte in each frame", |peer| {
            let stream = peer.open_with(post("/v1/echo"), false);
            for byte in b"body" {
                peer.frame(&Frame::data(stream, [*byte], false));
            }
            peer.frame(&Frame::data(stream, [], true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 8.1", "a large answer", |peer| {
            peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
            let stream = peer.open_with(get("/v1/long"), true);
            let answer = peer.response(stream);
            let whole = (crate::LONG_BYTES, Ending::Complete);
            assert_eq!((answer.payload.len(), answer.ending), whole);
        }),
    ]
}

/// An answer with this status, or what a malformed request gets; and the connection goes on.
fn refused_with(peer: &mut Peer, stream: u32, status: u16) {
    peer.wait("an end", |peer| {
        assert!(
            !peer.is_over(),
            "the connection ended: {:?}",
            peer.goaways()
        );
        let incoming = peer.incoming(stream);
        (incoming.is_over() || !incoming.heads.is_empty()).then_some(())
    });
    if peer.incoming(stream).heads.is_empty() {
        expect_malformed(peer, stream);
    } else {
        assert_eq!(peer.response(stream).status(), status);
        expect_service(peer);
    }
}

fn trailers() -> Vec<Case> {
    let mut cases = vec![case("9113 8.1", "trailers end a request", |peer| {
        let stream = peer.open_with(post("/v1/echo"), false);
        peer.frame(&Frame::data(stream, *b"body", false));
        peer.frame(&Frame::headers(
            stream,
            block(&[field("x-checksum", "1")]),
            true,
        ));
        assert_eq!(peer.response(stream).payload, b"body");
    })];
    cases.push(case("9113 8.1", "trailers without content", |peer| {
        let stream = peer.open_with(post("/v1/echo"), false);
        peer.frame(&Frame::headers(
            stream,
            block(&[field("x-checksum", "1")]),
            true,
        ));
        assert_eq!(peer.response(stream).payload, b"");
    }));
    let bad: [(&str, Field, bool); 3] = [
        ("trailers that end nothing", field("x-checksum", "1"), false),
        ("upper case in trailers", field("X-Checksum", "1"), true),
        (
            "a field of the connection in trailers",
            field("transfer-encoding", "chunked"),
            true,
        ),
    ];
    for (name, trailer, end) in bad {
        cases.push(case("9113 8.1", name, move |peer| {
            let stream = peer.open_with(post("/v1/echo"), false);
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::headers(
                stream,
                block(std::slice::from_ref(&trailer)),
                end,
            ));
            expect_unspeakable(peer, stream);
        }));
    }
    for name in [":path", ":method", ":authority", ":status"] {
        cases.push(case(
            "9113 8.1",
            format!("{name} in trailers"),
            move |peer| {
                // The library forgets pseudo-headers there, and the gateway the rest of all trailers: the request is the one
                // that its head says it is, whether it is answered or not.
                let stream = peer.open_with(post("/v1/echo"), false);
                peer.frame(&Frame::data(stream, *b"body", false));
                peer.frame(&Frame::headers(
                    stream,
                    block(&[field(name, "/v1/malformed")]),
                    true,
                ));
                peer.wait("an end", |peer| {
                    (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
                });
                if peer.incoming(stream).is_complete {
                    assert_eq!(peer.response(stream).payload, b"body");
                } else {
                    expect_unspeakable(peer, stream);
                }
            },
        ));
    }
    cases
}

/// `content-length` is the sum of all DATA (RFC 9113, section 8.1.1).
fn lengths() -> Vec<Case> {
    let mut cases = vec![
        case("9113 8.1.1", "a length that is right", |peer| {
            let stream = with_length(peer, "/v1/echo", "4");
            peer.frame(&Frame::data(stream, *b"bo", false).padded(3));
            peer.frame(&Frame::data(stream, *b"dy", true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 8.1.1", "a length of 0 without content", |peer| {
            let mut fields = head("GET", "/v1/plain");
            fields.push(field("content-length", "0"));
            let stream = peer.open(&fields, true);
            expect_answer(peer, stream);
        }),
        case("9113 8.1.1", "a length of 0, and empty DATA", |peer| {
            let stream = with_length(peer, "/v1/echo", "0");
            peer.frame(&Frame::data(stream, [], true));
            assert_eq!(peer.response(stream).payload, b"");
        }),
        case("9113 8.1.1", "a length without content", |peer| {
            let mut fields = head("POST", "/v1/malformed");
            fields.push(field("content-length", "4"));
            let stream = peer.open(&fields, true);
            expect_malformed(peer, stream);
        }),
    ];
    // A request whose head was good may have been forwarded before its body turns out to be bad; it is cut there.
    let bodies: [(&str, &str, &[&[u8]]); 5] = [
        ("content that is too short", "5", &[b"body"]),
        ("content that is too long", "3", &[b"body"]),
        (
            "content that is too long in two frames",
            "4",
            &[b"body", b"more"],
        ),
        ("content where there is none", "0", &[b"body"]),
        ("nothing where there is content", "4", &[b""]),
    ];
    for (name, length, pieces) in bodies {
        cases.push(case("9113 8.1.1", name, move |peer| {
            // The body is whole before it is too long: a provider that answers then may be faster than the frame that follows.
            let stream = with_length(peer, "/v1/held", length);
            for (index, piece) in pieces.iter().enumerate() {
                peer.frame(&Frame::data(stream, *piece, index + 1 == pieces.len()));
            }
            expect_malformed(peer, stream);
        }));
    }
    cases.push(case(
        "9113 8.1.1",
        "trailers before all of the length",
        |peer| {
            let stream = with_length(peer, "/v1/echo", "5");
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::headers(
                stream,
                block(&[field("x-checksum", "1")]),
                true,
            ));
            expect_malformed(peer, stream);
        },
    ));
    for length in [
        "+4",
        "-4",
        "4,4",
        "0x4",
        "4 4",
        "four",
        "",
        "99999999999999999999",
    ] {
        cases.push(case(
            "9110 8.6",
            format!("a length of {length:?}"),
            move |peer| {
                let stream = with_length(peer, "/v1/malformed", length);
                peer.try_frame(&Frame::data(stream, *b"body", true));
                expect_malformed(peer, stream);
            },
        ));
    }
    for second in ["4", "5"] {
        cases.push(case(
            "9110 8.6",
            format!("lengths of 4 and {second}"),
            move |peer| {
                let mut fields = head("POST", "/v1/malformed");
                fields.extend([
                    field("content-length", "4"),
                    field("content-length", second),
                ]);
                let stream = peer.open(&fields, false);
                peer.try_frame(&Frame::data(stream, *b"body", true));
                expect_malformed(peer, stream);
            },
        ));
    }
    cases
}

fn with_length(peer: &mut Peer, path: &str, length: &str) -> u32 {
    let mut fields = head("POST", path);
    fields.push(field("content-length", length));
    peer.open(&fields, false)
}
