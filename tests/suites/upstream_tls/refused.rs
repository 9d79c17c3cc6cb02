//! Whoever cannot prove to be the provider is told nothing: no request, and above all no credential.

use super::{NAME, named};
use relay_tests::config::ACCOUNT_KEY;
use relay_tests::http::{lossy, response};
use relay_tests::pki::{Authority, Identity, Leaf};
use relay_tests::{Config, Gateway, Request, TlsServer, Upstream};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Shows this certificate, and is refused for this reason, whatever is to be spoken.
fn assert_refused(identity: &Identity, authority: &Authority, name: &str, reason: &str) {
    for protocol in ["http1", "http2", "auto"] {
        let server = TlsServer::new(identity).alpn(&["h2", "http/1.1"]);
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(relay_tests::openai::plain());
        });
        let config = named(upstream.address(), authority, name).protocol("openai", protocol);
        let gateway = Gateway::start(&config);
        assert_not_told_why(&gateway, reason);
        upstream.wait_for("the handshake has failed", |record| {
            let handshakes = record.connections.iter().map(|one| one.handshake.as_ref());
            handshakes
                .collect::<Option<Vec<_>>>()
                .map(|all| assert!(!all.is_empty() && all.iter().all(|one| one.is_err())))
        });
        assert!(upstream.requests().is_empty());
        for connection in upstream.connections() {
            assert!(
                connection.received.is_empty(),
                "{}",
                lossy(&connection.received)
            );
        }
    }
}

/// The client sees that there was an error, and the operator why.
fn assert_not_told_why(gateway: &Gateway, reason: &str) {
    let answer = gateway.call(&Request::plain());
    let told = answer.assert_refused(502, "upstream_error");
    let told = format!("{told:?}").to_lowercase();
    assert!(
        !told.contains("certificate") && !told.contains("tls"),
        "{told}"
    );
    let logged = gateway.log().wait_event("upstream_tls_refused");
    let why = logged["reason"].as_str().expect("a reason");
    assert!(why.contains(reason), "{why}");
    assert_eq!(
        (logged["upstream"].as_str(), logged["account"].as_str()),
        (Some("openai"), Some("first"))
    );
    relay_tests::eventually("the failure is counted", || {
        let failures = gateway.metric("relay_upstream_failures_total", &["kind=\"tls\""]);
        (failures >= 1.0).then_some(())
    });
}

fn assert_leaf_refused(leaf: &Leaf, reason: &str) {
    let authority = Authority::default();
    assert_refused(&authority.issue(leaf), &authority, NAME, reason);
}

#[test]
fn the_account_shows_that_there_was_no_agreement() {
    let authority = Authority::default();
    let leaf = authority.issue(&Leaf::server(&[NAME]).expired());
    let upstream = Upstream::secure(&TlsServer::new(&leaf), |exchange| {
        exchange.send(relay_tests::openai::plain());
    });
    let config = named(upstream.address(), &authority, NAME);
    let gateway = Gateway::start(&config.set("health", "backoff_min", "\"5m\""));
    for _ in 0..3 {
        gateway
            .call(&Request::plain())
            .assert_refused(502, "upstream_error");
    }
    let shown: serde_json::Value = gateway.admin("/accounts/first").json();
    let address = &shown["addresses"][0];
    assert_eq!(address["state"], "blocked", "{shown}");
    assert_eq!(address["reason"], "tls_refused", "{shown}");
}

#[test]
fn expired() {
    assert_leaf_refused(&Leaf::server(&[NAME]).expired(), "expired");
}

#[test]
fn not_yet_valid() {
    assert_leaf_refused(&Leaf::server(&[NAME]).not_yet_valid(), "not valid yet");
}

#[test]
fn of_another_name() {
    assert_leaf_refused(&Leaf::server(&["other.provider.example"]), "another name");
}

#[test]
fn named_by_its_subject_alone() {
    assert_leaf_refused(
        &Leaf::server(&[NAME]).named_by_subject_alone(),
        "another name",
    );
}

#[test]
fn for_clients() {
    assert_leaf_refused(&Leaf::client(NAME), "not for servers");
}

#[test]
fn marked_as_an_authority_s() {
    let leaf = Leaf::server(&[NAME]).marked_as_authority();
    assert_leaf_refused(&leaf, "of an authority, shown as a server's");
}

#[test]
fn self_signed() {
    let identity = Identity::self_signed(&Leaf::server(&[NAME]));
    assert_refused(&identity, &Authority::default(), NAME, "unknown issuer");
}

#[test]
fn of_an_authority_that_is_not_trusted() {
    let identity = Authority::new("Other Root").server(&[NAME]);
    assert_refused(&identity, &Authority::default(), NAME, "unknown issuer");
}

