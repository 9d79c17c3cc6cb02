//! More streams than there may be (RFC 9113, section 5.1.2).

use crate::{STREAMS_MAX, config, expect_answer, get, provider, unfinished};
use relay_tests::http2::{Frame, Peer, code};
use relay_tests::{Gateway, Wire};

#[test]
fn streams_beyond_the_limit_are_refused_and_places_come_back() {
    let upstream = provider();
    let gateway = Gateway::start(&config(&upstream));
    let mut peer = Peer::client(Wire::connect(gateway.address()));
    let streams: Vec<u32> = (0..STREAMS_MAX).map(|_| unfinished(&mut peer)).collect();
    for _ in 0..3 {
        let beyond = peer.open_with(get("/v1/beyond"), true);
        peer.expect_reset(beyond, &[code::REFUSED_STREAM]);
    }
    // An end of either side gives a place back.
    let (answered, cancelled) = (streams[0], streams[1]);
    peer.frame(&Frame::data(answered, *b"body", true));
    assert_eq!(peer.response(answered).payload, b"body");
    peer.cancel(cancelled);
    for _ in 0..2 {
        let stream = peer.open_with(get("/v1/plain"), true);
        expect_answer(&mut peer, stream);
    }
    // Those of another connection count for themselves.
    let mut other = Peer::client(Wire::connect(gateway.address()));
    let stream = other.open_with(get("/v1/plain"), true);
    expect_answer(&mut other, stream);
    for stream in &streams[2..] {
        peer.frame(&Frame::data(*stream, stream.to_string(), true));
        assert_eq!(
            peer.response(*stream).payload,
            stream.to_string().as_bytes()
        );
    }
    let targets = upstream
        .requests()
        .into_iter()
        .map(|request| request.target);
    assert!(targets.into_iter().all(|target| target != "/v1/beyond"));
}

#[test]
fn a_stream_that_is_cancelled_ends_its_request_at_the_provider() {
    let upstream = provider();
    let gateway = Gateway::start(&config(&upstream));
    let mut peer = Peer::client(Wire::connect(gateway.address()));
    let stream = peer.open_with(get("/v1/held"), true);
    upstream.wait_for("the request", |record| {
        (record.completed == 1).then_some(())
    });
    peer.cancel(stream);
    upstream.wait_ended(0);
    let stream = peer.open_with(get("/v1/plain"), true);
    expect_answer(&mut peer, stream);
}
