//! Chunk framing that leaves the end of the body in doubt: the upstream never sees a complete request.

use crate::{BAD, Case, assert_refused, case, post};

/// A chunked request with this body.
fn chunked(body: &str) -> Vec<u8> {
    post(&[
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
    ])
    .replace("hello", body)
    .into_bytes()
}

/// A first chunk that is in order, so that the request may already be on its way.
const FIRST: &str = "11\r\n{\"model\":\"gpt-5\"\r\n";

fn cases(bodies: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for body in bodies {
        cases.push(case(
            format!("first chunk {}", body.escape_debug()),
            chunked(body),
            BAD,
        ));
        let later = format!("{FIRST}{body}");
        cases.push(case(
            format!("later chunk {}", body.escape_debug()),
            chunked(&later),
            BAD,
        ));
    }
    cases
}

#[test]
fn chunk_sizes_that_are_not_hexadecimal() {
    let sizes = [
        "", "0x5", "0X5", "x5", "5x", "+5", "-1", "-5", " 5", "5 ", "\t5", "5\t", "5,", "5 5",
        "5.0", "g", "5g", "\"5\"", "5\0", "\u{665}", "\u{ff15}", "_5", "5_", "0 5", "five",
        "5\u{b}", "=5", "5h",
    ];
    let bodies: Vec<String> = sizes
        .iter()
        .map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n"))
        .collect();
    assert_refused(cases(
        &bodies.iter().map(String::as_str).collect::<Vec<_>>(),
    ));
}

#[test]
fn chunk_sizes_beyond_any_body() {
    let mut all = Vec::new();
    for size in ["7fffffffffffffff", "fffffffffffffff", "80000000"] {
        all.push(case(
            size,
            chunked(&format!("{size}\r\nhello")),
            &[400, 413],
        ));
    }
    for size in [
        "ffffffffffffffff",
        "10000000000000000",
        "fffffffffffffffffffffffff",
        "00000000000000000000000000000005",
        "10000000000000005",
    ] {
        all.push(case(
            size,
            chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")),
            &[400, 413],
        ));
    }
    let long = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(70_000));
    all.push(case("70,000 zeros", chunked(&long), BAD));
    assert_refused(all);
}

#[test]
fn chunk_extensions() {
    assert_refused(cases(&[
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;x\r\nhello\r\n0\r\n\r\n",
        "5;x=y\r\nhello\r\n0\r\n\r\n",
        "5 ;x\r\nhello\r\n0\r\n\r\n",
        "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0;x\r\n\r\n",
        "0;\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
    ]));
}

#[test]
fn line_breaks_in_chunk_framing() {
    assert_refused(cases(&[
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\n\rhello\r\n0\r\n\r\n",
        "5hello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhelloXY0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\rX",
    ]));
}

#[test]
fn last_chunks_and_trailers() {
    assert_refused(cases(&[
        "5\r\nhello\r\n0\r\nX-Trailer: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nHost: other.test\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\nnothing\r\n\r\n",
        "5\r\nhello\r\n0\r\n \r\n",
        "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        "5\r\nhello\r\n-0\r\n\r\n",
        "5\r\nhello\r\n+0\r\n\r\n",
        "5\r\nhello\r\n0x0\r\n\r\n",
        "5\r\nhello\r\n0 \r\n\r\n",
        "5\r\nhello\r\n 0\r\n\r\n",
        "5\r\nhello\r\n\r\n\r\n",
    ]));
}
