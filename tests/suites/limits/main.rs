//! What tenants and keys may use: exact over all workers, told in headers and errors, given back where nothing was used.

mod answers;
mod charged;
mod concurrency;
mod exact;
mod keys;
mod own_usage;
mod rates;
mod shadow;
mod tokens;

use relay_tests::{Config, Gateway, RawClient, Request, Response, Tenant, Upstream, openai};
use std::net::SocketAddr;
use std::thread;

/// A gateway whose default tenant has these limits, and a provider that answers everything.
fn gateway(limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::acme().set("limits", limits);
    let gateway = Gateway::start(&Config::simple(upstream.address()).tenant(tenant));
    (upstream, gateway)
}

/// Sends the request on each of the connections at once and returns the statuses.
fn at_once(clients: &mut [RawClient], request: &[u8]) -> Vec<u16> {
    for client in &mut *clients {
        client.send(request);
    }
    let statuses = clients.iter_mut().map(|one| one.read_response().status());
    statuses.collect()
}

/// So many connections.
fn connections(address: SocketAddr, count: usize) -> Vec<RawClient> {
    (0..count).map(|_| RawClient::connect(address)).collect()
}

/// The same from so many threads, each with its share of the connections.
fn from_threads(groups: &mut [Vec<RawClient>], request: &Request) -> Vec<u16> {
    let bytes = request.bytes();
    thread::scope(|scope| {
        let bytes = &bytes;
        let running: Vec<_> = groups
            .iter_mut()
            .map(|group| scope.spawn(move || at_once(group, bytes)))
            .collect();
        let statuses = running
            .into_iter()
            .flat_map(|one| one.join().expect("a client"));
        statuses.collect()
    })
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|one| **one == status).count()
}

/// A field that must be there, as a number.
fn number(answer: &Response, field: &str) -> u64 {
    let value = answer.head.value(field);
    let number = value.and_then(|value| value.parse().ok());
    number.unwrap_or_else(|| panic!("{field}: {value:?} in {:?}", answer.head))
}
