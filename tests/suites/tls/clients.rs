//! Certificates of clients.

use super::{Place, is_refused};
use relay_tests::request::HOST;
use relay_tests::tls::Versions;
use relay_tests::{Authority, Gateway, Identity, Leaf, Request, TlsClient, eventually};
use std::io;

struct Clients {
    place: Place,
    authority: Authority,
    gateway: Gateway,
}

impl Clients {
    fn new(wanted: &str) -> Self {
        let place = Place::new();
        let authority = Authority::new("Clients");
        let config = place.config(place.tls().clients(&authority, wanted));
        Self {
            gateway: Gateway::start(&config),
            place,
            authority,
        }
    }

    fn connect(
        &self,
        versions: Versions,
        identity: Option<&Identity>,
    ) -> io::Result<relay_tests::Wire> {
        let client = TlsClient::new(&self.place.authority, versions, identity);
        client.connect(self.gateway.address(), HOST)
    }

    fn is_served(&self, versions: Versions, identity: Option<&Identity>) -> bool {
        let Ok(wire) = self.connect(versions, identity) else {
            return false;
        };
        let mut client = relay_tests::RawClient::over(wire);
        client.call(&Request::plain()).status() == 200
    }
}

const BOTH: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

#[test]
fn a_certificate_of_the_authority_opens_the_door_and_the_key_does_the_rest() {
    let clients = Clients::new("required");
    let identity = clients.authority.client("service.example");
    let below = clients.authority.subordinate("Below");
    for versions in BOTH {
        assert!(clients.is_served(versions, Some(&identity)), "{versions:?}");
        assert!(clients.is_served(versions, Some(&below.client("other.example"))));
    }
    let client = TlsClient::with_certificate(&clients.place.authority, &identity);
    let mut client = clients.gateway.secure_client(&client);
    let refused = client.call(&Request::plain().key("rk-nobody"));
    assert_eq!(refused.status(), 401, "a certificate is no key of a tenant");
}

/// Everything that does not verify.
fn strangers(authority: &Authority) -> Vec<(&'static str, Identity)> {
    let leaf = || Leaf::client("service.example");
    vec![
        (
            "of another authority",
            Authority::new("Clients").client("service.example"),
        ),
        ("vouched for by itself", Identity::self_signed(&leaf())),
        ("expired", authority.issue(&leaf().expired())),
        ("not yet valid", authority.issue(&leaf().not_yet_valid())),
        ("for servers", authority.server(&["service.example"])),
        (
            "without what leads to the authority",
            authority.subordinate("Below").client("a.example").alone(),
        ),
    ]
}

#[test]
fn nobody_else_comes_in_where_certificates_are_required() {
    let clients = Clients::new("required");
    let mut refused = 0.0;
    for versions in BOTH {
        assert!(is_refused(clients.connect(versions, None)), "without one");
        refused += 1.0;
        for (what, identity) in strangers(&clients.authority) {
            assert!(
                is_refused(clients.connect(versions, Some(&identity))),
                "{what} {versions:?}"
            );
            refused += 1.0;
        }
    }
    eventually("all are counted", || {
        let labels = ["reason=\"client_certificate\""];
        let counted = clients
            .gateway
            .metric("relay_tls_handshake_failures_total", &labels);
        (counted == refused).then_some(())
    });
    assert_eq!(clients.place.upstream.connection_count(), 0);
    assert_eq!(
        clients.gateway.metric("relay_requests_begun_total", &[]),
        0.0
    );
}

#[test]
fn where_they_are_optional_none_is_as_good_as_a_good_one_and_a_bad_one_is_not() {
    let clients = Clients::new("optional");
    let identity = clients.authority.client("service.example");
    for versions in BOTH {
        assert!(clients.is_served(versions, None));
        assert!(clients.is_served(versions, Some(&identity)));
        for (what, identity) in strangers(&clients.authority) {
            assert!(
                is_refused(clients.connect(versions, Some(&identity))),
                "{what} {versions:?}"
            );
        }
    }
}

#[test]
fn an_authority_that_is_replaced_no_longer_lets_anybody_in_not_even_who_was_in_before() {
    let clients = Clients::new("required");
    let identity = clients.authority.client("service.example");
    for versions in BOTH {
        // With sessions to resume, if it were let.
        let before = TlsClient::new(&clients.place.authority, versions, Some(&identity));
        for _ in 0..2 {
            let mut client = clients.gateway.secure_client(&before);
            assert!(!client.secured().expect("TLS").was_resumed);
            assert_eq!(client.call(&Request::plain()).status(), 200);
        }
        let mut open = clients.gateway.secure_client(&before);
        let next = Authority::new("Clients");
        super::reload::replace(&clients.gateway, "clients.pem", &next.pem());
        let (status, _) = super::reload::order(&clients.gateway);
        assert_eq!(status, 200);
        assert!(is_refused(before.connect(clients.gateway.address(), HOST)));
        let after = next.client("service.example");
        assert!(clients.is_served(versions, Some(&after)));
        assert_eq!(
            open.call(&Request::plain()).status(),
            200,
            "what is open goes on"
        );
        // For the other version.
        super::reload::replace(&clients.gateway, "clients.pem", &clients.authority.pem());
        assert_eq!(super::reload::order(&clients.gateway).0, 200);
    }
}
