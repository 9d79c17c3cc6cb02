//! Bodies that come in small pieces are held without waste.

use crate::{head, long_body, wait_nothing_held};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Gateway, RawClient, Request, Upstream, eventually, openai};
use std::thread;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// What an Ethernet segment carries, about.
const SEGMENT_BYTES: usize = 1400;

/// So that the gateway reads many pieces one by one, and not what has come together meanwhile.
const PACE: Duration = Duration::from_micros(100);

/// How many pieces are sent at that pace.
const PACED: usize = 2000;

/// What the process may grow by besides what it holds: its first requests, metrics, caches of the allocator.
const MEMORY_SLACK_BYTES: usize = 4 * MIB;

fn gateway(upstream: &Upstream) -> Gateway {
    let config = Config::simple(upstream.address()).limit("held_body_bytes_max", 2 << 20);
    let gateway = Gateway::start(&config);
    gateway.write_state("first");
    gateway
}

fn chunked_head() -> Vec<u8> {
    Request::new("POST", "/v1/responses")
        .field("Content-Type", "application/json")
        .field("Transfer-Encoding", "chunked")
        .head_bytes()
}

/// Everything but the last piece is sent; then what is held of it is counted; then it is sent whole.
fn assert_held_without_waste(gateway: &Gateway, payload_bytes: usize, pieces: &[Vec<u8>]) {
    let memory_before = gateway.anonymous_bytes();
    let mut client = gateway.client();
    let (last, before) = pieces.split_last().expect("several pieces");
    for (index, piece) in before.iter().enumerate() {
        client.send(piece);
        if index < PACED {
            thread::sleep(PACE);
        }
    }
    let held = eventually("the body is held", || {
        let held = gateway.metric("relay_held_body_bytes", &[]);
        // What stands in one buffer with the head is not counted.
        (held as usize + 16 * 1024 >= payload_bytes).then_some(held as usize)
    });
    assert!(
        held <= payload_bytes + payload_bytes / 4 + 128 * 1024,
        "{held} bytes are held for {payload_bytes}"
    );
    let grown = gateway.anonymous_bytes().saturating_sub(memory_before);
    assert!(
        grown <= (payload_bytes + MEMORY_SLACK_BYTES) as u64,
        "the process grew by {grown} bytes for {payload_bytes}"
    );
    client.send(last);
    assert_eq!(client.read_response().status(), 200);
    drop(client);
    wait_nothing_held(gateway);
}

fn bytewise(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

#[test]
fn in_segments() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    let body = long_body(MIB);
    let mut counted: Vec<Vec<u8>> = vec![head(body.len()).head_bytes()];
    counted.extend(body.chunks(SEGMENT_BYTES).map(<[u8]>::to_vec));
    assert_held_without_waste(&gateway, body.len() - SEGMENT_BYTES, &counted);
    let mut chunked = vec![chunked_head()];
    chunked.extend(body.chunks(SEGMENT_BYTES).map(chunk));
    chunked.push(LAST_CHUNK.to_vec());
    assert_held_without_waste(&gateway, body.len(), &chunked);
    for request in upstream.requests() {
        assert!(request.body == body, "another body");
    }
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn byte_by_byte() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    let body = long_body(20_000);
    let mut counted = vec![head(body.len()).head_bytes()];
    counted.extend(bytewise(&body));
    assert_held_without_waste(&gateway, body.len() - 1, &counted);
    let mut chunked = vec![chunked_head()];
    chunked.extend(bytewise(
        &body.chunks(7).flat_map(chunk).collect::<Vec<_>>(),
    ));
    chunked.push(LAST_CHUNK.to_vec());
    assert_held_without_waste(&gateway, body.len(), &chunked);
    for request in upstream.requests() {
        assert!(request.body == body, "another body");
    }
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn what_a_client_left_behind_is_given_back() {
    let upstream = Upstream::untouched();
    let gateway = gateway(&upstream);
    let body = long_body(MIB);
    // Each may have all there is, as long as nothing of the one before is still counted.
    for left in ["closed", "reset"] {
        let mut client: RawClient = gateway.client();
        client.send(head(body.len()).id(left).head_bytes());
        client.send(&body[..body.len() / 2]);
        eventually("some of the body is held", || {
            (gateway.metric("relay_held_body_bytes", &[]) > 0.0).then_some(())
        });
        match left {
            "reset" => client.reset(),
            _ => drop(client),
        }
        gateway.logged(left);
        wait_nothing_held(&gateway);
    }
    assert_eq!(upstream.completed(), 0);
}
