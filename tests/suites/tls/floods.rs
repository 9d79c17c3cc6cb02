//! Handshakes without end, beside those who are served.

use super::Place;
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::request::HOST;
use relay_tests::{Ending, Gateway, Request, Signal, Upstream, Wire, eventually, openai};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const EVENTS: usize = 50;
const FLOODERS: usize = 4;

/// A stream in steps: each signal lets one event go.
fn stepwise(step: &Signal) -> Upstream {
    let step = step.clone();
    Upstream::start(move |exchange| {
        exchange.send(openai::STREAM_HEAD);
        for _ in 0..EVENTS {
            step.wait();
            exchange.send(chunk(&openai::delta("a")));
        }
        exchange.send(chunk(&openai::completed()));
        exchange.send(LAST_CHUNK);
    })
}

/// The first flight of a client, as often as wanted.
fn hello(place: &Place) -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(place.authority.roots())
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut flight = Vec::new();
    connection.write_tls(&mut flight).expect("memory");
    flight
}

/// `handshake`: how long one may take. Those that wait for it are all that is left when the flood is over.
fn a_stream_goes_on_beside(handshake: &str, flood: impl Fn(&Place, &Gateway) + Send + Sync) {
    let step = Signal::new();
    let mut place = Place::new();
    place.upstream = stepwise(&step);
    let gateway = Gateway::start(
        &place
            .config(place.tls())
            .limit("tls_handshakes_max", 16)
            .timeout("tls_handshake", handshake),
    );
    let mut client = gateway.secure_client(&place.client());
    client.send(Request::streamed().bytes());
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    flood(&place, &gateway);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        step.send();
        assert_eq!(client.begin_response().status(), 200);
        let event = openai::delta("a");
        for index in 0..EVENTS {
            if index > 0 {
                step.send();
            }
            assert_eq!(client.read_payload(event.len()), event);
            // Each event has met with the flood.
            let seen = rounds.load(Ordering::Relaxed);
            eventually("the flood goes on", || {
                (rounds.load(Ordering::Relaxed) > seen).then_some(())
            });
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );
    eventually("the flood is gone", || {
        (gateway.metric("relay_client_connections", &[]) <= 1.0).then_some(())
    });
}

#[test]
fn a_stream_goes_on_beside_handshakes_that_are_begun_and_left() {
    let hello = hello(&Place::new());
    a_stream_goes_on_beside("1s", |_, gateway| {
        let mut wire = Wire::connect(gateway.address());
        // The gateway may have closed it by then.
        let _ = wire.write_all(&hello);
    });
}

#[test]
fn a_stream_goes_on_beside_handshakes_that_are_finished() {
    a_stream_goes_on_beside("10s", |place, gateway| {
        let client = place.client().without_resumption();
        assert!(client.connect(gateway.address(), HOST).is_ok());
    });
}
