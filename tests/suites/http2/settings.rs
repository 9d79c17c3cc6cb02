//! SETTINGS of both sides.

use crate::{
    Case, STREAMS_MAX, case, expect_answer, expect_connection_error, expect_service, get, held,
};
use relay_tests::http2::{FRAME_BYTES, Frame, WINDOW_BYTES, code, flag, kind, setting};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = own();
    cases.extend(taken());
    cases.extend(refused());
    cases
}

fn own() -> Vec<Case> {
    vec![
        case(
            "9113 6.5.2",
            "the server's settings are within their bounds",
            |peer| {
                assert_eq!(peer.setting(setting::ENABLE_PUSH).unwrap_or(0), 0);
                let frame_bytes = peer.setting(setting::MAX_FRAME_SIZE).unwrap_or(16_384);
                assert!((16_384..1 << 24).contains(&frame_bytes), "{frame_bytes}");
                let window = peer.setting(setting::INITIAL_WINDOW_SIZE);
                assert!(window.unwrap_or(WINDOW_BYTES) < 1 << 31, "{window:?}");
            },
        ),
        case(
            "9113 5.1.2",
            "the server says how many streams it takes",
            |peer| {
                assert_eq!(
                    peer.setting(setting::MAX_CONCURRENT_STREAMS),
                    Some(STREAMS_MAX)
                );
            },
        ),
        case(
            "9113 6.5.2",
            "the server says how long a head may be",
            |peer| {
                // Half as much again as a head may have, with 32 bytes for each field: less may be taken than is announced.
                let largest = 32 * 1024 + 32 * (100 + 4);
                assert_eq!(
                    peer.setting(setting::MAX_HEADER_LIST_SIZE),
                    Some(largest * 3 / 2)
                );
            },
        ),
        case("8441 3", "the server offers no tunnels", |peer| {
            let offered = peer.setting(setting::ENABLE_CONNECT_PROTOCOL);
            assert_eq!(offered.unwrap_or(0), 0);
        }),
    ]
}

fn taken() -> Vec<Case> {
    let mut cases = Vec::new();
    let values: [(&str, u16, u32); 10] = [
        ("push, which a server ignores", setting::ENABLE_PUSH, 1),
        ("no push", setting::ENABLE_PUSH, 0),
        ("the smallest frames", setting::MAX_FRAME_SIZE, 16_384),
        ("the largest frames", setting::MAX_FRAME_SIZE, (1 << 24) - 1),
        (
            "the largest window",
            setting::INITIAL_WINDOW_SIZE,
            (1 << 31) - 1,
        ),
        ("no dynamic table", setting::HEADER_TABLE_SIZE, 0),
        (
            "no streams of the server",
            setting::MAX_CONCURRENT_STREAMS,
            0,
        ),
        ("a large table", setting::HEADER_TABLE_SIZE, u32::MAX),
        ("a setting of a later RFC", 0x9, 1),
        ("a setting of nobody", 0xfafa, u32::MAX),
    ];
    for (name, setting, value) in values {
        cases.push(case(
            "9113 6.5.2",
            format!("the client sets {name}"),
            move |peer| {
                peer.change_settings(&[(setting, value)]);
                // A second answer is what the server would write from its table.
                expect_service(peer);
                expect_service(peer);
            },
        ));
    }
    cases.extend([
        case(
            "9113 6.5.3",
            "each SETTINGS has its acknowledgement",
            |peer| {
                for value in 1..=8 {
                    peer.change_settings(&[(setting::MAX_CONCURRENT_STREAMS, value)]);
                }
                peer.change_settings(&[]);
                expect_service(peer);
            },
        ),
        case(
            "9113 6.5.3",
            "of one setting twice the last counts",
            |peer| {
                let name = setting::INITIAL_WINDOW_SIZE;
                peer.change_settings(&[(name, 0), (name, WINDOW_BYTES)]);
                expect_service(peer);
            },
        ),
        case(
            "9113 6.5",
            "an acknowledgement that nobody waits for",
            |peer| {
                // The RFC does not say; an error of the connection does no harm.
                peer.frame(&Frame::settings_ack());
                peer.frame(&Frame::ping(*b"behind i"));
                while !peer.is_over() && !peer.has_pong(*b"behind i") {
                    peer.step();
                }
                if peer.is_over() {
                    peer.expect_goaway(&[code::PROTOCOL_ERROR]);
                }
            },
        ),
        case(
            "9113 6.5.2",
            "frames stay as small as before it was allowed",
            |peer| {
                // The harness takes no frame beyond this, whatever it allows.
                peer.change_settings(&[(setting::MAX_FRAME_SIZE, 16_384)]);
                peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
                peer.give_credit(0, 1 << 20);
                let stream = peer.open_with(get("/v1/long"), true);
                assert_eq!(peer.response(stream).payload.len(), crate::LONG_BYTES);
                const { assert!(FRAME_BYTES == 16_384) };
            },
        ),
        case(
            "9113 4.3.1",
            "the server's table keeps to a smaller size",
            |peer| {
                // The harness' decoder knows of no table beyond that size, nor of one before its first block says so.
                peer.change_settings(&[(setting::HEADER_TABLE_SIZE, 64)]);
                for _ in 0..3 {
                    let stream = peer.open_with(get("/v1/plain"), true);
                    expect_answer(peer, stream);
                }
            },
        ),
    ]);
    cases
}

