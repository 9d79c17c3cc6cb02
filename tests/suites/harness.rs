//! The harness against itself: a raw client straight at a scripted upstream.

use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::http2::{Http2Upstream, Options, Peer, code, setting};
use relay_tests::tls::{Versions, rustls_error};
use relay_tests::upstream::Ended;
use relay_tests::{
    Authority, Ending, Identity, Leaf, RawClient, Request, Signal, TlsClient, TlsServer, Upstream,
    Wire, openai,
};
use rustls::{Error, ProtocolVersion};

#[test]
fn a_request_and_its_answer_pass_byte_for_byte() {
    let upstream = Upstream::answering(openai::plain());
    let mut client = RawClient::connect(upstream.address());
    let request = Request::plain().field("X-Odd", "a b\tc");
    let answer = client.call(&request);
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert_eq!(answer.payload, openai::PLAIN_BODY);
    let received = upstream.only_request();
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/v1/responses")
    );
    assert_eq!(received.body, request.body_bytes());
    assert_eq!(received.head.value("x-odd"), Some("a b\tc"));
    assert_eq!(upstream.connections()[0].received, request.bytes());
}

#[test]
fn connections_are_kept_and_requests_numbered() {
    let upstream = Upstream::answering(openai::plain());
    let mut client = RawClient::connect(upstream.address());
    client.send([Request::get("/a").bytes(), Request::plain().bytes()].concat());
    for _ in 0..2 {
        assert_eq!(client.read_response().status(), 200);
    }
    assert_eq!(
        RawClient::connect(upstream.address())
            .call(&Request::get("/b"))
            .status(),
        200
    );
    let numbers: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| {
            (
                request.connection,
                request.number,
                request.number_on_connection,
            )
        })
        .collect();
    assert_eq!(numbers, [(0, 0, 0), (0, 1, 1), (1, 2, 0)]);
    drop(client);
    assert_eq!(upstream.wait_ended(0).0, Ended::Fin);
}

#[test]
fn chunked_requests_are_decoded() {
    let upstream = Upstream::answering(openai::plain());
    let request = Request::new("POST", "/").chunked(&[b"ab", b"c", b"defghijklmnopqrstuvwxyz"]);
    let mut client = RawClient::connect(upstream.address());
    client.send_bytewise(request.bytes());
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(upstream.only_request().body, b"abcdefghijklmnopqrstuvwxyz");
}

#[test]
fn a_stream_is_read_event_by_event() {
    let sent = Signal::new();
    let read = Signal::new();
    let upstream = Upstream::start({
        let (sent, read) = (sent.clone(), read.clone());
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            for text in ["a", "b"] {
                exchange.send_bytewise(chunk(&openai::delta(text)));
                sent.send();
                read.wait();
            }
            exchange.send(LAST_CHUNK);
        }
    });
    let mut client = RawClient::connect(upstream.address());
    client.send(Request::streamed().bytes());
    assert_eq!(client.begin_response().status(), 200);
    for text in ["a", "b"] {
        sent.wait();
        let event = openai::delta(text);
        assert_eq!(client.read_payload(event.len()), event);
        client.assert_silent();
        read.send();
    }
    assert_eq!(client.finish_response(), (Vec::new(), Ending::Complete));
}

#[test]
fn a_missing_last_chunk_is_noticed() {
    for reset in [false, true] {
        let go_on = Signal::new();
        let upstream = Upstream::start({
            let go_on = go_on.clone();
            move |exchange| {
                exchange.send(openai::STREAM_HEAD);
                exchange.send(chunk(b"data: 1\n\n"));
                go_on.wait();
                if reset {
                    exchange.reset();
                } else {
                    exchange.close();
                }
            }
        });
        let mut client = RawClient::connect(upstream.address());
        client.send(Request::streamed().bytes());
        client.begin_response();
        assert_eq!(client.read_payload(9), b"data: 1\n\n");
        go_on.send();
        assert_eq!(client.finish_response(), (Vec::new(), Ending::Truncated));
    }
}

#[test]
fn a_short_body_and_one_that_ends_with_the_connection_are_told_apart() {
    let answers: [(&[u8], Ending); 3] = [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            Ending::Truncated,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nshort", Ending::WithConnection),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort",
            Ending::Complete,
        ),
    ];
    for (answer, ending) in answers {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(answer);
            exchange.close();
        });
        let response = RawClient::connect(upstream.address()).call(&Request::get("/"));
        assert_eq!(
            (response.payload.as_slice(), response.ending),
            (&b"short"[..], ending)
        );
    }
}

