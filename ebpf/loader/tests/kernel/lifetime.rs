//! What is pinned outlives the gateway, is taken over by the next one, and can be taken away.

use crate::harness::socket::{connect, connect_untagged, errno, listen, local, stream, tag};
use crate::harness::{Process, Stage, pins, scaled, scenario, until};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::errno::{ACCOUNT_FULL, REFUSED};
use relay_ebpf::abi::map::{ACCOUNTS, ACCOUNTS_UPSTREAM, SETTINGS, TENANTS};
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::{AccountPlan, AttachedTo, Kernel, Plan, detach, status};
use socket2::Socket;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const CAP: u32 = 2;

fn plan() -> Plan {
    Plan {
        accounts: vec![AccountPlan {
            connections_max: Some(CAP),
            egress: vec!["127.0.7.1".parse().expect("an address")],
        }],
        workers: 1,
        ..Plan::default()
    }
}

/// A process that establishes the kernel side and then waits.
const GATEWAY: &str = "gateway";

/// A process that enters and leaves the group and connects as it is told; it has nothing to do with the kernel side.
const VISITOR: &str = "visitor";

/// Plays the role of this process; false for the scenario itself.
fn plays(stage: &Stage) -> bool {
    match stage.role() {
        Some(GATEWAY) => {
            let _kernel = stage.establish(&plan());
            stage.say("up");
            stage.hear();
            true
        }
        Some(VISITOR) => {
            visit(stage);
            true
        }
        Some(role) => panic!("no role {role}"),
        None => false,
    }
}

fn visit(stage: &Stage) {
    enter_group(stage);
    stage.say("in");
    let mut held: Vec<Socket> = Vec::new();
    loop {
        let order = stage.hear();
        let Some((what, to)) = order.split_once(' ') else {
            match &*order {
                "leave" => leave_group(stage),
                "enter" => enter_group(stage),
                _ => return,
            }
            stage.say("moved");
            continue;
        };
        let to: SocketAddr = to.parse().expect("an address");
        let result = match what {
            "untagged" => connect_untagged(to),
            "tagged" => connect(Plan::tag(None, 0, ROUND_ROBIN), to),
            _ => panic!("no order {what}"),
        };
        let answer = match result {
            Ok(socket) => {
                let answer = format!("from {}", local(&socket).ip());
                held.push(socket);
                answer
            }
            Err(error) => format!("errno {}", error.raw_os_error().unwrap_or_default()),
        };
        stage.say(&answer);
    }
}

fn enter_group(stage: &Stage) {
    fs::write(stage.cgroup().join("cgroup.procs"), "0").expect("into the group");
}

fn leave_group(stage: &Stage) {
    let above = stage.cgroup().parent().expect("a group above");
    fs::write(above.join("cgroup.procs"), "0").expect("out of the group");
}

fn start_gateway(stage: &Stage) -> Process {
    let mut gateway = stage.start(GATEWAY);
    assert_eq!(gateway.hear(), "up");
    gateway
}

fn start_visitor(stage: &Stage) -> Process {
    let mut visitor = stage.start(VISITOR);
    assert_eq!(visitor.hear(), "in");
    visitor
}

/// Starts a gateway, with which nobody else may be in the group. The visitor's sockets belong to it meanwhile too.
fn start_gateway_beside(visitor: &mut Process, stage: &Stage) -> Process {
    let mut move_it = |order| {
        visitor.tell(order);
        assert_eq!(visitor.hear(), "moved");
    };
    move_it("leave");
    let gateway = start_gateway(stage);
    move_it("enter");
    gateway
}

/// Lets the visitor connect, and returns what it says.
fn ask(visitor: &mut Process, what: &str, to: SocketAddr) -> String {
    visitor.tell(&format!("{what} {to}"));
    visitor.hear()
}

fn listener() -> (Socket, SocketAddr) {
    let listener = listen("127.0.0.1:0".parse().expect("an address"));
    let to = local(&listener);
    (listener, to)
}

