//! How it is with the journal's disk, and since when.

use crate::config::policy::JournalMode;
use crate::journal::acceptance::Disk;
use std::time::{Duration, Instant};

/// What may wait for the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Bytes of records in memory: hours of a quiet node, a quarter of a minute of the busiest.
    pub(super) bytes_max: usize,
    /// What has waited longer is not certain to be kept any more.
    pub(super) time_max: Duration,
    /// A disk that neither takes anything nor fails for so long is as bad as one that fails.
    pub(super) silence_max: Duration,
}

impl Patience {
    pub(super) fn new(mode: JournalMode) -> Self {
        let silence_max = match mode {
            // Whatever is served meanwhile has no record yet.
            JournalMode::Strict => Duration::from_millis(250),
            JournalMode::BestEffort | JournalMode::Off => Duration::from_secs(5),
        };
        Self {
            bytes_max: 64 << 20,
            time_max: Duration::from_secs(60),
            silence_max,
        }
    }
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// How much.
    pub(super) bytes: usize,
    /// Since when the oldest does; `None`: nothing waits.
    pub(super) since: Option<Instant>,
    /// The last attempt to write it has failed.
    pub(super) has_failed: bool,
}

impl Waiting {
    /// What that means for requests.
    pub(super) fn disk(&self, patience: &Patience, now: Instant) -> Disk {
        let waited = self
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if self.bytes > patience.bytes_max || waited >= patience.time_max {
            Disk::Overdue
        } else if self.has_failed || waited >= patience.silence_max {
            Disk::Failing
        } else {
            Disk::Writable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_too_long_or_is_too_much_is_overdue() {
        let now = Instant::now() + Duration::from_secs(1_000);
        let ago = |seconds| now.checked_sub(Duration::from_secs_f64(seconds));
        let patience = Patience::new(JournalMode::BestEffort);
        let enough = patience.bytes_max;
        let much = enough + 1;
        for (bytes, since, has_failed, disk) in [
            (0, None, false, Disk::Writable),
            (100, ago(0.02), false, Disk::Writable),
            (enough, ago(4.9), false, Disk::Writable),
            (100, ago(5.0), false, Disk::Failing),
            (100, ago(0.0), true, Disk::Failing),
            (enough, ago(59.9), true, Disk::Failing),
            (100, ago(60.0), true, Disk::Overdue),
            (100, ago(60.0), false, Disk::Overdue),
            (much, ago(0.1), true, Disk::Overdue),
            (much, ago(0.1), false, Disk::Overdue),
        ] {
            let waiting = Waiting {
                bytes,
                since,
                has_failed,
            };
            assert_eq!(waiting.disk(&patience, now), disk, "{waiting:?}");
        }
    }

    #[test]
    fn where_nothing_is_served_without_a_record_a_disk_may_be_silent_for_a_moment_only() {
        let patience = Patience::new(JournalMode::Strict);
        let now = Instant::now() + Duration::from_secs(1_000);
        for (milliseconds, disk) in [(249, Disk::Writable), (250, Disk::Failing)] {
            let waiting = Waiting {
                bytes: 100,
                since: now.checked_sub(Duration::from_millis(milliseconds)),
                has_failed: false,
            };
            assert_eq!(waiting.disk(&patience, now), disk, "{milliseconds}");
        }
    }

    #[test]
    fn a_clock_that_was_read_earlier_does_no_harm() {
        let now = Instant::now();
        let waiting = Waiting {
            bytes: 1,
            since: Some(now + Duration::from_secs(1)),
            has_failed: false,
        };
        assert_eq!(
            waiting.disk(&Patience::new(JournalMode::Strict), now),
            Disk::Writable
        );
    }
}
