//! A new connection is refused with an error of its own before the kernel runs out of ports.

use crate::harness::socket::{connect, errno, listen, local, reset, wait_for_end};
use crate::harness::{scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::errno::PORTS_SHORT;
use relay_ebpf::abi::option::{ROUND_ROBIN, Tag};
use relay_ebpf::{AccountPlan, Plan};
use socket2::Socket;
use std::fs;
use std::io;
use std::net::SocketAddr;

/// Ports that connections may leave from, in this scenario's network.
const RANGE: [u32; 2] = [40_000, 40_511];

/// Connects until the programs refuse.
fn connect_until_short(tag: Tag, to: SocketAddr, listener: &Socket) -> Vec<(Socket, Socket)> {
    let once = || -> io::Result<_> {
        let near = connect(tag, to)?;
        Ok((near, listener.accept()?.0))
    };
    let mut held = Vec::new();
    loop {
        match once() {
            Ok(pair) => held.push(pair),
            Err(error) => {
                assert_eq!(
                    error.raw_os_error(),
                    Some(PORTS_SHORT),
                    "after {}",
                    held.len()
                );
                return held;
            }
        }
    }
}

#[test]
fn ports_are_refused_before_the_kernel_has_none() {
    scenario(
        "ports::ports_are_refused_before_the_kernel_has_none",
        |stage| {
            let range = format!("{} {}", RANGE[0], RANGE[1]);
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("fewer ports");
            let on = |port: u16| SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
            let (first, second) = (listen(on(8_100)), listen(on(8_101)));
            let plan = Plan {
                accounts: vec![AccountPlan {
                    connections_max: None,
                    egress: vec!["127.0.7.1".parse().expect("an address")],
                }],
                workers: 1,
                ..Plan::default()
            };
            let kernel = stage.establish(&plan);
            let live = kernel.live();
            let mut surveyor = kernel.surveyor().expect("a surveyor");
            let tag = Plan::tag(None, 0, ROUND_ROBIN);
            let to = local(&first);
            let mut held = connect_until_short(tag, to, &first);
            assert_eq!(live.counter(Counter::PortsShort), 1);
            let all = RANGE[1] - RANGE[0] + 1;
            let open = held.len() as u32;
            assert!(
                open < all && open >= all / 2,
                "{open} of {all}, with a reserve"
            );
            let of_first = |paths: &[relay_ebpf::PathPorts]| {
                let path = paths
                    .iter()
                    .find(|path| path.destination == to)
                    .expect("the path");
                (path.open, path.waiting, path.ports_max)
            };
            let surveyed = surveyor.survey().expect("the list of ports");
            assert_eq!(of_first(&surveyed), (open, 0, open));
            drop(connect(tag, local(&second)).expect("ports to another destination"));

            // Closed here first: the port stays taken for a minute, though nothing is open.
            for (near, far) in held.drain(..100) {
                drop(near);
                drop(far);
            }
            until("they are closed", || {
                live.account(0) == u64::from(open) - 100
            });
            let surveyed = surveyor.survey().expect("the list of ports");
            assert_eq!(of_first(&surveyed), (open - 100, 100, open));
            assert_eq!(
                errno(connect(tag, to)),
                PORTS_SHORT,
                "those in TIME_WAIT are counted"
            );

            // Ended by a reset the port is free at once.
            for (near, far) in held.drain(..20) {
                reset(far);
                wait_for_end(&near);
                drop(near);
            }
            let surveyed = surveyor.survey().expect("the list of ports");
            assert_eq!(of_first(&surveyed), (open - 120, 100, open));
            let again = connect_until_short(tag, to, &first);
            assert_eq!(again.len(), 20);
            stage.figure(&format!(
                "{all} ports: refused after {open}; 100 in TIME_WAIT are counted; no EADDRNOTAVAIL"
            ));
        },
    );
}
