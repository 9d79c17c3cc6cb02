//! The parts that all frames have, and the frames that belong to the connection.

use crate::{
    Case, case, expect_answer, expect_connection_error, expect_service, get, held, unfinished,
};
use relay_tests::http2::{FRAME_BYTES, Frame, code, flag, kind, setting};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(unknown());
    cases.extend(sizes());
    cases.extend(pings());
    cases.extend(goaways());
    cases
}

fn unknown() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [0x0a, 0x0c, 0x10, 0x42, 0xff] {
        cases.push(case(
            "9113 5.5",
            format!("type {kind} on the connection"),
            move |peer| {
                peer.frame(&Frame::new(kind, 0xff, 0, *b"whatever it is"));
                expect_service(peer);
            },
        ));
    }
    cases.extend([
        case("9113 5.5", "an unknown type on an open stream", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::new(0x16, 0, stream, []));
            peer.frame(&Frame::data(stream, *b"body", true));
            assert_eq!(peer.response(stream).payload, b"body");
        }),
        case("9113 5.5", "an unknown type on an idle stream", |peer| {
            peer.frame(&Frame::new(0x16, 0, 101, *b"whatever"));
            expect_service(peer);
        }),
        case("9113 4.1", "flags that PING does not have", |peer| {
            peer.frame(&Frame::ping(*b"flagged!").flags(0xfe));
            peer.wait("PING's answer", |peer| {
                peer.has_pong(*b"flagged!").then_some(())
            });
        }),
        case("9113 4.1", "flags that SETTINGS does not have", |peer| {
            peer.frame(&Frame::settings(&[]).flags(0xfe));
            expect_service(peer);
        }),
        case(
            "9113 4.1",
            "flags that WINDOW_UPDATE does not have",
            |peer| {
                peer.frame(&Frame::window_update(0, 1).flags(0xff));
                expect_service(peer);
            },
        ),
        case(
            "9113 4.1",
            "flags that HEADERS and DATA do not have",
            |peer| {
                let stream = peer.next_stream();
                let head = Frame::headers(stream, crate::post("/v1/echo"), false);
                peer.frame(&head.flags(0xd2));
                peer.frame(&Frame::data(stream, *b"body", true).flags(0xf6));
                assert_eq!(peer.response(stream).payload, b"body");
            },
        ),
        case("9113 4.1", "the reserved bit before the stream", |peer| {
            let stream = peer.next_stream();
            peer.frame(&Frame::headers(stream | 1 << 31, get("/v1/plain"), true));
            expect_answer(peer, stream);
            peer.frame(&Frame::new(kind::PING, 0, 1 << 31, *b"reserved"));
            peer.wait("PING's answer", |peer| {
                peer.has_pong(*b"reserved").then_some(())
            });
        }),
    ]);
    cases
}

fn sizes() -> Vec<Case> {
    let mut cases = vec![
        case("9113 4.2", "DATA of the largest size", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, vec![b'x'; FRAME_BYTES], true));
            assert_eq!(peer.response(stream).payload, vec![b'x'; FRAME_BYTES]);
        }),
        case("9113 4.2", "DATA that is larger", |peer| {
            // An error of the stream would do; the library cannot read on behind such a frame.
            let stream = unfinished(peer);
            let largest = peer.setting(setting::MAX_FRAME_SIZE);
            let largest = largest.map_or(FRAME_BYTES, |bytes| bytes as usize);
            peer.try_frame(&Frame::data(stream, vec![b'x'; largest + 1], true));
            expect_connection_error(peer, code::FRAME_SIZE_ERROR);
        }),
        case("9113 4.2", "HEADERS that are larger", |peer| {
            let mut block = get("/v1/malformed");
            block.resize(FRAME_BYTES + 1, 0x82);
            let stream = peer.next_stream();
            peer.try_frame(&Frame::headers(stream, block, true));
            expect_connection_error(peer, code::FRAME_SIZE_ERROR);
        }),
        case("9113 4.2", "an unknown type that is larger", |peer| {
            peer.try_frame(&Frame::new(0x42, 0, 0, vec![0; FRAME_BYTES + 1]));
            expect_connection_error(peer, code::FRAME_SIZE_ERROR);
        }),
        case(
            "9113 4.2",
            "the largest length there is, before anything of it",
            |peer| {
                peer.send([0xff, 0xff, 0xff, kind::PING, 0, 0, 0, 0, 0]);
                crate::expect_oversized_refused(peer);
            },
        ),
    ];
    for bytes in [0, 7, 9, 16] {
        cases.push(case(
            "9113 6.7",
            format!("PING of {bytes} bytes"),
            move |peer| {
                peer.frame(&Frame::new(kind::PING, 0, 0, vec![0; bytes]));
                expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            },
        ));
    }
    for bytes in [0, 3, 5, 8] {
        cases.push(case(
            "9113 6.4",
            format!("RST_STREAM of {bytes} bytes"),
            move |peer| {
                let stream = held(peer);
                peer.frame(&Frame::new(kind::RST_STREAM, 0, stream, vec![0; bytes]));
                expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            },
        ));
        cases.push(case(
            "9113 6.9",
            format!("WINDOW_UPDATE of {bytes} bytes"),
            move |peer| {
                peer.frame(&Frame::new(kind::WINDOW_UPDATE, 0, 0, vec![1; bytes]));
                expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            },
        ));
    }
    for bytes in [0, 4, 7] {
        cases.push(case(
            "9113 6.8",
            format!("GOAWAY of {bytes} bytes"),
            move |peer| {
                peer.frame(&Frame::new(kind::GOAWAY, 0, 0, vec![0; bytes]));
                expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            },
        ));
    }
    for bytes in [0, 4, 6] {
        cases.push(case(
            "9113 6.3",
            format!("PRIORITY of {bytes} bytes"),
            move |peer| {
                // An error of the stream (which is idle here) is what the RFC asks for; of the connection is what an idle stream has.
                let stream = peer.next_stream();
                peer.frame(&Frame::new(kind::PRIORITY, 0, stream, vec![0; bytes]));
                peer.wait("an error", |peer| {
                    (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
                });
                match peer.incoming(stream).reset {
                    Some(reset) => assert_eq!(reset, code::FRAME_SIZE_ERROR),
                    None => drop(expect_connection_error(peer, code::FRAME_SIZE_ERROR)),
                }
            },
        ));
    }
    cases
}

