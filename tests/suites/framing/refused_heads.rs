//! Fields that leave the end of the body, or the host, in doubt.

use crate::{BAD, Case, EXPECTATION, HEAD_LARGE, assert_refused, case, post, request};

#[test]
fn lengths_that_are_not_digits() {
    #[rustfmt::skip]
    let values = [
        "", "+5", "-1", "-0", "0x5", "5 5", "5,5", "5, 5", "5;", "5.0", "1e1", "\u{ff15}",
        "\u{665}", "\"5\"", "'5'", "abc", "5a", "a5", "_5", "5_0", ",5", "5,", "0,5", "NaN",
        "chunked", "5\t5", "(5)", "5=5", "0b101", "\u{2212}5",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| case(value, post(&[&format!("Content-Length: {value}")]), BAD))
        .collect();
    for value in [
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        cases.push(case(
            value,
            post(&[&format!("Content-Length: {value}")]),
            &[400, 413],
        ));
    }
    assert_refused(cases);
}

#[test]
fn more_than_one_length() {
    assert_refused(vec![
        case(
            "equal",
            post(&["Content-Length: 5", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "different",
            post(&["Content-Length: 5", "Content-Length: 0"]),
            BAD,
        ),
        case(
            "different, the other way",
            post(&["Content-Length: 0", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "other case",
            post(&["Content-Length: 5", "CONTENT-LENGTH: 5"]),
            BAD,
        ),
        case(
            "apart",
            post(&["content-length: 5", "Accept: */*", "Content-Length: 6"]),
            BAD,
        ),
        case(
            "three",
            post(&[
                "Content-Length: 5",
                "Content-Length: 5",
                "content-length: 5",
            ]),
            BAD,
        ),
        case(
            "one is empty",
            post(&["Content-Length: 5", "Content-Length:"]),
            BAD,
        ),
    ]);
}

#[test]
fn transfer_encodings_other_than_chunked() {
    #[rustfmt::skip]
    let values = [
        "", "gzip", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,",
        ",chunked", "chunked;q=1", "chunked; a=b", "\"chunked\"", "'chunked'", "xchunked",
        "chunkedx", "chunk ed", "\u{b}chunked", "chunked identity", "deflate", "compress",
        "trailers", "cow", "x-chunked", "chunked\tx", "identity, chunked", "chunked, identity",
        "\u{a0}chunked", "1",
    ];
    let body = "0\r\n\r\n";
    let cases = values.iter().map(|value| {
        let head = post(&[&format!("Transfer-Encoding: {value}")]);
        case(value, head.replace("hello", body), BAD)
    });
    assert_refused(cases.collect());
}

#[test]
fn more_than_one_transfer_encoding() {
    let pairs = [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "gzip"),
        ("chunked", ""),
        ("", "chunked"),
    ];
    let cases = pairs.iter().map(|(one, two)| {
        let fields = [
            format!("Transfer-Encoding: {one}"),
            format!("transfer-encoding: {two}"),
        ];
        case(format!("{one}+{two}"), post(&[&fields[0], &fields[1]]), BAD)
    });
    assert_refused(cases.collect());
}

#[test]
fn a_length_beside_a_transfer_encoding() {
    let chunked = "Transfer-Encoding: chunked";
    let with = |fields: &[&str]| post(fields).replace("hello", "0\r\n\r\n");
    assert_refused(vec![
        case("length first", with(&["Content-Length: 5", chunked]), BAD),
        case("coding first", with(&[chunked, "Content-Length: 5"]), BAD),
        case("length 0", with(&["Content-Length: 0", chunked]), BAD),
        case(
            "length of the rest",
            with(&["Content-Length: 500", chunked]),
            BAD,
        ),
        case("no length", with(&["Content-Length:", chunked]), BAD),
        case("bad length", with(&["Content-Length: x", chunked]), BAD),
        case(
            "identity",
            with(&["Content-Length: 5", "Transfer-Encoding: identity"]),
            BAD,
        ),
        case(
            "empty coding",
            with(&["Content-Length: 5", "Transfer-Encoding:"]),
            BAD,
        ),
        case(
            "space before the colon",
            with(&["Content-Length: 5", "Transfer-Encoding : chunked"]),
            BAD,
        ),
        case(
            "tab before the colon",
            with(&["Content-Length: 5", "Transfer-Encoding\t: chunked"]),
            BAD,
        ),
        case(
            "folded",
            with(&["Content-Length: 5", "Transfer-Encoding:\r\n chunked"]),
            BAD,
        ),
        case(
            "after a fold",
            with(&["Content-Length: 5", "X: y\r\n Transfer-Encoding: chunked"]),
            BAD,
        ),
        case(
            "NUL in the name",
            with(&["Content-Length: 5", "Transfer\0-Encoding: chunked"]),
            BAD,
        ),
        case(
            "control character in front",
            with(&["Content-Length: 5", "\u{1}Transfer-Encoding: chunked"]),
            BAD,
        ),
        case(
            "bare LF in front",
            with(&["Content-Length: 5", "X: y\nTransfer-Encoding: chunked"]),
            BAD,
        ),
        case(
            "bare CR in front",
            with(&["Content-Length: 5", "X: y\rTransfer-Encoding: chunked"]),
            BAD,
        ),
        case(
            "two lengths",
            with(&["Content-Length: 5", "Content-Length: 5", chunked]),
            BAD,
        ),
    ]);
}

#[test]
fn chunked_in_http_1_0() {
    let request = |more: &[&str]| {
        let mut fields = vec!["Host: gateway.test", "Transfer-Encoding: chunked"];
        fields.extend_from_slice(more);
        request("POST /v1/responses HTTP/1.0", &fields).replace("hello", "5\r\nhello\r\n0\r\n\r\n")
    };
    assert_refused(vec![
        case("alone", request(&[]), BAD),
        case("kept alive", request(&["Connection: keep-alive"]), BAD),
        case("with a length", request(&["Content-Length: 5"]), BAD),
    ]);
}

#[test]
fn names_that_are_not_tokens() {
    #[rustfmt::skip]
    let fields = [
        "Host : gateway.test", "Host\t: gateway.test", "Content-Length : 5", "Content-Length\t: 5",
        ": nameless", "nothing", "na me: x", "na(me: x", "na)me: x", "na\"me: x", "na/me: x",
        "na@me: x", "na[me: x", "na]me: x", "na{me: x", "na}me: x", "na\\me: x", "n\u{e4}me: x",
        "name;: x", "name,: x", "na<me: x", "na>me: x", "na=me: x", "na?me: x", "na\u{7f}me: x",
        "na\u{1}me: x", " ", "\t", " name: x", "\tname: x", "na\rme: x", "na\nme: x", "na\0me: x",
        "X-Stainless-Lang : js",
    ];
    assert_refused(
        fields
            .iter()
            .map(|field| case(field, post(&[field, "Content-Length: 5"]), BAD))
            .collect(),
    );
}

#[test]
fn values_with_control_characters() {
    let mut cases = Vec::new();
    for byte in (0x00..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let byte = char::from(byte);
        let value = format!("OpenAI-Beta: a{byte}b");
        cases.push(case(
            value.escape_debug(),
            post(&[&value, "Content-Length: 5"]),
            BAD,
        ));
    }
    cases.push(case(
        "NUL at the start",
        post(&["Originator: \0x", "Content-Length: 5"]),
        BAD,
    ));
    cases.push(case(
        "NUL at the end",
        post(&["Originator: x\0", "Content-Length: 5"]),
        BAD,
    ));
    cases.push(case("NUL in a length", post(&["Content-Length: 5\0"]), BAD));
    cases.push(case(
        "CR at the end",
        post(&["Originator: x\r", "Content-Length: 5"]),
        BAD,
    ));
    assert_refused(cases);
}

#[test]
fn folded_lines() {
    let line = "POST /v1/responses HTTP/1.1";
    let host = "Host: gateway.test";
    assert_refused(vec![
        case(
            "space",
            post(&["Originator: a\r\n b", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "tab",
            post(&["Originator: a\r\n\tb", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "empty continuation",
            post(&["Originator: a\r\n ", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "two continuations",
            post(&["Originator: a\r\n b\r\n c", "Content-Length: 5"]),
            BAD,
        ),
        case("length", post(&["Content-Length:\r\n 5"]), BAD),
        case(
            "length in two lines",
            post(&["Content-Length: 5\r\n 0"]),
            BAD,
        ),
        case(
            "host",
            request(line, &["Host:\r\n gateway.test", "Content-Length: 5"]),
            BAD,
        ),
        case(
            "after the request line",
            request(&format!("{line}\r\n X: y"), &[host]),
            BAD,
        ),
        case(
            "tab after the request line",
            request(&format!("{line}\r\n\tX: y"), &[host]),
            BAD,
        ),
        case(
            "last line",
            post(&["Content-Length: 5", "Originator: a\r\n b"]),
            BAD,
        ),
        case(
            "last line is white space",
            post(&["Content-Length: 5", " "]),
            BAD,
        ),
    ]);
}

#[test]
fn hosts() {
    let line = "POST /v1/responses HTTP/1.1";
    let length = "Content-Length: 5";
    let mut cases = vec![
        case("none", request(line, &[length]), BAD),
        case("two equal", post(&["Host: gateway.test", length]), BAD),
        case("two different", post(&["Host: other.test", length]), BAD),
        case(
            "two, other case",
            post(&["hOST: gateway.test", length]),
            BAD,
        ),
        case("two, one empty", post(&["Host:", length]), BAD),
        case("three", post(&["Host: a", "Host: b", length]), BAD),
    ];
    #[rustfmt::skip]
    let values = [
        "user@gateway.test", "user:password@gateway.test", "@gateway.test", "gateway test",
        "gateway.test/x", "gateway.test?x", "gateway.test#x", "gateway.test:http",
        "gateway.test:-1", "gateway.test:80:80", "gateway.test, other.test",
        "gateway.test,other.test", "[::1", "::1]", "[::1]x", "gateway.test\\x",
        "http://gateway.test", "\"gateway.test\"", "<gateway>", "g\u{e4}teway.test", "{gateway}",
        "gateway|test", "gateway^test",
    ];
    for value in values {
        cases.push(case(
            value,
            request(line, &[&format!("Host: {value}"), length]),
            BAD,
        ));
    }
    assert_refused(cases);
}

#[test]
fn expectations() {
    let with = |fields: &[&str]| {
        let mut all = vec!["Content-Length: 5"];
        all.extend_from_slice(fields);
        post(&all)
    };
    assert_refused(vec![
        case("200-ok", with(&["Expect: 200-ok"]), EXPECTATION),
        case(
            "100-continued",
            with(&["Expect: 100-continued"]),
            EXPECTATION,
        ),
        case(
            "list",
            with(&["Expect: 100-continue, something"]),
            EXPECTATION,
        ),
        case(
            "parameter",
            with(&["Expect: 100-continue;x=1"]),
            EXPECTATION,
        ),
        case(
            "two",
            with(&["Expect: 100-continue", "Expect: something"]),
            EXPECTATION,
        ),
    ]);
}

#[test]
fn heads_that_are_too_large() {
    let fields = |count: usize| -> Vec<String> {
        (0..count)
            .map(|index| format!("X-Field-{index}: {index}"))
            .collect()
    };
    let many = |count| -> String {
        let fields = fields(count);
        let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        fields.push("Content-Length: 5");
        post(&fields)
    };
    let long = |length: usize| format!("X-Long: {}", "x".repeat(length));
    let crumbs: Vec<String> = (0..120)
        .map(|index| format!("Cookie: crumb{index}=1"))
        .collect();
    let crumbs: Vec<&str> = crumbs.iter().map(String::as_str).collect();
    assert_refused(vec![
        // Authorization, Host and Content-Length count too.
        case("101 fields", many(98), HEAD_LARGE),
        case("1,000 fields", many(997), HEAD_LARGE),
        case("120 cookie crumbs", post(&crumbs), HEAD_LARGE),
        case(
            "one long value",
            post(&[&long(33 * 1024), "Content-Length: 5"]),
            HEAD_LARGE,
        ),
        case(
            "one longer value",
            post(&[&long(300 * 1024), "Content-Length: 5"]),
            HEAD_LARGE,
        ),
        case(
            "many long values",
            post(&[long(3000).as_str(); 11]),
            HEAD_LARGE,
        ),
        case(
            "long name",
            post(&[&format!("{}: x", "x".repeat(33 * 1024))]),
            HEAD_LARGE,
        ),
    ]);
}