#[test]
fn an_upstream_notices_how_its_connection_ended() {
    let upstream = Upstream::start_at_head(|exchange| {
        exchange.wait_closed();
    });
    let request = Request::new("POST", "/").body(b"0123456789");
    let mut client = RawClient::connect(upstream.address());
    client.send(request.head_bytes());
    client.send(b"01234");
    upstream.wait_for("half of the body", |record| {
        record
            .connections
            .first()?
            .received
            .ends_with(b"01234")
            .then_some(())
    });
    client.reset();
    assert_eq!(upstream.wait_ended(0).0, Ended::Reset);
    assert_eq!(upstream.completed(), 0);
    let mut client = RawClient::connect(upstream.address());
    client.send(request.head_bytes());
    upstream.wait_for("the second head", |record| {
        (record.connections.get(1)?.heads == 1).then_some(())
    });
    drop(client);
    assert_eq!(upstream.wait_ended(1).0, Ended::Fin);
}

#[test]
fn what_breaks_the_protocol_fails_the_test_at_the_upstream() {
    let outcome = std::panic::catch_unwind(|| {
        let upstream = Upstream::answering(openai::plain());
        let mut client = RawClient::connect(upstream.address());
        client.send(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.assert_closed();
    });
    assert!(
        outcome.is_err(),
        "a request with two framings went unnoticed"
    );
}

#[test]
#[should_panic(expected = "a 204 declares a body")]
fn what_breaks_the_protocol_fails_the_test_at_the_client() {
    let upstream =
        Upstream::answering(&b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nhi"[..]);
    RawClient::connect(upstream.address()).call(&Request::get("/"));
}

#[test]
fn tls_says_what_came_of_the_handshake() {
    let authority = Authority::default();
    let identity = authority.subordinate("Below").server(&["provider.test"]);
    for (versions, version) in [
        (Versions::Tls12, ProtocolVersion::TLSv1_2),
        (Versions::Both, ProtocolVersion::TLSv1_3),
    ] {
        let server = TlsServer::with(&identity, versions, Some(&authority));
        let server = server.alpn(&["h2", "http/1.1"]);
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(openai::plain());
        });
        let client = TlsClient::with_certificate(&authority, &authority.client("tenant"));
        for resumed in [false, true] {
            let wire = client.connect(upstream.address(), "provider.test");
            let mut client = RawClient::over(wire.expect("a handshake"));
            assert_eq!(client.call(&Request::plain()).payload, openai::PLAIN_BODY);
            let secured = client.secured().expect("TLS");
            assert_eq!((secured.version, secured.was_resumed), (version, resumed));
            client.half_close();
            let index = usize::from(resumed);
            assert_eq!(upstream.wait_ended(index).0, Ended::Fin);
            let connections = upstream.connections();
            let seen = connections[index].handshake.clone();
            let seen = seen.expect("a handshake").expect("a good one");
            assert_eq!(seen.server_name.as_deref(), Some("provider.test"));
            assert_eq!(seen.alpn.as_deref(), Some("http/1.1"));
            assert_eq!(seen.peer_certificates.len(), 1);
        }
    }
}

#[test]
fn tls_that_is_cut_is_told_from_tls_that_ends() {
    let authority = Authority::default();
    // A ticket that nobody has read makes a reset of what would be a cut.
    let server = TlsServer::new(&authority.server(&["127.0.0.1"])).without_resumption();
    let upstream = Upstream::secure(&server, |exchange| {
        exchange.wait_closed();
    });
    let connect = || {
        let wire = TlsClient::trusting(&authority).connect(upstream.address(), "127.0.0.1");
        let mut client = RawClient::over(wire.expect("a handshake"));
        client.send(Request::get("/").bytes());
        client
    };
    drop(connect());
    assert_eq!(upstream.wait_ended(0).0, Ended::Cut);
    let mut client = connect();
    client.assert_silent();
    client.half_close();
    assert_eq!(upstream.wait_ended(1).0, Ended::Fin);
    connect().reset();
    assert_eq!(upstream.wait_ended(2).0, Ended::Reset);
}

