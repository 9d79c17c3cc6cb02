//! Connections on which nothing comes back.

use super::{JSON, config};
use relay_tests::http2::{Http2Upstream, flag, kind};
use relay_tests::openai::PLAIN_BODY;
use relay_tests::{Ending, Gateway, Request, Signal};
use std::time::Duration;

/// The provider is asked after 10 s, and has as long to answer.
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn a_provider_that_is_gone_without_a_word_is_given_up() {
    let is_over = Signal::new();
    let waits_for = is_over.clone();
    let upstream = Http2Upstream::start(move |peer, request| {
        if request.connection == 0 {
            // Nothing is read any more, and nothing is closed.
            while !waits_for.is_pending() {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
        peer.answer(request.stream, 200, JSON, PLAIN_BODY);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut client = gateway.client();
    client.be_patient(PATIENCE);
    client.send(Request::plain().bytes());
    client.read_response().assert_refused(502, "upstream_error");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    assert_eq!(upstream.connections().len(), 2);
    is_over.send();
}

#[test]
fn a_provider_that_only_takes_long_is_not() {
    let upstream = Http2Upstream::start(|peer, request| {
        peer.be_patient(PATIENCE);
        let mut pings = 0;
        while pings < 2 {
            let frame = peer.step().expect("the gateway is there");
            pings += u32::from(frame.kind == kind::PING && frame.flags & flag::ACK == 0);
        }
        peer.answer(request.stream, 200, JSON, PLAIN_BODY);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut client = gateway.client();
    client.be_patient(PATIENCE);
    client.send(Request::plain().bytes());
    let answer = client.read_response();
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert_eq!(upstream.connections().len(), 1);
}
