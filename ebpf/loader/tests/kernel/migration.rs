//! Connections that wait in the queue of a listener that closes are accepted by another worker.

use crate::harness::diag;
use crate::harness::socket::{accept_waiting, connect_untagged, enter, listen_for};
use crate::harness::{scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::{ControlDestination, Plan};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

const WORKERS: u32 = 4;
const CONNECTIONS: u32 = 100;

#[test]
fn a_queue_moves_when_its_listener_closes() {
    scenario(
        "migration::a_queue_moves_when_its_listener_closes",
        |stage| {
            let address: SocketAddr = "127.0.0.1:7500".parse().expect("an address");
            let plan = Plan {
                control_destinations: vec![ControlDestination { address }],
                workers: WORKERS,
                ..Plan::default()
            };
            let mut kernel = stage.establish(&plan);
            let mut listeners: Vec<_> = (0..WORKERS)
                .map(|worker| listen_for(worker, address))
                .collect();
            let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
            kernel.steer(0, address, &sockets).expect("steering");
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