#[test]
fn a_killed_gateway_leaves_the_pin_in_force() {
    scenario(
        "lifetime::a_killed_gateway_leaves_the_pin_in_force",
        |stage| {
            if plays(stage) {
                return;
            }
            let (_listener, to) = listener();
            start_gateway(stage).kill();
            let refused = format!("errno {REFUSED}");
            let mut visitor = start_visitor(stage);
            assert_eq!(ask(&mut visitor, "untagged", to), refused);
            assert_eq!(ask(&mut visitor, "tagged", to), "from 127.0.7.1");
            // Its connection lives through a restart and stays counted; the cap goes on from there.
            let gateway = start_gateway_beside(&mut visitor, stage);
            let live = status(&stage.places()).expect("the state").live;
            let account = live.iter().find(|count| count.map == ACCOUNTS_UPSTREAM);
            assert_eq!(account.expect("a live count").connections, 1, "{live:?}");
            assert_eq!(ask(&mut visitor, "tagged", to), "from 127.0.7.1");
            assert_eq!(
                ask(&mut visitor, "tagged", to),
                format!("errno {ACCOUNT_FULL}")
            );
            visitor.kill();
            let live = status(&stage.places()).expect("the state").live;
            assert_eq!(live, [], "given back by the kernel");
            gateway.kill();
        },
    );
}

#[test]
fn a_restart_never_opens_the_pin() {
    scenario("lifetime::a_restart_never_opens_the_pin", |stage| {
        if plays(stage) {
            return;
        }
        let (listener, to) = listener();
        start_gateway(stage).kill();
        // A socket belongs to the group in which it was made, whoever is in it; one that was refused may try again.
        enter_group(stage);
        let socket = stream(to);
        leave_group(stage);
        let (is_over, tries) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut programs = Vec::new();
        // Those of one are compared with those of the next.
        let restarts = scaled(5).max(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    assert_eq!(errno(socket.connect(&to.into())), REFUSED);
                    tries.fetch_add(1, SeqCst);
                    std::thread::yield_now();
                }
            });
            for _ in 0..restarts {
                let gateway = start_gateway(stage);
                let status = status(&stage.places()).expect("the state");
                assert_eq!(status.held_by, Some(gateway.id()));
                let attached = status.links.iter();
                assert!(
                    attached
                        .clone()
                        .all(|link| link.attached_to == AttachedTo::Cgroup)
                );
                programs.push(attached.map(|link| link.program_id).collect::<Vec<_>>());
                gateway.kill();
            }
            is_over.store(true, SeqCst);
        });
        assert!(
            programs
                .iter()
                .all(|ids| ids.len() == programs[0].len() && ids.len() >= 5)
        );
        assert!(
            programs.windows(2).all(|two| two[0] != two[1]),
            "replaced: {programs:?}"
        );
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        assert_eq!(
            errno(listener.accept().map(drop)),
            libc::EAGAIN,
            "nobody came through"
        );
        let tries = tries.load(SeqCst);
        stage.figure(&format!(
            "{tries} untagged connects during {restarts} restarts, all refused"
        ));
        assert_ne!(tries, 0);
    });
}

#[test]
fn a_group_that_was_removed_is_governed_again() {
    scenario(
        "lifetime::a_group_that_was_removed_is_governed_again",
        |stage| {
            if plays(stage) {
                return;
            }
            let (_listener, to) = listener();
            start_gateway(stage).kill();
            fs::remove_dir(stage.cgroup()).expect("an empty group");
            let links = status(&stage.places()).expect("the state").links;
            assert!(
                links
                    .iter()
                    .all(|link| link.attached_to != AttachedTo::Cgroup),
                "{links:?}"
            );
            fs::create_dir(stage.cgroup()).expect("a group of the same name");
            let mut visitor = start_visitor(stage);
            assert_eq!(
                ask(&mut visitor, "untagged", to),
                "from 127.0.0.1",
                "nothing governs it"
            );
            visitor.kill();
            let gateway = start_gateway(stage);
            let mut visitor = start_visitor(stage);
            assert_eq!(
                ask(&mut visitor, "untagged", to),
                format!("errno {REFUSED}")
            );
            assert_eq!(ask(&mut visitor, "tagged", to), "from 127.0.7.1");
            gateway.kill();
            // And when it is made by the gateway itself.
            visitor.kill();
            fs::remove_dir(stage.cgroup()).expect("an empty group");
            let gateway = start_gateway(stage);
            let mut visitor = start_visitor(stage);
            assert_eq!(
                ask(&mut visitor, "untagged", to),
                format!("errno {REFUSED}")
            );
            gateway.kill();
        },
    );
}

#[test]
fn two_gateways_cannot_share_the_pins() {
    scenario("lifetime::two_gateways_cannot_share_the_pins", |stage| {
        if plays(stage) {
            return;
        }
        let gateway = start_gateway(stage);
        let missing = Kernel::establish(&stage.places(), &plan())
            .err()
            .expect("in use");
        assert_eq!(missing.piece, "in_use", "{missing}");
        assert!(
            missing.detail.contains(&gateway.id().to_string()),
            "{missing}"
        );
        assert!(detach(&stage.places()).is_err_and(|missing| missing.piece == "in_use"));
        assert_ne!(pins::all(&stage.places()), Vec::<std::path::PathBuf>::new());
        gateway.kill();
        Kernel::establish(&stage.places(), &plan()).expect("free again");
    });
}

