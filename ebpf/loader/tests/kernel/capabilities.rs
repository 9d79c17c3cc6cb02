//! Nothing that a running gateway needs from the kernel side needs a capability.

use crate::harness::socket::{
    accept, claim, connect, connect_untagged, enter, errno, listen_for, reset,
};
use crate::harness::{cgroup_of_this_process, effective_capabilities, scenario, until};
use relay_ebpf::abi::errno::{FULL, REFUSED};
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::abi::record::Event;
use relay_ebpf::{AccountPlan, Kernel, Missing, Places, Plan, TenantPlan};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

#[test]
fn everything_works_after_the_capabilities_are_gone() {
    scenario(
        "capabilities::everything_works_after_the_capabilities_are_gone",
        |stage| {
            let on: SocketAddr = "127.0.0.1:7700".parse().expect("an address");
            let nowhere: SocketAddr = "127.0.0.1:7701".parse().expect("an address");
            let plan = Plan {
                tenants: vec![TenantPlan {
                    connections_max: Some(1),
                    networks: Vec::new(),
                }],
                accounts: vec![AccountPlan {
                    connections_max: Some(2),
                    egress: vec!["127.0.7.1".parse().expect("an address")],
                }],
                source_connections_max: Some(2),
                control_destinations: Vec::new(),
                workers: 1,
            };
            let mut kernel = stage.establish(&plan);
            let listener = listen_for(0, on);
            kernel.steer(0, on, &[listener.as_fd()]).expect("steering");
            let mut reconciler = kernel.reconciler().expect("a reconciler");
            let mut surveyor = kernel.surveyor().expect("a surveyor");
            assert_ne!(effective_capabilities(), 0);
            relay_ebpf::drop_capabilities().expect("dropped");
            assert_eq!(effective_capabilities(), 0);

            std::thread::spawn(move || {
                assert_eq!(effective_capabilities(), 0, "threads from now on have none");
                let live = kernel.live();
                kernel
                    .check_canary()
                    .expect("an untagged connect is refused");
                live.renew_lease(Duration::from_secs(30));
                let near = connect(Plan::tag(Some(0), 0, ROUND_ROBIN), on).expect("connects");
                let accepted = accept(&listener);
                enter(&accepted, 0).expect("the first of its source");
                claim(&accepted, 0).expect("the first of the tenant");
                assert_eq!(errno(connect(Plan::tag(Some(0), 0, ROUND_ROBIN), on)), FULL);
                assert_eq!(errno(connect_untagged(nowhere)), REFUSED);
                let counts = (live.account(0), live.address(0), live.tenant_upstream(0));
                assert_eq!(counts, (1, 1, 1));
                assert_eq!((live.tenant_inbound(0), live.worker(0)), (1, 1));
                let drift = reconciler.compare().expect("the list of sockets");
                assert!(drift.sockets >= 2, "{drift:?}");
                assert_eq!((drift.corrected, drift.connections), (0, 0));
                let ports = surveyor.survey().expect("the list of ports");
                assert_eq!(ports.len(), 1, "{ports:?}");
                assert_eq!((ports[0].open, ports[0].destination), (1, on));
                assert_eq!(surveyor.accounts_sharing_address().expect("a number"), 0);
                reset(near);
                drop(accepted);
                let mut kinds = Vec::new();
                until("both events", || {
                    kernel.take_events(|event| kinds.push(event.kind));
                    kinds == [Event::OPENED, Event::CLOSED]
                });
                assert_eq!(
                    (live.account(0), live.worker(0), live.tenant_inbound(0)),
                    (0, 0, 0)
                );
            })
            .join()
            .expect("no failure");
        },
    );
}

/// What is missing is named, and the process is where it was.
#[test]
fn the_first_missing_piece_is_named() {
    scenario("capabilities::the_first_missing_piece_is_named", |stage| {
        let before = cgroup_of_this_process();
        let fails = |places: &Places, plan: &Plan| -> Missing {
            let missing = Kernel::establish(places, plan)
                .err()
                .expect("a missing piece");
            assert_eq!(
                cgroup_of_this_process(),
                before,
                "back where it was: {missing}"
            );
            assert!(!missing.to_string().contains('\n'), "one line: {missing}");
            missing
        };
        let plan = Plan {
            workers: 1,
            ..Plan::default()
        };
        let places = stage.places();
        let no_place = stage.cgroup().join("cgroup.procs").join("below");
        let elsewhere = std::env::temp_dir();
        for (piece, wrong) in [
            (
                "cgroup",
                Places {
                    cgroup: Some(no_place),
                    ..places.clone()
                },
            ),
            (
                "cgroup",
                Places {
                    cgroup: Some(elsewhere.clone()),
                    ..places.clone()
                },
            ),
            (
                "bpffs",
                Places {
                    pins: elsewhere.join("no-bpffs"),
                    ..places.clone()
                },
            ),
        ] {
            let missing = fails(&wrong, &plan);
            assert_eq!(missing.piece, piece, "{missing}");
        }
        let shared: std::net::IpAddr = "127.0.7.1".parse().expect("an address");
        let account = AccountPlan {
            connections_max: None,
            egress: vec![shared],
        };
        let sharing = Plan {
            accounts: vec![account.clone(), account],
            ..plan.clone()
        };
        let missing = fails(&places, &sharing);
        assert_eq!(missing.piece, "plan", "{missing}");
        assert!(missing.detail.contains("127.0.7.1"), "{missing}");
        relay_ebpf::drop_capabilities().expect("dropped");
        let missing = fails(&places, &plan);
        assert_eq!(missing.piece, "capability", "{missing}");
        for name in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
            assert!(missing.detail.contains(name), "{missing}");
        }
    });
}