fn refused() -> Vec<Case> {
    let mut cases = Vec::new();
    let values: [(&str, u16, u32, u32); 7] = [
        (
            "ENABLE_PUSH of 2",
            setting::ENABLE_PUSH,
            2,
            code::PROTOCOL_ERROR,
        ),
        (
            "ENABLE_PUSH of all bits",
            setting::ENABLE_PUSH,
            u32::MAX,
            code::PROTOCOL_ERROR,
        ),
        (
            "a window of 2^31",
            setting::INITIAL_WINDOW_SIZE,
            1 << 31,
            code::FLOW_CONTROL_ERROR,
        ),
        (
            "a window of all bits",
            setting::INITIAL_WINDOW_SIZE,
            u32::MAX,
            code::FLOW_CONTROL_ERROR,
        ),
        (
            "frames below 2^14",
            setting::MAX_FRAME_SIZE,
            16_383,
            code::PROTOCOL_ERROR,
        ),
        (
            "frames of 0",
            setting::MAX_FRAME_SIZE,
            0,
            code::PROTOCOL_ERROR,
        ),
        (
            "frames of 2^24",
            setting::MAX_FRAME_SIZE,
            1 << 24,
            code::PROTOCOL_ERROR,
        ),
    ];
    for (name, setting, value, code) in values {
        cases.push(case("9113 6.5.2", name, move |peer| {
            peer.frame(&Frame::settings(&[(setting, value)]));
            expect_connection_error(peer, code);
        }));
    }
    for bytes in [1, 5, 7] {
        cases.push(case(
            "9113 6.5",
            format!("SETTINGS of {bytes} bytes"),
            move |peer| {
                peer.frame(&Frame::new(kind::SETTINGS, 0, 0, vec![0; bytes]));
                expect_connection_error(peer, code::FRAME_SIZE_ERROR);
            },
        ));
    }
    cases.extend([
        case("9113 6.5", "an acknowledgement with settings", |peer| {
            let settings = Frame::settings(&[(setting::ENABLE_PUSH, 0)]);
            peer.frame(&settings.flags(flag::ACK));
            expect_connection_error(peer, code::FRAME_SIZE_ERROR);
        }),
        case("9113 6.5", "SETTINGS on a stream", |peer| {
            let mut settings = Frame::settings(&[(setting::ENABLE_PUSH, 0)]);
            settings.stream = held(peer);
            peer.frame(&settings);
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("9113 6.5", "an acknowledgement on a stream", |peer| {
            let mut settings = Frame::settings_ack();
            settings.stream = held(peer);
            peer.frame(&settings);
            peer.expect_goaway(&[code::PROTOCOL_ERROR]);
        }),
        case("8441 3", "ENABLE_CONNECT_PROTOCOL of 2", |peer| {
            // A client has nothing to set there, so that a server may read it or not.
            peer.frame(&Frame::settings(&[(setting::ENABLE_CONNECT_PROTOCOL, 2)]));
            peer.frame(&Frame::ping(*b"connect?"));
            while !peer.is_over() && !peer.has_pong(*b"connect?") {
                peer.step();
            }
            if peer.is_over() {
                peer.expect_goaway(&[code::PROTOCOL_ERROR]);
            }
        }),
    ]);
    cases
}
