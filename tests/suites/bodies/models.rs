//! Keys that may use some models only: a body too long to be held is looked at to its end, and what the key may not
//! send never becomes complete at the upstream. Any other tenant's body is its own affair.

use crate::{BEGINNING_BYTES, RETRY_BODY_BYTES_MAX, wait_heads};
use flate2::Compression;
use flate2::write::GzEncoder;
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Gateway, Request, Tenant, Upstream, openai};
use std::io::Write;

const DEPTH_MAX: u64 = 16;

fn gateway(tenant: Tenant) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address())
        .tenant(tenant)
        .limit("retry_body_bytes_max", RETRY_BODY_BYTES_MAX)
        .limit("json_depth_max", DEPTH_MAX);
    let gateway = Gateway::start(&config);
    (upstream, gateway)
}

fn restricted() -> (Upstream, Gateway) {
    gateway(Tenant::acme().models(&["mini"]))
}

/// A body that names a model it may use and goes on for longer than is held; what comes then is still to be added.
fn beginning() -> String {
    let text = "x".repeat(BEGINNING_BYTES);
    format!(r#"{{"model":"mini","input":"{text}""#)
}

/// The same in gzip; its text does not become much shorter by that.
fn gzip(end: &str) -> Vec<u8> {
    let mut state = 1u64;
    let text: String = (0..2 * BEGINNING_BYTES)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'0' + (state >> 60) as u8)
        })
        .collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    write!(encoder, r#"{{"model":"mini","input":"{text}"{end}"#).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

/// Ends of bodies that do not stop at the one model they began with, or cannot be seen to.
fn bad_ends() -> Vec<(&'static str, String)> {
    let deep = DEPTH_MAX as usize + 4;
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    let key = "k".repeat(2048);
    let ends = [
        ("second model", r#","model":"large"}"#.to_owned()),
        ("the same twice", r#","model":"mini"}"#.to_owned()),
        (
            "escaped second model",
            r#","mod\u0065l":"large"}"#.to_owned(),
        ),
        (
            "too deep",
            format!(r#","a":{open}1{close},"model":"large"}}"#),
        ),
        (
            "too deep, nothing behind",
            format!(r#","a":{open}1{close}}}"#),
        ),
        ("long key", format!(r#","{key}":1,"model":"large"}}"#)),
        ("invalid", r#",,"model":"large"}"#.to_owned()),
        ("invalid at the end", r#",}"#.to_owned()),
        ("not closed", r#","a":1"#.to_owned()),
        ("in the middle of a string", r#","a":"b"#.to_owned()),
        ("something behind", r#"}{"model":"large"}"#.to_owned()),
    ];
    ends.to_vec()
}

fn head(coding: Option<&str>, body_bytes: Option<usize>) -> Request {
    let request = Request::new("POST", "/v1/responses").field("Content-Type", "application/json");
    let request = match coding {
        Some(coding) => request.field("Content-Encoding", coding),
        None => request,
    };
    match body_bytes {
        Some(count) => request.field("Content-Length", &count.to_string()),
        None => request.field("Transfer-Encoding", "chunked"),
    }
}

/// The part that is sent before the gateway passes anything on, and the rest.
fn split(body: &[u8]) -> (&[u8], &[u8]) {
    assert!(body.len() > 100_000, "too short: {} bytes", body.len());
    body.split_at(100_000)
}

/// Sends the body in two parts, the second one when the first is on its way to the upstream, and checks that it is
/// refused and that the upstream does not get all of it.
fn assert_never_complete(coding: Option<&str>, body: &[u8], name: &str) {
    for chunked in [false, true] {
        let (upstream, gateway) = restricted();
        let mut client = gateway.client();
        let (first, rest) = split(body);
        if chunked {
            client.send(head(coding, None).head_bytes());
            client.send(chunk(first));
        } else {
            client.send(head(coding, Some(body.len())).head_bytes());
            client.send(first);
        }
        // The gateway has begun to send the request: what comes now is not held any more.
        wait_heads(&upstream, 1);
        if chunked {
            for piece in rest.chunks(30_000) {
                client.try_send(chunk(piece));
            }
            client.try_send(LAST_CHUNK);
        } else {
            client.try_send(rest);
        }
        let answer = client.read_response();
        let error = answer.gateway_error();
        assert_eq!(
            answer.status(),
            400,
            "{name}, chunked: {chunked}: {error:?}"
        );
        client.assert_closed();
        upstream.wait_ended(0);
        assert_eq!(upstream.completed(), 0, "{name}, chunked: {chunked}");
        assert_eq!(upstream.connection_count(), 1, "{name}, chunked: {chunked}");
    }
}

#[test]
fn what_stands_behind_the_held_part_counts_too() {
    for (name, end) in bad_ends() {
        let body = format!("{}{end}", beginning());
        assert_never_complete(None, body.as_bytes(), name);
    }
}

#[test]
fn damage_in_a_compressed_body_counts_too() {
    for (name, end) in bad_ends() {
        assert_never_complete(Some("gzip"), &gzip(&end), name);
    }
    let whole = gzip("}");
    let middle = whole.len() - 20_000;
    let mut flipped = whole.clone();
    flipped[middle..middle + 8].fill(0xff);
    let mut checksum = whole.clone();
    let end = checksum.len();
    checksum[end - 8] ^= 1;
    let trailing = [&whole[..], b"more"].concat();
    for (name, body) in [
        ("flipped", &flipped[..]),
        ("checksum", &checksum[..]),
        ("cut off", &whole[..whole.len() - 4]),
        ("cut off early", &whole[..middle]),
        ("something behind", &trailing[..]),
    ] {
        assert_never_complete(Some("gzip"), body, name);
    }
}

#[test]
fn what_may_pass_does() {
    let (upstream, gateway) = restricted();
    let plain = format!(
        r#"{},"metadata":{{"model":"large"}},"stream":false}}"#,
        beginning()
    );
    let bodies = [
        (None, plain.into_bytes()),
        (Some("gzip"), gzip(r#","metadata":{"model":"large"}}"#)),
    ];
    let mut passed = Vec::new();
    for (coding, body) in &bodies {
        let (first, rest) = split(body);
        let mut client = gateway.client();
        client.send(head(*coding, Some(body.len())).head_bytes());
        client.send(first);
        wait_heads(&upstream, passed.len() + 1);
        client.send(rest);
        assert_eq!(client.read_response().status(), 200);
        passed.push(body.clone());
        client.send(head(*coding, None).head_bytes());
        client.send(chunk(first));
        wait_heads(&upstream, passed.len() + 1);
        client.send(chunk(rest));
        client.send(LAST_CHUNK);
        assert_eq!(client.read_response().status(), 200);
        passed.push(body.clone());
    }
    let received: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(received == passed, "another body");
}

#[test]
fn a_tenant_without_such_a_limit_may_send_what_it_likes() {
    let (upstream, gateway) = gateway(Tenant::acme());
    let mut bodies = vec![
        br#"{"model":"mini","model":"large"}"#.to_vec(),
        br#"{"model":"mini""#.to_vec(),
        b"not JSON at all".to_vec(),
    ];
    for (_, end) in bad_ends() {
        bodies.push(format!("{}{end}", beginning()).into_bytes());
    }
    let mut client = gateway.client();
    for body in &bodies {
        client.send(head(None, Some(body.len())).head_bytes());
        client.send(body);
        assert_eq!(client.read_response().status(), 200);
        client.send(head(None, None).head_bytes());
        for piece in body.chunks(50_000) {
            client.send(chunk(piece));
        }
        client.send(LAST_CHUNK);
        assert_eq!(client.read_response().status(), 200);
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2 * bodies.len());
    for (index, request) in requests.iter().enumerate() {
        assert!(request.body == bodies[index / 2], "another body: {index}");
    }
}
