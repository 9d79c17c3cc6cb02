//! TLS towards clients.

mod clients;
mod floods;
mod handshakes;
mod names;
mod reload;
mod silent;
mod start;

use relay_tests::config::ListenerTls;
use relay_tests::request::HOST;
use relay_tests::{Authority, Config, Gateway, Identity, TlsClient, Upstream, Wire, openai};
use std::io::{Read as _, Write as _};

/// A gateway whose only listener speaks TLS, and a provider behind it that answers.
struct Place {
    authority: Authority,
    identity: Identity,
    upstream: Upstream,
}

impl Place {
    fn new() -> Self {
        let authority = Authority::default();
        let identity = authority.server(&[HOST]);
        Self {
            authority,
            identity,
            upstream: Upstream::answering(openai::plain()),
        }
    }

    fn tls(&self) -> ListenerTls {
        ListenerTls::new(&self.identity)
    }

    fn config(&self, tls: ListenerTls) -> Config {
        Config::simple(self.upstream.address()).tls(tls)
    }

    fn gateway(&self) -> Gateway {
        Gateway::start(&self.config(self.tls()))
    }

    /// A client that trusts the authority of the gateway.
    fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority)
    }
}

/// The certificate that the gateway has shown.
fn shown(wire: &Wire) -> Vec<u8> {
    let secured = wire.secured().expect("TLS");
    secured.peer_certificates[0].to_vec()
}

fn first_of(identity: &Identity) -> Vec<u8> {
    identity.chain()[0].to_vec()
}

/// Is this what becomes of a client that is not let in? In TLS 1.3 it learns so only when it reads: its own part of the handshake
/// is over before the gateway looks at its certificate.
fn is_refused(connected: std::io::Result<Wire>) -> bool {
    let Ok(mut wire) = connected else { return true };
    let asked = wire.write_all(b"GET /health HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    asked.is_err() || !matches!(wire.read(&mut [0; 64]), Ok(1..))
}
