//! A live gateway stays governed whatever is done to its pins, and notices what is done to its links.

use crate::harness::socket::{connect, connect_untagged, errno, listen, local};
use crate::harness::{Stage, pins, scenario};
use relay_ebpf::abi::errno::REFUSED;
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::{AccountPlan, Plan};
use rustix::mount::{UnmountFlags, unmount};
use socket2::Socket;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

const OWN: &str = "127.0.7.1";

fn plan() -> Plan {
    Plan {
        accounts: vec![AccountPlan {
            connections_max: None,
            egress: vec![OWN.parse().expect("an address")],
        }],
        workers: 1,
        ..Plan::default()
    }
}

/// The pinned links.
fn links(stage: &Stage) -> Vec<PathBuf> {
    let mut pinned = pins::all(&stage.places());
    pinned.retain(|path| path.parent().is_some_and(|kind| kind.ends_with("links")));
    assert!(pinned.len() >= 5, "{pinned:?}");
    pinned
}

fn assert_governed(listener: &Socket) {
    let to: SocketAddr = local(listener);
    assert_eq!(errno(connect_untagged(to)), REFUSED);
    let tagged = connect(Plan::tag(None, 0, ROUND_ROBIN), to).expect("it may connect");
    let own: IpAddr = OWN.parse().expect("an address");
    assert_eq!(local(&tagged).ip(), own);
}

/// Whether the links are new ones or were pinned by an earlier gateway.
fn governed_without_pins(stage: &Stage, lose: impl FnOnce()) {
    let listener = listen("127.0.0.1:0".parse().expect("an address"));
    let kernel = stage.establish(&plan());
    assert_governed(&listener);
    lose();
    // The kernel frees a link a moment after the last that refers to it is gone: more than once is asked.
    for _ in 0..200 {
        assert_governed(&listener);
        std::thread::yield_now();
    }
    assert_eq!(kernel.check_canary(), Ok(()));
}

fn remove_links(stage: &Stage) {
    for link in links(stage) {
        fs::remove_file(link).expect("a pin less");
    }
}

#[test]
fn pins_that_are_removed_govern_on() {
    scenario("links::pins_that_are_removed_govern_on", |stage| {
        governed_without_pins(stage, || remove_links(stage));
    });
}

#[test]
fn pins_of_an_earlier_gateway_that_are_removed_govern_on() {
    scenario(
        "links::pins_of_an_earlier_gateway_that_are_removed_govern_on",
        |stage| {
            drop(stage.establish(&plan()));
            governed_without_pins(stage, || remove_links(stage));
        },
    );
}

#[test]
fn a_bpffs_that_is_unmounted_governs_on() {
    scenario("links::a_bpffs_that_is_unmounted_governs_on", |stage| {
        let places = stage.places();
        let bpffs = places.pins.parent().expect("where it is mounted");
        governed_without_pins(stage, || {
            unmount(bpffs, UnmountFlags::DETACH).expect("unmounted");
        });
    });
}

/// Each of them, also those that no connect asks.
#[test]
fn a_link_that_was_detached_is_noticed() {
    scenario("links::a_link_that_was_detached_is_noticed", |stage| {
        drop(stage.establish(&plan()));
        for link in links(stage) {
            let kernel = stage.establish(&plan());
            assert_eq!(kernel.check_canary(), Ok(()));
            pins::detach(&link);
            let missing = kernel.check_canary().expect_err("one is detached");
            assert_eq!(missing.piece, "canary", "{missing}");
            let name = link.file_name().expect("a name").to_string_lossy();
            assert!(missing.detail.contains(&*name), "{name}: {missing}");
        }
        // The next one attaches it again.
        let kernel = stage.establish(&plan());
        assert_eq!(kernel.check_canary(), Ok(()));
    });
}
