//! Which certificate is shown: by the name that the client asks for.

use super::{Place, first_of, shown};
use relay_tests::tls::{Versions, rustls_error};
use relay_tests::{Gateway, Leaf, Request, TlsClient};

#[test]
fn each_name_has_its_certificate_and_everybody_else_gets_the_first() {
    let place = Place::new();
    let first = place.authority.server(&["first.example", "127.0.0.1"]);
    let exact = place.authority.server(&["a.example", "api.b.example"]);
    let wildcard = place.authority.server(&["*.b.example"]);
    let tls = relay_tests::ListenerTls::new(&first)
        .certificate("exact", &exact)
        .certificate("wildcard", &wildcard);
    let gateway = Gateway::start(&place.config(tls));
    for versions in [Versions::Tls12, Versions::Tls13] {
        let client = TlsClient::new(&place.authority, versions, None);
        for (name, identity) in [
            ("first.example", &first),
            ("a.example", &exact),
            ("A.Example", &exact),
            ("api.b.example", &exact),
            ("other.b.example", &wildcard),
            // Addresses are never asked for (RFC 6066 section 3).
            ("127.0.0.1", &first),
        ] {
            let wire = client.connect(gateway.address(), name);
            let wire = wire.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(shown(&wire), first_of(identity), "{name} {versions:?}");
        }
        let without = client
            .clone()
            .without_sni()
            .connect(gateway.address(), "first.example");
        assert_eq!(shown(&without.expect("a handshake")), first_of(&first));
        // A star stands for one label, and nobody is shown the certificate of another name but the first.
        for name in ["x.other.b.example", "b.example", "unknown.example"] {
            let refused = client.connect(gateway.address(), name).expect_err(name);
            let reason = format!("{:?}", rustls_error(&refused));
            assert!(reason.contains("first.example"), "{name}: {reason}");
        }
    }
}

#[test]
fn the_whole_chain_is_sent() {
    let place = Place::new();
    let subordinate = place.authority.subordinate("Subordinate");
    let identity = subordinate.server(&[relay_tests::request::HOST]);
    let gateway = Gateway::start(&place.config(relay_tests::ListenerTls::new(&identity)));
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

#[test]
fn an_rsa_key_serves_those_who_know_no_other() {
    let place = Place::new();
    let host = relay_tests::request::HOST;
    let rsa = place.authority.issue(&Leaf::server(&[host]).rsa());
    let gateway = Gateway::start(&place.config(relay_tests::ListenerTls::new(&rsa)));
    for versions in [Versions::Tls12, Versions::Tls13] {
        let client = TlsClient::new(&place.authority, versions, None);
        let mut client = gateway.secure_client(&client);
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
}
