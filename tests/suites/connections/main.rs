//! How many connections somebody may have: a tenant on either side, a source address, an account. Whoever counts, the gateway
//! or the kernel, the same must be seen.

mod clients;
mod enforced;
mod ports;
mod sources;
mod upstreams;

use relay_tests::{Config, Tenant, Upstream};

/// Two workers, so that counts must be shared; the default tenant may have so many connections.
fn capped(upstream: &Upstream, connections: usize) -> Config {
    two_workers(upstream).tenant(Tenant::acme().set("connections", connections))
}

fn two_workers(upstream: &Upstream) -> Config {
    Config::for_upstream(upstream.address()).set("node", "workers", 2)
}
