//! What the egress pin refuses, and what it leaves alone.

use crate::harness::socket::{
    connect, connect_untagged, errno, listen, local, set, set_raw, stream, tag,
};
use crate::harness::{Stage, link, pins, scenario};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::errno::{ADDRESS_MISSING, FAMILY_MISSING, INVALID, REFUSED};
use relay_ebpf::abi::map::IP_OWNER;
use relay_ebpf::abi::option::{CLAIM, LEAST_USED, ROUND_ROBIN, TAG, Tag};
use relay_ebpf::abi::{self, NOBODY};
use relay_ebpf::{AccountPlan, ControlDestination, Kernel, Plan, TenantPlan};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Account 0 has two IPv4 addresses and one IPv6 address; account 1 has one IPv4 address.
const FIRST: [&str; 3] = ["127.0.7.1", "127.0.7.2", "fd07::1"];
const SECOND: &str = "127.0.8.1";
const TENANTS: u32 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A listener of each family, one more that control traffic may go to, and the kernel side.
struct Scene {
    plan: Plan,
    kernel: Kernel,
    v4: Socket,
    v6: Socket,
    control: Socket,
}

impl Scene {
    fn set_up(stage: &Stage) -> Self {
        link::add_address("lo", ip("fd07::1"), 128);
        let (v4, v6) = (listen(at("127.0.0.1:0")), listen(at("[::1]:0")));
        let control = listen(at("127.0.0.1:0"));
        let account = |egress: &[&str]| AccountPlan {
            connections_max: None,
            egress: egress.iter().map(|one| ip(one)).collect(),
        };
        let plan = Plan {
            tenants: vec![TenantPlan::default(); TENANTS as usize],
            accounts: vec![account(&FIRST), account(&[SECOND])],
            control_destinations: vec![ControlDestination {
                address: local(&control),
            }],
            workers: 1,
            ..Plan::default()
        };
        let kernel = stage.establish(&plan);
        Self {
            plan,
            kernel,
            v4,
            v6,
            control,
        }
    }

    fn index(&self, account: usize, address: &str) -> u32 {
        let index = self.plan.address_index(account, ip(address));
        index.expect("one of its own")
    }

    /// Does something that must be counted once under `counter`, and returns its error.
    fn counted<T>(&self, counter: Counter, act: impl FnOnce() -> io::Result<T>) -> i32 {
        let before = self.kernel.live().counter(counter);
        let errno = errno(act());
        let after = self.kernel.live().counter(counter);
        assert_eq!(after - before, 1, "{counter:?}");
        errno
    }

    /// Nobody has come to any listener, and no place is held.
    fn assert_nothing_happened(&self) {
        for listener in [&self.v4, &self.v6] {
            listener.set_nonblocking(true).expect("O_NONBLOCK");
            let error = listener.accept().expect_err("nobody in the queue");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            listener.set_nonblocking(false).expect("O_NONBLOCK");
        }
        let live = self.kernel.live();
        assert_eq!((live.account(0), live.account(1)), (0, 0));
        assert_eq!((live.tenant_upstream(0), live.tenant_upstream(1)), (0, 0));
        assert!((0..4).all(|address| live.address(address) == 0));
    }
}

#[test]
fn untagged_sockets_go_nowhere_but_to_control_destinations() {
    scenario(
        "refuse::untagged_sockets_go_nowhere_but_to_control_destinations",
        |stage| {
            let scene = Scene::set_up(stage);
            for to in [local(&scene.v4), local(&scene.v6)] {
                let errno = scene.counted(Counter::UntaggedRefused, || connect_untagged(to));
                assert_eq!(errno, REFUSED, "{to}");
            }
            let fast_open = || send_with_fast_open(local(&scene.v4));
            assert_eq!(scene.counted(Counter::UntaggedRefused, fast_open), REFUSED);
            scene.assert_nothing_happened();
            connect_untagged(local(&scene.control)).expect("a control destination");
            let (_, peer) = scene.control.accept().expect("the connection");
            let peer = peer.as_socket().expect("an address").ip();
            assert_eq!(peer, ip("127.0.0.1"));
            assert_udp_untouched();
            multipath(stage, &scene);
            scene.assert_nothing_happened();
        },
    );
}

