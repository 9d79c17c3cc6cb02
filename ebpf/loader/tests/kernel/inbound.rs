//! What is counted of a client's connection, and when.

use crate::harness::socket::{
    accept, claim, connect_untagged, enter, errno, listen_for, reset, set,
};
use crate::harness::{scenario, until};
use relay_ebpf::abi::errno::{INVALID, REFUSED};
use relay_ebpf::abi::option::TAG;
use relay_ebpf::abi::{NOBODY, TENANTS_MAX, WORKERS_MAX};
use relay_ebpf::{AccountPlan, ControlDestination, Plan, TenantPlan};
use std::net::SocketAddr;

#[test]
fn a_connection_counts_at_the_worker_that_serves_it() {
    scenario(
        "inbound::a_connection_counts_at_the_worker_that_serves_it",
        |stage| {
            let on: SocketAddr = "[::1]:7800".parse().expect("an address");
            let plan = Plan {
                tenants: vec![TenantPlan::default(); 2],
                accounts: vec![AccountPlan {
                    connections_max: None,
                    egress: vec!["127.0.7.1".parse().expect("an address")],
                }],
                control_destinations: vec![ControlDestination { address: on }],
                workers: 4,
                ..Plan::default()
            };
            let kernel = stage.establish(&plan);
            let live = kernel.live();
            let counts = || (0..4).map(|worker| live.worker(worker)).collect::<Vec<_>>();
            let listener = listen_for(2, on);
            let near = connect_untagged(on).expect("control traffic");
            until("counted though not accepted", || counts() == [0, 0, 1, 0]);
            let accepted = accept(&listener);
            enter(&accepted, 3).expect("another worker");
            assert_eq!(counts(), [0, 0, 0, 1]);
            enter(&accepted, 3).expect("the same again");
            assert_eq!(counts(), [0, 0, 0, 1]);
            // A tenant without a cap is counted as well.
            claim(&accepted, 1).expect("no cap");
            assert_eq!((live.tenant_inbound(0), live.tenant_inbound(1)), (0, 1));
            claim(&accepted, 0).expect("no cap");
            assert_eq!((live.tenant_inbound(0), live.tenant_inbound(1)), (1, 0));
            claim(&accepted, NOBODY).expect("given back");
            assert_eq!((live.tenant_inbound(0), live.tenant_inbound(1)), (0, 0));
            claim(&accepted, 1).expect("no cap");

            assert_eq!(
                errno(claim(&accepted, TENANTS_MAX)),
                INVALID,
                "no such tenant"
            );
            assert_eq!(
                errno(enter(&accepted, WORKERS_MAX)),
                INVALID,
                "no such worker"
            );
            let refused = set(&accepted, TAG, &Plan::tag(None, 0, 0).bytes());
            assert!(
                [INVALID, REFUSED].contains(&errno(refused)),
                "a client's connection"
            );
            assert_eq!((counts(), live.tenant_inbound(1)), (vec![0, 0, 0, 1], 1));
            assert_eq!(live.account(0), 0);
            reset(near);
            until("given back before it is closed", || counts() == [0; 4]);
            assert_eq!(live.tenant_inbound(1), 0);
            drop(accepted);
            assert_eq!(
                (counts(), live.tenant_inbound(1)),
                (vec![0; 4], 0),
                "not twice"
            );
        },
    );
}
