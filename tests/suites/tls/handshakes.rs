//! What both sides agree on, and what becomes of those with whom nothing can be agreed on.

use super::{Place, is_refused};
use relay_tests::request::HOST;
use relay_tests::tls::{Versions, rustls_error};
use relay_tests::{Gateway, Request, TlsClient, Upstream, Wire, eventually, openai};
use rustls::{AlertDescription, ProtocolVersion};
use std::io::{Read as _, Write as _};

#[test]
fn requests_are_answered_over_either_version() {
    let place = Place::new();
    let gateway = place.gateway();
    for (versions, expected, label) in [
        (Versions::Tls12, ProtocolVersion::TLSv1_2, "version=\"1.2\""),
        (Versions::Tls13, ProtocolVersion::TLSv1_3, "version=\"1.3\""),
    ] {
        let client = TlsClient::new(&place.authority, versions, None);
        let mut client = gateway.secure_client(&client);
        assert_eq!(client.secured().expect("TLS").version, expected);
        for _ in 0..3 {
            assert_eq!(client.call(&Request::plain()).status(), 200);
        }
        let labels = [label, "resumed=\"false\""];
        assert_eq!(gateway.metric("relay_tls_handshakes_total", &labels), 1.0);
    }
    assert_eq!(
        gateway.metric("relay_tls_handshake_failures_total", &[]),
        0.0
    );
}

#[test]
fn an_older_version_than_the_oldest_is_refused() {
    let place = Place::new();
    let config = place.config(place.tls().set("min_version", "\"1.3\""));
    let gateway = Gateway::start(&config);
    let old = TlsClient::new(&place.authority, Versions::Tls12, None);
    let refused = old.connect(gateway.address(), HOST).expect_err("refused");
    let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(rustls_error(&refused), Some(&alert));
    let mut new = gateway.secure_client(&place.client());
    assert_eq!(new.call(&Request::plain()).status(), 200);
    let failed = eventually("the failure is counted", || {
        let labels = ["reason=\"incompatible\""];
        let failed = gateway.metric("relay_tls_handshake_failures_total", &labels);
        (failed > 0.0).then_some(failed)
    });
    assert_eq!(failed, 1.0);
    let line = gateway.log().wait_event("tls_handshake_failed");
    assert_eq!(line["reason"], "incompatible", "{line}");
    assert_eq!(line["source"], "127.0.0.1", "{line}");
    let listener = gateway.address().to_string();
    assert_eq!(line["listener"], listener.as_str(), "{line}");
}

#[test]
fn a_protocol_is_agreed_on_if_there_is_one() {
    let place = Place::new();
    for (http2, offered, agreed) in [
        (true, &["h2", "http/1.1"][..], Some("h2")),
        (true, &["http/1.1", "h2"], Some("h2")),
        (true, &["h2"], Some("h2")),
        (true, &["http/1.1"], Some("http/1.1")),
        (true, &[], None),
        (false, &["h2", "http/1.1"], Some("http/1.1")),
        (false, &["http/1.1"], Some("http/1.1")),
        (false, &[], None),
    ] {
        let gateway = Gateway::start(&place.config(place.tls()).http2(http2));
        let client = place.client().alpn(offered);
        let wire = client
            .connect(gateway.address(), HOST)
            .expect("a handshake");
        let secured = wire.secured().expect("TLS");
        assert_eq!(secured.alpn.as_deref(), agreed, "{http2} {offered:?}");
        if agreed != Some("h2") {
            let mut client = relay_tests::RawClient::over(wire);
            assert_eq!(client.call(&Request::plain()).status(), 200);
        }
    }
    let gateway = Gateway::start(&place.config(place.tls()).http2(false));
    for offered in ["h2", "spdy/3"] {
        let client = place.client().alpn(&[offered]);
        let refused = client.connect(gateway.address(), HOST).expect_err(offered);
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(rustls_error(&refused), Some(&alert), "{offered}");
    }
}

