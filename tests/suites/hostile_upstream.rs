//! Answers of an upstream that cannot be trusted: the client gets an error or a visible truncation, never
//! something that looks complete, and nothing else travels on that connection.

use relay_tests::http::{chunk, lossy};
use relay_tests::{Config, Ending, Gateway, Request, Response, Signal, Upstream, openai};
use std::fmt::Display;

/// What the upstream does when it has sent its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It leaves the connection open; the gateway has to close it.
    Stay,
    Close,
    Reset,
}

/// What the client may see.
#[derive(Clone, Copy)]
enum Seen {
    /// An error in the gateway's envelope.
    Refused,
    /// That, or the answer's head and then less than it promises.
    Broken,
    /// A whole answer; what came after it is dropped with the connection.
    Whole(u16, &'static [u8]),
}

struct Case {
    name: String,
    method: &'static str,
    answer: Vec<u8>,
    then: Then,
    seen: Seen,
}

fn case(name: impl Display, answer: impl Into<Vec<u8>>, then: Then, seen: Seen) -> Case {
    Case {
        name: name.to_string(),
        method: "POST",
        answer: answer.into(),
        then,
        seen,
    }
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}\r\n\r\n")
}

fn refused(name: impl Display, answer: impl Into<Vec<u8>>) -> Case {
    case(name, answer, Then::Stay, Seen::Refused)
}

