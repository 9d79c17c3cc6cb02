//! Answers whose body ends too early, too late, or in doubt.

use crate::{Seen, Then, assert_hostile, case, check, head};
use relay_tests::http::chunk;
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, openai};

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