/// A session that one worker has begun is taken up by whichever worker gets the next connection.
#[test]
fn sessions_are_resumed_by_all_workers() {
    const CONNECTIONS: usize = 24;
    let place = Place::new();
    let config = place.config(place.tls()).set("node", "workers", 2);
    for versions in [Versions::Tls12, Versions::Tls13] {
        let gateway = Gateway::start(&config);
        let client = TlsClient::new(&place.authority, versions, None);
        let mut open = Vec::new();
        for index in 0..CONNECTIONS {
            let mut one = gateway.secure_client(&client);
            let resumed = one.secured().expect("TLS").was_resumed;
            assert_eq!(resumed, index > 0, "{versions:?} {index}");
            // Tickets of TLS 1.3 come with the first answer.
            assert_eq!(one.call(&Request::plain()).status(), 200);
            open.push(one);
        }
        for worker in ["worker=\"0\"", "worker=\"1\""] {
            let held = gateway.metric("relay_worker_connections", &[worker]);
            assert!(held > 0.0, "{worker} has none of {CONNECTIONS}");
        }
        let resumed = gateway.metric("relay_tls_handshakes_total", &["resumed=\"true\""]);
        assert_eq!(resumed, (CONNECTIONS - 1) as f64);
    }
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let place = Place::new();
    let config = place.config(place.tls()).timeout("tls_handshake", "300ms");
    let gateway = Gateway::start(&config);
    let mut silent = Wire::connect(gateway.address());
    assert!(matches!(silent.read(&mut [0; 16]), Ok(0) | Err(_)));
    let mut slow = Wire::connect(gateway.address());
    assert!(slow.write_all(&[22, 3, 1]).is_ok());
    assert!(matches!(slow.read(&mut [0; 16]), Ok(0) | Err(_)));
    eventually("both are counted", || {
        let labels = ["reason=\"timed_out\""];
        let failed = gateway.metric("relay_tls_handshake_failures_total", &labels);
        (failed == 2.0).then_some(())
    });
    eventually("both are gone", || {
        (gateway.metric("relay_client_connections", &[]) == 0.0).then_some(())
    });
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

/// However slowly a ClientHello comes, the whole handshake has one time-out.
#[test]
fn a_handshake_that_never_ends_is_ended() {
    let place = Place::new();
    let config = place.config(place.tls()).timeout("tls_handshake", "500ms");
    let gateway = Gateway::start(&config);
    let mut wire = Wire::connect(gateway.address());
    // A record of 8 KiB that begins as a ClientHello does.
    let mut record = vec![22, 3, 1, 32, 0, 1, 0, 31, 252, 3, 3];
    record.resize(8 << 10, 0);
    wire.set_patience(std::time::Duration::from_millis(10));
    let ended = record.chunks(1).find(|byte| {
        let written = wire.write_all(byte);
        // Nothing comes until it is over; meanwhile this is the pause between two bytes.
        let is_over = match wire.read(&mut [0; 16]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        written.is_err() || is_over
    });
    assert!(ended.is_some(), "it took all of it");
    eventually("it is counted", || {
        let labels = ["reason=\"timed_out\""];
        let failed = gateway.metric("relay_tls_handshake_failures_total", &labels);
        (failed == 1.0).then_some(())
    });
}

#[test]
fn plaintext_is_answered_with_an_alert_and_nothing_else() {
    let place = Place::new();
    let gateway = place.gateway();
    let mut wire = Wire::connect(gateway.address());
    assert!(wire.write_all(&Request::plain().bytes()).is_ok());
    let mut answer = Vec::new();
    let _ = wire.read_to_end(&mut answer);
    // A fatal alert (RFC 8446 sections 5.1 and 6), in plaintext, as there are no keys yet.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert_eq!((answer.len(), answer[5]), (7, 2), "{answer:?}");
    eventually("it is counted", || {
        let labels = ["reason=\"malformed\""];
        let failed = gateway.metric("relay_tls_handshake_failures_total", &labels);
        (failed == 1.0).then_some(())
    });
    assert_eq!(place.upstream.connection_count(), 0);
    assert_eq!(gateway.metric("relay_requests_begun_total", &[]), 0.0);
}

#[test]
fn tls_on_a_port_without_is_no_request() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&relay_tests::Config::simple(upstream.address()));
    let place = Place::new();
    assert!(is_refused(place.client().connect(gateway.address(), HOST)));
}

#[test]
fn who_has_connections_enough_is_closed_before_the_handshake() {
    let place = Place::new();
    let config = place.config(place.tls()).limit("connections_per_source", 1);
    let gateway = Gateway::start(&config);
    let mut first = gateway.secure_client(&place.client());
    assert_eq!(first.call(&Request::plain()).status(), 200);
    assert!(place.client().connect(gateway.address(), HOST).is_err());
    assert_eq!(first.call(&Request::plain()).status(), 200);
    assert_eq!(gateway.metric("relay_tls_handshakes_total", &[]), 1.0);
}
