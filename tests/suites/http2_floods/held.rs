//! Clients that keep the gateway waiting, rather than busy.

use super::{Attacker, Scene, block, get, post, stream};
use relay_tests::config::TENANT_KEY;
use relay_tests::eventually;
use relay_tests::http2::{Frame, PREFACE, code, hpack, setting};

/// Byte by byte: the head of a request takes no longer than one of HTTP/1.1 may.
#[test]
fn slow_blocks() {
    let scene = Scene::with(|config| config.timeout("request_head", "500ms"));
    scene.bystander(|others| {
        let mut attacker = Attacker::connect(&scene.gateway);
        attacker.send(&[Frame::begin_headers(1, block("GET", &[]), true)]);
        let part = Frame::continuation(1, [0; 16_000], true).bytes();
        let mut rounds = 0;
        for &byte in &part {
            if attacker.is_over() {
                break;
            }
            attacker.send_bytes(&[byte]);
            rounds += 1;
            others.wait_served();
        }
        let end = attacker.wait_end(rounds);
        assert_eq!(end.goaway, Some(code::ENHANCE_YOUR_CALM));
        let whole = part.len() as u32;
        assert!(rounds < whole, "the gateway has waited for all of it");
    });
    scene.assert_small("a slow block");
}

/// Nothing behind the preface, or half of it.
#[test]
fn slow_beginnings() {
    let scene = Scene::with(|config| {
        config
            .timeout("request_head", "500ms")
            .timeout("keep_alive_idle", "600ms")
    });
    scene.bystander(|others| {
        for attacker in [
            Attacker::connect(&scene.gateway),
            Attacker::begin(&scene.gateway, &PREFACE[..10]),
        ] {
            others.wait_served();
            attacker.wait_end(0);
        }
    });
}

/// As many answers as streams are allowed, of which not a byte is taken: they cost little while they wait, and not for ever.
#[test]
fn closed_windows() {
    const STREAMS: u32 = 100;
    let scene = Scene::with(|config| config.timeout("write_stall", "2s"));
    let closed = [(setting::INITIAL_WINDOW_SIZE, 0)];
    scene.bystander(|others| {
        let mut attacker = Attacker::with_settings(&scene.gateway, &closed);
        let key = format!("Bearer {TENANT_KEY}");
        let fields = [("authorization", key.as_str())];
        let requests =
            (0..STREAMS).map(|number| Frame::headers(stream(number), block("GET", &fields), true));
        attacker.send(&requests.collect::<Vec<_>>());
        eventually("all answers have come", || {
            let completed = scene.upstream.completed();
            (completed >= STREAMS as usize).then_some(())
        });
        others.wait_served();
        scene.assert_small("a hundred answers that nobody takes");
        eventually("all streams are given up", || {
            (scene.gateway.metric("relay_streams_open", &[]) <= 1.0).then_some(())
        });
        attacker.leave();
    });
}

/// The same of somebody without a key, whose requests are long and cost them a few bytes each (RFC 7541, section 7.3).
#[test]
fn closed_windows_behind_long_heads() {
    const STREAMS: u32 = 100;
    let scene = Scene::new();
    let closed = [(setting::INITIAL_WINDOW_SIZE, 0)];
    scene.bystander(|_| {
        let mut attacker = Attacker::with_settings(&scene.gateway, &closed);
        let kept = hpack::inserted("x-fill", [b'a'; 2950]);
        let long = [block("GET", &[]), kept, newest_field().repeat(8)].concat();
        attacker.send(&[Frame::headers(stream(0), long, true)]);
        let long = [block("GET", &[]), newest_field().repeat(9)].concat();
        for number in 1..STREAMS {
            attacker.send(&[Frame::headers(stream(number), long.clone(), true)]);
        }
        eventually("all are refused", || {
            (attacker.answers() >= STREAMS).then_some(())
        });
        scene.assert_small("a hundred refusals that nobody takes");
        attacker.leave();
    });
}

/// Trailers, which nobody wants, behind requests that are refused: they are not kept until the refusal has been taken.
#[test]
fn closed_windows_before_trailers() {
    const STREAMS: u32 = 100;
    let closed = [(setting::INITIAL_WINDOW_SIZE, 0)];
    // Each of these fields takes a byte to send, and in memory much more.
    let trailers = newest_field().repeat(2000);
    // Those that are refused by their heads, and those that are refused when they are served.
    for method in ["BREW", "POST"] {
        let scene = Scene::new();
        scene.bystander(|others| {
            let mut attacker = Attacker::with_settings(&scene.gateway, &closed);
            let kept = [block("GET", &[]), hpack::inserted("x", "")].concat();
            attacker.send(&[Frame::headers(stream(0), kept, true)]);
            for number in 1..STREAMS {
                let head = block(method, &[]);
                attacker.send(&[Frame::headers(stream(number), head, false)]);
            }
            eventually("all are refused", || {
                (attacker.answers() >= STREAMS).then_some(())
            });
            let all =
                (1..STREAMS).map(|number| Frame::headers(stream(number), trailers.clone(), true));
            attacker.send(&all.collect::<Vec<_>>());
            for _ in 0..10 {
                others.wait_served();
            }
            scene.assert_small(&format!("trailers that nobody wants, behind {method}"));
            attacker.leave();
        });
    }
}

/// The field that came last into the dynamic table, behind the 61 of the static one (RFC 7541, section 2.3.3).
fn newest_field() -> Vec<u8> {
    hpack::indexed(62)
}

/// Bodies that begin and do not go on are held no longer than those of HTTP/1.1.
#[test]
fn requests_that_do_not_end() {
    const STREAMS: u32 = 100;
    let scene = Scene::with(|config| config.timeout("request_body_idle", "500ms"));
    scene.bystander(|others| {
        let mut attacker = Attacker::connect(&scene.gateway);
        for number in 0..STREAMS {
            attacker.send(&[
                post(stream(number)),
                Frame::data(stream(number), [b'a'; 500], false),
            ]);
        }
        others.wait_served();
        scene.assert_small("a hundred bodies that do not end");
        attacker.send(&[get(stream(STREAMS)), Frame::goaway(0, code::NO_ERROR)]);
        attacker.wait_end(0);
    });
}
