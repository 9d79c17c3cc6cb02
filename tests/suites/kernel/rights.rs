//! A start without rights, and rights after the start.

use relay_tests::gateway::Launch;
use relay_tests::{Account, Config, Gateway, Mode, Request, Upstream, in_each_mode, openai};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

const FEATURES: [&str; 5] = [
    "egress_pin",
    "connection_caps",
    "steering",
    "telemetry",
    "reconciliation",
];

/// `nobody`
const NOBODY: u32 = 65_534;

/// As a user who may do nothing.
fn unprivileged() -> Launch {
    if fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)) {
        Launch::new()
            .under(env!("CARGO_BIN_EXE_without-privileges"))
            .prepare(|directory| give_away(directory).expect("files of root"))
    } else {
        Launch::new()
    }
}

fn is_root(own: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(own) == 0
}

fn give_away(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        chown(entry?.path(), Some(NOBODY), Some(NOBODY))?;
    }
    chown(directory, Some(NOBODY), Some(NOBODY))
}

fn config(upstream: &Upstream, mode: &str) -> Config {
    Config::for_upstream(upstream.address())
        .account(Account::first())
        .set("kernel", "mode", format!("{mode:?}"))
}

#[test]
fn without_rights_it_names_the_missing_piece_and_serves_all_the_same() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = unprivileged().gateway(&config(&upstream, "auto"));
    let line = gateway.log().wait_event("kernel_missing");
    assert_eq!(line["level"], "warning");
    for member in ["piece", "detail"] {
        assert!(
            line[member].as_str().is_some_and(|text| !text.is_empty()),
            "{line}"
        );
    }
    let lines = gateway.log().lines();
    let about = lines
        .iter()
        .filter(|line| line.event().starts_with("kernel"));
    assert_eq!(about.count(), 1, "{}", gateway.log().text());
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let from = upstream.only_request().peer.expect("a peer").ip();
    assert_eq!(from.to_string(), relay_tests::config::EGRESS);

    let ready = gateway.admin("/ready");
    assert_eq!(ready.status(), 200);
    let kernel = &ready.json()["kernel"];
    assert_eq!(kernel["mode"], "auto");
    let piece = line["piece"].as_str().unwrap_or_default();
    for feature in FEATURES {
        let state = kernel["features"][feature].as_str().unwrap_or_default();
        assert!(
            state.starts_with(&format!("missing: {piece}: ")),
            "{kernel}"
        );
        let label = format!("feature=\"{feature}\"");
        assert_eq!(gateway.metric("relay_kernel_feature", &[&label]), 0.0);
    }
}

#[test]
fn without_rights_it_does_not_start_where_they_are_required() {
    let upstream = Upstream::untouched();
    let mut started = unprivileged().run(&config(&upstream, "required"));
    let status = started.wait_exit();
    let errors = started.errors().text();
    assert!(status.code().is_some_and(|code| code != 0), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.contains("required") && errors.contains("kernel"),
        "{errors}"
    );
    assert!(!started.output().text().contains("listening"));
}

fn no_thread_holds_a_capability(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::for_upstream(upstream.address())
        .account(Account::first())
        .set("node", "workers", 2);
    let gateway = mode.gateway(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let sets = gateway.capabilities();
    assert!(sets.len() >= 4 * 3, "two workers and one more: {sets:?}");
    assert!(sets.iter().all(|&set| set == 0), "{sets:x?}");
}

in_each_mode! {
    no_thread_holds_a_capability,
}

#[test]
fn what_is_in_force_is_told() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::untouched();
    let gateway = mode.gateway(&Config::simple(upstream.address()));
    let kernel = gateway.admin("/ready").json()["kernel"].take();
    assert_eq!(kernel["mode"], "required");
    for feature in FEATURES {
        assert_eq!(kernel["features"][feature], "active", "{kernel}");
    }
    assert_eq!(gateway.metric("relay_kernel_feature", &[]), 5.0);
    relay_tests::eventually("counts are compared with sockets", || {
        let compared = gateway.metric("relay_kernel_reconciliations_total", &[]);
        (compared >= 1.0).then_some(())
    });
}

#[test]
fn what_must_stay_zero_is_there_from_the_start() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let metrics = gateway.admin("/metrics").payload;
    let metrics = String::from_utf8(metrics).expect("metrics in UTF-8");
    for name in [
        "relay_egress_violations_total",
        "relay_accounts_sharing_address",
    ] {
        let line = format!("{name} 0");
        assert!(metrics.lines().any(|known| known == line), "{name}");
    }
    let kernel = gateway.admin("/ready").json()["kernel"].take();
    assert_eq!(kernel["mode"], "off");
    assert_eq!(kernel["features"]["egress_pin"], "missing: switched off");
}

/// The rings of so many workers would not find room in what a user may usually lock (8 MiB).
#[test]
fn many_workers_without_rights_share_what_memory_may_be_locked() {
    const WORKERS: usize = 64;
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, "off").set("node", "workers", WORKERS);
    let gateway = unprivileged().gateway(&config);
    let ready = gateway.log().wait_event("ready");
    assert_eq!(ready["workers"], WORKERS.to_string());
    for _ in 0..WORKERS {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    gateway.stop();
}
