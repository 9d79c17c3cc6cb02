//! Slow bodies, and who is to blame for that.

use crate::{RETRY_BODY_BYTES_MAX, head, long_body, wait_heads};
use relay_tests::{Config, Gateway, Response, Upstream, openai};
use std::thread;
use std::time::{Duration, Instant};

/// Certainly longer than `request_body_idle`, which is a second in these tests.
const LONGER: Duration = Duration::from_millis(2500);

#[test]
fn an_upstream_that_takes_nothing_for_a_while() {
    let upstream = Upstream::start_at_head(|exchange| {
        thread::sleep(LONGER);
        exchange.read_body();
        exchange.send(openai::plain());
    });
    let config = Config::simple(upstream.address())
        .limit("retry_body_bytes_max", RETRY_BODY_BYTES_MAX)
        .timeout("request_body_idle", "1s");
    let gateway = Gateway::start(&config);
    // More than what fits into the kernel's buffers on the way there.
    let body = long_body(16 << 20);
    let began_at = Instant::now();
    let mut client = gateway.client();
    client.send(head(body.len()).head_bytes());
    client.send(&body);
    assert_eq!(client.read_response().status(), 200);
    assert!(began_at.elapsed() >= LONGER);
    assert!(upstream.only_request().body == body, "another body");
}

fn overhead_us(answer: &Response) -> u64 {
    assert_eq!(answer.status(), 200);
    let value = answer.head.value("x-relay-overhead-us");
    value.expect("the overhead").parse().expect("a number")
}

/// Where the machine is busy, the gateway is held up for no longer than this in one of so many attempts.
const OVERHEAD_US_MAX: u64 = 100_000;
const ATTEMPTS: usize = 10;

#[test]
fn a_slow_upload_is_not_what_the_gateway_added() {
    // Held until it is complete; and passed on while it comes.
    for total_bytes in [1000, 1 << 20] {
        let soon = (0..ATTEMPTS).any(|_| overhead_of_slow_upload(total_bytes) < OVERHEAD_US_MAX);
        assert!(soon, "{total_bytes} bytes");
    }
}

fn overhead_of_slow_upload(total_bytes: usize) -> u64 {
    let upstream = Upstream::answering(openai::plain());
    let config =
        Config::simple(upstream.address()).limit("retry_body_bytes_max", RETRY_BODY_BYTES_MAX);
    let gateway = Gateway::start(&config);
    let body = long_body(total_bytes);
    let (first, rest) = body.split_at(total_bytes / 2);
    let mut client = gateway.client();
    client.send(head(body.len()).head_bytes());
    client.send(first);
    if total_bytes as u64 > RETRY_BODY_BYTES_MAX {
        wait_heads(&upstream, 1);
    }
    thread::sleep(Duration::from_millis(300));
    client.send(rest);
    overhead_us(&client.read_response())
}
