//! Records of requests that cost nothing: refused before any account was asked, so that anybody may cause any number of
//! them. They must not fill the disk.

use super::super::log::Log;
use super::super::metrics::tenant_name;
use crate::config::Policy;
use crate::config::policy::TenantId;
use crate::journal::Record;
use metrics::{Counter, counter};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Of each tenant, and of all that name none, one is kept each so often in the long run.
const INTERVAL: Duration = Duration::from_millis(10);

/// So many at once after a pause.
const BURST: u32 = 1_000;

/// How often it is told how many were not kept.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// What of them is kept.
#[derive(Default)]
pub(super) struct Trifles(HashMap<Option<TenantId>, Flow>);

/// Those of one tenant.
struct Flow {
    /// By then all of the burst is there again.
    whole_at: Instant,
    omitted: Option<Omitted>,
}

/// What was not kept.
struct Omitted {
    records: u64,
    /// Of them, those that were told.
    told: u64,
    told_at: Instant,
    counter: Counter,
}

/// Is it a record of a request that cost nothing?
pub(super) fn is_trifle(record: &Record) -> bool {
    record.attempts == 0 && !record.charged
}

impl Trifles {
    /// Is this one kept? It is counted if not.
    pub(super) fn keep(&mut self, policy: &Policy, tenant: Option<TenantId>, now: Instant) -> bool {
        let flow = self.0.entry(tenant).or_insert(Flow {
            whole_at: now,
            omitted: None,
        });
        let whole_at = flow.whole_at.max(now) + INTERVAL;
        if whole_at.duration_since(now) <= INTERVAL * BURST {
            flow.whole_at = whole_at;
            return true;
        }
        let omitted = flow.omitted.get_or_insert_with(|| Omitted {
            records: 0,
            told: 0,
            told_at: now,
            counter: counter!("relay_journal_omitted_total", "tenant" => tenant_name(policy, tenant)),
        });
        omitted.records += 1;
        omitted.counter.increment(1);
        false
    }

    /// Tells how many were not kept, of each tenant once in a while.
    pub(super) fn tell(&mut self, policy: &Policy, now: Instant, log: &mut Log) {
        self.tell_after(TELL_INTERVAL, policy, now, log);
    }

    /// Tells what has not been told yet.
    pub(super) fn tell_rest(&mut self, policy: &Policy, now: Instant, log: &mut Log) {
        self.tell_after(Duration::ZERO, policy, now, log);
    }

    fn tell_after(&mut self, pause: Duration, policy: &Policy, now: Instant, log: &mut Log) {
        for (tenant, flow) in &mut self.0 {
            let Some(omitted) = &mut flow.omitted else {
                continue;
            };
            let untold = omitted.records - omitted.told;
            if untold == 0 || now.saturating_duration_since(omitted.told_at) < pause {
                continue;
            }
            omitted.told = omitted.records;
            omitted.told_at = now;
            let members = [
                ("tenant", tenant_name(policy, *tenant)),
                ("records", untold.to_string()),
            ];
            log.warning("journal_omitted", &members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use std::path::Path;

    fn told(log: &Log) -> Vec<(String, String)> {
        let lines = log.waiting().lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|line: serde_json::Value| {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                assert_eq!(text("event"), "journal_omitted");
                (text("tenant"), text("records"))
            })
            .collect()
    }

    #[test]
    fn a_thousand_at_once_and_a_hundred_a_second() {
        let policy = policy(Path::new("/nowhere"), "best_effort");
        let mut trifles = Trifles::default();
        let begin = Instant::now();
        let mut kept = |tenant, milliseconds| {
            let now = begin + Duration::from_millis(milliseconds);
            let all = (0..5_000).filter(|_| trifles.keep(&policy, tenant, now));
            all.count()
        };
        assert_eq!(kept(None, 0), 1_000);
        assert_eq!(kept(None, 9), 0);
        assert_eq!(kept(None, 30), 3);
        // What somebody else does is no matter.
        assert_eq!(kept(Some(TenantId(0)), 30), 1_000);
        assert_eq!(kept(None, 1_030), 100);
        assert_eq!(kept(None, 60_000), 1_000);
    }

    #[test]
    fn what_is_not_kept_is_told_once_a_minute_and_at_the_end() {
        let policy = policy(Path::new("/nowhere"), "best_effort");
        let mut trifles = Trifles::default();
        let begin = Instant::now();
        let mut log = Log::nowhere();
        for _ in 0..1_004 {
            trifles.keep(&policy, None, begin);
        }
        let minute = begin + TELL_INTERVAL;
        trifles.tell(&policy, minute - Duration::from_millis(1), &mut log);
        assert_eq!(told(&log), []);
        trifles.tell(&policy, minute, &mut log);
        trifles.tell(&policy, minute + TELL_INTERVAL, &mut log);
        let of_none = |records: &str| ("none".to_owned(), records.to_owned());
        assert_eq!(told(&log), [of_none("4")]);
        for _ in 0..1_001 {
            trifles.keep(&policy, None, minute + TELL_INTERVAL);
        }
        trifles.tell_rest(&policy, minute + TELL_INTERVAL, &mut log);
        assert_eq!(told(&log), [of_none("4"), of_none("1")]);
    }
}
