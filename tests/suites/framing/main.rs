//! Message framing of requests: what is not certain is refused, nothing of it goes on, and what follows it on
//! the connection is never answered. What is certain works, however oddly it is written.

mod accepted;
mod continue_and_early;
mod refused_bodies;
mod refused_heads;
mod refused_lines;

use relay_tests::config::TENANT_KEY;
use relay_tests::http::lossy;
use relay_tests::{Config, Gateway, Request, Upstream, openai};
use std::fmt::Display;

/// A request that must be refused.
struct Case {
    name: String,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

const BAD: &[u16] = &[400];
const METHOD: &[u16] = &[405];
const NOT_A_METHOD: &[u16] = &[400, 405];
const VERSION: &[u16] = &[505];
const NOT_A_VERSION: &[u16] = &[400, 505];
const EXPECTATION: &[u16] = &[417];
const TARGET_LONG: &[u16] = &[414];
const HEAD_LARGE: &[u16] = &[431];

fn case(name: impl Display, bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Case {
    Case {
        name: name.to_string(),
        bytes: bytes.into(),
        statuses,
    }
}

/// A whole request: this request line, the usual fields, these fields, and five bytes of body.
fn request(line: &str, fields: &[&str]) -> String {
    let mut text = format!("{line}\r\nAuthorization: Bearer {TENANT_KEY}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("\r\nhello");
    text
}

/// A POST with these fields besides Host.
fn post(fields: &[&str]) -> String {
    let fields: Vec<&str> = std::iter::once("Host: gateway.test")
        .chain(fields.iter().copied())
        .collect();
    request("POST /v1/responses HTTP/1.1", &fields)
}

/// A GET without a body whose request line is this.
fn line(line: &str) -> String {
    let text = request(line, &["Host: gateway.test"]);
    text.trim_end_matches("hello").to_owned()
}

/// Sends every case on a connection of its own, with a valid request right behind it.
fn assert_refused(cases: Vec<Case>) {
    assert_refused_with(|config| config, cases);
}

/// The same, by a gateway that is configured in another way.
fn assert_refused_with(configure: fn(Config) -> Config, cases: Vec<Case>) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&configure(Config::simple(upstream.address())));
    let mut failures = Vec::new();
    for case in cases {
        let outcome = std::panic::catch_unwind(|| {
            let mut client = gateway.client();
            let behind = Request::post("/v1/responses?smuggled", r#"{"model":"gpt-5"}"#);
            // The gateway may end the connection before it has taken all of it.
            client.try_send([case.bytes.clone(), behind.bytes()].concat());
            let answer = client.read_response();
            let error = answer.gateway_error();
            assert!(
                case.statuses.contains(&answer.status()),
                "answered {}",
                answer.status()
            );
            assert!(!error.retryable, "said to be worth another try");
            match answer.status() {
                400 => assert_eq!(error.code, "bad_request"),
                405 => assert!(answer.head.value("allow").is_some(), "a 405 without Allow"),
                _ => {}
            }
            client.assert_closed();
        });
        if let Err(panic) = outcome {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failures.push(format!(
                "{}: {}: {}",
                case.name,
                why.unwrap_or_default(),
                lossy(&case.bytes)
            ));
        }
    }
    // A valid request of another connection is the fence: whatever was to be forwarded has been by now.
    assert_eq!(gateway.call(&Request::get("/v1/fence")).status(), 200);
    let targets: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    if targets != ["/v1/fence"] {
        failures.push(format!("forwarded: {targets:?}"));
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
