//! Windows: nothing beyond them, and everything within.

use crate::{Case, LONG_BYTES, case, expect_answer, expect_service, get, held, post, unfinished};
use relay_tests::http2::{FRAME_BYTES, Frame, Peer, WINDOW_BYTES, code, setting};
use relay_tests::{Ending, openai};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = updates();
    cases.extend(windows_of_the_client());
    cases.extend(windows_of_the_server());
    cases
}

fn updates() -> Vec<Case> {
    vec![
        case("9113 6.9", "no increment, on the connection", |peer| {
            peer.frame(&Frame::window_update(0, 0));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.9", "no increment, on a stream", |peer| {
            // An error of the stream; the library makes one of the connection of it, as section 5.4.1 allows.
            let stream = held(peer);
            peer.frame(&Frame::window_update(stream, 0));
            expect_error_of_either(peer, stream, code::PROTOCOL_ERROR);
        }),
        case("9113 6.9", "no increment but the reserved bit", |peer| {
            peer.frame(&Frame::window_update(0, 1 << 31));
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.9", "the reserved bit of an increment", |peer| {
            peer.frame(&Frame::window_update(0, 1 << 31 | 1));
            expect_service(peer);
        }),
        case(
            "9113 6.9.1",
            "the largest window of the connection",
            |peer| {
                peer.frame(&Frame::window_update(0, (1 << 31) - 1 - WINDOW_BYTES));
                expect_service(peer);
            },
        ),
        case(
            "9113 6.9.1",
            "a window of the connection beyond 2^31-1",
            |peer| {
                peer.frame(&Frame::window_update(0, (1 << 31) - 1));
                peer.expect_goaway(&[code::FLOW_CONTROL_ERROR]);
            },
        ),
        case(
            "9113 6.9.1",
            "a window of the connection beyond 2^31-1 in two steps",
            |peer| {
                peer.frame(&Frame::window_update(0, (1 << 31) - 1 - WINDOW_BYTES));
                peer.frame(&Frame::window_update(0, 1));
                peer.expect_goaway(&[code::FLOW_CONTROL_ERROR]);
            },
        ),
        case("9113 6.9.1", "a window of a stream beyond 2^31-1", |peer| {
            let stream = held(peer);
            peer.frame(&Frame::window_update(stream, (1 << 31) - 1));
            peer.expect_reset(stream, &[code::FLOW_CONTROL_ERROR]);
            expect_service(peer);
        }),
        case(
            "9113 6.9.2",
            "settings that make a stream's window overflow",
            |peer| {
                let stream = held(peer);
                peer.frame(&Frame::window_update(stream, (1 << 31) - 1 - WINDOW_BYTES));
                let settings = [(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES + 1)];
                peer.frame(&Frame::settings(&settings));
                peer.expect_goaway(&[code::FLOW_CONTROL_ERROR]);
            },
        ),
    ]
}

