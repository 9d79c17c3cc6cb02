//! What "zero-copy" means here, and what an event costs in memory: the buffer that the kernel filled is the one that is
//! sent, and a stream in its steady state allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

use codex_relay::config;
use codex_relay::start::Gateway;
use codex_relay::state::Reader;
use relay_io::probe::{self, CountingAllocator, Touched};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The allocator counts for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const KEY: &str = "crk_test";

/// Events before anything is looked at: buffers have been made, the pace is known.
const WARM_UP_EVENTS: usize = 50;
const EVENTS: usize = 500;

fn event(number: usize) -> Vec<u8> {
    let data = format!(
        "event: response.output_text.delta\n\
         data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"delta\":\"some words\"}}\n\n"
    );
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

fn gateway_in_front_of(upstream: &TcpListener, directory: &Path) -> Gateway {
    let credential = directory.join("credential");
    std::fs::write(&credential, "sk-test").unwrap();
    let hash = codex_relay::keys::entry(KEY.as_bytes());
    let text = format!(
        r#"
        [node]
        workers = 1
        state_dir = "{directory}"
        [admin]
        address = "127.0.0.1:0"
        [kernel]
        mode = "off"
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
        [[tenant]]
        name = "tenant"
        keys = [{hash}]
        upstreams = ["provider"]
        "#,
        directory = directory.display(),
        upstream = upstream.local_addr().unwrap(),
        credential = credential.display(),
    );
    let file = directory.join("codex-relay.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    Gateway::start(loaded.policy, &loaded.warnings, Reader::InProcess).unwrap()
}

/// Reads from `stream` until `end` has come.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(end) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&buffer[..count]);
    }
    bytes
}

fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nx-api-key: {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Whole requests are not free, but they must not become expensive without anybody noticing.
const ALLOCATIONS_PER_REQUEST_MAX: u64 = 11;

#[test]
fn a_request_allocates_a_handful() {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_in_front_of(&listener, directory.path());
    let mut client = TcpStream::connect(gateway.listeners[0]).unwrap();
    let body = r#"{"model":"gpt-5","input":"hello"}"#;
    client.write_all(&request(body)).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    let answer = r#"{"id":"r","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    let mut allocations = 0;
    for number in 0..WARM_UP_EVENTS + EVENTS {
        if number == WARM_UP_EVENTS {
            allocations = probe::worker_allocations();
        }
        read_until(&mut upstream, body.as_bytes());
        upstream
            .write_all([head.as_bytes(), answer.as_bytes()].concat().as_slice())
            .unwrap();
        read_until(&mut client, answer.as_bytes());
        client.write_all(&request(body)).unwrap();
    }
    let per_request = (probe::worker_allocations() - allocations) / EVENTS as u64;
    assert!(per_request > 0, "the allocator counts nothing");
    assert!(
        per_request <= ALLOCATIONS_PER_REQUEST_MAX,
        "{per_request} allocations for a request"
    );
}

#[test]
fn the_buffer_that_was_filled_is_sent_and_an_event_allocates_nothing() {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_in_front_of(&listener, directory.path());

    let mut client = TcpStream::connect(gateway.listeners[0]).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let body = r#"{"model":"gpt-5","stream":true}"#;
    client.write_all(&request(body)).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_nodelay(true).unwrap();
    read_until(&mut upstream, body.as_bytes());
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    upstream.write_all(head.as_bytes()).unwrap();

    let mut allocations = 0;
    for number in 0..WARM_UP_EVENTS + EVENTS {
        if number == WARM_UP_EVENTS {
            allocations = probe::worker_allocations();
            probe::start_recording(4 * EVENTS);
        }
        let event = event(number);
        upstream.write_all(&event).unwrap();
        // In lock-step: every event is a read and a write of its own.
        read_until(&mut client, &event);
    }
    let allocated = probe::worker_allocations() - allocations;
    let touched = probe::stop_recording();

    assert!(allocations > 0, "the allocator counts nothing");
    assert_eq!(allocated, 0, "allocations for {EVENTS} events");
    assert_eq!(
        touched.len(),
        2 * EVENTS,
        "a read and a write for each event"
    );
    for pair in touched.chunks(2) {
        let [Touched::Received(filled), Touched::Sent(sent)] = pair else {
            panic!("not a read and then a write: {pair:?}")
        };
        assert_eq!(filled, sent);
    }
}

#[test]
fn what_is_held_back_until_the_first_output_is_sent_from_where_it_was_read() {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_in_front_of(&listener, directory.path());
    let mut client = TcpStream::connect(gateway.listeners[0]).unwrap();
    let body = r#"{"model":"gpt-5","stream":true}"#;
    client.write_all(&request(body)).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    read_until(&mut upstream, body.as_bytes());

    // Longer than a buffer, so that several are held back.
    let instructions = "x".repeat(40_000);
    let created = format!(
        "event: response.created\n\
         data: {{\"type\":\"response.created\",\"response\":{{\"instructions\":\"{instructions}\"}}}}\n\n"
    );
    let created = format!("{:x}\r\n{created}\r\n", created.len());
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let output = event(1);
    probe::start_recording(1_000);
    upstream.write_all(head.as_bytes()).unwrap();
    upstream.write_all(created.as_bytes()).unwrap();
    upstream.write_all(&output).unwrap();
    let seen = read_until(&mut client, &output);
    let touched = probe::stop_recording();

    let received: Vec<_> = touched
        .iter()
        .filter_map(|touched| match touched {
            Touched::Received(range) => Some(range.clone()),
            Touched::Sent(_) => None,
        })
        .collect();
    let sent: Vec<_> = touched
        .iter()
        .filter_map(|touched| match touched {
            Touched::Sent(range) => Some(range.clone()),
            Touched::Received(_) => None,
        })
        .collect();
    let body_bytes = created.len() + output.len();
    let count = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
    assert_eq!(count(&received), head.len() + body_bytes, "all of it once");
    let (own_head, passed_on) = sent.split_first().unwrap();
    assert_eq!(own_head.len() + body_bytes, seen.len());
    assert_eq!(count(passed_on), body_bytes);
    assert!(passed_on.len() > 1, "several buffers: {passed_on:?}");
    for address in passed_on.iter().cloned().flatten() {
        assert!(
            received.iter().any(|range| range.contains(&address)),
            "copied before it was sent"
        );
    }
}
