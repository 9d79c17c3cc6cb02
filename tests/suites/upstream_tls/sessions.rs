//! Sessions are resumed by whom they were begun by, and by nobody else: they would tie accounts together.

use super::{NAME, two_accounts};
use relay_tests::http::response;
use relay_tests::pki::Authority;
use relay_tests::tls::Versions;
use relay_tests::{Gateway, Request, TlsServer, Upstream};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[test]
fn no_account_offers_another_ones_session() {
    let authority = Authority::default();
    let identity = authority.server(&[NAME]);
    for versions in [Versions::Tls12, Versions::Tls13] {
        let server = TlsServer::with(&identity, versions, None);
        let upstream = Upstream::secure(&server, |exchange| {
            exchange.send(response(200, &[("connection", "close")], b"{}"));
            exchange.close();
        });
        let gateway = Gateway::start(&two_accounts(upstream.address(), &authority));
        // Until each of them has called several times.
        let by_source = relay_tests::eventually("both accounts resume", || {
            assert_eq!(gateway.call(&Request::plain()).status(), 200);
            let mut by_source: BTreeMap<IpAddr, Vec<bool>> = BTreeMap::new();
            for connection in upstream.connections() {
                let handshake = connection.handshake.expect("TLS").expect("agreed");
                let resumed = by_source.entry(connection.peer.ip()).or_default();
                resumed.push(handshake.was_resumed);
            }
            let is_enough = by_source.len() == 2 && by_source.values().all(|all| all.len() > 2);
            is_enough.then_some(by_source)
        });
        for (source, resumed) in by_source {
            assert!(
                !resumed[0],
                "{source} offers a session of somebody else: {resumed:?}"
            );
            assert!(
                resumed[1..].iter().all(|resumed| *resumed),
                "{source}: {resumed:?}"
            );
        }
    }
}