fn expect_error_of_either(peer: &mut Peer, stream: u32, code: u32) {
    peer.wait("an error", |peer| {
        (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
    });
    match peer.incoming(stream).reset {
        Some(reset) => assert_eq!(reset, code),
        None => drop(peer.expect_goaway(&[code])),
    }
}

/// The answer's DATA keeps to them; the harness counts every byte.
fn windows_of_the_client() -> Vec<Case> {
    vec![
        case("9113 6.9.1", "one byte at a time", |peer| {
            without_credit(peer, 1);
            let stream = peer.open_with(get("/v1/plain"), true);
            for (index, byte) in openai::PLAIN_BODY.iter().enumerate() {
                assert_eq!(peer.read_payload(stream, 1), [*byte]);
                peer.expect_alive();
                assert_eq!(peer.incoming(stream).body_bytes, index + 1);
                peer.give_credit(stream, 1);
            }
            assert_eq!(peer.finish_response(stream), (Vec::new(), Ending::Complete));
        }),
        case("9113 6.9.2", "nothing before there is a window", |peer| {
            without_credit(peer, 0);
            let stream = peer.open_with(get("/v1/plain"), true);
            peer.begin_response(stream);
            peer.expect_alive();
            assert_eq!(peer.incoming(stream).body_bytes, 0);
            peer.give_credit(stream, WINDOW_BYTES);
            expect_answer(peer, stream);
        }),
        case(
            "9113 6.9.2",
            "settings open the window of a stream",
            |peer| {
                without_credit(peer, 0);
                let stream = peer.open_with(get("/v1/plain"), true);
                peer.begin_response(stream);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 5)]);
                assert_eq!(peer.read_payload(stream, 5), &openai::PLAIN_BODY[..5]);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)]);
                let (rest, ending) = peer.finish_response(stream);
                assert_eq!(
                    (rest.as_slice(), ending),
                    (&openai::PLAIN_BODY[5..], Ending::Complete)
                );
            },
        ),
        case("9113 6.9.2", "a window that has become negative", |peer| {
            without_credit(peer, 20);
            let stream = peer.open_with(get("/v1/plain"), true);
            peer.read_payload(stream, 20);
            // 20 of 5 are used: -15.
            peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 5)]);
            peer.give_credit(stream, 15);
            peer.expect_alive();
            assert_eq!(peer.incoming(stream).body_bytes, 20);
            peer.give_credit(stream, 3);
            assert_eq!(peer.read_payload(stream, 3), &openai::PLAIN_BODY[20..23]);
            peer.give_credit(stream, WINDOW_BYTES);
            let (rest, ending) = peer.finish_response(stream);
            assert_eq!(
                (rest.as_slice(), ending),
                (&openai::PLAIN_BODY[23..], Ending::Complete)
            );
        }),
        case(
            "9113 6.9.1",
            "the connection's window holds all streams",
            |peer| {
                peer.gives_credit(false);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
                let streams = [0, 1].map(|_| peer.open_with(get("/v1/long"), true));
                let received = |peer: &Peer| -> usize {
                    streams
                        .iter()
                        .map(|stream| peer.incoming(*stream).body_bytes)
                        .sum()
                };
                let window = WINDOW_BYTES as usize;
                peer.wait("a window", |peer| (received(peer) == window).then_some(()));
                for stream in streams {
                    peer.begin_response(stream);
                }
                peer.expect_alive();
                assert_eq!(received(peer), window);
                // A head needs no window.
                let head = peer.open_with(get("/v1/plain"), true);
                peer.begin_response(head);
                peer.gives_credit(true);
                peer.give_credit(0, WINDOW_BYTES);
                for stream in streams {
                    let (payload, ending) = peer.finish_response(stream);
                    assert_eq!((payload.len(), ending), (LONG_BYTES, Ending::Complete));
                }
            },
        ),
        case(
            "9113 6.9.2",
            "settings leave the connection's window alone",
            |peer| {
                peer.gives_credit(false);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
                let stream = peer.open_with(get("/v1/long"), true);
                peer.read_payload(stream, WINDOW_BYTES as usize);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 21)]);
                peer.expect_alive();
                assert_eq!(peer.incoming(stream).body_bytes, WINDOW_BYTES as usize);
            },
        ),
        case(
            "9113 6.9.1",
            "a stream without a window holds no other",
            |peer| {
                let stuck = peer.open_with(get("/v1/long"), true);
                peer.gives_credit(false);
                peer.read_payload(stuck, WINDOW_BYTES as usize);
                peer.give_credit(0, WINDOW_BYTES);
                for _ in 0..3 {
                    let stream = peer.open_with(get("/v1/plain"), true);
                    expect_answer(peer, stream);
                }
            },
        ),
    ]
}

fn without_credit(peer: &mut Peer, window: u32) {
    peer.gives_credit(false);
    peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, window)]);
}

/// What the client sends keeps to them, or is refused.
fn windows_of_the_server() -> Vec<Case> {
    vec![
        case("9113 6.9.1", "a body of several windows", |peer| {
            let body: Vec<u8> = (0..=255).cycle().take(LONG_BYTES).collect();
            let stream = unfinished(peer);
            peer.body(stream, &body, true);
            assert_eq!(peer.response(stream).payload, body);
        }),
        case("9113 6.9.1", "DATA beyond the window of a stream", |peer| {
            let stream = peer.open_with(post("/v1/held"), false);
            overrun(peer, stream, |stream, count| {
                Frame::data(stream, vec![0; count], false)
            });
        }),
        case("9113 6.9.1", "credit comes back for padding too", |peer| {
            let stream = unfinished(peer);
            let piece = Frame::data(stream, [b'x'; 256], false).padded(255);
            let count = 2 * WINDOW_BYTES as usize / 256;
            for _ in 0..count {
                peer.padded_data(&piece);
            }
            peer.frame(&Frame::data(stream, [], true));
            assert_eq!(peer.response(stream).payload.len(), count * 256);
        }),
    ]
}

/// Sends frames without looking at windows, far faster than anybody could give credit for them, until there is an error.
fn overrun(peer: &mut Peer, stream: u32, frame: fn(u32, usize) -> Frame) {
    let frame = frame(stream, FRAME_BYTES);
    let batch = frame.bytes().repeat(1 << 20 >> 8);
    let most = 64 << 20;
    let mut sent = 0;
    while sent < most && peer.try_send(&batch) {
        sent += batch.len();
    }
    expect_error_of_either(peer, stream, code::FLOW_CONTROL_ERROR);
}