#[test]
fn certificates_are_bad_in_the_way_they_are_meant_to_be() {
    let authority = Authority::default();
    let names = ["provider.test"];
    let other = Leaf::client("provider.test");
    let below = authority.subordinate("Below").server(&names);
    for (name, identity, wanted) in [
        (
            "expired",
            authority.issue(&Leaf::server(&names).expired()),
            "Expired",
        ),
        (
            "too early",
            authority.issue(&Leaf::server(&names).not_yet_valid()),
            "NotValidYet",
        ),
        (
            "other name",
            authority.server(&["other.test"]),
            "NotValidForName",
        ),
        ("other purpose", authority.issue(&other), "InvalidPurpose"),
        (
            "subject alone",
            authority.issue(&Leaf::server(&names).named_by_subject_alone()),
            "NotValidForName",
        ),
        (
            "self-signed",
            Identity::self_signed(&Leaf::server(&names)),
            "UnknownIssuer",
        ),
        (
            "other authority",
            Authority::new("Other").server(&names),
            "UnknownIssuer",
        ),
        (
            "without the one between",
            below.clone().alone(),
            "UnknownIssuer",
        ),
        ("good", below, ""),
        (
            "good, by RSA",
            authority.issue(&Leaf::server(&names).rsa()),
            "",
        ),
    ] {
        let upstream = Upstream::secure(&TlsServer::new(&identity), |_| {});
        let shaken = TlsClient::trusting(&authority).connect(upstream.address(), names[0]);
        match shaken {
            Ok(_) => assert_eq!(wanted, "", "{name}"),
            Err(error) => match rustls_error(&error) {
                Some(Error::InvalidCertificate(reason)) => {
                    let reason = format!("{reason:?}");
                    assert!(
                        !wanted.is_empty() && reason.starts_with(wanted),
                        "{name}: {reason}"
                    );
                }
                other => panic!("{name}: {other:?}"),
            },
        }
    }
}

#[test]
fn http2_carries_large_bodies_both_ways_within_its_windows() {
    let body = vec![b'x'; 300_000];
    let answer = body.clone();
    let authority = Authority::default();
    let server = TlsServer::new(&authority.server(&["provider.test"])).alpn(&["h2"]);
    let options = Options {
        tls: Some(server),
        settings: vec![(setting::INITIAL_WINDOW_SIZE, 1_000)],
        ..Options::default()
    };
    let upstream = Http2Upstream::with(options, move |peer, request| {
        assert_eq!(request.value(":path"), Some("/v1/responses"));
        peer.answer(request.stream, 200, &[("x-odd", "a b")], &answer);
    });
    let client = TlsClient::trusting(&authority).alpn(&["h2", "http/1.1"]);
    let wire = client.connect(upstream.address(), "provider.test");
    let wire = wire.expect("a handshake");
    assert_eq!(wire.secured().expect("TLS").alpn.as_deref(), Some("h2"));
    let mut peer = Peer::client(wire);
    for _ in 0..2 {
        let response = peer.call(&Request::post("/v1/responses", &body));
        assert_eq!(
            (response.status(), response.ending),
            (200, Ending::Complete)
        );
        assert_eq!(response.head.value("x-odd"), Some("a b"));
        assert_eq!(response.payload, body);
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].body, body);
    assert_eq!(requests[1].value(":authority"), Some("gateway.test"));
    drop(peer);
    upstream.wait_for("the end", |record| {
        record.connections[0].is_over.then_some(())
    });
}

#[test]
fn http2_streams_are_reset_and_told_apart() {
    let upstream = Http2Upstream::start(|peer, request| match request.value(":path") {
        Some("/reset") => {
            peer.answer_head(request.stream, 200, &[], false);
            peer.queue(request.stream, b"part", false);
            peer.cancel(request.stream);
        }
        Some("/later") => {}
        _ => {
            let waiting: Vec<u32> = peer.streams().keys().copied().collect();
            for stream in waiting.into_iter().rev().take(2) {
                peer.answer(stream, 200, &[], stream.to_string().as_bytes());
            }
        }
    });
    let mut peer = Peer::client(Wire::connect(upstream.address()));
    let cut = peer.call(&Request::get("/reset"));
    assert_eq!(
        (cut.payload.as_slice(), cut.ending),
        (&b"part"[..], Ending::Truncated)
    );
    peer.expect_reset(1, &[code::CANCEL]);
    let later = peer.request(&Request::get("/later"));
    assert_eq!(peer.call(&Request::get("/now")).payload, b"5");
    assert_eq!(peer.response(later).payload, b"3");
}
