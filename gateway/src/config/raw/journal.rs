//! `[journal]` and `[usage]`

use super::super::forms::{FilePath, Text, Zone, ZoneName};
use super::super::units::{Bytes, DAY, GIB, HOUR, MIB, Period};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is kept of every request, and for how long.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Journal {
    /// `strict`: while it cannot be written, requests are refused; `best_effort`: they are served, those of tenants
    /// with quotas for a minute; `off`: nothing is kept.
    pub(in crate::config) mode: JournalMode,
    /// Its directory; without it, `journal` below `node.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) directory: Option<Text<FilePath>>,
    /// How long records are kept; they go by whole segments.
    pub(in crate::config) retention: Period<HOUR, { 3_660 * DAY }>,
    /// Bytes of a segment, at which the next one begins.
    pub(in crate::config) segment_bytes_max: Bytes<MIB, GIB>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            mode: JournalMode::default(),
            directory: None,
            retention: Period::ms(30 * DAY),
            segment_bytes_max: Bytes::new(64 * MIB),
        }
    }
}

/// Whether the journal is kept, and what it means that it cannot be.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum JournalMode {
    /// While it cannot be written, requests are refused.
    Strict,
    /// While it cannot be written, requests are served; those of tenants with quotas for a minute.
    #[default]
    BestEffort,
    /// Nothing is kept.
    Off,
}

/// How use is counted.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Usage {
    /// Whose midnight ends a day and a month: a name of the IANA database.
    pub(in crate::config) time_zone: Text<ZoneName>,
    /// Where a file for each tenant and day is written; without it, none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) report_directory: Option<Text<FilePath>>,
    /// Tokens of output that are set aside for a request that does not say how many it wants at most.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub(in crate::config) output_tokens_assumed: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            time_zone: Text(Zone(TimeZone::UTC)),
            report_directory: None,
            output_tokens_assumed: 1_000,
        }
    }
}
