//! How a connection begins.

use crate::{
    Case, case, expect_answer, expect_oversized_refused, expect_service, from_the_start, get,
};
use relay_tests::http;
use relay_tests::http2::{Frame, PREFACE, Peer, code, kind};
use std::io::Read;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        from_the_start("9113 3.4", "the server's first frame is SETTINGS", |peer| {
            peer.send(PREFACE);
            peer.frame(&Frame::settings(&[]));
            let first = peer.step().expect("a frame");
            assert_eq!((first.kind, first.flags), (kind::SETTINGS, 0), "{first:?}");
            expect_service(peer);
        }),
        from_the_start("9113 3.4", "requests right behind the preface", |peer| {
            let stream = peer.next_stream();
            let frames = [
                Frame::settings(&[]),
                Frame::headers(stream, get("/v1/plain"), true),
            ];
            let bytes = frames.iter().flat_map(Frame::bytes);
            peer.send([PREFACE.to_vec(), bytes.collect()].concat());
            expect_answer(peer, stream);
        }),
        from_the_start("9113 3.4", "a preface byte by byte", |peer| {
            for byte in [PREFACE, &Frame::settings(&[]).bytes()].concat() {
                peer.send([byte]);
            }
            expect_service(peer);
        }),
        from_the_start("9113 3.4", "a preface that ends in other words", |peer| {
            let mut preface = PREFACE.to_vec();
            preface[18..20].copy_from_slice(b"XX");
            peer.try_send([preface, Frame::settings(&[]).bytes()].concat());
            expect_no_http2(peer);
        }),
        from_the_start("9113 3.4", "a preface of another version", |peer| {
            peer.try_send("PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n");
            expect_no_http2(peer);
        }),
        from_the_start("9113 3.4", "half of a preface, and the end", |peer| {
            peer.send(&PREFACE[..12]);
            peer.wire().finish_sending().expect("a connection");
            // The server's own part of the preface needs nothing of the client's.
            while let Some(frame) = peer.step() {
                assert!(
                    matches!(frame.kind, kind::SETTINGS | kind::GOAWAY),
                    "{frame:?}"
                );
            }
        }),
        from_the_start("9113 3.4", "PING instead of SETTINGS", |peer| {
            instead_of_settings(peer, &Frame::ping(*b"too soon"));
        }),
        from_the_start("9113 3.4", "WINDOW_UPDATE instead of SETTINGS", |peer| {
            instead_of_settings(peer, &Frame::window_update(0, 1));
        }),
        from_the_start("9113 3.4", "a request instead of SETTINGS", |peer| {
            let stream = peer.next_stream();
            instead_of_settings(peer, &Frame::headers(stream, get("/v1/malformed"), true));
        }),
        from_the_start(
            "9113 3.4",
            "PING instead of SETTINGS, of a known client",
            |peer| {
                peer.send(PREFACE);
                let first = peer.step().expect("a frame");
                assert_eq!(first.kind, kind::SETTINGS, "{first:?}");
                peer.frame(&Frame::ping(*b"too soon"));
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            },
        ),
        case("9113 3.4", "a second preface", |peer| {
            // Read as a frame, `PRI` is a length beyond all limits.
            peer.send(PREFACE);
            expect_oversized_refused(peer);
        }),
        case("9113 3.4", "HTTP/1.1 behind the preface", |peer| {
            peer.send("GET /v1/malformed HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
            expect_oversized_refused(peer);
        }),
        from_the_start("9113 3.1", "`Upgrade: h2c`, which is no more", |peer| {
            peer.send(
                "GET /healthz-of-nobody HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            );
            let mut answer = [0; 12];
            peer.wire().read_exact(&mut answer).expect("an answer");
            assert!(
                answer.starts_with(b"HTTP/1.1 4"),
                "{}",
                http::lossy(&answer)
            );
        }),
    ]
}

/// RFC 9113, section 3.4: a connection error, of which GOAWAY may be left out as nobody knows that the client speaks HTTP/2.
fn instead_of_settings(peer: &mut Peer, frame: &Frame) {
    peer.send([PREFACE, &frame.bytes()].concat());
    peer.expect_closed();
    let codes: Vec<u32> = peer.goaways().iter().map(|goaway| goaway.1).collect();
    assert!(
        codes.is_empty() || codes == [code::PROTOCOL_ERROR],
        "{codes:?}"
    );
}

/// What is not the preface is HTTP/1.1, and bad: an error in that, or none at all.
fn expect_no_http2(peer: &mut Peer) {
    let mut answer = Vec::new();
    let read = peer.wire().read_to_end(&mut answer);
    let is_refusal = answer.is_empty()
        || answer.starts_with(b"HTTP/1.1 400 ")
        || answer.starts_with(b"HTTP/1.1 405 ")
        || answer.starts_with(b"HTTP/1.1 505 ");
    assert!(is_refusal, "{read:?}: {}", http::lossy(&answer));
}
