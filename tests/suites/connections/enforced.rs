//! What only the kernel can do.

use crate::{capped, two_workers};
use relay_tests::config::TENANT_KEY;
use relay_tests::{Account, Mode, RawClient, Request, Tenant, Upstream, openai};
use std::net::IpAddr;

#[test]
fn outside_of_its_cgroup_a_gateway_opens_nothing() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let gateway = mode.gateway(&two_workers(&upstream).account(Account::first()));
    mode.let_out(&gateway);
    for _ in 0..3 {
        gateway
            .call(&Request::plain())
            .assert_refused(503, "egress_unavailable");
    }
    assert_eq!(upstream.connection_count(), 0, "nobody chose its address");
    mode.take_in(&gateway);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn a_full_tenants_network_is_refused_before_the_handshake() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::acme()
        .set("connections", 2)
        .set("sources", "[\"127.0.9.0/24\"]");
    let config = capped(&upstream, 2).account(Account::first());
    let gateway = mode.gateway(&config.tenant(tenant));
    let connect = |third, last| {
        let source = IpAddr::from([127, 0, third, last]);
        RawClient::connect_from(source, gateway.address())
    };
    let call = |client: &mut RawClient| client.call(&Request::plain().key(TENANT_KEY));
    let mut clients: Vec<_> = (1..=2).filter_map(|last| connect(9, last)).collect();
    for client in &mut clients {
        assert_eq!(call(client).status(), 200);
    }
    assert!(connect(9, 1).is_none() && connect(9, 3).is_none());
    // From elsewhere it is not known whose it is before its key is.
    let mut elsewhere = connect(10, 1).expect("a network of nobody");
    call(&mut elsewhere).assert_refused(429, "tenant_connection_limit");
    for client in &mut clients {
        assert_eq!(call(client).status(), 200);
    }
}