#[test]
fn detaching_leaves_nothing() {
    scenario("lifetime::detaching_leaves_nothing", |stage| {
        if plays(stage) {
            return;
        }
        let (_listener, to) = listener();
        start_gateway(stage).kill();
        let mut visitor = start_visitor(stage);
        assert_eq!(
            ask(&mut visitor, "untagged", to),
            format!("errno {REFUSED}")
        );
        let pinned = pins::all(&stage.places());
        let removed = detach(&stage.places()).expect("nobody uses them");
        assert!(
            pinned.iter().all(|pin| removed.contains(pin)),
            "{pinned:?} and {removed:?}"
        );
        assert_eq!(pins::all(&stage.places()), Vec::<std::path::PathBuf>::new());
        // The kernel frees a link a moment after its last pin is gone.
        until("nothing governs it", || {
            ask(&mut visitor, "untagged", to) == "from 127.0.0.1"
        });
        let no_option = format!("errno {}", libc::ENOPROTOOPT);
        until("no such option", || {
            ask(&mut visitor, "tagged", to) == no_option
        });
        // From nothing again.
        let gateway = start_gateway_beside(&mut visitor, stage);
        assert_eq!(
            ask(&mut visitor, "untagged", to),
            format!("errno {REFUSED}")
        );
        gateway.kill();
    });
}

#[test]
fn maps_of_another_layout_are_made_anew() {
    scenario("lifetime::maps_of_another_layout_are_made_anew", |stage| {
        if plays(stage) {
            return;
        }
        let (_listener, to) = listener();
        start_gateway(stage).kill();
        let places = stage.places();
        let [tenants, accounts, settings] =
            [TENANTS, ACCOUNTS, SETTINGS].map(|name| pins::path(&places, name));
        let aside = tenants.with_file_name("aside");
        fs::rename(&tenants, &aside).expect("aside");
        fs::rename(&accounts, &tenants).expect("accounts for tenants");
        fs::rename(&aside, &accounts).expect("tenants for accounts");
        let gateway = start_gateway(stage);
        let mut visitor = start_visitor(stage);
        assert_eq!(
            ask(&mut visitor, "untagged", to),
            format!("errno {REFUSED}")
        );
        for _ in 0..CAP {
            assert_eq!(ask(&mut visitor, "tagged", to), "from 127.0.7.1");
        }
        assert_eq!(
            ask(&mut visitor, "tagged", to),
            format!("errno {ACCOUNT_FULL}")
        );
        gateway.kill();
        visitor.kill();
        // One that is missing.
        fs::remove_file(settings).expect("a pin less");
        let gateway = start_gateway(stage);
        let mut visitor = start_visitor(stage);
        assert_eq!(ask(&mut visitor, "tagged", to), "from 127.0.7.1");
        gateway.kill();
    });
}

#[test]
fn without_a_lease_caps_let_through_and_the_pin_holds() {
    scenario(
        "lifetime::without_a_lease_caps_let_through_and_the_pin_holds",
        |stage| {
            let (_listener, to) = listener();
            let kernel = stage.establish(&plan());
            let live = kernel.live();
            let connect = || connect(Plan::tag(None, 0, ROUND_ROBIN), to);
            let mut held: Vec<_> = (0..CAP)
                .map(|_| connect().expect("below the cap"))
                .collect();
            assert_eq!(errno(connect()), ACCOUNT_FULL);
            live.renew_lease(Duration::ZERO);
            for _ in 0..10 {
                held.push(connect().expect("nobody reconciles"));
            }
            assert_eq!(live.account(0), u64::from(CAP) + 10, "counted all the same");
            assert_eq!(live.counter(Counter::CapSuspended), 10);
            assert_eq!(errno(connect_untagged(to)), REFUSED);
            let foreign = stream(to);
            let other = SocketAddr::new("127.0.9.9".parse().expect("an address"), 0);
            foreign
                .bind(&other.into())
                .expect("an address of this host");
            tag(&foreign, Plan::tag(None, 0, ROUND_ROBIN)).expect("the tag");
            assert_eq!(errno(foreign.connect(&to.into())), REFUSED);
            live.renew_lease(Duration::from_secs(3_600));
            assert_eq!(errno(connect()), ACCOUNT_FULL);
            drop(held);
            assert_eq!(live.account(0), 0);
            connect().expect("below the cap");
        },
    );
}
