//! How it is with the journal's disk, and since when.

use crate::journal::acceptance::Disk;
use std::time::{Duration, Instant};

/// Bytes of records that may wait in memory: hours of a quiet node, a quarter of a minute of the busiest.
pub(super) const WAITING_BYTES_MAX: usize = 64 << 20;

/// What has waited longer is not certain to be kept any more.
const WAITING_TIME_MAX: Duration = Duration::from_secs(60);

/// A disk that neither takes anything nor fails for so long is as bad as one that fails.
const SILENCE_MAX: Duration = Duration::from_secs(5);

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
    pub(super) fn disk(&self, now: Instant) -> Disk {
        let waited = self
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if self.bytes > WAITING_BYTES_MAX || waited >= WAITING_TIME_MAX {
            Disk::Overdue
        } else if self.has_failed || waited >= SILENCE_MAX {
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
        let much = WAITING_BYTES_MAX + 1;
        for (bytes, since, has_failed, disk) in [
            (0, None, false, Disk::Writable),
            (100, ago(0.02), false, Disk::Writable),
            (WAITING_BYTES_MAX, ago(4.9), false, Disk::Writable),
            (100, ago(5.0), false, Disk::Failing),
            (100, ago(0.0), true, Disk::Failing),
            (WAITING_BYTES_MAX, ago(59.9), true, Disk::Failing),
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
            assert_eq!(waiting.disk(now), disk, "{waiting:?}");
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
        assert_eq!(waiting.disk(now), Disk::Writable);
    }
}
