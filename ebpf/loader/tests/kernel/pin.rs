//! Every connection of an account leaves from one of its own addresses: 100,000 of them across two network namespaces, with
//! the far side as the witness.

use crate::harness::link;
use crate::harness::socket::{self, connect, local, reset, wait_for_end};
use crate::harness::{Stage, scaled, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::option::{LEAST_USED, ROUND_ROBIN};
use relay_ebpf::{AccountPlan, Kernel, Plan};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// IPv4 and IPv6 addresses of each account.
const ADDRESSES: [(u8, u8); 4] = [(3, 2), (2, 3), (1, 1), (4, 2)];

/// Of each family: connections with the addresses in turn, and with one address asked for; all accounts together.
const TURNS: [(usize, usize); 2] = [(60_000, 10_000), (24_000, 6_000)];

/// Connections that are held while the least used address is asked for.
const HELD: u32 = 40;

/// The far side ends a connection to the port of account `n` once a byte has come: a reset could otherwise be there before
/// `connect(2)` has returned, which is then its error.
const PORT: u16 = 5_000;

/// It keeps connections to this one.
const HOLDING_PORT: u16 = 6_000;

/// How often an address has come to a port.
type Seen = HashMap<(u16, IpAddr), u64>;

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn far(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)),
        }
    }

    fn near(self, account: usize, number: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, 1 + account as u8, 1 + number)),
            Self::V6 => {
                let (account, number) = (1 + account as u16, 1 + u16::from(number));
                IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, account, number))
            }
        }
    }

    fn addresses(self, account: usize) -> Vec<IpAddr> {
        let (v4, v6) = ADDRESSES[account];
        let count = match self {
            Self::V4 => v4,
            Self::V6 => v6,
        };
        (0..count)
            .map(|number| self.near(account, number))
            .collect()
    }

    fn prefix_bits(self) -> u8 {
        match self {
            Self::V4 => 16,
            Self::V6 => 64,
        }
    }
}

fn plan() -> Plan {
    let account = |number| AccountPlan {
        connections_max: None,
        egress: [Family::V4, Family::V6]
            .into_iter()
            .flat_map(|family| family.addresses(number))
            .collect(),
    };
    Plan {
        accounts: (0..ADDRESSES.len()).map(account).collect(),
        workers: 1,
        ..Plan::default()
    }
}

/// The far side, in a network namespace of its own, reached through a pair of interfaces.
struct Far {
    seen: Arc<Mutex<Seen>>,
}

impl Far {
    /// `None` if this kernel has no such interfaces.
    fn begin(stage: &Stage) -> Option<Self> {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let (ready, is_ready) = channel();
        let (connected, is_connected) = channel();
        let witness = Arc::clone(&seen);
        std::thread::spawn(move || {
            link::enter_new_namespace();
            ready
                .send(link::namespace_of_this_thread())
                .expect("a reader");
            let Ok(ready) = is_connected.recv() else {
                return;
            };
            serve(&witness, &ready);
        });
        let namespace = is_ready.recv().expect("a namespace");
        if let Err(error) = link::connect_namespaces("near", "far", &namespace) {
            stage.skip(&format!(
                "no pair of interfaces between namespaces: {error}"
            ));
            return None;
        }
        let (ready, is_ready) = channel();
        connected.send(ready).expect("the far side");
        for family in [Family::V4, Family::V6] {
            for account in 0..ADDRESSES.len() {
                for address in family.addresses(account) {
                    link::add_address("near", address, family.prefix_bits());
                }
            }
        }
        link::set_up("near");
        is_ready.recv().expect("the far side listens");
        Some(Self { seen })
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no witness has failed").clone()
    }
}

/// Listens on a port for each account, and on one where connections are kept.
fn serve(seen: &Arc<Mutex<Seen>>, ready: &Sender<()>) {
    for family in [Family::V4, Family::V6] {
        link::add_address("far", family.far(), family.prefix_bits());
    }
    link::set_up("far");
    let accounts = ADDRESSES.len() as u16;
    for family in [Family::V4, Family::V6] {
        for port in (PORT..PORT + accounts).chain([HOLDING_PORT]) {
            let listener = socket::listen(SocketAddr::new(family.far(), port));
            let seen = Arc::clone(seen);
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                loop {
                    let (mut socket, peer) = listener.accept().expect("a connection");
                    let peer = peer.as_socket().expect("an address").ip();
                    *seen
                        .lock()
                        .expect("no panic")
                        .entry((port, peer))
                        .or_default() += 1;
                    match port {
                        HOLDING_PORT => kept.push(socket),
                        _ => {
                            socket.read_exact(&mut [0]).expect("a byte");
                            reset(socket);
                        }
                    }
                }
            });
        }
    }
    ready.send(()).expect("the scenario");
    loop {
        std::thread::park();
    }
}

