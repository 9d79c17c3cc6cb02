//! Nobody holds more connections than its cap, whatever number of threads tries at once; and everybody gets as many.

use crate::harness::socket::{
    accept, claim, connect, connect_untagged, enter, errno, listen, listen_for, local, reset,
    wait_for_end,
};
use crate::harness::{Stage, pins, scaled, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::errno::{ACCOUNT_FULL, FULL};
use relay_ebpf::abi::map::SOURCES;
use relay_ebpf::abi::option::{LEAST_USED, ROUND_ROBIN};
use relay_ebpf::abi::record::count;
use relay_ebpf::abi::{NOBODY, address_bytes};
use relay_ebpf::{AccountPlan, ControlDestination, Plan, TenantPlan};
use socket2::Socket;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const THREADS: usize = 16;
const TRIES: usize = 1_500;

/// Of the tenants, of one account and of a source address.
const CAP: u32 = 4;

/// Account 1 has no cap, so that a tenant's is seen alone.
const WITHOUT_CAP: u32 = 1;

fn plan(control: &[SocketAddr]) -> Plan {
    let account = |connections_max, egress: [&str; 2]| AccountPlan {
        connections_max,
        egress: egress.map(|one| one.parse().expect("an address")).to_vec(),
    };
    let tenant = TenantPlan {
        connections_max: Some(CAP),
        ..TenantPlan::default()
    };
    Plan {
        tenants: vec![tenant; 2],
        accounts: vec![
            account(Some(CAP), ["127.0.7.1", "127.0.7.2"]),
            account(None, ["127.0.8.1", "127.0.8.2"]),
        ],
        source_connections_max: Some(CAP),
        control_destinations: control
            .iter()
            .map(|address| ControlDestination { address: *address })
            .collect(),
        workers: 1,
    }
}

/// Counts who is inside, from the moment a place was granted to just before it is given back: never more than hold one.
#[derive(Default)]
struct Inside {
    now: AtomicU64,
    most: AtomicU64,
    granted: AtomicU64,
    refused: AtomicU64,
}

impl Inside {
    fn come(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        self.granted.fetch_add(1, SeqCst);
    }

    fn go(&self) {
        self.now.fetch_sub(1, SeqCst);
    }

    fn refuse(&self) {
        self.refused.fetch_add(1, SeqCst);
    }

    fn assert_was_capped(&self, stage: &Stage, what: &str) {
        let tries = scaled(TRIES);
        let [most, granted, refused] =
            [&self.most, &self.granted, &self.refused].map(|count| count.load(SeqCst));
        stage.figure(&format!(
            "{what}: {THREADS} threads × {tries}, cap {CAP}: at most {most}; {granted} granted, {refused} refused"
        ));
        assert_eq!(
            most,
            u64::from(CAP),
            "{what}: as many as the cap, and never more"
        );
        assert_eq!(granted + refused, (THREADS * tries) as u64);
        assert_ne!(refused, 0, "{what}: the cap was reached");
    }
}

/// Lets all threads try until they have tried often enough; each is told whether it is its first time.
fn crowd(each: impl Fn(usize, bool) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let each = &each;
            scope.spawn(move || {
                for attempt in 0..scaled(TRIES) {
                    each(number, attempt == 0);
                }
            });
        }
    });
}

/// Accepts until the process ends. Ends no connection before the near side has: its place would be given back while the near
/// side still believes that it holds it.
fn keep_what_comes(listener: Socket) {
    const KEPT_MAX: usize = 1_000;
    std::thread::spawn(move || {
        let mut kept = VecDeque::new();
        loop {
            let (socket, _) = listener.accept().expect("a connection");
            kept.push_back(socket);
            if kept.len() > KEPT_MAX {
                let oldest = kept.pop_front().expect("the oldest");
                wait_for_end(&oldest);
            }
        }
    });
}

