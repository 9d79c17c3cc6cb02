//! Answers of an upstream that cannot be trusted: the client gets an error or a visible truncation, never
//! something that looks complete, and nothing else travels on that connection.

mod bodies;
mod heads;

use relay_tests::http::lossy;
use relay_tests::{Config, Ending, Gateway, Request, Response, Upstream};
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
