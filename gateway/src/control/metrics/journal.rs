//! The journal: what was written, how long the disk takes, and what is in danger.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

pub(super) const SYNC: &str = "relay_journal_sync_seconds";

/// From flash with a cache of its own to a disk in trouble.
pub(super) const SYNC_BUCKETS: [f64; 12] = [
    1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 5.0, 30.0,
];

/// What the control thread counts with.
pub(in crate::control) struct JournalFigures {
    pub(in crate::control) records: Counter,
    pub(in crate::control) lost: Counter,
    pub(in crate::control) bytes: Counter,
    pub(in crate::control) syncs: Counter,
    pub(in crate::control) failures: Counter,
    pub(in crate::control) sync: Histogram,
    pub(in crate::control) waiting_bytes: Gauge,
    pub(in crate::control) failing: Gauge,
    pub(in crate::control) restored: Gauge,
    pub(in crate::control) segments: Gauge,
    pub(in crate::control) oldest: Gauge,
}

impl Default for JournalFigures {
    fn default() -> Self {
        Self {
            records: counter!("relay_journal_records_total"),
            lost: counter!("relay_journal_lost_records_total"),
            bytes: counter!("relay_journal_bytes_total"),
            syncs: counter!("relay_journal_syncs_total"),
            failures: counter!("relay_journal_failures_total"),
            sync: histogram!(SYNC),
            waiting_bytes: gauge!("relay_journal_waiting_bytes"),
            failing: gauge!("relay_journal_failing"),
            restored: gauge!("relay_usage_restored"),
            segments: gauge!("relay_journal_segments"),
            oldest: gauge!("relay_journal_oldest_timestamp_seconds"),
        }
    }
}

/// Says what there is.
pub(super) fn describe() {
    let counters = [
        (
            "relay_journal_records_total",
            "Records that are on the disk for certain",
        ),
        (
            "relay_journal_lost_records_total",
            "Records that found no room in memory while the disk took none",
        ),
        (
            "relay_journal_omitted_total",
            "Records of refusals before any account was asked that were too many to be kept, by tenant",
        ),
        (
            "relay_journal_syncs_total",
            "Times that the disk was waited for until it had everything",
        ),
        (
            "relay_journal_failures_total",
            "Times that the journal could not be written",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_counter!(
        "relay_journal_bytes_total",
        Unit::Bytes,
        "Bytes of the journal that are on the disk for certain"
    );
    describe_histogram!(SYNC, Unit::Seconds, "How long the disk takes for a batch");
    describe_gauge!(
        "relay_journal_waiting_bytes",
        Unit::Bytes,
        "Records in memory that are not on the disk for certain"
    );
    describe_gauge!(
        "relay_journal_failing",
        "1 if the journal cannot be written"
    );
    describe_gauge!(
        "relay_usage_restored",
        "1 if all that was used this month before the start is counted, 0 if some of it could not be read"
    );
    describe_gauge!("relay_journal_segments", "Segments of the journal");
    describe_gauge!(
        "relay_journal_oldest_timestamp_seconds",
        Unit::Seconds,
        "When the oldest segment was begun, in seconds since 1970"
    );
}