/// Data in the SYN (RFC 7413): a connect by way of `sendmsg(2)`.
fn send_with_fast_open(to: SocketAddr) -> io::Result<usize> {
    let socket = stream(to);
    socket.send_to_with_flags(b"data", &to.into(), libc::MSG_FASTOPEN)
}

fn assert_udp_untouched() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let client = UdpSocket::bind("127.0.9.9:0").expect("any source");
    client
        .connect(server.local_addr().expect("a name"))
        .expect("no rule for UDP");
    client.send(b"question").expect("sent");
    let mut buffer = [0; 16];
    let (bytes, from) = server.recv_from(&mut buffer).expect("a datagram");
    assert_eq!((bytes, from.ip()), (8, ip("127.0.9.9")));
}

/// Multipath TCP (RFC 8684) makes its TCP sockets inside the kernel.
fn multipath(stage: &Stage, scene: &Scene) {
    const IPPROTO_MPTCP: i32 = 262;
    let to = local(&scene.v4);
    let protocol = Some(Protocol::from(IPPROTO_MPTCP));
    match Socket::new(Domain::IPV4, Type::STREAM, protocol) {
        Ok(socket) => assert_eq!(errno(socket.connect(&to.into())), REFUSED, "multipath TCP"),
        Err(error) => stage.skip(&format!("no multipath TCP: {error}")),
    }
}

#[test]
fn an_address_of_another_account_cannot_be_had() {
    scenario(
        "refuse::an_address_of_another_account_cannot_be_had",
        |stage| {
            let scene = Scene::set_up(stage);
            let to = local(&scene.v4);
            let bound_to = |source: &str, account: u32, address: u32| {
                let socket = stream(to);
                socket
                    .bind(&at(source).into())
                    .expect("an address of this host");
                tag(&socket, Plan::tag(None, account, address)).expect("the tag");
                socket.connect(&to.into())?;
                Ok(socket)
            };
            let first = scene.index(0, "127.0.7.1");
            for (source, account, address) in [
                ("127.0.8.1:0", 0, ROUND_ROBIN),
                ("127.0.9.9:0", 0, LEAST_USED),
                ("127.0.7.1:0", 1, ROUND_ROBIN),
                // Its own address, but not the one that is asked for.
                ("127.0.7.2:0", 0, first),
                // A port, and whatever address the kernel likes.
                ("0.0.0.0:7050", 0, ROUND_ROBIN),
            ] {
                let connect = || bound_to(source, account, address);
                let errno = scene.counted(Counter::ForeignAddressRefused, connect);
                assert_eq!(errno, REFUSED, "bound to {source} for account {account}");
            }
            let other = scene.index(1, SECOND);
            let hinted = || connect(Plan::tag(None, 0, other), to);
            let errno = scene.counted(Counter::ForeignAddressRefused, hinted);
            assert_eq!(errno, REFUSED, "asked for {SECOND}");
            scene.assert_nothing_happened();
            for address in [ROUND_ROBIN, first] {
                let own = bound_to("127.0.7.1:0", 0, address).expect("one's own address");
                assert_eq!(local(&own).ip(), ip("127.0.7.1"));
                assert_eq!(scene.kernel.live().address(first), 1);
            }
        },
    );
}

#[test]
fn an_address_that_the_kernel_knows_as_anothers_is_refused() {
    scenario(
        "refuse::an_address_that_the_kernel_knows_as_anothers_is_refused",
        |stage| {
            let scene = Scene::set_up(stage);
            let to = local(&scene.v4);
            let mut owners = pins::hash::<[u8; 16], u32>(&stage.places(), IP_OWNER);
            let key = abi::address_bytes(ip("127.0.7.1"));
            assert_eq!(owners.get(&key, 0).expect("an entry"), 0);
            owners.insert(key, 1, 0).expect("a wrong owner");
            let hint = scene.index(0, "127.0.7.1");
            let conflict = || connect(Plan::tag(None, 0, hint), to);
            assert_eq!(
                scene.counted(Counter::OwnerConflictRefused, conflict),
                REFUSED
            );
            scene.assert_nothing_happened();
            let other = scene.index(0, "127.0.7.2");
            connect(Plan::tag(None, 0, other), to).expect("its other address");
            owners.remove(&key).expect("removed");
            assert_eq!(
                scene.counted(Counter::OwnerConflictRefused, conflict),
                REFUSED
            );
            owners.insert(key, 0, 0).expect("the right owner");
            connect(Plan::tag(None, 0, hint), to).expect("its own address again");
        },
    );
}

