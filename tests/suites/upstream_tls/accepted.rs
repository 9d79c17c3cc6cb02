//! Who is believed to be the provider, and what is spoken with it then.

use super::{NAME, named};
use relay_tests::http2::{Http2Upstream, Options};
use relay_tests::openai::{PLAIN_BODY, plain, stream};
use relay_tests::pki::{Authority, Leaf};
use relay_tests::tls::Versions;
use relay_tests::{Config, Ending, Gateway, Request, TlsServer, Upstream};

#[test]
fn certificates_that_prove_it() {
    let authority = Authority::default();
    let between = authority
        .subordinate("In between")
        .subordinate("And another");
    for identity in [
        authority.server(&[NAME]),
        authority.server(&["other.example", NAME]),
        authority.server(&["*.provider.example"]),
        between.server(&[NAME]),
        authority.issue(&Leaf::server(&[NAME]).rsa()),
    ] {
        for versions in [Versions::Tls12, Versions::Tls13] {
            let server = TlsServer::with(&identity, versions, None);
            let upstream = Upstream::secure(&server, |exchange| {
                exchange.send(plain());
            });
            let gateway = Gateway::start(&named(upstream.address(), &authority, NAME));
            let answer = gateway.call(&Request::plain());
            assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
            assert_eq!(answer.payload, PLAIN_BODY);
            let connections = upstream.connections();
            let secured = connections[0]
                .handshake
                .clone()
                .expect("TLS")
                .expect("agreed");
            assert_eq!(secured.server_name.as_deref(), Some(NAME));
            assert_eq!(secured.alpn.as_deref(), Some("http/1.1"));
        }
    }
}

#[test]
fn an_address_is_proved_by_an_address() {
    let authority = Authority::default();
    let server = TlsServer::new(&authority.server(&["127.0.0.1"]));
    let upstream = Upstream::secure(&server, |exchange| {
        exchange.send(stream(&["one", "two"]));
    });
    let gateway = Gateway::start(&Config::simple_secure(upstream.address(), &authority));
    for _ in 0..3 {
        let answer = gateway.call(&Request::streamed());
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    }
    let connections = upstream.connections();
    assert_eq!(connections.len(), 1, "it is kept");
    let secured = connections[0]
        .handshake
        .clone()
        .expect("TLS")
        .expect("agreed");
    assert_eq!(
        secured.server_name, None,
        "no address in SNI (RFC 6066, section 3)"
    );
}

/// The operator is told what is spoken on the one connection.
fn assert_spoken(gateway: &Gateway, protocol: &str) {
    let shown: serde_json::Value = gateway.admin("/accounts/first").json();
    assert_eq!(shown["protocol"], protocol, "{shown}");
    for (each, count) in [
        ("http1", protocol == "http1"),
        ("http2", protocol == "http2"),
    ] {
        let labels = [
            "upstream=\"openai\"",
            "account=\"first\"",
            &format!("protocol=\"{each}\""),
        ];
        let metric = gateway.metric("relay_upstream_connections_by_protocol_total", &labels);
        assert_eq!(metric, f64::from(u8::from(count)), "{each}");
    }
}

#[test]
fn http_2_where_it_is_wanted_or_chosen() {
    let authority = Authority::default();
    let identity = authority.server(&[NAME]);
    for (protocol, offered) in [
        ("http2", &["h2", "http/1.1"][..]),
        ("auto", &["h2", "http/1.1"]),
        ("auto", &["h2"]),
    ] {
        let options = Options {
            tls: Some(TlsServer::new(&identity).alpn(offered)),
            ..Options::default()
        };
        let upstream = Http2Upstream::with(options, |peer, request| {
            let fields = [("content-type", "application/json")];
            peer.answer(request.stream, 200, &fields, PLAIN_BODY);
        });
        let config = named(upstream.address(), &authority, NAME).protocol("openai", protocol);
        let gateway = Gateway::start(&config);
        for _ in 0..3 {
            let answer = gateway.call(&Request::plain());
            assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
            assert_eq!(answer.payload, PLAIN_BODY);
        }
        assert_eq!(upstream.connections().len(), 1, "{protocol}");
        assert_spoken(&gateway, "http2");
        assert_eq!(upstream.requests()[0].value(":scheme"), Some("https"));
    }
}

#[test]
fn http_1_where_the_provider_chooses_that() {
    let authority = Authority::default();
    let identity = authority.server(&[NAME]);
    for offered in [&["http/1.1"][..], &[]] {
        let server = TlsServer::new(&identity).alpn(offered);
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(plain());
        });
        let config = named(upstream.address(), &authority, NAME).protocol("openai", "auto");
        let gateway = Gateway::start(&config);
        for _ in 0..3 {
            assert_eq!(gateway.call(&Request::plain()).status(), 200);
        }
        assert_eq!(upstream.connections().len(), 1, "kept as any other");
        assert_spoken(&gateway, "http1");
    }
}
