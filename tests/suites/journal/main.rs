//! The journal: every request is kept, quotas outlast the process, and what a disk that fails means.

mod disk;
mod records;
mod restart;

use relay_tests::{Config, Gateway, Request, Tenant, Upstream, eventually, openai};
use serde_json::Value;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A second key of the default tenant.
const OTHER_KEY: &str = "rk-acme-other-0123456789";

/// A directory that outlasts gateways.
fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn config(upstream: &Upstream, journal: &Path) -> Config {
    Config::simple(upstream.address())
        .journal("directory", format!("{journal:?}"))
        .usage("time_zone", format!("{:?}", midday_zone()))
}

/// A zone in which it is about noon: no test runs into the next day.
fn midday_zone() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.expect("a clock").as_secs();
    let hours_ahead = 12 - (seconds / 3_600 % 24).cast_signed();
    // The names of these zones have the sign that nobody expects.
    match hours_ahead {
        0 => "Etc/GMT".to_owned(),
        ahead => format!("Etc/GMT{:+}", -ahead),
    }
}

fn call(gateway: &Gateway, count: usize) {
    for _ in 0..count {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
}

/// Waits until so many records of this gateway's are on the disk.
fn wait_kept(gateway: &Gateway, count: usize) {
    eventually("records on the disk", || {
        let kept = gateway.metric("relay_journal_records_total", &[]);
        (kept >= count as f64).then_some(())
    });
}

/// What `codex-relay usage` says of the default tenant this month.
fn used(gateway: &Gateway) -> Value {
    let told = gateway.command(&["usage", "--format", "json"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let line = told.output.lines().find(|line| line.contains("\"acme\""));
    line.map_or(Value::Null, |line| {
        serde_json::from_str(line).expect("JSON")
    })
}
