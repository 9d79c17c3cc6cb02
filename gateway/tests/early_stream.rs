//! A stream that is begun while its request waits: whatever framing the provider's answer then has, the client sees what it was
//! promised, byte for byte and to a visible end.

#![allow(clippy::unwrap_used, reason = "a test")]

use codex_relay::config;
use codex_relay::start::Gateway;
use codex_relay::state::Reader;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const KEY: &str = "crk_test";
const HEARTBEAT: &str = "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";
const EVENTS: &str = "event: response.created\n\
    data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n\
    event: response.output_text.delta\n\
    data: {\"type\":\"response.output_text.delta\",\"delta\":\"words\"}\n\n\
    event: response.completed\n\
    data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

/// One account with one place, so that a second request waits.
fn narrow_gateway(upstream: &TcpListener, directory: &Path) -> Gateway {
    let credential = directory.join("credential");
    std::fs::write(&credential, "sk-test").unwrap();
    let text = format!(
        r#"
        [node]
        workers = 1
        state_dir = "{directory}"
        [admin]
        address = "127.0.0.1:0"
        [kernel]
        mode = "off"
        [timeouts]
        heartbeat = "100ms"
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://{upstream}"
        [[account]]
        name = "account"
        upstream = "provider"
        credential = {{ file = "{credential}" }}
        egress = ["127.0.7.1"]
        max_concurrent = 1
        [[tenant]]
        name = "tenant"
        keys = [{hash}]
        upstreams = ["provider"]
        "#,
        directory = directory.display(),
        upstream = upstream.local_addr().unwrap(),
        credential = credential.display(),
        hash = codex_relay::keys::entry(KEY.as_bytes()),
    );
    let file = directory.join("codex-relay.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    Gateway::start(loaded.policy, &loaded.warnings, Reader::InProcess).unwrap()
}

fn request(version: &str, body: &str) -> String {
    format!(
        "POST /v1/responses HTTP/{version}\r\nhost: gateway\r\nx-api-key: {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn connect(gateway: &Gateway) -> TcpStream {
    let client = TcpStream::connect(gateway.listeners[0]).unwrap();
    let long = Some(Duration::from_secs(20));
    client.set_read_timeout(long).unwrap();
    client
}

/// Reads until `end` has come last.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(end.as_bytes()) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

fn as_chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}

/// What a client of this version sees behind head and heartbeats of an early stream, and its connection. `ends_connection`: that
/// is how the provider ends its answer.
fn seen(version: &str, answer: &str, end: &str, ends_connection: bool) -> (String, TcpStream) {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = narrow_gateway(&listener, directory.path());
    let mut first = connect(&gateway);
    let plain = r#"{"model":"gpt-5"}"#;
    first.write_all(request("1.1", plain).as_bytes()).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    read_until(&mut upstream, plain);

    let mut second = connect(&gateway);
    let streamed = r#"{"model":"gpt-5","stream":true}"#;
    second
        .write_all(request(version, streamed).as_bytes())
        .unwrap();
    let heartbeat = match version {
        "1.1" => as_chunk(HEARTBEAT),
        _ => HEARTBEAT.to_owned(),
    };
    let head = read_until(&mut second, &heartbeat);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(
        head.contains("transfer-encoding: chunked"),
        version == "1.1"
    );

    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(json.as_bytes()).unwrap();
    read_until(&mut first, "{}");
    // On the connection that the first request had kept busy.
    read_until(&mut upstream, streamed);
    upstream.write_all(answer.as_bytes()).unwrap();
    if ends_connection {
        upstream.shutdown(Shutdown::Write).unwrap();
    }
    let mut rest = read_until(&mut second, end);
    while let Some(behind) = rest.strip_prefix(&heartbeat) {
        rest = behind.to_owned();
    }
    (rest, second)
}

#[test]
fn chunks_go_on_as_they_are_and_the_connection_serves_another_request() {
    let body = format!("{}0\r\n\r\n", as_chunk(EVENTS));
    let answer = format!("{STREAM}transfer-encoding: chunked\r\n\r\n{body}");
    let (rest, mut client) = seen("1.1", &answer, &body, false);
    assert_eq!(rest, body);
    client
        .write_all(b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n")
        .unwrap();
    assert!(read_until(&mut client, "}\n").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn what_comes_without_chunks_is_put_into_some() {
    let body = format!("{}0\r\n\r\n", as_chunk(EVENTS));
    let counted = format!("{STREAM}content-length: {}\r\n\r\n{EVENTS}", EVENTS.len());
    assert_eq!(seen("1.1", &counted, &body, false).0, body);
    let ended = format!("{STREAM}connection: close\r\n\r\n{EVENTS}");
    assert_eq!(seen("1.1", &ended, &body, true).0, body);
}

#[test]
fn a_client_without_chunks_sees_the_end_of_the_connection() {
    let chunked = format!(
        "{STREAM}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        as_chunk(EVENTS)
    );
    let counted = format!("{STREAM}content-length: {}\r\n\r\n{EVENTS}", EVENTS.len());
    for answer in [chunked, counted] {
        let (rest, mut client) = seen("1.0", &answer, EVENTS, false);
        assert_eq!(rest, EVENTS);
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0, "an orderly end");
    }
}

#[test]
fn what_the_provider_refuses_is_an_event_and_a_visible_break() {
    let body =
        r#"{"error":{"message":"too long","code":"context_length_exceeded","param":"input"}}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (rest, mut client) = seen("1.1", &answer, "\n\n\r\n", false);
    let (_, event) = rest.split_once("\r\n").unwrap();
    let data = event.strip_prefix("event: error\ndata: ").unwrap();
    let data: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
    assert_eq!(data["code"], "context_length_exceeded");
    assert_eq!(data["message"], "too long");
    assert_eq!(data["param"], "input");
    assert_eq!(
        client.read(&mut [0; 16]).unwrap(),
        0,
        "and no last chunk before the end"
    );
}