/// Connects for one account, first with its addresses in turn, then with each of them asked for; returns what it saw.
fn connect_all(plan: &Plan, family: Family, account: usize, turns: usize, hints: usize) -> Seen {
    let port = PORT + account as u16;
    let to = SocketAddr::new(family.far(), port);
    let own = family.addresses(account);
    let mut seen = Seen::new();
    let mut once = |address: u32| {
        let tag = Plan::tag(None, account as u32, address);
        let mut socket = connect(tag, to).expect("a connection");
        let source = local(&socket).ip();
        assert!(own.contains(&source), "{source} for account {account}");
        *seen.entry((port, source)).or_default() += 1;
        socket.write_all(b"!").expect("a byte");
        wait_for_end(&socket);
        source
    };
    for _ in 0..turns {
        once(ROUND_ROBIN);
    }
    for turn in 0..hints {
        let wanted = own[turn % own.len()];
        let index = plan.address_index(account, wanted).expect("an own address");
        assert_eq!(once(index), wanted, "the address that was asked for");
    }
    seen
}

#[test]
fn each_of_100_000_connections_leaves_from_its_accounts_own_addresses() {
    scenario(
        "pin::each_of_100_000_connections_leaves_from_its_accounts_own_addresses",
        |stage| {
            let Some(far) = Far::begin(stage) else {
                return;
            };
            let plan = plan();
            let kernel = stage.establish(&plan);
            let began = Instant::now();
            let mut expected = Seen::new();
            let mut connections = 0;
            for (family, (turns, hints)) in [Family::V4, Family::V6].into_iter().zip(TURNS) {
                let of_account = |all| scaled(all) / ADDRESSES.len();
                let (turns, hints) = (of_account(turns), of_account(hints));
                connections += (turns + hints) * ADDRESSES.len();
                std::thread::scope(|scope| {
                    let start = |account| {
                        let plan = &plan;
                        scope.spawn(move || connect_all(plan, family, account, turns, hints))
                    };
                    let threads: Vec<_> = (0..ADDRESSES.len()).map(start).collect();
                    for (account, thread) in threads.into_iter().enumerate() {
                        let seen = thread.join().expect("no failure");
                        assert_even(&seen, family.addresses(account).len());
                        expected.extend(seen);
                    }
                });
            }
            let took = began.elapsed();
            let total: u64 = expected.values().sum();
            assert_eq!(total, connections as u64);
            assert_eq!(far.seen(), expected, "what the far side saw");
            assert_eq!(kernel.live().counter(Counter::EgressViolation), 0);
            assert_nothing_live(&kernel, &plan);
            stage.figure(&format!(
                "{total} connections, {} sources at {} ports, none wrong; {:.1} s",
                ADDRESSES.iter().map(|(v4, v6)| v4 + v6).sum::<u8>(),
                ADDRESSES.len(),
                took.as_secs_f64()
            ));
            least_used(&plan, &kernel, &far);
        },
    );
}

/// Whether the addresses were used equally often, to one turn for each way of asking.
fn assert_even(seen: &Seen, addresses: usize) {
    let least = seen.values().min().expect("an address");
    let most = seen.values().max().expect("an address");
    assert_eq!(seen.len(), addresses, "all addresses are used");
    assert!(most - least <= 2, "{seen:?}");
}

fn assert_nothing_live(kernel: &Kernel, plan: &Plan) {
    let live = kernel.live();
    until("all connections are given back", || {
        let accounts = 0..plan.accounts.len() as u32;
        let addresses: usize = plan
            .accounts
            .iter()
            .map(|account| account.egress.len())
            .sum();
        accounts.map(|account| live.account(account)).sum::<u64>() == 0
            && (0..addresses as u32).all(|address| live.address(address) == 0)
    });
}

/// One address has connections already: the others are used until all have the same number.
fn least_used(plan: &Plan, kernel: &Kernel, far: &Far) {
    const ACCOUNT: usize = 3;
    for family in [Family::V4, Family::V6] {
        let to = SocketAddr::new(family.far(), HOLDING_PORT);
        let own = family.addresses(ACCOUNT);
        let index = |address| {
            plan.address_index(ACCOUNT, address)
                .expect("an own address")
        };
        let first = index(own[0]);
        let to_first = (0..5).map(|_| first);
        let held: Vec<_> = to_first
            .chain((5..HELD).map(|_| LEAST_USED))
            .map(|address| connect(Plan::tag(None, ACCOUNT as u32, address), to).expect("connects"))
            .collect();
        let each = u64::from(HELD) / own.len() as u64;
        for address in own {
            assert_eq!(kernel.live().address(index(address)), each, "{address}");
            until("the far side has seen all of them", || {
                far.seen().get(&(HOLDING_PORT, address)) == Some(&each)
            });
        }
        drop(held);
    }
    assert_nothing_live(kernel, plan);
}
