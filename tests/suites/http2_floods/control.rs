//! Frames that ask for work and bring none.

use super::{Scene, always, get, post};
use relay_tests::http2::{Frame, code, flag, setting};

const CALM: &[u32] = &[code::ENHANCE_YOUR_CALM];

/// RFC 9113, section 5.5: to be ignored, but not for ever.
const UNKNOWN: u8 = 0xbe;

#[test]
fn pings() {
    let ping = Frame::ping(*b"and now?");
    Scene::new().assert_ended("PING", CALM, &[], always(ping));
}

#[test]
fn answers_to_pings_that_nobody_sent() {
    let pong = Frame::ping([0; 8]).flags(flag::ACK);
    Scene::new().assert_ended("PING's answer", CALM, &[], always(pong));
}

#[test]
fn settings() {
    let scene = Scene::new();
    let windows = |round: u32| {
        let bytes = 1 + round % 60_000;
        vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, bytes)]); 20]
    };
    scene.assert_ended("SETTINGS", CALM, &[get(1)], windows);
    scene.assert_ended("empty SETTINGS", CALM, &[], always(Frame::settings(&[])));
}

#[test]
fn priorities() {
    let scene = Scene::new();
    let chain = |round: u32| {
        let of = |number| Frame::priority(2 * number + 3, 2 * number + 1, 200);
        (50 * round..50 * round + 50).map(of).collect()
    };
    scene.assert_ended("PRIORITY", CALM, &[], chain);
}

#[test]
fn frames_that_mean_nothing() {
    let scene = Scene::new();
    for payload_bytes in [0, 16_384] {
        let frame = Frame::new(UNKNOWN, flag::NONE, 0, vec![0; payload_bytes]);
        let flood = move |_| vec![frame.clone(); 4];
        scene.assert_ended("an unknown type", CALM, &[], flood);
    }
}

#[test]
fn data_without_any() {
    let scene = Scene::new();
    let empty = Frame::data(1, [], false);
    scene.assert_ended("empty DATA", CALM, &[post(1)], always(empty.clone()));
    let padded = empty.padded(200);
    scene.assert_ended("DATA of padding", CALM, &[post(1)], always(padded));
}

#[test]
fn data_in_crumbs() {
    let crumb = Frame::data(1, *b"a", false);
    Scene::new().assert_ended("DATA in crumbs", CALM, &[post(1)], always(crumb));
}

#[test]
fn windows_that_are_opened_by_a_byte() {
    let scene = Scene::new();
    let closed = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let byte = Frame::window_update(1, 1);
    let opening = [closed, get(1)];
    scene.assert_ended("WINDOW_UPDATE", CALM, &opening, always(byte));
    let byte = Frame::window_update(0, 1);
    scene.assert_ended("WINDOW_UPDATE of the connection", CALM, &[], always(byte));
}

#[test]
fn goaways() {
    let goaway = Frame::goaway(0, code::NO_ERROR);
    let scene = Scene::new();
    // Whoever says goodbye and goes on talking may be taken at their word.
    let codes = [code::ENHANCE_YOUR_CALM, code::NO_ERROR];
    scene.assert_ended("GOAWAY", &codes, &[get(1)], always(goaway));
}
