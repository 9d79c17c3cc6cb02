//! The gateway's group is its own: nobody else is governed by what it attaches.

use crate::harness::socket::{connect, connect_untagged, errno, listen, local};
use crate::harness::{Process, Stage, cgroup_of_this_process, pins, scenario};
use relay_ebpf::abi::errno::REFUSED;
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::{AccountPlan, Kernel, Missing, Places, Plan, detach, status};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A process that establishes the kernel side and then waits.
const GATEWAY: &str = "gateway";

/// A process that enters the group that it is told, connects without a tag as often as it is told, and is no gateway.
const NEIGHBOUR: &str = "neighbour";

fn plan() -> Plan {
    Plan {
        accounts: vec![AccountPlan {
            connections_max: None,
            egress: vec!["127.0.7.1".parse().expect("an address")],
        }],
        workers: 1,
        ..Plan::default()
    }
}

/// Plays the role of this process; false for the scenario itself.
fn plays(stage: &Stage) -> bool {
    match stage.role() {
        Some(GATEWAY) => {
            let kernel = stage.establish(&plan());
            stage.say("up");
            while stage.hear() == "check" {
                let is_in_force = kernel.check_canary().is_ok();
                stage.say(&is_in_force.to_string());
            }
            true
        }
        Some(NEIGHBOUR) => {
            let group = PathBuf::from(stage.hear()).join("cgroup.procs");
            fs::write(group, "0").expect("into the group");
            stage.say("in");
            while let Ok(to) = stage.hear().parse::<SocketAddr>() {
                stage.say(&connect_untagged(to).is_ok().to_string());
            }
            true
        }
        Some(role) => panic!("no role {role}"),
        None => false,
    }
}

fn start_neighbour(stage: &Stage, group: &Path) -> Process {
    let mut neighbour = stage.start(NEIGHBOUR);
    neighbour.tell(&group.display().to_string());
    assert_eq!(neighbour.hear(), "in");
    neighbour
}

/// Tries, and is back where it was.
fn refused(places: &Places) -> Missing {
    let before = cgroup_of_this_process();
    let missing = Kernel::establish(places, &plan()).err().expect("refused");
    assert_eq!(cgroup_of_this_process(), before, "{missing}");
    missing
}

#[test]
fn a_group_with_others_in_it_is_refused() {
    scenario("groups::a_group_with_others_in_it_is_refused", |stage| {
        if plays(stage) {
            return;
        }
        let listener = listen("127.0.0.1:0".parse().expect("an address"));
        let to = local(&listener);
        let below = stage.cgroup().join("below").join("further");
        fs::create_dir_all(&below).expect("groups");
        for group in [stage.cgroup(), &below] {
            let mut neighbour = start_neighbour(stage, group);
            let missing = refused(&stage.places());
            assert_eq!(missing.piece, "cgroup", "{missing}");
            let process = format!("process {}", neighbour.id());
            for part in [
                &*process,
                "kernel.cgroup",
                &*stage.cgroup().to_string_lossy(),
            ] {
                assert!(missing.detail.contains(part), "{part}: {missing}");
            }
            assert_eq!(pins::all(&stage.places()), Vec::<PathBuf>::new());
            neighbour.tell(&to.to_string());
            assert_eq!(neighbour.hear(), "true", "nothing was attached");
            neighbour.kill();
        }
        stage.establish(&plan()).check_canary().expect("alone");
    });
}

