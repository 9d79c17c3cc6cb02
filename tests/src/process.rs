//! What the kernel knows of a process.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;

/// What the open file descriptors refer to.
pub(crate) fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    // A process that is not dumpable shows its files to root only.
    let entries = entries
        .expect("a process of ours, and root")
        .filter_map(Result::ok);
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// Memory of its own. Without that of mapped files: its share of them grows whenever another one that runs the same program
/// ends.
pub(crate) fn anonymous_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let rollup = rollup.expect("a process of ours, and root");
    number(&rollup, "Pss_Anon:") * 1024
}

/// Threads.
pub(crate) fn threads(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    number(&status, "Threads:")
}

/// Capabilities that its threads have, could take, or could hand on, as sets of bits.
pub(crate) fn capabilities(pid: u32) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process of ours");
    let mut sets = Vec::new();
    for task in tasks.filter_map(Result::ok) {
        // A thread may have ended since.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let held =
            lines.filter(|(name, _)| matches!(*name, "CapEff" | "CapPrm" | "CapInh" | "CapAmb"));
        sets.extend(
            held.map(|(_, set)| u64::from_str_radix(set.trim(), 16).expect("a set of bits")),
        );
    }
    sets
}

/// The arguments.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).expect("a process of ours");
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Whether a crash would write its memory to a file.
pub(crate) fn may_dump_core(pid: u32) -> bool {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process of ours");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = core.expect("a known line").split_ascii_whitespace().nth(4);
    soft != Some("0")
}

fn number(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a known line");
    let value = line
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|value| value.parse().ok());
    value.expect("a number")
}

/// Lets this process, and those it starts from now on, open as many files as the hard limit allows.
///
/// # Panics
/// If that is fewer than `needed`.
pub fn raise_open_files_limit(needed: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_none_or(|maximum| maximum > 20_000) {
        limit.current = Some(20_000);
    } else {
        limit.current = limit.maximum;
    }
    setrlimit(Resource::Nofile, limit).expect("a soft limit within the hard one");
    let allowed = limit.current.unwrap_or_default();
    assert!(
        allowed >= needed,
        "open files: {allowed} allowed, {needed} needed"
    );
}
