//! A count that is wrong is found and corrected; one that moves is left alone.

use crate::harness::socket::{accept, claim, connect, enter, listen_for, reset};
use crate::harness::{Stage, pins, scenario};
use relay_ebpf::abi::address_bytes;
use relay_ebpf::abi::map::{
    ACCOUNTS_UPSTREAM, ADDRESSES_UPSTREAM, PATHS, SOURCES, TENANTS_INBOUND, TENANTS_UPSTREAM,
    WORKERS_INBOUND,
};
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::abi::record::{PathKey, count};
use relay_ebpf::{AccountPlan, Drift, Kernel, Plan, Reconciler, TenantPlan};
use socket2::Socket;
use std::net::SocketAddr;

const ON: &str = "127.0.0.1:8000";

/// Counts of which index 0 has one connection in the scene.
const ARRAYS: [&str; 5] = [
    TENANTS_INBOUND,
    TENANTS_UPSTREAM,
    ACCOUNTS_UPSTREAM,
    ADDRESSES_UPSTREAM,
    WORKERS_INBOUND,
];

/// One connection that holds a place of every kind on each of its sides.
struct Scene {
    kernel: Kernel,
    near: Socket,
    accepted: Socket,
}

impl Scene {
    fn set_up(stage: &Stage) -> Self {
        let on: SocketAddr = ON.parse().expect("an address");
        let plan = Plan {
            tenants: vec![TenantPlan {
                connections_max: Some(10),
                networks: Vec::new(),
            }],
            accounts: vec![AccountPlan {
                connections_max: Some(10),
                egress: vec!["127.0.7.1".parse().expect("an address")],
            }],
            source_connections_max: Some(10),
            control_destinations: Vec::new(),
            workers: 1,
        };
        let kernel = stage.establish(&plan);
        let listener = listen_for(0, on);
        let near = connect(Plan::tag(Some(0), 0, ROUND_ROBIN), on).expect("connects");
        let accepted = accept(&listener);
        enter(&accepted, 0).expect("below the cap");
        claim(&accepted, 0).expect("below the cap");
        Self {
            kernel,
            near,
            accepted,
        }
    }

    fn reconciler(&self) -> Reconciler {
        self.kernel.reconciler().expect("a reconciler")
    }
}

fn compare(reconciler: &mut Reconciler) -> Drift {
    let drift = reconciler.compare().expect("the list of sockets");
    assert!(drift.sockets >= 2, "both ends have a state: {drift:?}");
    drift
}

/// The counts of the scene, each once.
fn counts(stage: &Stage) -> Vec<u64> {
    let places = stage.places();
    let mut counts: Vec<_> = ARRAYS
        .iter()
        .map(|name| {
            pins::array::<u64>(&places, name)
                .get(&0, 0)
                .expect("a count")
        })
        .collect();
    let sources = pins::hash::<[u8; 16], u64>(&places, SOURCES);
    let paths = pins::hash::<[u8; size_of::<PathKey>()], u64>(&places, PATHS);
    for value in sources.iter().map(|entry| entry.expect("an entry").1) {
        counts.push(u64::from(count::live(value)));
    }
    for value in paths.iter().map(|entry| entry.expect("an entry").1) {
        counts.push(u64::from(count::live(value)));
    }
    counts
}

#[test]
fn right_counts_are_left_alone() {
    scenario("reconcile::right_counts_are_left_alone", |stage| {
        let scene = Scene::set_up(stage);
        let mut reconciler = scene.reconciler();
        assert_eq!(counts(stage), [1; 7]);
        for _ in 0..5 {
            let drift = compare(&mut reconciler);
            assert_eq!((drift.corrected, drift.connections), (0, 0));
        }
        assert_eq!(counts(stage), [1; 7]);
    });
}

#[test]
fn counts_that_are_too_high_are_corrected() {
    scenario(
        "reconcile::counts_that_are_too_high_are_corrected",
        |stage| {
            let scene = Scene::set_up(stage);
            let places = stage.places();
            let mut reconciler = scene.reconciler();
            for name in ARRAYS {
                let mut array = pins::array::<u64>(&places, name);
                array.set(0, 4, 0).expect("a wrong count");
            }
            let mut sources = pins::hash::<[u8; 16], u64>(&places, SOURCES);
            let nobody = address_bytes("127.0.99.1".parse().expect("an address"));
            sources
                .insert(nobody, 7 << 32 | 2, 0)
                .expect("an entry of nobody's");
            let first = compare(&mut reconciler);
            assert_eq!(
                (first.corrected, first.connections),
                (0, 0),
                "could be on the way"
            );
            let second = compare(&mut reconciler);
            assert_eq!((second.corrected, second.connections), (6, 5 * 3 + 2));
            assert_eq!(counts(stage), [1; 7]);
            assert!(sources.get(&nobody, 0).is_err(), "the entry is gone");
            let third = compare(&mut reconciler);
            assert_eq!((third.corrected, third.connections), (0, 0));
        },
    );
}

#[test]
fn counts_that_are_too_low_are_corrected_and_never_fall_below_zero() {
    scenario(
        "reconcile::counts_that_are_too_low_are_corrected_and_never_fall_below_zero",
        |stage| {
            let scene = Scene::set_up(stage);
            let mut reconciler = scene.reconciler();
            for name in ARRAYS {
                let mut array = pins::array::<u64>(&stage.places(), name);
                array.set(0, 0, 0).expect("a wrong count");
            }
            compare(&mut reconciler);
            let second = compare(&mut reconciler);
            assert_eq!((second.corrected, second.connections), (5, 5));
            assert_eq!(counts(stage), [1; 7]);
            for name in ARRAYS {
                let mut array = pins::array::<u64>(&stage.places(), name);
                array.set(0, 0, 0).expect("a wrong count");
            }
            reset(scene.near);
            drop(scene.accepted);
            assert_eq!(
                counts(stage),
                [0; 5],
                "not below zero, and nothing left in the hashes"
            );
        },
    );
}

#[test]
fn a_count_that_moves_is_not_corrected() {
    scenario("reconcile::a_count_that_moves_is_not_corrected", |stage| {
        let scene = Scene::set_up(stage);
        let mut reconciler = scene.reconciler();
        let mut array = pins::array::<u64>(&stage.places(), ACCOUNTS_UPSTREAM);
        for wrong in [4, 6, 4, 9] {
            array.set(0, wrong, 0).expect("a wrong count");
            let drift = compare(&mut reconciler);
            assert_eq!(drift.corrected, 0, "off by another amount each time");
            assert_eq!(scene.kernel.live().account(0), wrong);
        }
        assert_eq!(
            compare(&mut reconciler).corrected,
            1,
            "off by the same amount twice"
        );
        assert_eq!(scene.kernel.live().account(0), 1);
    });
}
