//! Connections that stay open are spread evenly over the workers; the kernel's own hash does not do that.

use crate::harness::socket::{accept_waiting, connect_untagged, listen_for, reset, stream};
use crate::harness::{scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::{ControlDestination, Kernel, Plan};
use socket2::Socket;
use std::net::SocketAddr;
use std::os::fd::AsFd;

const WORKERS: usize = 8;

/// Connections of one batch: few enough that a hash spreads them visibly unevenly.
const BATCH: usize = 200;
const BATCHES: usize = 15;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn plan(listeners: &[SocketAddr], workers: usize) -> Plan {
    Plan {
        control_destinations: listeners
            .iter()
            .map(|address| ControlDestination { address: *address })
            .collect(),
        workers: workers as u32,
        ..Plan::default()
    }
}

/// Workers that listen on one address, with the connections that each has accepted.
struct Workers {
    address: SocketAddr,
    listeners: Vec<Socket>,
    accepted: Vec<Vec<(Socket, Socket)>>,
}

impl Workers {
    fn listen(address: SocketAddr, count: usize) -> Self {
        let listener = |worker| listen_for(worker as u32, address);
        Self {
            address,
            listeners: (0..count).map(listener).collect(),
            accepted: (0..count).map(|_| Vec::new()).collect(),
        }
    }

    fn steer(&self, kernel: &mut Kernel, number: usize) {
        let sockets: Vec<_> = self.listeners.iter().map(AsFd::as_fd).collect();
        kernel
            .steer(number, self.address, &sockets)
            .expect("steering");
    }

    /// Opens connections, keeps them, and returns how many each worker got.
    fn open(&mut self, connections: usize) -> Vec<usize> {
        let mut got = vec![0; self.listeners.len()];
        for _ in 0..connections {
            let near = connect_untagged(self.address).expect("control traffic");
            let mut found = None;
            until("one of the workers has it", || {
                let accepted = self.listeners.iter().map(accept_waiting);
                found = (0..)
                    .zip(accepted)
                    .find_map(|(worker, one)| Some((worker, one?)));
                found.is_some()
            });
            let (worker, accepted): (usize, _) = found.expect("one of them");
            got[worker] += 1;
            self.accepted[worker].push((near, accepted));
        }
        got
    }

    fn open_now(&self) -> Vec<usize> {
        self.accepted.iter().map(Vec::len).collect()
    }
}

/// The busiest worker against the mean.
fn imbalance(connections: &[usize]) -> f64 {
    let most = connections.iter().max().copied().unwrap_or_default();
    let all: usize = connections.iter().sum();
    most as f64 * connections.len() as f64 / all as f64
}

/// The worst batch, and everything together.
fn spread(workers: &mut Workers) -> (f64, f64) {
    let batches = (0..BATCHES).map(|_| imbalance(&workers.open(BATCH)));
    let worst = batches.fold(0.0, f64::max);
    (worst, imbalance(&workers.open_now()))
}

#[test]
fn eight_workers_get_the_same_number_of_connections() {
    scenario(
        "steering::eight_workers_get_the_same_number_of_connections",
        |stage| {
            let (by_hash, steered) = (at("127.0.0.1:7400"), at("127.0.0.1:7401"));
            let mut kernel = stage.establish(&plan(&[by_hash, steered], WORKERS));
            let mut workers = Workers::listen(by_hash, WORKERS);
            let (hash_worst, hash_all) = spread(&mut workers);
            drop(workers);
            let live = kernel.live();
            until("nobody is left", || {
                (0..WORKERS as u32).all(|worker| live.worker(worker) == 0)
            });

            let mut workers = Workers::listen(steered, WORKERS);
            workers.steer(&mut kernel, 0);
            let (worst, all) = spread(&mut workers);
            let total = BATCH * BATCHES;
            stage.figure(&format!(
                "{total} connections in batches of {BATCH}, max/mean over {WORKERS} workers: \
             steered {worst:.3} in the worst batch, {all:.3} in all; \
             by the kernel's hash {hash_worst:.3} and {hash_all:.3}"
            ));
            assert!(hash_worst > 1.2, "the hash is uneven: {hash_worst}");
            assert!(worst <= 1.05 && all <= 1.05, "steered: {worst} and {all}");
            assert!(live.counter(Counter::Steered) >= total as u64);
            assert_eq!(live.counter(Counter::SteeringFellBack), 0);
            assert_counts(&workers, &kernel);

            // Two workers lose most of what they have: new connections go to them until all are even again.
            for lost in &mut workers.accepted[..2] {
                lost.drain(..300).for_each(|(near, accepted)| {
                    reset(accepted);
                    drop(near);
                });
            }
            let got = workers.open(600);
            assert_eq!(
                got[2..],
                [0; WORKERS - 2],
                "those that have enough get none"
            );
            assert!(
                imbalance(&workers.open_now()) <= 1.05,
                "{:?}",
                workers.open_now()
            );
            assert_counts(&workers, &kernel);
        },
    );
}

/// What the kernel counts for each worker is what the worker has.
fn assert_counts(workers: &Workers, kernel: &Kernel) {
    let live = kernel.live();
    until("the counts are those of the workers", || {
        let counted = (0..WORKERS as u32).map(|worker| live.worker(worker) as usize);
        counted.eq(workers.open_now())
    });
}

#[test]
fn many_clients_at_once_are_spread_evenly_too() {
    scenario(
        "steering::many_clients_at_once_are_spread_evenly_too",
        |stage| {
            const CLIENTS: usize = 16;
            const EACH: usize = 125;
            let address = at("127.0.0.1:7410");
            let mut kernel = stage.establish(&plan(&[address], WORKERS));
            let workers = Workers::listen(address, WORKERS);
            workers.steer(&mut kernel, 0);
            let near = std::thread::scope(|scope| {
                let client = |_| {
                    scope.spawn(|| {
                        let one = |_| connect_untagged(address).expect("control traffic");
                        (0..EACH).map(one).collect::<Vec<_>>()
                    })
                };
                let clients: Vec<_> = (0..CLIENTS).map(client).collect();
                let ended = clients
                    .into_iter()
                    .map(|client| client.join().expect("no failure"));
                ended.collect::<Vec<_>>()
            });
            let live = kernel.live();
            let count = || (0..WORKERS as u32).map(|worker| live.worker(worker) as usize);
            until("all are established", || {
                count().sum::<usize>() == CLIENTS * EACH
            });
            let imbalance = imbalance(&count().collect::<Vec<_>>());
            stage.figure(&format!(
                "{CLIENTS} clients at once, {} connections: max/mean {imbalance:.3}",
                CLIENTS * EACH
            ));
            assert!(imbalance <= 1.05, "{imbalance}");
            drop(near);
        },
    );
}

#[test]
fn a_listening_address_for_any_is_steered_for_both_families() {
    scenario(
        "steering::a_listening_address_for_any_is_steered_for_both_families",
        |stage| {
            let any = at("[::]:7420");
            let reached = [at("127.0.0.1:7420"), at("[::1]:7420")];
            let mut kernel = stage.establish(&plan(&reached, 2));
            let workers = Workers::listen(any, 2);
            workers.steer(&mut kernel, 0);
            let steered = kernel.live().counter(Counter::Steered);
            let mut near = Vec::new();
            for to in reached {
                for _ in 0..10 {
                    let socket = stream(to);
                    socket.connect(&to.into()).expect("control traffic");
                    near.push(socket);
                }
            }
            assert_eq!(kernel.live().counter(Counter::Steered) - steered, 20);
            let live = kernel.live();
            until("all are established", || {
                live.worker(0) + live.worker(1) == 20
            });
            assert_eq!((live.worker(0), live.worker(1)), (10, 10));
        },
    );
}
