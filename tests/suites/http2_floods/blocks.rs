//! Blocks of header fields that have no end, or are much larger than they look.

use super::{Attacker, Scene, block, stream};
use relay_tests::http2::{Frame, code, hpack};

const ENDED: &[u32] = &[
    code::ENHANCE_YOUR_CALM,
    code::PROTOCOL_ERROR,
    code::COMPRESSION_ERROR,
];

/// CVE-2024-27316 and its family.
#[test]
fn continuation_flood() {
    let scene = Scene::new();
    for part_bytes in [0, 1, 16_000] {
        let opening = [Frame::begin_headers(1, block("GET", &[]), true)];
        // Never the end of a field, so that nothing of it can be judged.
        let part = Frame::continuation(1, vec![0; part_bytes], false);
        let flood = move |_| vec![part.clone(); 4];
        let what = format!("parts of {part_bytes}");
        scene.assert_ended(&what, ENDED, &opening, flood);
    }
}

/// A field of 4,000 bytes is put into the table once, and named ten thousand times by a byte each.
#[test]
fn hpack_bomb() {
    let scene = Scene::new();
    let large = hpack::inserted("x-bomb", "b".repeat(4000));
    let first = [block("GET", &[]), large].concat();
    let bomb = [block("GET", &[]), hpack::indexed(62).repeat(10_000)].concat();
    let opening = [Frame::headers(1, first, true)];
    let flood = move |round| vec![Frame::headers(stream(round + 1), bomb.clone(), true)];
    scene.assert_ended("a bomb", ENDED, &opening, flood);
}

/// Larger than allowed, though not by much: refused each time with 431, in words or without, or ended, but never kept.
#[test]
fn blocks_that_are_a_little_too_large() {
    let large = hpack::inserted("x-large", "b".repeat(4000));
    let first = [block("GET", &[]), large].concat();
    for (what, times) in [("larger than may be", 12), ("larger than is decoded", 24)] {
        let repeated = [block("GET", &[]), hpack::indexed(62).repeat(times)].concat();
        assert_cheap(what, &first, &repeated);
    }
}

/// The same of fields that take a byte each, and in memory much more.
#[test]
fn blocks_of_thousands_of_fields() {
    let first = [block("GET", &[]), hpack::inserted("x", "")].concat();
    for times in [900, 1500, 4000] {
        let repeated = [block("GET", &[]), hpack::indexed(62).repeat(times)].concat();
        assert_cheap(&format!("{times} fields"), &first, &repeated);
    }
}

/// The size of the table is changed again and again in front of each request.
#[test]
fn tables_of_many_sizes() {
    let sizes = [hpack::table_size(0), hpack::table_size(4096)].concat();
    let block = [sizes.repeat(3000), block("GET", &[])].concat();
    assert_cheap("sizes", &block, &block);
}

/// Two hundred requests, which may end the connection and need not.
fn assert_cheap(what: &str, first: &[u8], repeated: &[u8]) {
    let scene = Scene::new();
    let mut attacker = Attacker::connect(&scene.gateway);
    scene.bystander(|others| {
        attacker.send(&[Frame::headers(1, first, true)]);
        for number in 1..200 {
            attacker.send(&[Frame::headers(stream(number), repeated, true)]);
            if number % 50 == 0 {
                others.wait_served();
            }
        }
        attacker.leave();
    });
    scene.assert_small(what);
}
