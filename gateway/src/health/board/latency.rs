//! How long an account's answers take to begin: an average in which what is long ago counts for little.

use crate::health::moment::Moment;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weight of the newest sample, where they follow each other closely.
const ALPHA: f64 = 0.2;

/// Without samples, what is known counts for half as much after this.
const HALF_LIFE_SECONDS: f64 = 60.0;

/// The average in microseconds (upper half) and the second of the last sample (lower half); zero: nothing is known.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

/// What is known of an account's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyRecord {
    /// The average at that time, in whole microseconds.
    pub average: Duration,
    /// When the last sample was taken, in whole seconds.
    pub at: Moment,
}

impl Latency {
    /// One more sample.
    pub(super) fn note(&self, latency: Duration, now: Moment) {
        let sample = microseconds(latency);
        let second = seconds(now);
        let mut known = self.0.load(Ordering::Relaxed);
        loop {
            let (average, at) = unpacked(known);
            let average = if known == 0 {
                f64::from(sample)
            } else {
                let keeps = (1.0 - ALPHA) * weight_after(second.saturating_sub(at));
                f64::from(sample) + (f64::from(average) - f64::from(sample)) * keeps
            };
            // Of samples from several threads the latest time counts. At least a microsecond: zero would say that nothing is known.
            let word = packed(average.round().max(1.0) as u32, second.max(at));
            match self
                .0
                .compare_exchange_weak(known, word, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now_known) => known = now_known,
            }
        }
    }

    /// The average; it halves with every minute without a sample, so that an account that was slow is asked again some time.
    pub(super) fn average(&self, now: Moment) -> Option<Duration> {
        let known = self.0.load(Ordering::Relaxed);
        if known == 0 {
            return None;
        }
        let (average, at) = unpacked(known);
        let faded = f64::from(average) * weight_after(seconds(now).saturating_sub(at));
        (faded >= 1.0).then(|| Duration::from_micros(faded as u64))
    }

    /// For the disk.
    pub(super) fn record(&self) -> Option<LatencyRecord> {
        let known = self.0.load(Ordering::Relaxed);
        let (average, at) = unpacked(known);
        (known != 0).then(|| LatencyRecord {
            average: Duration::from_micros(average.into()),
            at: Moment::from_unix_ms(u64::from(at) * 1_000),
        })
    }

    /// Takes over what was known, unless more is known already.
    pub(super) fn restore(&self, record: LatencyRecord, now: Moment) {
        let word = packed(
            microseconds(record.average).max(1),
            seconds(record.at.min(now)),
        );
        // Whoever was quicker has a sample of this run.
        let _ = self
            .0
            .compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn weight_after(seconds: u32) -> f64 {
    if seconds == 0 {
        return 1.0;
    }
    (-f64::from(seconds) / HALF_LIFE_SECONDS).exp2()
}

fn microseconds(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)
}

fn seconds(moment: Moment) -> u32 {
    u32::try_from(moment.unix_ms() / 1_000).unwrap_or(u32::MAX)
}

fn packed(average: u32, second: u32) -> u64 {
    u64::from(average) << 32 | u64::from(second)
}

fn unpacked(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_unix_ms(1_800_000_000_000);

    fn after(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_sample_counts_for_a_fifth() {
        let latency = Latency::default();
        assert_eq!(latency.average(START), None);
        latency.note(Duration::from_millis(1_000), START);
        assert_eq!(latency.average(START), Some(Duration::from_millis(1_000)));
        latency.note(Duration::from_millis(2_000), START);
        assert_eq!(latency.average(START), Some(Duration::from_millis(1_200)));
        for _ in 0..100 {
            latency.note(Duration::from_millis(50), START);
        }
        let average = latency.average(START).expect("samples were noted");
        assert!(average.abs_diff(Duration::from_millis(50)) < Duration::from_micros(10));
    }

    #[test]
    fn what_is_long_ago_counts_for_little() {
        let latency = Latency::default();
        latency.note(Duration::from_secs(8), START);
        assert_eq!(latency.average(after(60)), Some(Duration::from_secs(4)));
        assert_eq!(latency.average(after(180)), Some(Duration::from_secs(1)));
        assert_eq!(latency.average(after(86_400)), None);
        // 0.8 · ½ of the old one is left.
        latency.note(Duration::ZERO, after(60));
        assert_eq!(
            latency.average(after(60)),
            Some(Duration::from_millis(3_200))
        );
        latency.note(Duration::from_secs(1), after(86_400));
        assert_eq!(latency.average(after(86_400)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn extremes_neither_overflow_nor_pass_for_nothing() {
        let latency = Latency::default();
        latency.note(Duration::MAX, Moment::from_unix_ms(u64::MAX));
        assert!(
            latency
                .average(START)
                .is_some_and(|average| average > Duration::from_secs(4_000))
        );
        let quick = Latency::default();
        quick.note(Duration::ZERO, START);
        assert_eq!(quick.average(START), Some(Duration::from_micros(1)));
    }

    #[test]
    fn what_was_kept_comes_back_but_not_over_what_is_newer() {
        let latency = Latency::default();
        latency.note(Duration::from_millis(700), START);
        let record = latency.record().expect("a sample was noted");
        let restored = Latency::default();
        restored.restore(record, after(10));
        assert_eq!(restored.record(), Some(record));
        let busy = Latency::default();
        busy.note(Duration::from_millis(5), after(10));
        busy.restore(record, after(10));
        assert_eq!(busy.average(after(10)), Some(Duration::from_millis(5)));
        // A clock that was set back does not bring samples from the future.
        let earlier = Latency::default();
        earlier.restore(
            LatencyRecord {
                at: after(1_000),
                ..record
            },
            START,
        );
        assert_eq!(earlier.record().map(|record| record.at), Some(START));
    }
}
