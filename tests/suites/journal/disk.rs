//! A disk that takes nothing any more, and takes it again.

use super::*;
use relay_tests::Response;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::fs;
use std::io::Write;
use std::process::Command;

/// A file system of its own; taken away when dropped.
struct Disk(TempDir);

impl Disk {
    /// `None`, with a line that says why, where it cannot be had.
    fn mounted() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown: only root may mount a disk of a megabyte");
            return None;
        }
        let directory = directory();
        let path = directory.path();
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=1m").expect("a tmpfs");
        Some(Self(directory))
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).expect("a file");
        let block = vec![1; 4 << 10];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("a file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Calls until something is so; what of that was served.
fn call_until(gateway: &Gateway, what: &str, is_so: impl Fn(&Response) -> bool) -> u64 {
    let mut served = 0;
    eventually(what, || {
        let answer = gateway.call(&Request::plain());
        served += u64::from(answer.status() == 200);
        is_so(&answer).then_some(())
    });
    served
}

/// Has it been told that the disk is full? It stays so until there is room, other than a disk that was only slow.
fn is_told_full(gateway: &Gateway) -> bool {
    let lines = gateway.log().lines();
    let mut failing = lines
        .iter()
        .filter(|line| line.event() == "journal_failing");
    failing.any(|line| line.text.contains("os error 28"))
}

#[test]
fn best_effort_serves_on_while_the_disk_is_full_and_loses_nothing() {
    let Some(disk) = Disk::mounted() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let metered = Tenant::acme().limits("requests_per_day = 100_000");
    let config = config(&upstream, disk.0.path()).tenant(metered);
    let gateway = Gateway::start(&config);
    call(&gateway, 1);
    wait_kept(&gateway, 1);
    disk.fill();
    // What is left of the last page is written to.
    let served = call_until(&gateway, "an alarm", |_| is_told_full(&gateway));
    assert_eq!(gateway.metric("relay_journal_failing", &[]), 1.0);
    call(&gateway, 10);
    assert!(gateway.metric("relay_journal_waiting_bytes", &[]) > 0.0);
    disk.free();
    gateway.log().wait_event("journal_recovered");
    call(&gateway, 1);
    wait_kept(&gateway, served as usize + 12);
    assert_eq!(used(&gateway)["requests"], served + 12);
    eventually("the end of the alarm", || {
        (gateway.metric("relay_journal_failing", &[]) == 0.0).then_some(())
    });
    assert_eq!(gateway.metric("relay_journal_lost_records_total", &[]), 0.0);
    gateway.stop();
}

#[test]
fn strict_refuses_while_the_disk_is_full_and_keeps_all_that_was_served() {
    let Some(disk) = Disk::mounted() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, disk.0.path()).journal("mode", "\"strict\"");
    let gateway = Gateway::start(&config);
    disk.fill();
    let mut served = call_until(&gateway, "an alarm", |answer| {
        if answer.status() != 200 {
            answer.assert_refused(503, "audit_unavailable");
            assert_eq!(answer.head.value("retry-after"), Some("5"));
        }
        is_told_full(&gateway)
    });
    let asked = upstream.requests().len();
    gateway
        .call(&Request::plain())
        .assert_refused(503, "audit_unavailable");
    assert_eq!(upstream.requests().len(), asked);
    let ready = gateway.admin("/ready");
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json()["journal"], "failing");
    disk.free();
    served += call_until(&gateway, "service", |answer| answer.status() == 200);
    gateway.log().wait_event("journal_recovered");
    eventually("readiness", || {
        (gateway.admin("/ready").status() == 200).then_some(())
    });
    let mut gateway = gateway;
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    assert_eq!(used(&gateway)["requests"], served);
}

/// A disk that does not answer: the file that becomes the next segment is a pipe that nobody reads.
fn hang(journal: &Path) {
    let path = journal.join("segment.next");
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

#[test]
fn a_disk_that_hangs_is_a_failing_one_and_holds_up_no_exit() {
    let directory = directory();
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, directory.path()).journal("mode", "\"strict\"");
    let mut gateway = Gateway::start(&config);
    hang(directory.path());
    let served = call_until(&gateway, "a refusal", |answer| {
        if answer.status() == 200 {
            return false;
        }
        answer.assert_refused(503, "audit_unavailable");
        true
    });
    let told = gateway.log().wait_event("journal_failing");
    assert_eq!(told["error"], "the disk does not answer");
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    let lost = gateway.log().wait_event("journal_records_lost");
    let lost = lost["records"].as_str().and_then(|lost| lost.parse().ok());
    // The refusals were to be kept too.
    assert!(lost > Some(served), "{lost:?} of {served}");
}

#[test]
fn a_disk_that_cannot_be_written_at_the_start() {
    let Some(disk) = Disk::mounted() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, &disk.0.path().join("journal"));
    mount_remount(disk.0.path(), MountFlags::RDONLY, "").expect("a read-only disk");
    let strict = config.clone().journal("mode", "\"strict\"");
    let mut refused = relay_tests::gateway::Launch::new().run(&strict);
    assert!(!refused.wait_exit().success());
    let said = refused.errors().text();
    assert!(said.contains("cannot keep the journal"), "{said}");

    let gateway = Gateway::start(&config);
    gateway.log().wait_event("journal_failing");
    call(&gateway, 3);
    mount_remount(disk.0.path(), MountFlags::empty(), "").expect("a disk");
    gateway.log().wait_event("journal_recovered");
    wait_kept(&gateway, 3);
    assert_eq!(used(&gateway)["requests"], 3);
    gateway.stop();
}
