//! Streams that are opened to be taken back, or to be reset by the gateway.

use super::{Flood, Scene, block, get, post, stream};
use relay_tests::http2::{Frame, code};

/// Both are the end of a connection (RFC 9113, section 5.4.1); which rule speaks first is not for the attacker to say.
const ENDED: &[u32] = &[
    code::ENHANCE_YOUR_CALM,
    code::PROTOCOL_ERROR,
    code::STREAM_CLOSED,
    code::FLOW_CONTROL_ERROR,
];

/// Fifty streams a round.
fn each_stream(frames: impl Fn(u32) -> Vec<Frame>) -> impl Flood {
    move |round| {
        (0..50)
            .flat_map(|number| frames(stream(50 * round + number)))
            .collect()
    }
}

/// CVE-2023-44487.
#[test]
fn rapid_reset() {
    let scene = Scene::new();
    let calm = [code::ENHANCE_YOUR_CALM];
    let cancelled = |stream| vec![get(stream), Frame::reset(stream, code::CANCEL)];
    scene.assert_ended("requests", &calm, &[], each_stream(cancelled));
    let cancelled = |stream| vec![post(stream), Frame::reset(stream, code::CANCEL)];
    scene.assert_ended("requests with a body", &calm, &[], each_stream(cancelled));
}

/// CVE-2025-8671: it is the gateway that resets, for one reason or another.
#[test]
fn made_you_reset() {
    let scene = Scene::new();
    let malformed = |name: &str, value: &str| block("GET", &[(name, value)]);
    type Bait = (&'static str, fn(u32) -> Vec<Frame>);
    let baits: [Bait; 4] = [
        ("a window that is opened by nothing", |stream| {
            vec![post(stream), Frame::window_update(stream, 0)]
        }),
        ("a window that is opened too wide", |stream| {
            vec![post(stream), Frame::window_update(stream, 0x7fff_ffff)]
        }),
        ("a stream that depends on itself", |stream| {
            vec![post(stream).with_priority(stream, 9)]
        }),
        ("DATA behind the end", |stream| {
            vec![get(stream), Frame::data(stream, *b"more", true)]
        }),
    ];
    for (what, bait) in baits {
        scene.assert_ended(what, ENDED, &[], each_stream(bait));
    }
    for (name, value) in [
        ("Upper-Case", "a"),
        ("connection", "close"),
        ("te", "gzip"),
        ("x-any", " a"),
        (":path", "/"),
        ("content-length", "5"),
    ] {
        let block = malformed(name, value);
        let bait = move |stream| vec![Frame::headers(stream, block.clone(), true)];
        scene.assert_ended(name, ENDED, &[], each_stream(bait));
    }
}

/// More than may be open at a time, each refused (RFC 9113, section 5.1.2).
#[test]
fn more_streams_than_allowed() {
    let scene = Scene::with(|config| config.limit("http2_streams_max", 10));
    let held = |stream| vec![post(stream)];
    scene.assert_ended("streams", ENDED, &[], each_stream(held));
}

/// Numbers of streams are used up quickly, so that what is remembered of them would have to be a lot.
#[test]
fn numbers_that_leap() {
    let scene = Scene::new();
    let leaping = |round: u32| match 2_000_001_u32.checked_mul(round + 1) {
        Some(leap) if leap < 1 << 31 => {
            vec![get(leap | 1), Frame::reset(leap | 1, code::CANCEL)]
        }
        _ => vec![get(1)],
    };
    scene.assert_ended("numbers", ENDED, &[], leaping);
}
