//! However a connection comes to its end, its places are given back once: 500 rounds of everything that can happen to one,
//! with the counts compared against the kernel's own list of sockets.

use crate::harness::diag::{self, state};
use crate::harness::socket::{
    accept, accept_waiting, claim, connect, enter, errno, listen_for, reset, set_raw, stream, tag,
};
use crate::harness::{Stage, pins, scaled, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::map::{PATHS, SOURCES};
use relay_ebpf::abi::option::{LEAST_USED, ROUND_ROBIN, Tag};
use relay_ebpf::abi::record::PathKey;
use relay_ebpf::{AccountPlan, Kernel, Live, Plan, TenantPlan};
use socket2::Socket;
use std::io::Write;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

const ROUNDS: usize = 500;

/// Connections of one round.
const EACH: usize = 8;

/// Listens for the worker 0, accepts in time.
const SERVED: &str = "127.0.0.1:7600";

/// The same, but a connection is not there before its first byte is.
const DEFERRED: &str = "127.0.0.1:7601";

/// Listens in the process that is killed.
const KILLED: &str = "127.0.0.1:7604";

/// Of the connections to itself, it has accepted so many.
const ACCEPTED: usize = 5;

/// Its queue is full, so that it answers no SYN.
const FULL: &str = "127.0.0.1:7602";

/// Nobody listens.
const CLOSED: &str = "127.0.0.1:7603";

/// A network to which this host has no route.
const UNREACHABLE: &str = "203.0.113.1:443";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn plan() -> Plan {
    let account = |egress: [&str; 2]| AccountPlan {
        connections_max: Some(10_000),
        egress: egress.map(|one| one.parse().expect("an address")).to_vec(),
    };
    let tenant = TenantPlan {
        connections_max: Some(10_000),
        networks: Vec::new(),
    };
    Plan {
        tenants: vec![tenant; 2],
        accounts: vec![
            account(["127.0.7.1", "127.0.7.2"]),
            account(["127.0.8.1", "127.0.8.2"]),
        ],
        source_connections_max: Some(10_000),
        control_destinations: Vec::new(),
        workers: 1,
    }
}

/// Whose the n-th connection is: all combinations in turn.
fn tag_of(number: usize) -> Tag {
    let tenant = [Some(0), Some(1), None][number % 3];
    let address = [ROUND_ROBIN, LEAST_USED][number % 2];
    Plan::tag(tenant, (number / 2 % 2) as u32, address)
}

/// What a round does with its connections.
type Round = fn(&Churn, usize);

const KINDS: [(&str, Round); 12] = [
    ("closed by either side", Churn::plain),
    ("reset by the near side", Churn::reset_near),
    ("reset by the far side", Churn::reset_far),
    ("storm of resets from both sides", Churn::storm),
    ("process killed", Churn::killed),
    ("half open", Churn::half_open),
    ("handshake not finished", Churn::deferred),
    ("never accepted", Churn::never_accepted),
    ("duplicated descriptors", Churn::duplicated),
    ("refused and unreachable", Churn::failed),
    ("same socket again", Churn::again),
    ("shut down by halves", Churn::half_closed),
];

struct Churn {
    stage: Stage,
    live: Live,
    served: Socket,
    deferred: Socket,
    accounts: [Vec<IpAddr>; 2],
}

impl Churn {
    fn begin(stage: &Stage, kernel: &Kernel, plan: &Plan) -> Self {
        let deferred = listen_for(0, at(DEFERRED));
        let seconds = 30_i32.to_ne_bytes();
        set_raw(
            &deferred,
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            &seconds,
        )
        .expect("TCP_DEFER_ACCEPT");
        let egress = |number: usize| plan.accounts[number].egress.clone();
        Self {
            stage: stage.clone(),
            live: kernel.live(),
            served: listen_for(0, at(SERVED)),
            deferred,
            accounts: [egress(0), egress(1)],
        }
    }

    /// Connections to the served port, with their accepted ends, which have entered.
    fn pairs(&self, count: usize) -> Vec<(Socket, Socket)> {
        let pair = |number| {
            let near = connect(tag_of(number), at(SERVED)).expect("connects");
            let accepted = accept(&self.served);
            enter(&accepted, 0).expect("below every cap");
            (near, accepted)
        };
        let pairs: Vec<_> = (0..count).map(pair).collect();
        self.assert_exact();
        assert_eq!(self.upstream(), count as u64);
        pairs
    }

    /// Live connections of all accounts.
    fn upstream(&self) -> u64 {
        self.live.account(0) + self.live.account(1)
    }

    /// The counts are what the kernel's list of sockets says.
    fn assert_exact(&self) {
        until("the counts are exact", || {
            let sockets = diag::live();
            let with = |is_one: &dyn Fn(&SocketAddr) -> bool| {
                sockets.iter().filter(|socket| is_one(socket)).count() as u64
            };
            let of_account = |account: usize| {
                let counted = self.live.account(account as u32);
                counted == with(&|socket| self.accounts[account].contains(&socket.ip()))
            };
            let inbound = [SERVED, DEFERRED, KILLED].map(at);
            let of_worker = self.live.worker(0) == with(&|socket| inbound.contains(socket));
            of_account(0) && of_account(1) && of_worker
        });
    }

    fn assert_nothing_left(&self, what: &str) {
        until(&format!("nothing is left: {what}"), || {
            let live = &self.live;
            let tenants = [0, 1].map(|one| live.tenant_upstream(one) + live.tenant_inbound(one));
            let addresses = [0, 1, 2, 3].map(|one| live.address(one));
            let all = tenants.iter().sum::<u64>() + addresses.iter().sum::<u64>();
            all + self.upstream() + live.worker(0) == 0
        });
        self.assert_exact();
    }

    fn plain(&self, round: usize) {
        for (number, (near, accepted)) in self.pairs(EACH).into_iter().enumerate() {
            if (round + number).is_multiple_of(2) {
                drop(near);
                drop(accepted);
            } else {
                drop(accepted);
                drop(near);
            }
            self.assert_exact();
        }
    }

    fn reset_near(&self, _: usize) {
        for (near, accepted) in self.pairs(EACH) {
            reset(near);
            self.assert_exact();
            drop(accepted);
        }
    }

    fn reset_far(&self, _: usize) {
        for (near, accepted) in self.pairs(EACH) {
            reset(accepted);
            self.assert_exact();
            drop(near);
        }
    }

    /// Both sides of every connection are reset at once, by two threads.
    fn storm(&self, _: usize) {
        let (near, accepted): (Vec<_>, Vec<_>) = self.pairs(10 * EACH).into_iter().unzip();
        std::thread::scope(|scope| {
            scope.spawn(|| near.into_iter().for_each(reset));
            scope.spawn(|| accepted.into_iter().for_each(reset));
        });
    }

    /// A process that holds connections in every state is killed.
    fn killed(&self, _: usize) {
        let mut holder = self.stage.start("holder");
        assert_eq!(holder.hear(), "holds");
        let _accepted: Vec<_> = (0..EACH).map(|_| accept(&self.served)).collect();
        self.assert_exact();
        let each = EACH as u64;
        assert_eq!(self.upstream(), 3 * each);
        until("the worker has both kinds", || {
            self.live.worker(0) == 2 * each
        });
        assert_eq!(self.live.tenant_inbound(0), ACCEPTED as u64);
        holder.kill();
        self.assert_exact();
    }

    /// Nobody answers the SYN, and the socket is closed.
    fn half_open(&self, _: usize) {
        let waiting: Vec<_> = (0..EACH).map(begin_half_open).collect();
        let sent = diag::sockets().into_iter();
        let sent = sent
            .filter(|socket| socket.state == state::SYN_SENT)
            .count();
        assert_eq!(sent, EACH, "half open");
        self.assert_exact();
        assert_eq!(self.upstream(), EACH as u64);
        drop(waiting);
    }

    /// Nobody answers the SYN, and the kernel gives up.
    fn timed_out(&self) {
        let waiting: Vec<_> = (0..EACH).map(begin_half_open).collect();
        for socket in &waiting {
            let soon = Some(Duration::from_millis(1));
            socket.set_tcp_user_timeout(soon).expect("TCP_USER_TIMEOUT");
        }
        assert_eq!(self.upstream(), EACH as u64);
        for socket in &waiting {
            until("the kernel gives up", || {
                let error = socket.take_error().expect("SO_ERROR");
                error.is_some_and(|error| error.raw_os_error() == Some(libc::ETIMEDOUT))
            });
        }
        self.assert_nothing_left("timed out, not yet closed");
        drop(waiting);
        self.assert_nothing_left("timed out");
    }

    /// The client's side is established, the server's is not.
    fn deferred(&self, round: usize) {
        let connected: Vec<_> = (0..EACH)
            .map(|number| connect(tag_of(number), at(DEFERRED)).expect("connects"))
            .collect();
        assert_eq!(self.live.worker(0), 0, "nothing has come yet");
        self.assert_exact();
        for (number, mut near) in connected.into_iter().enumerate() {
            match (round + number) % 3 {
                0 => reset(near),
                1 => {
                    // Its FIN ends the wait for a first byte as well.
                    drop(near);
                    drop(accept(&self.deferred));
                }
                _ => {
                    near.write_all(b"?").expect("a byte");
                    let accepted = accept(&self.deferred);
                    self.assert_exact();
                    drop((near, accepted));
                }
            }
            self.assert_exact();
        }
    }

    /// The queue is emptied by the clients' resets, or by closing the listener.
    fn never_accepted(&self, round: usize) {
        let listener = if round.is_multiple_of(2) {
            None
        } else {
            // Takes some of the connections into a queue of its own.
            Some(listen_for(0, at(SERVED)))
        };
        let connect = |number| connect(tag_of(number), at(SERVED)).expect("connects");
        let near: Vec<_> = (0..EACH).map(connect).collect();
        self.assert_exact();
        until("established, though not accepted", || {
            self.live.worker(0) == EACH as u64
        });
        drop(listener);
        self.assert_exact();
        near.into_iter().for_each(reset);
        self.assert_exact();
        while accept_waiting(&self.served).is_some() {}
    }

    /// A place is held until the last descriptor is closed.
    fn duplicated(&self, _: usize) {
        for (near, accepted) in self.pairs(EACH) {
            let (near_too, accepted_too) = (
                near.try_clone().expect("a descriptor"),
                accepted.try_clone().expect("a descriptor"),
            );
            let before = (self.upstream(), self.live.worker(0));
            drop(near);
            drop(accepted);
            let after = (self.upstream(), self.live.worker(0));
            assert_eq!(before, after, "somebody still has a descriptor");
            drop(near_too);
            drop(accepted_too);
            self.assert_exact();
        }
    }

    fn failed(&self, _: usize) {
        for number in 0..EACH {
            let refused = connect(tag_of(number), at(CLOSED));
            assert_eq!(errno(refused), libc::ECONNREFUSED);
            self.assert_exact();
            let socket = stream(at(CLOSED));
            tag(&socket, tag_of(number)).expect("the tag");
            assert_ne!(errno(socket.connect(&at(UNREACHABLE).into())), 0);
            drop(socket);
            self.assert_exact();
        }
    }

    /// A socket whose connect has failed, or that was disconnected, connects again.
    fn again(&self, _: usize) {
        for number in 0..EACH {
            let near = stream(at(SERVED));
            tag(&near, tag_of(number)).expect("the tag");
            assert_eq!(errno(near.connect(&at(CLOSED).into())), libc::ECONNREFUSED);
            self.assert_exact();
            for _ in 0..3 {
                near.connect(&at(SERVED).into()).expect("connects");
                let accepted = accept(&self.served);
                assert_eq!(self.upstream(), 1);
                self.assert_exact();
                assert_eq!(errno(near.connect(&at(SERVED).into())), libc::EISCONN);
                self.assert_exact();
                reset(accepted);
                rustix::net::connect_unspec(&near).expect("disconnects");
                self.assert_exact();
                assert_eq!(self.upstream(), 0);
            }
        }
    }

    fn half_closed(&self, round: usize) {
        for (number, (near, accepted)) in self.pairs(EACH).into_iter().enumerate() {
            near.shutdown(Shutdown::Write).expect("its half");
            self.assert_exact();
            match (round + number) % 3 {
                0 => accepted.shutdown(Shutdown::Write).expect("the other half"),
                1 => reset(accepted),
                _ => drop(accepted),
            }
            self.assert_exact();
            drop(near);
        }
    }
}

fn begin_half_open(number: usize) -> Socket {
    let socket = stream(at(FULL));
    tag(&socket, tag_of(number)).expect("the tag");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    assert_eq!(errno(socket.connect(&at(FULL).into())), libc::EINPROGRESS);
    socket
}

/// Holds connections: established, half open, tagged and not connected, and some with both of their ends, of which it has
/// accepted not all.
fn hold(stage: &Stage) {
    let connect_to = |to| move |number| connect(tag_of(number), at(to)).expect("connects");
    let established: Vec<_> = (0..EACH).map(connect_to(SERVED)).collect();
    let half_open: Vec<_> = (0..EACH).map(begin_half_open).collect();
    let tagged = stream(at(SERVED));
    tag(&tagged, tag_of(0)).expect("the tag");
    let duplicates: Vec<_> = established.iter().map(Socket::try_clone).collect();
    let own = listen_for(0, at(KILLED));
    let near: Vec<_> = (0..EACH).map(connect_to(KILLED)).collect();
    let accepted: Vec<_> = (0..ACCEPTED)
        .map(|_| {
            let accepted = accept(&own);
            enter(&accepted, 0).expect("below every cap");
            claim(&accepted, 0).expect("below every cap");
            accepted
        })
        .collect();
    stage.say("holds");
    stage.hear();
    drop((established, half_open, tagged, duplicates, own));
    drop((near, accepted));
}

#[test]
fn counts_equal_the_kernels_list_of_sockets_through_500_rounds() {
    scenario(
        "churn::counts_equal_the_kernels_list_of_sockets_through_500_rounds",
        |stage| {
            if stage.role() == Some("holder") {
                return hold(stage);
            }
            let full = stream(at(FULL));
            full.bind(&at(FULL).into()).expect("the address");
            full.listen(0).expect("a queue for one");
            let filling = stream(at(FULL));
            filling.connect(&at(FULL).into()).expect("the one");
            let plan = plan();
            let kernel = stage.establish(&plan);
            let churn = Churn::begin(stage, &kernel, &plan);
            let rounds = scaled(ROUNDS);
            for round in 0..rounds {
                let (what, kind) = KINDS[round % KINDS.len()];
                kind(&churn, round / KINDS.len());
                churn.assert_nothing_left(what);
            }
            churn.timed_out();
            drop(filling);
            let places = stage.places();
            let sources = pins::hash::<[u8; 16], u64>(&places, SOURCES);
            assert_eq!(sources.keys().count(), 0, "sources");
            let paths = pins::hash::<[u8; size_of::<PathKey>()], u64>(&places, PATHS);
            assert_eq!(paths.keys().count(), 0, "paths");
            assert_eq!(kernel.live().counter(Counter::Uncounted), 0);
            stage.figure(&format!(
                "{rounds} rounds of {} kinds, {EACH} connections each (storms {}): exact against \
                 sock_diag after each step, zero at the end of each round",
                KINDS.len(),
                10 * EACH
            ));
        },
    );
}
