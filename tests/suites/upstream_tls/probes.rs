//! Probes prove and ask the same as requests do.

use super::{NAME, named};
use relay_tests::config::ACCOUNT_KEY;
use relay_tests::http2::{Http2Upstream, Options};
use relay_tests::openai::plain;
use relay_tests::pki::{Authority, Leaf};
use relay_tests::{Config, Gateway, TlsServer, Upstream, eventually};

fn probing(config: Config) -> Config {
    let probe = r#"{ interval = "300ms", timeout = "240ms", per_second_max = 1000 }"#;
    config.upstream_key("openai", "probe", probe)
}

fn wait_probed(gateway: &Gateway, result: &str) {
    let result = format!("result={result:?}");
    eventually("a probe", || {
        let probes = gateway.metric("relay_probes_total", &["account=\"first\"", &result]);
        (probes >= 2.0).then_some(())
    });
}

#[test]
fn over_tls() {
    let authority = Authority::default();
    let server = TlsServer::new(&authority.server(&[NAME]));
    let upstream = Upstream::secure(&server, |exchange| {
        exchange.send(plain());
        exchange.close();
    });
    let config = probing(named(upstream.address(), &authority, NAME));
    let gateway = Gateway::start(&config);
    wait_probed(&gateway, "succeeded");
    let connections = upstream.connections();
    let secured = connections[0]
        .handshake
        .clone()
        .expect("TLS")
        .expect("agreed");
    assert_eq!(secured.server_name.as_deref(), Some(NAME));
}

#[test]
fn over_http_2() {
    let authority = Authority::default();
    let identity = authority.server(&[NAME]);
    for tls in [None, Some(TlsServer::new(&identity).alpn(&["h2"]))] {
        let is_secure = tls.is_some();
        let options = Options {
            tls,
            ..Options::default()
        };
        let upstream = Http2Upstream::with(options, |peer, request| {
            let fields = [("content-type", "application/json")];
            peer.answer(request.stream, 200, &fields, b"{}");
        });
        let config = match is_secure {
            true => named(upstream.address(), &authority, NAME),
            false => Config::simple(upstream.address()),
        };
        let gateway = Gateway::start(&probing(config.protocol("openai", "http2")));
        wait_probed(&gateway, "succeeded");
        let probe = &upstream.requests()[0];
        let bearer = format!("Bearer {ACCOUNT_KEY}");
        assert_eq!(probe.value(":method"), Some("GET"));
        assert_eq!(probe.value("authorization"), Some(bearer.as_str()));
    }
}

#[test]
fn what_an_answer_over_http_2_says_of_the_account_counts() {
    let upstream = Http2Upstream::start(|peer, request| {
        let fields = [("content-type", "application/json")];
        peer.answer(
            request.stream,
            401,
            &fields,
            b"{\"error\":{\"code\":\"invalid_api_key\"}}",
        );
    });
    let config = Config::simple(upstream.address()).protocol("openai", "http2");
    let gateway = Gateway::start(&probing(config));
    let result = ["account=\"first\"", "result=\"account_refused\""];
    eventually("it is refused", || {
        (gateway.metric("relay_probes_total", &result) >= 1.0).then_some(())
    });
}

#[test]
fn whoever_cannot_prove_to_be_the_provider_is_told_nothing() {
    let authority = Authority::default();
    let identity = authority.issue(&Leaf::server(&[NAME]).expired());
    let upstream = Upstream::secure(&TlsServer::new(&identity), |exchange| {
        exchange.send(plain());
    });
    let config = probing(named(upstream.address(), &authority, NAME));
    let gateway = Gateway::start(&config);
    let logged = gateway.log().wait_event("upstream_tls_refused");
    assert_eq!(logged["reason"], "certificate expired");
    let result = ["account=\"first\"", "result=\"tls\""];
    eventually("a probe", || {
        (gateway.metric("relay_probes_total", &result) >= 1.0).then_some(())
    });
    assert!(upstream.requests().is_empty());
}