#[test]
fn families_are_kept_apart() {
    scenario("refuse::families_are_kept_apart", |stage| {
        let scene = Scene::set_up(stage);
        let (v4, v6) = (local(&scene.v4), local(&scene.v6));
        let mapped = SocketAddr::new(ip("::ffff:127.0.0.1"), v4.port());
        let tagged = || {
            let socket = stream(v6);
            tag(&socket, Plan::tag(None, 0, ROUND_ROBIN)).expect("the tag");
            socket.connect(&mapped.into())
        };
        assert_eq!(scene.counted(Counter::MappedRefused, tagged), REFUSED);
        let untagged = || stream(v6).connect(&mapped.into());
        assert_eq!(errno(untagged()), REFUSED);
        for address in [ROUND_ROBIN, LEAST_USED] {
            let none = connect(Plan::tag(None, 1, address), v6);
            assert_eq!(errno(none), FAMILY_MISSING, "account 1 has no IPv6 address");
        }
        let (hint_v4, hint_v6) = (scene.index(0, "127.0.7.1"), scene.index(0, "fd07::1"));
        assert_eq!(
            errno(connect(Plan::tag(None, 0, hint_v4), v6)),
            FAMILY_MISSING
        );
        assert_eq!(
            errno(connect(Plan::tag(None, 0, hint_v6), v4)),
            FAMILY_MISSING
        );
        scene.assert_nothing_happened();
        let socket = connect(Plan::tag(None, 0, ROUND_ROBIN), v6).expect("its IPv6 address");
        assert_eq!(local(&socket).ip(), ip("fd07::1"));
    });
}

#[test]
fn a_tag_that_names_nobody_is_refused() {
    scenario("refuse::a_tag_that_names_nobody_is_refused", |stage| {
        let scene = Scene::set_up(stage);
        let to = local(&scene.v4);
        let wrong = |tenant, account, address| Tag {
            tenant,
            account,
            address,
        };
        for tag_of_nobody in [
            wrong(NOBODY, 2, ROUND_ROBIN),
            wrong(NOBODY, u32::MAX, ROUND_ROBIN),
            wrong(abi::TENANTS_MAX, 0, ROUND_ROBIN),
            wrong(NOBODY, 0, 4),
            wrong(NOBODY, 0, abi::ADDRESSES_MAX),
        ] {
            let errno = scene.counted(Counter::TagRefused, || tag(&stream(to), tag_of_nobody));
            assert_eq!(errno, INVALID, "{tag_of_nobody:?}");
        }
        let bytes = wrong(NOBODY, 0, ROUND_ROBIN).bytes();
        for value in [&bytes[..11], &[], &[0; 4]] {
            let result = set(&stream(to), TAG, value);
            assert_eq!(errno(result), INVALID, "{} bytes", value.len());
        }
        assert_eq!(errno(set(&stream(to), CLAIM, &[0; 3])), INVALID);
        assert_eq!(
            errno(set(&stream(to), 99, &[0; 4])),
            INVALID,
            "no such option"
        );
        scene.assert_nothing_happened();
    });
}

#[test]
fn a_tag_moves_an_open_connection_to_another_tenant_and_nowhere_else() {
    scenario(
        "refuse::a_tag_moves_an_open_connection_to_another_tenant_and_nowhere_else",
        |stage| {
            let scene = Scene::set_up(stage);
            let live = scene.kernel.live();
            let (first, second) = (scene.index(0, "127.0.7.1"), scene.index(0, "127.0.7.2"));
            let socket = connect(Plan::tag(Some(0), 0, first), local(&scene.v4)).expect("connects");
            let held = || {
                (
                    live.tenant_upstream(0),
                    live.tenant_upstream(1),
                    live.account(0),
                )
            };
            assert_eq!(held(), (1, 0, 1));
            tag(&socket, Plan::tag(Some(1), 0, first)).expect("the other tenant");
            assert_eq!(held(), (0, 1, 1));
            tag(&socket, Plan::tag(None, 0, ROUND_ROBIN)).expect("nobody");
            assert_eq!(held(), (0, 0, 1));
            tag(&socket, Plan::tag(Some(0), 0, LEAST_USED)).expect("the first again");
            assert_eq!(held(), (1, 0, 1));
            let other_account = scene.index(1, SECOND);
            for tag_of in [
                Plan::tag(Some(1), 1, ROUND_ROBIN),
                Plan::tag(Some(1), 1, other_account),
                Plan::tag(Some(1), 0, second),
            ] {
                let errno = scene.counted(Counter::TagRefused, || tag(&socket, tag_of));
                assert_eq!(errno, REFUSED, "{tag_of:?}");
            }
            assert_eq!(held(), (1, 0, 1));
            drop(socket);
            assert_eq!(held(), (0, 0, 0));
        },
    );
}

