//! Connections that wait in the queue of a listener that closes are accepted by another worker.

use crate::harness::diag;
use crate::harness::socket::{accept, accept_waiting, connect_untagged, enter, errno, listen_for};
use crate::harness::{Stage, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::errno::FULL;
use relay_ebpf::{ControlDestination, Kernel, Plan};
use socket2::Socket;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

const ON: &str = "127.0.0.1:7500";
const WORKERS: u32 = 4;
const CONNECTIONS: u32 = 100;

fn address() -> SocketAddr {
    ON.parse().expect("an address and a port")
}

/// The kernel side, and a listener for each worker.
fn set_up(
    stage: &Stage,
    workers: u32,
    source_connections_max: Option<u32>,
) -> (Kernel, Vec<Socket>) {
    let address = address();
    let plan = Plan {
        source_connections_max,
        control_destinations: vec![ControlDestination { address }],
        workers,
        ..Plan::default()
    };
    let mut kernel = stage.establish(&plan);
    let listener = |worker| listen_for(worker, address);
    let listeners: Vec<_> = (0..workers).map(listener).collect();
    let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    kernel.steer(0, address, &sockets).expect("steering");
    (kernel, listeners)
}

#[test]
fn a_queue_moves_when_its_listener_closes() {
    scenario(
        "migration::a_queue_moves_when_its_listener_closes",
        |stage| {
            let (kernel, mut listeners) = set_up(stage, WORKERS, None);
            let address = address();
            let connect = |_| connect_untagged(address).expect("control traffic");
            let mut near: Vec<_> = (0..CONNECTIONS).map(connect).collect();
            let live = kernel.live();
            let counts = || {
                (0..WORKERS)
                    .map(|worker| live.worker(worker))
                    .collect::<Vec<_>>()
            };
            until("all wait", || {
                counts().iter().sum::<u64>() == u64::from(CONNECTIONS)
            });
            assert_eq!(counts(), [25; 4]);
            for socket in &mut near {
                socket.write_all(b"?").expect("a byte ahead");
            }

            // One after the other closes, until one is left with everything.
            while listeners.len() > 1 {
                drop(listeners.remove(0));
            }
            let last = WORKERS - 1;
            let mut accepted = 0;
            let mut served = Vec::new();
            while let Some(mut socket) = accept_waiting(&listeners[0]) {
                enter(&socket, last).expect("no cap");
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("what was sent ahead");
                socket.write_all(b"!").expect("an answer");
                served.push(socket);
                accepted += 1;
            }
            for socket in &mut near {
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("an answer");
            }
            let migrated = live.counter(Counter::Migrated);
            stage.figure(&format!("{accepted} of {CONNECTIONS} accepted by the last of {WORKERS}, moved {migrated} times"));
            assert_eq!(accepted, CONNECTIONS);
            assert!(migrated >= 75, "{migrated}");
            assert_eq!(
                counts(),
                [0, 0, 0, u64::from(CONNECTIONS)],
                "counted at who serves them"
            );
            drop(served);
            drop(near);
            until("nobody is left", || {
                counts() == [0; 4] && !diag::live().contains(&address)
            });
        },
    );
}

/// Refused is who knocks, not who is in already.
#[test]
fn a_queue_moves_though_its_source_is_at_its_cap() {
    scenario(
        "migration::a_queue_moves_though_its_source_is_at_its_cap",
        |stage| {
            const CAP: u32 = 2;
            let (kernel, mut listeners) = set_up(stage, 2, Some(CAP));
            let connect = |_| connect_untagged(address()).expect("control traffic");
            let near: Vec<_> = (0..12).map(connect).collect();
            let live = kernel.live();
            until("all wait", || (live.worker(0), live.worker(1)) == (6, 6));
            let served: Vec<_> = (0..CAP)
                .map(|_| {
                    let socket = accept(&listeners[1]);
                    enter(&socket, 1).expect("below the cap");
                    socket
                })
                .collect();
            assert_eq!(
                errno(connect_untagged(address())),
                libc::ECONNREFUSED,
                "the source is at its cap"
            );
            drop(listeners.remove(0));
            let moved: Vec<_> = std::iter::from_fn(|| accept_waiting(&listeners[0])).collect();
            assert_eq!(moved.len(), 12 - CAP as usize, "nobody was lost");
            for socket in &moved {
                assert_eq!(errno(enter(socket, 1)), FULL, "the cap is exact");
            }
            drop((near, served));
        },
    );
}