fn pings() -> Vec<Case> {
    vec![
        case("9113 6.7", "PING is answered with what it says", |peer| {
            peer.frame(&Frame::ping(*b"\0\x01\x7f\x80\xfe\xff@!"));
            peer.wait("PING's answer", |peer| {
                peer.has_pong(*b"\0\x01\x7f\x80\xfe\xff@!").then_some(())
            });
        }),
        case("9113 6.7", "PING's answer is not answered", |peer| {
            peer.frame(&Frame::ping(*b"answered").flags(flag::ACK));
            expect_service(peer);
            assert!(!peer.has_pong(*b"answered"));
        }),
        case("9113 6.7", "PING while a request runs", |peer| {
            held(peer);
            peer.expect_alive();
        }),
        case("9113 6.7", "PING on a stream", |peer| {
            let stream = held(peer);
            peer.frame(&Frame::new(kind::PING, 0, stream, *b"eight by"));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.6", "PUSH_PROMISE from a client", |peer| {
            let stream = unfinished(peer);
            let payload = [&2_u32.to_be_bytes()[..], &get("/v1/malformed")].concat();
            peer.frame(&Frame::new(
                kind::PUSH_PROMISE,
                flag::END_HEADERS,
                stream,
                payload,
            ));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
    ]
}

fn goaways() -> Vec<Case> {
    vec![
        case("9113 6.8", "GOAWAY on a stream", |peer| {
            let stream = held(peer);
            let mut goaway = Frame::goaway(0, code::NO_ERROR);
            goaway.stream = stream;
            peer.frame(&goaway);
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case(
            "9113 6.8",
            "a request goes on after the client's GOAWAY",
            |peer| {
                let stream = peer.open_with(crate::post("/v1/echo"), false);
                peer.frame(&Frame::goaway(0, code::NO_ERROR));
                peer.frame(&Frame::data(stream, *b"body", true));
                assert_eq!(peer.response(stream).payload, b"body");
                peer.expect_closed();
            },
        ),
        case(
            "9113 6.8",
            "GOAWAY with words, an unknown code and the reserved bit",
            |peer| {
                let stream = peer.open_with(get("/v1/plain"), true);
                let mut goaway = Frame::goaway(1 << 31, 0xdead);
                goaway.payload.extend_from_slice(b"why not");
                peer.frame(&goaway);
                // With an error the client has no use for the answer; whether it still comes is open.
                peer.expect_closed();
                let answer = peer.incoming(stream);
                assert!(
                    answer.reset.is_none_or(|code| code != code::PROTOCOL_ERROR),
                    "{answer:?}"
                );
            },
        ),
        case("9113 5.4.1", "GOAWAY names the last request", |peer| {
            let stream = held(peer);
            peer.expect_alive();
            peer.frame(&Frame::new(kind::PING, 0, 0, [0; 3]));
            let last = expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            assert!(
                last >= stream,
                "it says that it knows nothing of {stream}: {last}"
            );
        }),
    ]
}
