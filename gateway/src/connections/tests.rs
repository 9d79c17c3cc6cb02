use super::*;
use crate::config;
use relay_io::{Engine, Listener, Stream, Wheel, bind};
use std::net::TcpStream;
use std::path::Path;

/// Two tenants with a cap of 2 and 1 and one without; two accounts, the first with a cap of 2.
fn policy() -> Policy {
    let tenant = |name: &str, more: &str| {
        format!(
            "[[tenant]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{name:0<64}\" }}]\nupstreams = [\"provider\"]\n{more}\n"
        )
    };
    let text = format!(
        r#"
        [node]
        workers = 2
        [limits]
        connections_per_source = 2
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        [[account]]
        name = "capped"
        upstream = "provider"
        credential = {{ env = "KEY" }}
        egress = ["fd00:7::1", "127.0.7.1", "127.0.7.2"]
        max_connections = 2
        [[account]]
        name = "free"
        upstream = "provider"
        credential = {{ env = "KEY" }}
        egress = ["127.0.7.3", "fd00:7::3"]
        {}{}{}"#,
        tenant("a", "connections = 2"),
        tenant("b", "connections = 1"),
        tenant("c", ""),
    );
    let environment = |_: &str| Some("sk-test".into());
    config::parse(&text, Path::new("test.toml"), &environment)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

const A: TenantId = TenantId(0);
const B: TenantId = TenantId(1);
const C: TenantId = TenantId(2);

fn source(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Counts without the kernel, and a client's connection; the peer keeps it open.
fn with_client(scene: impl FnOnce(&'static Connections, &Stream)) {
    let connections = Box::leak(Box::new(Connections::new(&policy(), None)));
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let _peer = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    let run = relay_io::run(Engine::Epoll, async {
        let listener = Listener::adopt(socket, Engine::Epoll).unwrap();
        let (client, _) = listener.accept(&Wheel::new(Engine::Epoll)).await.unwrap();
        scene(connections, &client);
    });
    run.unwrap();
}

#[test]
fn a_client_is_its_tenants_once_and_moves_with_its_key() {
    with_client(|connections, client| {
        let enter = |text| connections.enter(0, client, source(text)).unwrap();
        let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(enter);
        assert_eq!(clients[0].claim(A), Ok(()));
        assert_eq!(clients[0].claim(A), Ok(()), "the same again");
        assert_eq!(clients[1].claim(A), Ok(()));
        assert_eq!(clients[2].claim(A), Err(Denied::TenantFull));
        assert_eq!(connections.tenant_inbound(A), 2);

        assert_eq!(clients[0].claim(B), Ok(()));
        assert_eq!(connections.tenant_inbound(A), 1);
        assert_eq!(clients[1].claim(B), Err(Denied::TenantFull));
        assert_eq!(connections.tenant_inbound(A), 1, "it stays whose it was");
        assert_eq!(clients[2].claim(A), Ok(()));

        drop(clients);
        assert_eq!(connections.tenant_inbound(A), 0);
        assert_eq!(connections.tenant_inbound(B), 0);
    });
}

#[test]
fn without_a_cap_clients_are_only_counted() {
    with_client(|connections, client| {
        let sources = (1..=10).map(|last| IpAddr::from([192, 0, 2, last]));
        let clients: Vec<_> = sources
            .filter_map(|source| connections.enter(0, client, source))
            .collect();
        assert!(clients.iter().all(|one| one.claim(C).is_ok()));
        assert_eq!(connections.tenant_inbound(C), 10);
        drop(clients);
        assert_eq!(connections.tenant_inbound(C), 0);
    });
}

#[test]
fn a_source_address_has_as_many_as_it_may_whoever_they_belong_to() {
    with_client(|connections, client| {
        let enter = || connections.enter(0, client, source("192.0.2.1"));
        let (first, second) = (enter(), enter());
        assert!(first.is_some() && second.is_some() && enter().is_none());
        drop(first);
        assert!(enter().is_some());
    });
}

#[test]
fn a_connection_to_a_provider_is_the_accounts_and_a_capped_tenants() {
    with_client(|connections, client| {
        assert_eq!(
            [A, B, C].map(|one| connections.counted(one)),
            [Some(A), Some(B), None]
        );
        let begin = |tenant| connections.begin_upstream(tenant, AccountId(0), source("127.0.7.1"));
        let (_, mut first) = begin(Some(B)).unwrap();
        assert_eq!(begin(Some(B)).err(), Some(Denied::TenantFull));
        assert_eq!(
            connections.account(AccountId(0)),
            1,
            "nothing is left of what failed"
        );
        let (_, second) = begin(Some(A)).unwrap();
        assert_eq!(begin(None).err(), Some(Denied::AccountFull));
        assert_eq!(begin(Some(A)).err(), Some(Denied::AccountFull));
        assert_eq!(
            connections.tenant_upstream(A),
            1,
            "nothing is left of what failed"
        );

        assert_eq!(first.assign(client, None), Ok(()));
        assert_eq!(connections.tenant_upstream(B), 0);
        assert_eq!(first.assign(client, Some(A)), Ok(()));
        assert_eq!(connections.tenant_upstream(A), 2);
        assert_eq!(connections.account(AccountId(0)), 2);

        drop((first, second));
        assert_eq!(connections.tenant_upstream(A), 0);
        assert_eq!(connections.account(AccountId(0)), 0);
    });
}

#[test]
fn a_connection_that_cannot_become_a_full_tenants_stays_whose_it_was() {
    with_client(|connections, client| {
        let begin = |tenant| connections.begin_upstream(tenant, AccountId(1), source("127.0.7.3"));
        let (_, _full) = begin(Some(B)).unwrap();
        let (_, mut other) = begin(Some(A)).unwrap();
        assert_eq!(other.assign(client, Some(B)), Err(Denied::TenantFull));
        assert_eq!(other.tenant(), Some(A));
        assert_eq!(connections.tenant_upstream(A), 1);
        assert_eq!(connections.tenant_upstream(B), 1);
    });
}

#[test]
fn a_call_is_heard_when_every_worker_has_heard_it() {
    with_client(|connections, _| {
        let shortages = &connections.shortages;
        let short = Short::Account(AccountId(1));
        let first = shortages.call(short, 1);
        shortages.note_heard(0, shortages.last_call());
        assert!(!first.was_heard());
        let second = shortages.call(Short::Tenant(A), 1);
        shortages.note_heard(1, shortages.last_call());
        assert!(first.was_heard() && !second.was_heard());
        // A worker that has ended keeps nobody waiting.
        shortages.note_heard(0, u64::MAX);
        assert!(second.was_heard());

        assert!(shortages.is_waited_for(short));
        assert!(!shortages.is_waited_for(Short::Account(AccountId(0))));
        drop(first);
        assert!(!shortages.is_waited_for(short));
    });
}

#[test]
fn addresses_have_the_numbers_of_the_kernels_plan() {
    let numbered = upstream::numbered_addresses(&policy());
    let expected = [
        vec![("127.0.7.1", 0), ("127.0.7.2", 1), ("fd00:7::1", 2)],
        vec![("127.0.7.3", 3), ("fd00:7::3", 4)],
    ];
    let expected = expected.map(|addresses| {
        let addresses = addresses.into_iter();
        addresses
            .map(|(address, number)| (source(address), number))
            .collect::<Vec<_>>()
    });
    assert_eq!(*numbered, expected);
}