/// The crowd asks for places; those who are refused must be told one of the errors in `full`. What the kernel counts, by
/// `counted`, is never more than the cap either: nobody takes a place to see whether it was one too many.
fn crowd_for_places<Place>(
    stage: &Stage,
    what: &str,
    full: &[i32],
    counted: impl Fn() -> u64 + Sync,
    take: impl Fn(usize) -> io::Result<Place> + Sync,
    give_back: impl Fn(usize, Place) + Sync,
) {
    let inside = Inside::default();
    // The first time nobody leaves before all have tried: however few run at a time, the cap is reached.
    let all_have_tried = Barrier::new(THREADS);
    crowd(|number, is_first| match take(number) {
        Ok(place) => {
            inside.come();
            assert!(counted() <= u64::from(CAP), "{what}");
            if is_first {
                all_have_tried.wait();
            }
            std::thread::yield_now();
            inside.go();
            give_back(number, place);
        }
        Err(error) => {
            let errno = error.raw_os_error().expect("an error of the programs");
            assert!(full.contains(&errno), "{what}: {error}");
            inside.refuse();
            if is_first {
                all_have_tried.wait();
            }
        }
    });
    inside.assert_was_capped(stage, what);
}

#[test]
fn upstream_caps_hold_against_16_threads() {
    scenario("caps::upstream_caps_hold_against_16_threads", |stage| {
        let listener = listen("127.0.0.1:0".parse().expect("an address"));
        let to = local(&listener);
        keep_what_comes(listener);
        let kernel = stage.establish(&plan(&[]));
        let live = kernel.live();
        let nobody_left = || {
            let tenants = live.tenant_upstream(0) + live.tenant_upstream(1);
            let addresses: u64 = (0..4).map(|address| live.address(address)).sum();
            tenants + live.account(0) + live.account(1) + addresses == 0
        };
        let counts: [&(dyn Fn() -> u64 + Sync); 3] =
            [&|| live.tenant_upstream(0), &|| live.account(0), &|| {
                live.tenant_upstream(1).max(live.account(0))
            }];
        for ((what, tag, full), counted) in [
            (
                "upstream of a tenant",
                Plan::tag(Some(0), WITHOUT_CAP, ROUND_ROBIN),
                &[FULL][..],
            ),
            (
                "of an account",
                Plan::tag(None, 0, LEAST_USED),
                &[ACCOUNT_FULL],
            ),
            (
                "of a tenant and an account",
                Plan::tag(Some(1), 0, ROUND_ROBIN),
                &[FULL, ACCOUNT_FULL],
            ),
        ]
        .into_iter()
        .zip(counts)
        {
            let mut held: Vec<_> = (0..CAP)
                .map(|_| connect(tag, to).expect("below the cap"))
                .collect();
            assert_eq!(errno(connect(tag, to)), full[0], "{what}");
            reset(held.pop().expect("one"));
            held.push(connect(tag, to).expect("a place has become free"));
            assert_eq!(errno(connect(tag, to)), full[0], "{what}");
            held.into_iter().for_each(reset);
            assert!(nobody_left(), "{what}");
            crowd_for_places(
                stage,
                what,
                full,
                counted,
                |_| connect(tag, to),
                |_, socket| reset(socket),
            );
            assert!(nobody_left(), "{what}");
        }
        assert_eq!(live.counter(Counter::CapSuspended), 0);
    });
}

#[test]
fn a_tenants_claims_hold_against_16_threads() {
    scenario("caps::a_tenants_claims_hold_against_16_threads", |stage| {
        let on: SocketAddr = "127.0.0.1:7100".parse().expect("an address");
        let mut plan = plan(&[on]);
        plan.source_connections_max = None;
        let kernel = stage.establish(&plan);
        let live = kernel.live();
        let listener = listen_for(0, on);
        let pairs: Vec<_> = (0..THREADS)
            .map(|_| {
                let near = connect_untagged(on).expect("control traffic");
                (near, listener.accept().expect("the connection").0)
            })
            .collect();
        let take = |number: usize| claim(&pairs[number].1, 0);
        let give_back = |number: usize, ()| claim(&pairs[number].1, NOBODY).expect("given back");
        let what = "claims of a tenant";
        let counted = || live.tenant_inbound(0);
        crowd_for_places(stage, what, &[FULL], counted, take, give_back);
        assert_eq!(live.tenant_inbound(0), 0);

        for (_, accepted) in &pairs[..CAP as usize] {
            claim(accepted, 0).expect("below the cap");
        }
        let last = &pairs[CAP as usize].1;
        assert_eq!(errno(claim(last, 0)), FULL);
        claim(last, 1).expect("another tenant");
        assert_eq!(errno(claim(last, 0)), FULL);
        assert_eq!(
            (live.tenant_inbound(0), live.tenant_inbound(1)),
            (4, 1),
            "stays where it was"
        );
        claim(&pairs[0].1, 0).expect("its own place again");
        claim(&pairs[0].1, 1).expect("to the other tenant");
        claim(last, 0).expect("into the place that is free now");
        assert_eq!((live.tenant_inbound(0), live.tenant_inbound(1)), (4, 1));
        drop(pairs);
        until("closing gives back", || {
            live.tenant_inbound(0) + live.tenant_inbound(1) == 0
        });
    });
}