#[test]
fn a_second_gateway_in_the_group_disturbs_nobody() {
    scenario(
        "groups::a_second_gateway_in_the_group_disturbs_nobody",
        |stage| {
            if plays(stage) {
                return;
            }
            let mut gateway = stage.start(GATEWAY);
            assert_eq!(gateway.hear(), "up");
            let process = format!("process {}", gateway.id());
            let places = stage.places();
            let before = status(&places).expect("the state").links;

            let missing = refused(&places);
            assert_eq!(missing.piece, "in_use", "{missing}");
            for part in [&*process, "kernel.cgroup", "kernel.bpffs"] {
                assert!(missing.detail.contains(part), "{part}: {missing}");
            }
            let elsewhere = Places {
                pins: places.pins.with_file_name("others"),
                ..places.clone()
            };
            let missing = refused(&elsewhere);
            assert_eq!(missing.piece, "cgroup", "{missing}");
            assert!(missing.detail.contains(&process), "{missing}");

            assert_eq!(pins::all(&elsewhere), Vec::<PathBuf>::new());
            assert_eq!(status(&places).expect("the state").links, before);
            gateway.tell("check");
            assert_eq!(gateway.hear(), "true", "its canary");
            gateway.kill();

            // Who died left its group behind, and the programs in it: they are whose pins these are.
            drop(stage.establish(&plan()));
            let listener = listen("127.0.0.1:0".parse().expect("an address"));
            assert_eq!(errno(connect_untagged(local(&listener))), REFUSED);
            // The process itself may be in it already.
            let again = stage.establish(&plan());
            again.check_canary().expect("in force");
        },
    );
}

/// Two programs of each kind, each with maps of its own, would leave no connection that both know.
#[test]
fn programs_of_a_gateway_with_other_pins_are_refused() {
    scenario(
        "groups::programs_of_a_gateway_with_other_pins_are_refused",
        |stage| {
            if plays(stage) {
                return;
            }
            let mut gateway = stage.start(GATEWAY);
            assert_eq!(gateway.hear(), "up");
            gateway.kill();
            let places = stage.places();
            let elsewhere = Places {
                pins: places.pins.with_file_name("elsewhere"),
                ..places.clone()
            };
            let below = Places {
                cgroup: Some(stage.cgroup().join("below")),
                ..elsewhere.clone()
            };
            let before = status(&places).expect("the state").links;
            for other in [&elsewhere, &below] {
                let missing = refused(other);
                assert_eq!(missing.piece, "link", "{missing}");
                for part in [
                    "another gateway",
                    "kernel detach",
                    &*stage.cgroup().to_string_lossy(),
                ] {
                    assert!(missing.detail.contains(part), "{part}: {missing}");
                }
                assert_eq!(pins::all(other), Vec::<PathBuf>::new());
            }
            assert_eq!(status(&places).expect("the state").links, before);
            // In the place of their own they are none of another gateway's.
            let mut gateway = stage.start(GATEWAY);
            assert_eq!(gateway.hear(), "up");
            gateway.kill();

            // At once: they are attached for a moment still.
            detach(&places).expect("nobody uses them");
            let kernel = Kernel::establish(&elsewhere, &plan()).expect("alone");
            kernel.check_canary().expect("in force");
            let listener = listen("127.0.0.1:0".parse().expect("an address"));
            connect(Plan::tag(None, 0, ROUND_ROBIN), local(&listener)).expect("it may connect");
        },
    );
}

/// Names of programs are kept from a service that has the three capabilities alone: the canary notices instead.
#[test]
fn programs_of_a_gateway_with_other_pins_are_refused_without_their_names() {
    scenario(
        "groups::programs_of_a_gateway_with_other_pins_are_refused_without_their_names",
        |stage| {
            if plays(stage) {
                return;
            }
            let mut gateway = stage.start(GATEWAY);
            assert_eq!(gateway.hear(), "up");
            gateway.kill();
            let mut sets = capabilities(None).expect("those of this thread");
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).expect("one less");
            let places = stage.places();
            let elsewhere = Places {
                pins: places.pins.with_file_name("elsewhere"),
                ..places.clone()
            };
            let before = status(&places).expect("the state").links;
            let missing = refused(&elsewhere);
            assert_eq!(missing.piece, "canary", "{missing}");
            assert!(missing.detail.contains("kernel detach"), "{missing}");
            assert_eq!(pins::all(&elsewhere), Vec::<PathBuf>::new());
            assert_eq!(status(&places).expect("the state").links, before);
        },
    );
}