#[test]
fn outside_of_the_group_there_is_no_such_option() {
    scenario(
        "refuse::outside_of_the_group_there_is_no_such_option",
        |stage| {
            if stage.role() == Some("outsider") {
                stage.say("ready");
                let to: SocketAddr = stage.hear().parse().expect("an address");
                let socket = stream(to);
                let result = tag(&socket, Plan::tag(None, 0, ROUND_ROBIN));
                assert_eq!(errno(result), libc::ENOPROTOOPT);
                socket.connect(&to.into()).expect("no rule for others");
                return;
            }
            let mut outsider = stage.start("outsider");
            assert_eq!(outsider.hear(), "ready");
            let scene = Scene::set_up(stage);
            outsider.tell(&local(&scene.v4).to_string());
            outsider.finish();
            let (_, peer) = scene.v4.accept().expect("the outsider's connection");
            let peer = peer.as_socket().expect("an address").ip();
            assert_eq!(peer, ip("127.0.0.1"));
            // Options of the kernel's own still do what they did, errors included.
            let socket = stream(local(&scene.v4));
            socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
            assert!(socket.tcp_nodelay().expect("TCP_NODELAY"));
            let unknown = set_raw(&socket, libc::SOL_SOCKET, 9_999, &[0; 4]);
            assert_eq!(errno(unknown), libc::ENOPROTOOPT);
        },
    );
}

#[test]
fn an_address_that_this_host_has_lost_is_not_replaced_by_another() {
    scenario(
        "refuse::an_address_that_this_host_has_lost_is_not_replaced_by_another",
        |stage| {
            let lost = [(ip("10.88.0.1"), 32), (ip("fd88::1"), 128)];
            for (address, bits) in lost {
                link::add_address("lo", address, bits);
            }
            let listeners = [listen(at("127.0.0.1:0")), listen(at("[::1]:0"))];
            let plan = Plan {
                accounts: vec![AccountPlan {
                    connections_max: Some(1),
                    egress: lost.map(|(address, _)| address).to_vec(),
                }],
                workers: 1,
                ..Plan::default()
            };
            let kernel = stage.establish(&plan);
            for ((address, bits), listener) in lost.into_iter().zip(&listeners) {
                let to = local(listener);
                let index = plan.address_index(0, address).expect("its own");
                let once = |hint| {
                    let socket = connect(Plan::tag(None, 0, hint), to)?;
                    assert_eq!(local(&socket).ip(), address);
                    listener.accept().map(drop)
                };
                once(ROUND_ROBIN).expect("connects");
                link::remove_address("lo", address, bits);
                let missing = kernel.live().counter(Counter::AddressMissing);
                for hint in [ROUND_ROBIN, LEAST_USED, index] {
                    assert_eq!(errno(once(hint)), ADDRESS_MISSING, "{address}");
                }
                assert_eq!(kernel.live().counter(Counter::AddressMissing) - missing, 3);
                assert_eq!(kernel.live().account(0), 0, "its place is given back");
                link::add_address("lo", address, bits);
                once(ROUND_ROBIN).expect("the address is back");
                assert_source_left(&SockAddr::from(to));
            }
        },
    );
}

/// The host has another address of the family: an unpinned socket would have left from it.
fn assert_source_left(to: &SockAddr) {
    let to = to.as_socket().expect("an address");
    let unpinned = UdpSocket::bind(SocketAddr::new(
        if to.is_ipv4() {
            ip("0.0.0.0")
        } else {
            ip("::")
        },
        0,
    ));
    let unpinned = unpinned.expect("a socket");
    unpinned.connect(to).expect("a route");
    let source = unpinned.local_addr().expect("a name").ip();
    assert!(source.is_loopback(), "{source}");
}
