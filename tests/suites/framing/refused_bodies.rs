//! Chunk framing that leaves the end of the body in doubt: the upstream never sees a complete request, whether the
//! body is held until it is complete or passed on as it comes.

use crate::{assert_refused_with, case, post};

/// A first chunk that is in order, so that the request may already be on its way.
const FIRST: &str = "11\r\n{\"model\":\"gpt-5\"\r\n";

/// Each of these chunked bodies, alone and behind a chunk that is in order.
fn assert_bodies_refused(bodies: &[impl AsRef<str>], statuses: &'static [u16]) {
    let cases = || {
        let bodies = bodies.iter().map(AsRef::as_ref);
        bodies
            .flat_map(|body| ["", FIRST].map(|before| format!("{before}{body}")))
            .map(|body| {
                let head = post(&[
                    "Content-Type: application/json",
                    "Transfer-Encoding: chunked",
                ]);
                let name: String = body.escape_debug().take(80).collect();
                case(name, head.replace("hello", &body), statuses)
            })
    };
    assert_refused_with(|config| config, cases().collect());
    // Nothing is held for a second attempt, so nothing is held at all.
    assert_refused_with(
        |config| config.limit("retry_body_bytes_max", 1),
        cases().collect(),
    );
}

#[test]
fn chunk_sizes_that_are_not_hexadecimal() {
    #[rustfmt::skip]
    let sizes = [
        "", "0x5", "0X5", "x5", "5x", "+5", "-1", "-5", " 5", "5 ", "\t5", "5\t", "5,", "5 5", "5.0", "g",
        "5g", "\"5\"", "5\0", "\u{665}", "\u{ff15}", "_5", "5_", "0 5", "five", "5\u{b}", "=5", "5h",
    ];
    let bodies = sizes.map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n"));
    assert_bodies_refused(&bodies, &[400]);
}

#[test]
fn chunk_sizes_beyond_any_body() {
    let zeros = "0".repeat(70_000) + "5";
    #[rustfmt::skip]
    let sizes = [
        "7fffffffffffffff", "ffffffffffffffff", "10000000000000000", "fffffffffffffffffffffffff",
        "00000000000000000000000000000005", "10000000000000005", &zeros,
    ];
    let bodies = sizes.map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n"));
    assert_bodies_refused(&bodies, &[400, 413]);
}

#[test]
fn chunk_extensions() {
    #[rustfmt::skip]
    let bodies = [
        "5;\r\nhello\r\n0\r\n\r\n", "5;x\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\n\r\n",
        "5 ;x\r\nhello\r\n0\r\n\r\n", "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n", "5;\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0;x\r\n\r\n", "0;\r\n\r\n", "5;\0\r\nhello\r\n0\r\n\r\n",
    ];
    assert_bodies_refused(&bodies, &[400]);
}

#[test]
fn line_breaks_in_chunk_framing() {
    #[rustfmt::skip]
    let bodies = [
        "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n", "5\n\rhello\r\n0\r\n\r\n", "5hello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n", "5\r\nhello\r\r\n0\r\n\r\n", "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhelloXY0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\r\r\n",
        "5\r\nhello\r\n0\n\n", "5\r\nhello\r\n0\r\n\rX",
    ];
    assert_bodies_refused(&bodies, &[400]);
}

#[test]
fn last_chunks_and_trailers() {
    #[rustfmt::skip]
    let bodies = [
        "5\r\nhello\r\n0\r\nX-Trailer: x\r\n\r\n", "5\r\nhello\r\n0\r\nHost: other.test\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\nnothing\r\n\r\n", "5\r\nhello\r\n0\r\n \r\n", "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        "5\r\nhello\r\n-0\r\n\r\n", "5\r\nhello\r\n+0\r\n\r\n", "5\r\nhello\r\n0x0\r\n\r\n",
        "5\r\nhello\r\n0 \r\n\r\n", "5\r\nhello\r\n 0\r\n\r\n", "5\r\nhello\r\n\r\n\r\n",
    ];
    assert_bodies_refused(&bodies, &[400]);
}
