//! Request bodies: in small pieces, too long to be held, looked into on their way, and answered before their end.

mod early;
mod held;
mod models;
mod slow;

use relay_tests::{Gateway, RawClient, Request, Upstream, eventually};

/// What is held at most in these tests; whatever is longer is passed on as it comes.
const RETRY_BODY_BYTES_MAX: u64 = 64 * 1024;

/// More than is held, and more than the gateway reads at one time beyond that.
const BEGINNING_BYTES: usize = 200_000;

/// A request that asks for a model, with a body of so many bytes.
fn long_body(total_bytes: usize) -> Vec<u8> {
    let mut body = br#"{"model":"mini","input":""#.to_vec();
    body.resize(total_bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

/// The head of a request with a body of this length.
fn head(body_bytes: usize) -> Request {
    Request::new("POST", "/v1/responses")
        .field("Content-Type", "application/json")
        .field("Content-Length", &body_bytes.to_string())
}

/// Waits until the upstream has seen so many heads of requests: the gateway passes the body on.
fn wait_heads(upstream: &Upstream, count: usize) {
    upstream.wait_for("the head of a request", |record| {
        let heads: usize = record.connections.iter().map(|one| one.heads).sum();
        (heads >= count).then_some(())
    });
}

/// Waits until the gateway holds nothing of any request.
fn wait_nothing_held(gateway: &Gateway) {
    eventually("nothing is held any more", || {
        (gateway.metric("relay_held_body_bytes", &[]) == 0.0).then_some(())
    });
}

/// Sends until all is sent or the gateway has answered.
fn send_unless_answered(client: &mut RawClient, bytes: &[u8]) {
    for piece in bytes.chunks(16_384) {
        if !client.try_send_now(piece) {
            return;
        }
    }
}
