//! Clients that connect and say nothing.

use super::Place;
use relay_tests::{Gateway, Request, Wire, eventually};
use std::io::Read as _;

/// Where it is not for these clients, nothing ends before the tests are over.
const LONG: &str = "5m";

const CLIENTS: usize = 16;

/// Clients that the gateway has accepted.
fn silent_ones(gateway: &Gateway) -> Vec<Wire> {
    let silent = (0..CLIENTS).map(|_| Wire::connect(gateway.address()));
    let silent: Vec<_> = silent.collect();
    eventually("they have been accepted", || {
        let open = gateway.metric("relay_client_connections", &[]);
        (open >= CLIENTS as f64).then_some(())
    });
    silent
}

#[test]
fn they_do_not_hold_up_its_end() {
    let place = Place::new();
    let config = place
        .config(place.tls())
        .timeout("tls_handshake", LONG)
        .timeout("drain", LONG);
    let gateway = Gateway::start(&config);
    let silent = silent_ones(&gateway);
    gateway.stop();
    for mut wire in silent {
        assert!(matches!(wire.read(&mut [0]), Ok(0)));
    }
}

#[test]
fn they_make_room_for_those_who_speak() {
    let place = Place::new();
    let config = place
        .config(place.tls())
        .timeout("tls_handshake", LONG)
        .limit("connections_per_worker_max", CLIENTS as u64);
    let gateway = Gateway::start(&config);
    let _silent = silent_ones(&gateway);
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
}
