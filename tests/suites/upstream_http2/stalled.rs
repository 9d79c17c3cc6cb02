//! Connections of which the provider takes nothing any more.

use super::{JSON, config};
use relay_tests::http2::{Http2Upstream, Options, setting};
use relay_tests::openai::PLAIN_BODY;
use relay_tests::{Ending, Gateway, Request, Response, Signal};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// As many as one connection carries. In a row they would block the account.
const STALLED: usize = 8;

/// A request is passed on from so many bytes on.
const HELD_BYTES_MAX: u64 = 64 << 10;

/// What is sent before the provider stops, so that the gateway begins to pass it on; and behind that, all together, more than the
/// gateway's socket takes.
const FIRST_BYTES: usize = 256 << 10;
const REST_BYTES: usize = 2 << 20;

/// What the provider's socket takes.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// Windows that hold nothing up: what does is the socket.
const WINDOW_BYTES: u32 = 1 << 30;

/// Sends as much of a body as is taken, and returns the answer that comes meanwhile.
fn upload(gateway: &Gateway, number: usize, go_on: &Signal) -> Response {
    let mut client = gateway.client();
    let body = vec![b' '; FIRST_BYTES + REST_BYTES];
    let request = Request::post("/v1/responses", &body).id(&format!("stalled-{number}"));
    client.send(request.head_bytes());
    client.send(&body[..FIRST_BYTES]);
    go_on.wait();
    client.try_send(&body[FIRST_BYTES..]);
    client.read_response()
}

#[test]
fn it_is_one_time_out_for_all_its_requests_and_nobody_else_s_concern() {
    let (go_on, is_over) = (Signal::new(), Signal::new());
    let options = Options {
        settings: vec![(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)],
        at_head: true,
        receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
        ..Options::default()
    };
    let begun = AtomicUsize::new(0);
    let upstream = Http2Upstream::with(options, {
        let (go_on, is_over) = (go_on.clone(), is_over.clone());
        move |peer, request| {
            if request.value(":path") != Some("/v1/responses") {
                if request.stream == 1 {
                    peer.give_credit(0, WINDOW_BYTES);
                }
                return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
            }
            if begun.fetch_add(1, Ordering::Relaxed) + 1 == STALLED {
                (0..=STALLED).for_each(|_| go_on.send());
                // Nothing is read any more.
                is_over.wait();
            }
        }
    });
    let config = config(upstream.address())
        .limit("upstream_http2_streams_max", STALLED as u64)
        .limit("retry_body_bytes_max", HELD_BYTES_MAX)
        .timeout("write_stall", "4s");
    let gateway = Gateway::start(&config);
    let well = || {
        let answer = gateway.call(&Request::get("/v1/models"));
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    };
    well();
    thread::scope(|scope| {
        let (gateway, signal) = (&gateway, &go_on);
        let uploads: Vec<_> = (0..STALLED)
            .map(|number| scope.spawn(move || upload(gateway, number, signal)))
            .collect();
        go_on.wait();
        // The connection has no room for these.
        for _ in 0..3 {
            well();
        }
        for upload in uploads {
            let answer = upload.join().expect("an answer");
            let error = answer.assert_refused(504, "upstream_timeout");
            assert!(error.retryable);
        }
    });
    for number in 0..STALLED {
        let line = gateway.logged(&format!("stalled-{number}"));
        assert_eq!(line["code"], "upstream_timeout", "{line}");
    }
    // The account has failed once.
    assert!(
        gateway
            .log()
            .lines()
            .iter()
            .all(|line| line.event() != "account_state"),
        "{}",
        gateway.log().text()
    );
    for _ in 0..3 {
        well();
    }
    assert_eq!(upstream.connections().len(), 2);
    is_over.send();
    upstream.wait_for("the end of the first connection", |record| {
        record.connections[0].is_over.then_some(())
    });
    assert!(!upstream.connections()[1].is_over);
}
