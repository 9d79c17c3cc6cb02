//! Who is over a cap is refused before the handshake: the client sees a refused connection, the listener nothing.

use crate::harness::socket::{
    accept, accept_waiting, claim, connect_untagged, enter, errno, listen_for, reset, stream,
};
use crate::harness::{Stage, scenario, until};
use relay_ebpf::abi::NOBODY;
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::{ControlDestination, Kernel, Network, Plan, TenantPlan};
use socket2::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

const CAP: u32 = 3;
const V4: &str = "127.0.0.1:7300";
const V6: &str = "[::1]:7300";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn plan(source_connections_max: Option<u32>) -> Plan {
    let network = |address: &str, prefix_bits| Network {
        address: address.parse().expect("an address"),
        prefix_bits,
    };
    let tenant = |networks| TenantPlan {
        connections_max: Some(CAP),
        networks,
    };
    Plan {
        tenants: vec![
            tenant(vec![network("127.0.16.0", 20), network("::1", 128)]),
            tenant(vec![network("127.0.20.0", 24)]),
        ],
        source_connections_max,
        control_destinations: [V4, V6]
            .map(|address| ControlDestination {
                address: at(address),
            })
            .to_vec(),
        workers: 1,
        ..Plan::default()
    }
}

/// One worker that listens on both families.
struct Scene {
    kernel: Kernel,
    listeners: [Socket; 2],
}

impl Scene {
    fn set_up(stage: &Stage, plan: &Plan) -> Self {
        let mut kernel = stage.establish(plan);
        let listeners = [V4, V6].map(|address| listen_for(0, at(address)));
        for (number, (listener, address)) in listeners.iter().zip([V4, V6]).enumerate() {
            kernel
                .steer(number, at(address), &[listener.as_fd()])
                .expect("steering");
        }
        Self { kernel, listeners }
    }

    /// Connects from this address, and accepts.
    fn come(&self, source: &str) -> io::Result<(Socket, Socket)> {
        let source: IpAddr = source.parse().expect("an address");
        let to = at(if source.is_ipv4() { V4 } else { V6 });
        let near = stream(to);
        near.bind(&SocketAddr::new(source, 0).into())?;
        near.connect(&to.into())?;
        let listener = &self.listeners[usize::from(source.is_ipv6())];
        let accepted = accept(listener);
        Ok((near, accepted))
    }

    fn assert_refused(&self, source: &str, counter: Counter) {
        let before = self.kernel.live().counter(counter);
        assert_eq!(errno(self.come(source)), libc::ECONNREFUSED, "{source}");
        assert_eq!(self.kernel.live().counter(counter) - before, 1, "{source}");
        for listener in &self.listeners {
            assert!(
                accept_waiting(listener).is_none(),
                "nothing reaches the listener"
            );
        }
    }
}

#[test]
fn a_tenant_over_its_cap_is_refused_by_its_network() {
    scenario(
        "syn::a_tenant_over_its_cap_is_refused_by_its_network",
        |stage| {
            let scene = Scene::set_up(stage, &plan(None));
            let live = scene.kernel.live();
            let inside = ["127.0.16.1", "127.0.19.255", "::1", "127.0.31.7"];
            let mut held = Vec::new();
            for source in ["127.0.17.1", "127.0.17.2", "::1"] {
                let (near, accepted) = scene.come(source).expect("below the cap");
                claim(&accepted, 0).expect("below the cap");
                held.push((near, accepted));
            }
            for source in inside {
                scene.assert_refused(source, Counter::SynRefusedTenant);
            }
            // The longest prefix decides, and other networks are nobody's.
            for source in ["127.0.20.9", "127.0.32.1", "127.0.0.1"] {
                drop(scene.come(source).expect("not of this tenant"));
            }
            let (near, accepted) = held.pop().expect("one");
            reset(accepted);
            drop(near);
            until("its place is free", || live.tenant_inbound(0) == 2);
            for source in inside {
                drop(scene.come(source).expect("below the cap again"));
            }
            claim(&held[0].1, NOBODY).expect("given back");
            assert_eq!(live.tenant_inbound(0), 1);
            drop(scene.come("127.0.16.1").expect("far below the cap"));
        },
    );
}

#[test]
fn a_source_over_its_cap_is_refused() {
    scenario("syn::a_source_over_its_cap_is_refused", |stage| {
        let scene = Scene::set_up(stage, &plan(Some(CAP)));
        for source in ["127.0.40.1", "::1"] {
            let mut held = Vec::new();
            for _ in 0..CAP {
                let (near, accepted) = scene.come(source).expect("below the cap");
                enter(&accepted, 0).expect("below the cap");
                held.push((near, accepted));
            }
            scene.assert_refused(source, Counter::SynRefusedSource);
            let (_near, accepted) = scene.come("127.0.40.2").expect("another source");
            enter(&accepted, 0).expect("another source");
            let (near, accepted) = held.pop().expect("one");
            reset(accepted);
            drop(near);
            let (_near, accepted) = scene.come(source).expect("a place is free");
            enter(&accepted, 0).expect("a place is free");
            scene.assert_refused(source, Counter::SynRefusedSource);
        }
        until("nobody is left", || scene.kernel.live().worker(0) == 0);
        connect_untagged(at(V4)).expect("no place is held");
    });
}
