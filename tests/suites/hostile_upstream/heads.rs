//! Answers whose head is not one, or says too much.

use crate::{Case, Seen, Then, assert_hostile, case, head, refused};

#[test]
fn heads_that_leave_the_end_of_the_body_in_doubt() {
    #[rustfmt::skip]
    let lengths = [
        "-1", "+5", "5x", "", "0x5", "5,5", "5, 5", "99999999999999999999", "5 5", "\"5\"",
    ];
    let codings = [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "chunked, gzip",
        "",
        "xchunked",
        "chunked;q=1",
    ];
    let mut cases = vec![
        refused(
            "CL and TE",
            head("content-length: 5\r\ntransfer-encoding: chunked") + "0\r\n\r\n",
        ),
        refused(
            "TE and CL",
            head("transfer-encoding: chunked\r\ncontent-length: 5") + "0\r\n\r\n",
        ),
        refused(
            "two equal CL",
            head("content-length: 5\r\nContent-Length: 5") + "hello",
        ),
        refused(
            "two CL",
            head("content-length: 5\r\ncontent-length: 6") + "hello!",
        ),
        refused(
            "two TE",
            head("transfer-encoding: chunked\r\ntransfer-encoding: chunked") + "0\r\n\r\n",
        ),
    ];
    for value in lengths {
        let answer = head(&format!("content-length: {value}")) + "hello";
        cases.push(refused(format!("CL {value:?}"), answer));
    }
    for value in codings {
        let answer = head(&format!("transfer-encoding: {value}")) + "5\r\nhello\r\n0\r\n\r\n";
        cases.push(refused(format!("TE {value:?}"), answer));
    }
    assert_hostile(&cases);
}

#[test]
fn what_is_no_head() {
    let rest = "content-length: 5\r\n\r\nhello";
    #[rustfmt::skip]
    let lines = [
        "HTTP/1.1 999 Far Out", "HTTP/1.1 099 Low", "HTTP/1.1 600 High", "HTTP/1.1 1000 Long",
        "HTTP/1.1 2xx OK", "HTTP/1.1 -20 OK", "HTTP/1.1 20 OK", "HTTP/1.1", "HTTP/1.1 ",
        "HTTP/2.0 200 OK", "HTTP/2 200", "HTTP/1.2 200 OK", "HTTP/0.9 200 OK", "http/1.1 200 OK",
        "HTTPS/1.1 200 OK", "ICY 200 OK", "200 OK", "GET / HTTP/1.1", " HTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 200 O\0K", "HTTP/1.1 000 OK",
    ];
    let mut cases: Vec<Case> = lines
        .iter()
        .map(|line| refused(line.escape_debug(), format!("{line}\r\n{rest}")))
        .collect();
    let garbage: Vec<u8> = (0..2000u32).map(|index| (index * 31 % 251) as u8).collect();
    cases.push(refused("garbage", [&garbage[..], b"\r\n\r\n"].concat()));
    cases.push(case(
        "garbage, then close",
        garbage,
        Then::Close,
        Seen::Refused,
    ));
    cases.push(case(
        "HTTP/0.9",
        "<html>hello</html>",
        Then::Close,
        Seen::Refused,
    ));
    cases.push(case(
        "a line, then close",
        "hello\r\n",
        Then::Close,
        Seen::Refused,
    ));
    cases.push(case("SSH", "SSH-2.0-x\r\n", Then::Close, Seen::Refused));
    cases.push(case(
        "TLS alert",
        &b"\x15\x03\x01\x00\x02\x02\x28"[..],
        Then::Close,
        Seen::Refused,
    ));
    assert_hostile(&cases);
}

#[test]
fn heads_with_broken_fields() {
    let length = "content-length: 5";
    #[rustfmt::skip]
    let fields = [
        "x-a: b\nx-c: d", "x-a: b\rx-c: d", "x-a: b\r\n c", "x-a: b\r\n\tc", "x-a: \0", "x-a : b",
        "x-a\t: b", ": nameless", "nothing", "x a: b", "x\0a: b", " x-a: b", "x-a: \u{1}", "x(a: b",
    ];
    let mut cases: Vec<Case> = fields
        .iter()
        .map(|field| {
            refused(
                field.escape_debug(),
                head(&format!("{field}\r\n{length}")) + "hello",
            )
        })
        .collect();
    cases.push(refused(
        "bare LF everywhere",
        head(length).replace("\r\n", "\n") + "hello",
    ));
    let many: String = (0..200)
        .map(|index| format!("x-{index}: {index}\r\n"))
        .collect();
    cases.push(refused(
        "200 fields",
        head(&format!("{many}{length}")) + "hello",
    ));
    let long = "x".repeat(40 * 1024);
    cases.push(refused(
        "a long value",
        head(&format!("x: {long}\r\n{length}")) + "hello",
    ));
    cases.push(refused(
        "a reason without end",
        format!("HTTP/1.1 200 {long}"),
    ));
    cases.push(refused(
        "a head without end",
        format!("HTTP/1.1 200 OK\r\nx: {long}{long}{long}"),
    ));
    assert_hostile(&cases);
}

#[test]
fn connections_that_end_before_the_head_does() {
    let starts = [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
    ];
    let mut cases = Vec::new();
    for start in starts {
        cases.push(case(
            format!("{start:?}, closed"),
            start,
            Then::Close,
            Seen::Refused,
        ));
        cases.push(case(
            format!("{start:?}, reset"),
            start,
            Then::Reset,
            Seen::Refused,
        ));
    }
    let informational = "HTTP/1.1 103 Early Hints\r\n\r\n";
    cases.push(case(
        "after a 103",
        informational,
        Then::Close,
        Seen::Refused,
    ));
    assert_hostile(&cases);
}

#[test]
fn statuses_that_were_not_asked_for() {
    let informational =
        |count: usize| "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(count);
    let plain = head("content-length: 5") + "hello";
    let upgrade =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_hostile(&[
        refused("101", upgrade),
        refused("101, then an answer", format!("{upgrade}{plain}")),
        refused("nine 1xx", informational(9) + &plain),
        refused("1,000 1xx", informational(1000) + &plain),
        refused(
            "204 with a length",
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        ),
        refused(
            "204 with chunks",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "103 with a length",
            "HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\nhello".to_owned() + &plain,
        ),
    ]);
}
