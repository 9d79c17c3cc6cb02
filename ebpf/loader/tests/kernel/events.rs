//! Every connection to a provider is reported when it is established and when it ends, with its figures.

use crate::harness::socket::{connect, errno, listen, local, reset, stream, tag};
use crate::harness::{pins, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::map::IP_OWNER;
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::abi::record::Event;
use relay_ebpf::abi::{NOBODY, address_bytes, address_of};
use relay_ebpf::{AccountPlan, Kernel, Plan, TenantPlan};
use socket2::Socket;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn plan() -> Plan {
    let account = |egress| AccountPlan {
        connections_max: None,
        egress: vec![ip(egress)],
    };
    Plan {
        tenants: vec![TenantPlan::default(); 2],
        accounts: vec![account("127.0.7.1"), account("127.0.8.1"), account("::1")],
        workers: 1,
        ..Plan::default()
    }
}

/// The next events, as many as these.
fn next(kernel: &mut Kernel, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    until("the events come", || {
        kernel.take_events(|event| events.push(*event));
        events.len() >= count
    });
    assert_eq!(events.len(), count, "{events:?}");
    events
}

fn ends(event: &Event) -> (SocketAddr, SocketAddr) {
    let port = |port| u16::try_from(port).expect("a port");
    (
        SocketAddr::new(address_of(event.source), port(event.source_port)),
        SocketAddr::new(address_of(event.destination), port(event.destination_port)),
    )
}

/// Sends and receives this much over the connection.
fn exchange(near: &mut Socket, far: &mut Socket, sent: usize, received: usize) {
    near.write_all(&vec![1; sent]).expect("sent");
    far.read_exact(&mut vec![0; sent]).expect("received");
    far.write_all(&vec![2; received]).expect("sent");
    near.read_exact(&mut vec![0; received]).expect("received");
}

#[test]
fn connections_are_reported_with_their_bytes() {
    scenario(
        "events::connections_are_reported_with_their_bytes",
        |stage| {
            let listeners = ["127.0.0.1:0", "127.0.0.1:0", "[::1]:0"]
                .map(|on| listen(on.parse().expect("an address")));
            let mut kernel = stage.establish(&plan());
            for (account, listener) in listeners.iter().enumerate() {
                for (round, (sent, received)) in [(0, 0), (1, 0), (1_000, 20_000), (50_000, 7)]
                    .into_iter()
                    .enumerate()
                {
                    let account = account as u32;
                    let tenant = [Some(0), Some(1), None][round % 3];
                    let to = local(listener);
                    let mut near =
                        connect(Plan::tag(tenant, account, ROUND_ROBIN), to).expect("connects");
                    let from = local(&near);
                    let mut far = listener.accept().expect("the connection").0;
                    let opened = next(&mut kernel, 1)[0];
                    assert_eq!(opened.kind, Event::OPENED);
                    assert_eq!(opened.tenant, tenant.unwrap_or(NOBODY));
                    assert_eq!((opened.account, opened.address), (account, account));
                    assert_eq!(ends(&opened), (from, to));
                    exchange(&mut near, &mut far, sent, received);
                    if round.is_multiple_of(2) {
                        drop(near);
                        drop(far);
                    } else {
                        drop(far);
                        drop(near);
                    }
                    let closed = next(&mut kernel, 1)[0];
                    assert_eq!(closed.kind, Event::CLOSED);
                    assert_eq!((closed.cookie, closed.account), (opened.cookie, account));
                    assert_eq!(ends(&closed), (from, to));
                    let bytes = (closed.bytes_sent, closed.bytes_received);
                    assert_eq!(
                        bytes,
                        (sent as u64, received as u64),
                        "payload, and nothing else"
                    );
                    assert_eq!(closed.established_at_ns, opened.established_at_ns);
                    assert!(
                        closed.at_ns > closed.established_at_ns && closed.established_at_ns > 0
                    );
                    assert!((1..1_000_000).contains(&closed.rtt_us), "{}", closed.rtt_us);
                    assert_eq!(closed.is_violation, 0);
                }
            }
            assert_eq!(kernel.live().counter(Counter::EgressViolation), 0);
            assert_eq!(kernel.live().counter(Counter::EventLost), 0);
        },
    );
}

#[test]
fn who_used_a_connection_last_is_reported_and_what_never_was_one() {
    scenario(
        "events::who_used_a_connection_last_is_reported_and_what_never_was_one",
        |stage| {
            let listener = listen("127.0.0.1:0".parse().expect("an address"));
            let to = local(&listener);
            let mut kernel = stage.establish(&plan());
            let near = connect(Plan::tag(Some(0), 0, ROUND_ROBIN), to).expect("connects");
            tag(&near, Plan::tag(Some(1), 0, ROUND_ROBIN)).expect("the other tenant");
            reset(near);
            let events = next(&mut kernel, 2);
            assert_eq!((events[0].kind, events[0].tenant), (Event::OPENED, 0));
            assert_eq!((events[1].kind, events[1].tenant), (Event::CLOSED, 1));
            drop(listener);
            let refused = connect(Plan::tag(Some(0), 1, ROUND_ROBIN), to);
            assert_eq!(errno(refused), libc::ECONNREFUSED);
            let failed = next(&mut kernel, 1)[0];
            assert_eq!((failed.kind, failed.account), (Event::CLOSED, 1));
            assert_eq!((failed.established_at_ns, failed.bytes_received), (0, 0));
            assert_eq!((failed.bytes_sent, failed.is_violation), (0, 0));
            assert_eq!(ends(&failed).1, to);
        },
    );
}

/// Nobody can make the kernel connect from a wrong address; but its table can be changed while a connection is on its way.
#[test]
fn a_violation_is_seen_and_so_is_a_segment_sent_again() {
    scenario(
        "events::a_violation_is_seen_and_so_is_a_segment_sent_again",
        |stage| {
            let on: SocketAddr = "127.0.0.1:7900".parse().expect("an address");
            let listener = stream(on);
            listener.bind(&on.into()).expect("the address");
            listener.listen(0).expect("a queue for one");
            let filling = stream(on);
            filling.connect(&on.into()).expect("the one");
            let mut kernel = stage.establish(&plan());

            let near = stream(on);
            tag(&near, Plan::tag(None, 0, ROUND_ROBIN)).expect("the tag");
            near.set_nonblocking(true).expect("O_NONBLOCK");
            assert_eq!(errno(near.connect(&on.into())), libc::EINPROGRESS);
            let mut owners = pins::hash::<[u8; 16], u32>(&stage.places(), IP_OWNER);
            let source = address_bytes(ip("127.0.7.1"));
            owners.insert(source, 1, 0).expect("another owner");
            drop(listener.accept().expect("room in the queue"));
            // The SYN is sent again after a second.
            let opened = next(&mut kernel, 1)[0];
            assert_eq!((opened.kind, opened.is_violation), (Event::OPENED, 1));
            assert_eq!(kernel.live().counter(Counter::EgressViolation), 1);
            let surveyor = kernel.surveyor().expect("a surveyor");
            let shared = surveyor.accounts_sharing_address().expect("a number");
            assert_ne!(shared, 0, "an address of the plan is somebody else's");
            owners.insert(source, 0, 0).expect("the right owner");
            reset(near);
            let closed = next(&mut kernel, 1)[0];
            assert_eq!(closed.kind, Event::CLOSED);
            assert!(closed.retransmits >= 1, "the SYN was sent again");
            drop(filling);
        },
    );
}
