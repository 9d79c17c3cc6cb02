//! Ports of an egress address: a host with few of them is a network namespace of its own.

use crate::two_workers;
use relay_tests::{
    Account, Mode, RawClient, Request, Signal, Upstream, eventually, in_each_mode, openai,
};
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

in_each_mode! {
    a_host_that_runs_out_of_ports_says_so,
}

/// Ports that the kernel may choose from.
const PORTS: usize = 64;

/// Set where the host is a small one.
const IS_SMALL: &str = "RELAY_TESTS_FEW_PORTS";

fn a_host_that_runs_out_of_ports_says_so(mode: &Mode) {
    const CLIENTS: usize = PORTS + 40;
    if std::env::var_os(IS_SMALL).is_none() {
        let module = if mode.is_kernel() {
            "kernel"
        } else {
            "user_space"
        };
        return on_a_small_host(&format!(
            "ports::{module}::a_host_that_runs_out_of_ports_says_so"
        ));
    }
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |exchange| {
            go_on.wait();
            exchange.send(openai::plain());
        }
    });
    let account = Account::first().set("max_concurrent", CLIENTS);
    let gateway = mode.gateway(&two_workers(&upstream).account(account));
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (gateway, refused) = (&gateway, &refused);
            scope.spawn(move || {
                // The client's own ports must not be what runs out.
                let source = IpAddr::from([127, 0, 9, number as u8]);
                let client = RawClient::connect_from(source, gateway.address());
                let answer = client.expect("a listener").call(&Request::plain());
                if answer.status() != 200 {
                    let error = answer.assert_refused(503, "egress_ports_exhausted");
                    assert!(error.retryable);
                    assert_eq!(answer.head.value("retry-after"), Some("5"));
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("everybody is held or refused", || {
            let answered = upstream.completed() + refused.load(Ordering::SeqCst);
            (answered == CLIENTS).then_some(())
        });
        (0..CLIENTS).for_each(|_| go_on.send());
    });
    let held = upstream.completed();
    assert!(
        (PORTS / 2..=PORTS).contains(&held),
        "{held} of {PORTS} ports"
    );
}

/// Plays the test again where there are few ports.
fn on_a_small_host(test: &str) {
    let setup = format!(
        "ip link set lo up && echo '40000 {}' >/proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"",
        40000 + PORTS - 1
    );
    let this = std::env::current_exe().expect("a path of this program");
    let can = Command::new("unshare")
        .args(["--net", "ip", "link"])
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("not shown: a network of its own takes root, unshare(1) and ip(8)");
        return;
    }
    let played = Command::new("unshare")
        .args(["--net", "sh", "-c", &setup, "sh"])
        .arg(this)
        .args(["--exact", test])
        .env(IS_SMALL, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&played.stdout);
    let complained = String::from_utf8_lossy(&played.stderr);
    // A name that fits no test would be a success, too.
    assert!(said.contains("1 passed"), "{said}\n{complained}");
}
