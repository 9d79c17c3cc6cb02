//! Connections to providers as the kernel's programs report them: the open ones in memory, those that have ended in the egress
//! log, their figures in the metrics.

pub mod check;
pub(super) mod connect;
mod figures;
pub mod record;
mod storms;

use super::lines::Lines;
use super::log::Log;
use crate::config::Policy;
use crate::config::policy::LogOutput;
use crate::health::{Fault, Health};
use figures::Figures;
use jiff::Timestamp;
use metrics::counter;
use record::{Record, day_of};
use relay_ebpf::abi::record::Event;
use relay_ebpf::abi::{NOBODY, address_of};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storms::Storms;

/// Days for which the log is kept.
const KEPT_DAYS: i64 = 30;

/// Open connections that are kept in memory. Beyond that the oldest are forgotten: among them are those whose end was lost.
const OPEN_MAX: usize = 65_536;

/// Connections that are open, by cookie. The kernel numbers sockets upwards, each processor from a stretch of its own, so that
/// the first ones are the oldest but for a few.
#[derive(Default)]
pub struct OpenConnections(Mutex<BTreeMap<u64, Record>>);

impl OpenConnections {
    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<Record> {
        let mut all: Vec<Record> = self.locked().values().cloned().collect();
        all.sort_by(|one, other| one.opened.cmp(&other.opened));
        all
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, Record>> {
        // Each entry is whole at any moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the events of connections.
pub(super) struct Egress {
    open: Arc<OpenConnections>,
    health: &'static Health,
    figures: Figures,
    storms: Storms,
    directory: PathBuf,
    lines: Lines,
    /// The day of the file that is written.
    day: String,
    was_failing: bool,
    clock: Clock,
}

impl Egress {
    /// For the log in the state directory.
    pub(super) fn new(
        policy: &Policy,
        open: Arc<OpenConnections>,
        health: &'static Health,
    ) -> Self {
        let directory = record::directory(policy);
        let day = day_of(Timestamp::now());
        // What is wrong with it shows at the first line.
        let _ = std::fs::create_dir_all(&directory);
        Self {
            open,
            health,
            figures: Figures::default(),
            storms: Storms::default(),
            lines: Lines::to(output(&directory, &day)),
            directory,
            day: String::new(),
            was_failing: false,
            clock: Clock::now(),
        }
    }

    /// Is a connection open of which is known?
    pub(super) fn knows_open(&self) -> bool {
        !self.open.locked().is_empty()
    }

    /// Before a number of events: the time of day may have been set.
    pub(super) fn set_clock(&mut self) {
        let now = Clock::now();
        if self.clock.is_off(now) {
            self.clock = now;
        }
    }

    /// A connection was established, or has ended.
    pub(super) fn observe(&mut self, policy: &Policy, event: &Event, log: &mut Log) {
        let mut record = self.record(policy, event);
        if event.kind == Event::OPENED {
            if record.violation {
                let members = [
                    ("account", record.account.clone()),
                    ("source", record.source.to_string()),
                    ("destination", record.destination.to_string()),
                ];
                log.error("egress_violation", &members);
            }
            let mut open = self.open.locked();
            if open.len() >= OPEN_MAX {
                open.pop_first();
            }
            open.insert(event.cookie, record);
            return;
        }
        let opened = self.open.locked().remove(&event.cookie);
        if let Some(opened) = opened {
            // Our clock may have been set since.
            record.opened = opened.opened;
            // At rest it is nobody's.
            record.tenant = record.tenant.or(opened.tenant);
        }
        self.figures.count(policy, event);
        if let Some((account, address)) = self.storms.note(policy, event) {
            let now = self.health.clock().now();
            let (fault, random) = (Fault::Retransmits, fastrand::f64());
            self.health
                .failed(account, address, None, fault, now, random);
        }
        if let Some(room) = self.lines.next() {
            room.push_str(&record.to_line());
        }
    }

    fn record(&self, policy: &Policy, event: &Event) -> Record {
        let address = |address, port| SocketAddr::new(address_of(address), port as u16);
        let account = policy.accounts.get(event.account as usize);
        let tenant = policy.tenants.get(event.tenant as usize);
        let at = |ns| self.clock.time(ns);
        let has_ended = event.kind == Event::CLOSED;
        Record {
            account: account.map_or_else(|| "?".to_owned(), |account| account.name.clone()),
            tenant: tenant
                .filter(|_| event.tenant != NOBODY)
                .map(|tenant| tenant.name.clone()),
            source: address(event.source, event.source_port),
            destination: address(event.destination, event.destination_port),
            opened: (event.established_at_ns > 0).then(|| at(event.established_at_ns)),
            closed: has_ended.then(|| at(event.at_ns)),
            bytes_sent: event.bytes_sent,
            bytes_received: event.bytes_received,
            rtt_us: event.rtt_us,
            retransmits: event.retransmits,
            violation: event.is_violation != 0,
        }
    }

    /// Turns to the file of a new day, and removes those that are too old.
    pub(super) fn turn_day(&mut self) {
        let today = day_of(Timestamp::now());
        if today == self.day {
            return;
        }
        self.lines.redirect(output(&self.directory, &today));
        self.day = today;
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            // What cannot be removed is tried again tomorrow.
            let _ = remove_old(&directory, Timestamp::now());
        });
    }

    /// Hands lines to their file; says once that it does not take them.
    pub(super) async fn write_out(&mut self, log: &mut Log) {
        self.lines.write_out().await;
        let lost = self.lines.take_lost();
        if lost > 0 {
            counter!("relay_egress_log_lines_lost_total").increment(lost);
        }
        match self.lines.failure() {
            Some(error) if !self.was_failing => {
                let members = [
                    ("directory", self.directory.display().to_string()),
                    ("error", error.to_owned()),
                ];
                log.warning("egress_log_failed", &members);
                self.was_failing = true;
            }
            Some(_) => {}
            None => self.was_failing = false,
        }
    }

    /// The last lines.
    pub(super) async fn finish(&mut self, limit: Duration) {
        self.lines.finish(limit).await;
    }
}

fn output(directory: &Path, day: &str) -> LogOutput {
    LogOutput::File(record::file(directory, day))
}

fn remove_old(directory: &Path, now: Timestamp) -> io::Result<()> {
    let oldest = now.as_second() - KEPT_DAYS * 86_400;
    let oldest = day_of(Timestamp::from_second(oldest).unwrap_or_default());
    for (day, path) in record::files(directory)? {
        if day < oldest {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// How far two looks at the clocks may be apart: somebody else may run between the looks at the one and the other.
const CLOCK_JITTER_NS: u128 = 10_000_000;

/// What the time of day is ahead of the kernel's clock.
#[derive(Clone, Copy)]
struct Clock {
    ahead_ns: i128,
}

impl Clock {
    fn now() -> Self {
        let monotonic = clock_gettime(ClockId::Monotonic);
        let monotonic_ns =
            i128::from(monotonic.tv_sec) * 1_000_000_000 + i128::from(monotonic.tv_nsec);
        Self {
            ahead_ns: Timestamp::now().as_nanosecond() - monotonic_ns,
        }
    }

    fn is_off(self, other: Self) -> bool {
        self.ahead_ns.abs_diff(other.ahead_ns) > CLOCK_JITTER_NS
    }

    fn time(self, monotonic_ns: u64) -> String {
        let time = i128::from(monotonic_ns) + self.ahead_ns;
        record::format(Timestamp::from_nanosecond(time).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::AccountId;
    use crate::health::{Cause, Standing};

    fn policy(state_dir: &Path) -> Policy {
        let text = format!(
            r#"
            [node]
            state_dir = {state_dir:?}
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "first"
            upstream = "provider"
            credential = {{ env = "KEY" }}
            egress = ["127.0.7.1"]
            "#
        );
        let environment = |_: &str| Some("sk-test".into());
        crate::config::parse(&text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .policy
    }

    fn health(policy: &Policy) -> &'static Health {
        Box::leak(Box::new(Health::new(policy, crate::health::Clock::start())))
    }

    fn event(kind: u32, source: [u8; 4]) -> Event {
        Event {
            kind,
            tenant: NOBODY,
            cookie: 7,
            at_ns: 2_000,
            established_at_ns: 1_000,
            source: relay_ebpf::abi::address_bytes(source.into()),
            source_port: 4000,
            bytes_sent: 5,
            ..Event::default()
        }
    }

    #[tokio::test]
    async fn a_connection_is_open_until_it_has_ended_and_is_in_the_file_then() {
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(directory.path());
        let open = Arc::new(OpenConnections::default());
        let mut egress = Egress::new(&policy, open.clone(), health(&policy));
        let mut log = Log::nowhere();
        egress.observe(&policy, &event(Event::OPENED, [127, 0, 7, 1]), &mut log);
        let opened = open.list();
        assert_eq!((opened.len(), &*opened[0].account), (1, "first"));
        assert_eq!((&opened[0].tenant, &opened[0].closed), (&None, &None));
        assert_eq!(log.waiting(), "");
        egress.observe(&policy, &event(Event::CLOSED, [127, 0, 7, 1]), &mut log);
        assert!(open.list().is_empty());
        egress.turn_day();
        egress.finish(Duration::from_secs(10)).await;
        let files = record::files(&record::directory(&policy)).unwrap();
        let text = std::fs::read_to_string(&files[0].1).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!((record.bytes_sent, &record.opened), (5, &opened[0].opened));
        assert!(record.closed > record.opened);
    }

    #[test]
    fn a_violation_is_told_and_an_account_that_is_unknown_harms_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(directory.path());
        let open = Arc::new(OpenConnections::default());
        let mut egress = Egress::new(&policy, open.clone(), health(&policy));
        let mut log = Log::nowhere();
        let mut foreign = event(Event::OPENED, [127, 0, 7, 9]);
        foreign.is_violation = 1;
        foreign.account = 12;
        egress.observe(&policy, &foreign, &mut log);
        foreign.kind = Event::CLOSED;
        egress.observe(&policy, &foreign, &mut log);
        assert!(
            log.waiting().contains("egress_violation"),
            "{}",
            log.waiting()
        );
        assert!(
            log.waiting().contains("127.0.7.9:4000"),
            "{}",
            log.waiting()
        );
        assert!(open.list().is_empty());
    }

    #[test]
    fn a_storm_of_retransmits_keeps_out_the_address_it_came_from() {
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(directory.path());
        let health = health(&policy);
        let mut egress = Egress::new(&policy, Arc::default(), health);
        let mut log = Log::nowhere();
        let now = health.clock().now();
        let mut ended = event(Event::CLOSED, [127, 0, 7, 1]);
        ended.retransmits = 20;
        for connection in 1..=3 {
            let standing = health.path_standing(AccountId(0), 0, now);
            assert!(
                matches!(standing, Standing::Usable { .. }),
                "before connection {connection}: {standing:?}"
            );
            egress.observe(&policy, &ended, &mut log);
        }
        let standing = health.path_standing(AccountId(0), 0, now);
        let cause = Cause::Retransmits;
        assert!(
            matches!(standing, Standing::Blocked { cause: why, .. } if why == cause),
            "{standing:?}"
        );
    }

    #[test]
    fn files_are_kept_for_thirty_days() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
        let names = [
            "2026-02-28.jsonl",
            "2026-03-01.jsonl",
            "2026-03-31.jsonl",
            "notes.txt",
        ];
        for name in names {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        remove_old(directory.path(), now).unwrap();
        let is_there = names.map(|name| directory.path().join(name).exists());
        assert_eq!(is_there, [false, true, true, true]);
    }

    #[test]
    fn times_of_the_kernel_become_times_of_day() {
        let noon: Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
        let clock = Clock {
            ahead_ns: noon.as_nanosecond() - 5_000_000_000,
        };
        assert_eq!(clock.time(4_500_000_000), "2026-03-31T11:59:59.500000Z");
        assert_eq!(clock.time(5_000_001_000), "2026-03-31T12:00:00.000001Z");
        let later = |ns| Clock {
            ahead_ns: clock.ahead_ns + ns,
        };
        assert!(!clock.is_off(later(1_000_000)));
        assert!(clock.is_off(later(1_000_000_000)) && clock.is_off(later(-1_000_000_000)));
    }
}