fn assert_hostile(cases: &[Case]) {
    let script: Vec<_> = cases
        .iter()
        .map(|case| (case.answer.clone(), case.then))
        .collect();
    let upstream = Upstream::start(move |exchange| {
        let number = exchange
            .request
            .target
            .strip_prefix("/v1/case/")
            .map(str::to_owned);
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
            // The pool is empty again when the next case begins.
            exchange
                .send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nfence");
            exchange.close();
            return;
        };
        let (answer, then) = &script[number];
        exchange.send(answer);
        match then {
            Then::Stay => drop(exchange.wait_closed()),
            Then::Close => exchange.close(),
            Then::Reset => exchange.reset(),
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let outcome = std::panic::catch_unwind(|| {
            let mut client = gateway.client();
            let body = br#"{"model":"gpt-5"}"#;
            let request = Request::new(case.method, &format!("/v1/case/{number}")).body(body);
            let answer = client.call(&request);
            check(case.seen, &answer);
            // A client whose answer is whole may go on; its next request takes another connection.
            let fence = Request::get("/v1/fence");
            let answer = match case.seen {
                Seen::Whole(..) => client.call(&fence),
                _ => gateway.call(&fence),
            };
            assert_eq!(
                (answer.status(), answer.payload.as_slice()),
                (200, &b"fence"[..])
            );
            let requests = upstream.requests();
            let [.., hostile, fence] = requests.as_slice() else {
                panic!("requests are missing")
            };
            assert_ne!(
                hostile.connection, fence.connection,
                "the connection was used again"
            );
            assert_eq!(
                hostile.target,
                format!("/v1/case/{number}"),
                "asked more than once"
            );
        });
        if let Err(panic) = outcome {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let shown = lossy(&case.answer[..case.answer.len().min(300)]);
            failures.push(format!(
                "{}: {}: {shown}",
                case.name,
                why.unwrap_or_default()
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn check(seen: Seen, answer: &Response) {
    match seen {
        Seen::Refused => drop(answer.assert_refused(502, "upstream_error")),
        Seen::Broken => match answer.status() {
            200 => assert_eq!(answer.ending, Ending::Truncated, "{answer:?}"),
            _ => drop(answer.assert_refused(502, "upstream_error")),
        },
        Seen::Whole(status, payload) => {
            assert_eq!(
                (answer.status(), answer.ending),
                (status, Ending::Complete),
                "{answer:?}"
            );
            assert_eq!(answer.payload, payload);
        }
    }
}

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
fn bodies_that_end_too_early() {
    let length = head("content-length: 10") + "hello";
    let chunked = head("transfer-encoding: chunked");
    let with = |body: &str| format!("{chunked}{body}");
    let mut cases = Vec::new();
    for then in [Then::Close, Then::Reset] {
        let name = |text: &str| {
            format!(
                "{text}, {}",
                if then == Then::Close { "FIN" } else { "RST" }
            )
        };
        cases.push(case(
            name("no byte of a length"),
            head("content-length: 10"),
            then,
            Seen::Broken,
        ));
        cases.push(case(
            name("half of a length"),
            length.clone(),
            then,
            Seen::Broken,
        ));
        for body in [
            "",
            "5",
            "5\r",
            "5\r\n",
            "5\r\nhel",
            "5\r\nhello",
            "5\r\nhello\r",
            "5\r\nhello\r\n",
            "5\r\nhello\r\n0",
            "5\r\nhello\r\n0\r\n",
            "5\r\nhello\r\n0\r\n\r",
            "5\r\nhello\r\n0\r\nx: y\r\n",
        ] {
            cases.push(case(
                name(&body.escape_debug().to_string()),
                with(body),
                then,
                Seen::Broken,
            ));
        }
    }
    cases.push(case(
        "reset instead of the close that ends it",
        head("x: y") + "hello",
        Then::Reset,
        Seen::Broken,
    ));
    assert_hostile(&cases);
}

#[test]
fn broken_chunk_framing() {
    let first = "5\r\nhello\r\n";
    let chunked = head("transfer-encoding: chunked");
    #[rustfmt::skip]
    let bodies = [
        "x\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5 5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n", "fffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n", "0\n\r\n",
        "0\r\n\n", "0\r\nno trailer\r\n\r\n", "5;\0\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ];
    let mut cases = Vec::new();
    for body in bodies {
        let name = body.escape_debug();
        cases.push(case(
            format!("first chunk {name}"),
            format!("{chunked}{body}"),
            Then::Stay,
            Seen::Broken,
        ));
        let later = format!("{chunked}{first}{body}");
        cases.push(case(
            format!("later chunk {name}"),
            later,
            Then::Stay,
            Seen::Broken,
        ));
    }
    let extension = format!("{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
    cases.push(case(
        "an extension without end",
        extension,
        Then::Stay,
        Seen::Broken,
    ));
    let trailer = format!("{chunked}{first}0\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    cases.push(case(
        "a trailer without end",
        trailer,
        Then::Stay,
        Seen::Broken,
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

#[test]
fn bytes_after_the_end() {
    let plain = head("content-length: 5") + "hello";
    let chunked = head("transfer-encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
    let whole = Seen::Whole(200, b"hello");
    let mut to_head = case(
        "body after HEAD",
        plain.clone(),
        Then::Stay,
        Seen::Whole(200, b""),
    );
    to_head.method = "HEAD";
    assert_hostile(&[
        case(
            "garbage after a length",
            plain.clone() + "X",
            Then::Stay,
            whole,
        ),
        case(
            "an answer after a length",
            plain.repeat(2),
            Then::Stay,
            whole,
        ),
        case(
            "garbage after the last chunk",
            chunked.clone() + "X",
            Then::Stay,
            whole,
        ),
        case(
            "line break after the last chunk",
            chunked.clone() + "\r\n",
            Then::Stay,
            whole,
        ),
        case(
            "an answer after the last chunk",
            chunked + &plain,
            Then::Stay,
            whole,
        ),
        case(
            "an answer after a 204",
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned() + &plain,
            Then::Stay,
            Seen::Whole(204, b""),
        ),
        case(
            "a body after a 304",
            "HTTP/1.1 304 Not Modified\r\n\r\nhello",
            Then::Stay,
            Seen::Whole(304, b""),
        ),
        to_head,
    ]);
}

#[test]
fn bytes_on_an_idle_connection() {
    let go_on = Signal::new();
    let sent = Signal::new();
    let upstream = Upstream::start({
        let (go_on, sent) = (go_on.clone(), sent.clone());
        move |exchange| {
            exchange.send(openai::plain());
            if exchange.request.number == 0 {
                go_on.wait();
                exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
                sent.send();
                exchange.wait_closed();
            }
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 200);
    go_on.send();
    sent.wait();
    for _ in 0..2 {
        assert_eq!(client.call(&Request::plain()).payload, openai::PLAIN_BODY);
    }
    let connections: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections, [0, 1, 1]);
}

#[test]
fn what_was_sent_before_the_break_is_shown_and_the_log_knows() {
    let sent = Signal::new();
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let (sent, go_on) = (sent.clone(), go_on.clone());
        move |exchange| {
            exchange.send(head("transfer-encoding: chunked"));
            exchange.send(chunk(b"hello"));
            sent.send();
            go_on.wait();
            exchange.send(b"zz\r\n");
            exchange.wait_closed();
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    client.send(Request::plain().id("broken").bytes());
    sent.wait();
    let head = client.begin_response();
    assert_eq!(head.status(), 200);
    assert_eq!(client.read_payload(5), b"hello");
    go_on.send();
    assert_eq!(client.finish_response(), (Vec::new(), Ending::Truncated));
    let line = gateway.logged("broken");
    assert_eq!(line["ended"], "upstream_broken", "{line}");
}

#[test]
fn a_broken_answer_never_looks_complete_to_http_1_0() {
    for reset in [false, true] {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(head("transfer-encoding: chunked"));
            exchange.send(chunk(b"hello"));
            if reset {
                exchange.reset();
            } else {
                exchange.close();
            }
        });
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let answer = gateway.call(&Request::plain().http10());
        check(Seen::Broken, &answer);
    }
}