#[test]
fn of_an_authority_that_calls_itself_like_one_that_is_trusted() {
    let identity = Authority::new("Test Root").server(&[NAME]);
    let trusted = Authority::new("Test Root");
    assert_refused(&identity, &trusted, NAME, "wrong signature");
}

#[test]
fn of_somebody_who_may_not_issue_any() {
    let authority = Authority::default();
    let identity = authority.impostor("Impostor").server(&[NAME]);
    assert_refused(&identity, &authority, NAME, "certificate");
}

#[test]
fn without_the_certificate_in_between() {
    let authority = Authority::default();
    let identity = authority.subordinate("In between").server(&[NAME]);
    assert_refused(&identity.alone(), &authority, NAME, "unknown issuer");
}

#[test]
fn wildcards_stand_for_one_label_in_front() {
    let authority = Authority::default();
    for (pattern, name) in [
        ("*.provider.example", "a.b.provider.example"),
        ("*.provider.example", "provider.example"),
        ("*", "provider"),
    ] {
        let identity = authority.server(&[pattern]);
        assert_refused(&identity, &authority, name, "certificate");
    }
}

#[test]
fn an_address_is_not_a_name() {
    let authority = Authority::default();
    for names in [&["127.0.0.2"][..], &["localhost"]] {
        let server = TlsServer::new(&authority.server(names));
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(relay_tests::openai::plain());
        });
        let gateway = Gateway::start(&Config::simple_secure(upstream.address(), &authority));
        assert_not_told_why(&gateway, "another name");
        assert!(upstream.requests().is_empty());
    }
}

/// Answers the first bytes of each connection with these, and tells what came in all.
fn raw_server(answer: Vec<u8>) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let (tell, told) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let received = talk(stream, &answer);
            if tell.send(received).is_err() {
                return;
            }
        }
    });
    (address, told)
}

fn talk(mut stream: TcpStream, answer: &[u8]) -> Vec<u8> {
    let mut received = vec![0; 4096];
    let count = stream.read(&mut received).expect("a ClientHello");
    received.truncate(count);
    stream.write_all(answer).expect("it reads");
    stream
        .shutdown(Shutdown::Write)
        .expect("a connected socket");
    // A reset says as well as an end that nothing more comes.
    let _ = stream.read_to_end(&mut received);
    received
}

#[test]
fn whoever_speaks_no_tls_or_an_old_one() {
    // A ServerHello of TLS 1.1: version, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let handshake = [&[2, 0, 0, 38][..], &hello].concat();
    let old = [&[22, 3, 2, 0, 42][..], &handshake].concat();
    let plain = response(200, &[("content-type", "application/json")], b"{}");
    for (answer, reason) in [
        (old, ""),
        (plain, "not TLS"),
        // An alert: protocol_version.
        (vec![21, 3, 1, 0, 2, 2, 70], "ProtocolVersion"),
        (Vec::new(), "ended in the handshake"),
    ] {
        let (address, told) = raw_server(answer);
        let authority = Authority::default();
        let gateway = Gateway::start(&named(address, &authority, NAME));
        assert_not_told_why(&gateway, reason);
        let received = told.recv().expect("a connection");
        assert_eq!(&received[..2], &[22, 3], "a handshake record");
        let text = lossy(&received);
        assert!(
            !text.contains(ACCOUNT_KEY) && !text.contains("POST"),
            "{text}"
        );
    }
}

#[test]
fn whoever_does_not_speak_http_2_where_nothing_else_will_do() {
    let authority = Authority::default();
    let identity = authority.server(&[NAME]);
    for offered in [&["http/1.1"][..], &[]] {
        let server = TlsServer::new(&identity).alpn(offered);
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(relay_tests::openai::plain());
        });
        let config = named(upstream.address(), &authority, NAME).protocol("openai", "http2");
        let gateway = Gateway::start(&config);
        assert_not_told_why(&gateway, "(ALPN)");
        assert!(upstream.requests().is_empty());
    }
}

#[test]
fn whoever_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let authority = Authority::default();
    let config = named(address, &authority, NAME).timeout("upstream_tls", "200ms");
    let gateway = Gateway::start(&config);
    let answer = gateway.call(&Request::plain());
    answer.assert_refused(504, "upstream_timeout");
    let logged = gateway.log().wait_event("upstream_tls_refused");
    assert_eq!(logged["reason"], "the handshake took too long");
}

#[test]
fn authorities_that_cannot_be_read_are_told_at_start() {
    let authority = Authority::default();
    let address = "127.0.0.1:1".parse().expect("an address");
    let config = named(address, &authority, NAME);
    let missing = config.upstream_key("openai", "ca_file", "\"missing.pem\"");
    let mut started = relay_tests::gateway::Launch::new().run(&missing);
    assert!(!started.wait_exit().success());
    let errors = started.errors().text();
    assert!(errors.contains("missing.pem"), "{errors}");
}
