//! Connections from one source address: counted from their first moment, whoever they belong to.

use crate::two_workers;
use relay_tests::{
    Account, Gateway, Mode, RawClient, Request, Upstream, eventually, in_each_mode, openai,
};
use std::net::IpAddr;

in_each_mode! {
    each_address_has_as_many_as_it_may,
    a_refused_connection_is_told_why_and_recorded,
}

fn gateway(mode: &Mode, upstream: &Upstream, cap: u64) -> Gateway {
    let config = two_workers(upstream).account(Account::first());
    mode.gateway(&config.limit("connections_per_source", cap))
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 9, last])
}

/// A connection that is served; `None` if it is refused, be it before the handshake or after.
fn served(gateway: &Gateway, source: IpAddr) -> Option<RawClient> {
    let mut client = RawClient::connect_from(source, gateway.address())?;
    // The refusal does not wait for a request, and may be there first.
    client.try_send(Request::get("/health").bytes());
    let answer = client.read_response();
    if answer.status() == 200 {
        return Some(client);
    }
    answer.assert_refused(429, "tenant_connection_limit");
    client.assert_closed();
    None
}

fn each_address_has_as_many_as_it_may(mode: &Mode) {
    const CAP: usize = 3;
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(mode, &upstream, CAP as u64);
    let tried: Vec<_> = (0..4 * CAP).map(|_| served(&gateway, address(1))).collect();
    let mut kept: Vec<_> = tried.into_iter().flatten().collect();
    assert_eq!(kept.len(), CAP);
    let others: Vec<_> = (2..10)
        .filter_map(|last| served(&gateway, address(last)))
        .collect();
    assert_eq!(others.len(), 8, "other addresses have places of their own");
    for client in &mut kept {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    for _ in 0..CAP {
        match kept.pop() {
            Some(client) if kept.len() == 1 => client.reset(),
            closed => drop(closed),
        }
        let again = eventually("room for another one", || served(&gateway, address(1)));
        kept.insert(0, again);
        assert!(served(&gateway, address(1)).is_none());
    }
}

fn a_refused_connection_is_told_why_and_recorded(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(mode, &upstream, 1);
    let _first = served(&gateway, address(1)).expect("room for one");
    // The kernel may have refused it before there was anything to talk over.
    let Some(mut second) = RawClient::connect_from(address(1), gateway.address()) else {
        assert!(mode.is_kernel());
        return;
    };
    let answer = second.read_response();
    let error = answer.assert_refused(429, "tenant_connection_limit");
    assert!(error.retryable);
    assert_eq!(answer.head.value("retry-after"), Some("1"));
    assert_eq!(answer.head.value("connection"), Some("close"));
    second.assert_closed();
    let id = answer.head.value("x-relay-request-id");
    let logged = gateway.logged(id.expect("a name to find it by"));
    assert_eq!(logged["code"], "tenant_connection_limit");
    assert_eq!(logged["status"], 429);
}
