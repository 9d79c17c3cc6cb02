//! What the kernel knows of a process.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;

/// Open file descriptors, without those of the standard streams.
pub(crate) fn open_fds(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let entries =
        entries.expect("a process of ours (to look into one that is not dumpable takes root)");
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().len() > 1)
        .count()
}

/// Proportional set size.
pub(crate) fn pss_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let rollup =
        rollup.expect("a process of ours (to look into one that is not dumpable takes root)");
    number(&rollup, "Pss:") * 1024
}

/// Threads.
pub(crate) fn threads(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    number(&status, "Threads:")
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