/// Whoever looked at the count first and took a place afterwards would let a second one in now and then: it takes many tries
/// at the last place, without a pause, to see that.
#[test]
fn the_last_place_is_given_once() {
    scenario("caps::the_last_place_is_given_once", |stage| {
        const RIVALS: usize = 4;
        const LOOKS: usize = 50;
        let tries = scaled(100_000);
        let on: SocketAddr = "127.0.0.1:7101".parse().expect("an address");
        let mut plan = plan(&[on]);
        plan.tenants[0].connections_max = Some(1);
        plan.source_connections_max = None;
        let live = stage.establish(&plan).live();
        let listener = listen_for(0, on);
        let pairs: Vec<_> = (0..RIVALS)
            .map(|_| {
                let near = connect_untagged(on).expect("control traffic");
                (near, accept(&listener))
            })
            .collect();
        let inside = Inside::default();
        std::thread::scope(|scope| {
            for (_, accepted) in &pairs {
                let inside = &inside;
                scope.spawn(move || {
                    for _ in 0..tries {
                        if claim(accepted, 0).is_err() {
                            inside.refuse();
                            continue;
                        }
                        inside.come();
                        let counted = (0..LOOKS).map(|_| live.tenant_inbound(0)).max();
                        inside.go();
                        assert_eq!(counted, Some(1), "somebody else is in as well");
                        claim(accepted, NOBODY).expect("given back");
                    }
                });
            }
        });
        let [most, granted, refused] =
            [&inside.most, &inside.granted, &inside.refused].map(|count| count.load(SeqCst));
        stage.figure(&format!(
            "{RIVALS} threads × {tries}, one place: at most {most}; {granted} granted, {refused} refused"
        ));
        assert_eq!(most, 1);
        assert_eq!(granted + refused, (RIVALS * tries) as u64);
        assert_eq!(live.tenant_inbound(0), 0);
    });
}

#[test]
fn a_source_addresses_places_hold_against_16_threads() {
    scenario(
        "caps::a_source_addresses_places_hold_against_16_threads",
        |stage| {
            let address = |number: usize| -> SocketAddr {
                format!("127.0.0.1:{}", 7_200 + number)
                    .parse()
                    .expect("an address")
            };
            let all: Vec<_> = (0..THREADS).map(address).collect();
            let kernel = stage.establish(&plan(&all));
            let listeners: Vec<_> = all.iter().map(|on| listen_for(0, *on)).collect();
            let take = |number: usize| {
                let near = connect_untagged(all[number]).expect("control traffic");
                let accepted = listeners[number].accept().expect("the connection").0;
                match enter(&accepted, 0) {
                    Ok(()) => Ok((near, accepted)),
                    Err(error) => {
                        end(near, accepted);
                        Err(error)
                    }
                }
            };
            let give_back = |_, (near, accepted)| end(near, accepted);
            let what = "connections of a source address";
            let sources = pins::hash::<[u8; 16], u64>(&stage.places(), SOURCES);
            let source = address_bytes(all[0].ip());
            // Between the last connection and the next there is no entry.
            let counted = || u64::from(count::live(sources.get(&source, 0).unwrap_or_default()));
            crowd_for_places(stage, what, &[FULL], counted, take, give_back);
            let held: Vec<_> = (0..CAP as usize)
                .map(|number| take(number).expect("below"))
                .collect();
            assert_eq!(errno(take(0)), FULL);
            assert_eq!(kernel.live().worker(0), u64::from(CAP));
            drop(held);
            until("nobody is left", || kernel.live().worker(0) == 0);
            assert_eq!(sources.keys().count(), 0, "no entry is left behind");
        },
    );
}

/// The accepted side first, by a reset: no port is kept.
fn end(near: Socket, accepted: Socket) {
    reset(accepted);
    drop(near);
}
