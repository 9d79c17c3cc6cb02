//! `[journal]` and `[usage]`

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::forms::{FilePath, Text, Zone};
use crate::config::policy::{Allowance, Journal, JournalMode, Node, Tenant, Usage};
use crate::config::raw::journal;
use crate::config::units::show_period;
use std::path::PathBuf;
use std::time::Duration;

/// A segment goes when its last record is older than the retention: with less, a restart no longer knows what the
/// month began with.
const MONTH_MIN: Duration = Duration::from_secs(30 * 86_400);

/// A day of 25 hours and the long streams that end after it.
const REPORT_MIN: Duration = Duration::from_secs(27 * 3_600);

impl Meaning<'_> {
    pub(super) fn journal(&mut self, raw: &journal::Journal, node: &Node) -> Journal {
        let directory = self.own_directory("journal.directory", raw.directory.as_ref(), node);
        Journal {
            mode: match raw.mode {
                journal::JournalMode::Strict => JournalMode::Strict,
                journal::JournalMode::BestEffort => JournalMode::BestEffort,
                journal::JournalMode::Off => JournalMode::Off,
            },
            directory: directory.unwrap_or_else(|| node.state_dir.join("journal")),
            retention: raw.retention.get(),
            segment_bytes_max: raw.segment_bytes_max.get(),
        }
    }

    pub(super) fn usage(&mut self, raw: &journal::Usage, node: &Node) -> Usage {
        let Text(Zone(time_zone)) = &raw.time_zone;
        let reports = raw.report_directory.as_ref();
        Usage {
            time_zone: time_zone.clone(),
            report_directory: self.own_directory("usage.report_directory", reports, node),
            output_tokens_assumed: raw.output_tokens_assumed,
        }
    }

    /// The directory with the state of accounts is put away as a whole when it is damaged, with all that is in it.
    fn own_directory(
        &mut self,
        key: &str,
        path: Option<&Text<FilePath>>,
        node: &Node,
    ) -> Option<PathBuf> {
        let directory = self.document.resolve(&path?.0);
        let state = node.state_dir.join("state");
        if directory.starts_with(&state) {
            let message = format!(
                "{} is where the state of accounts is kept, which is put away when it is damaged",
                state.display()
            );
            let hint = format!("another directory below {}", node.state_dir.display());
            self.error(&KeyPath::of(key), message, Some(hint));
        }
        Some(directory)
    }

    /// A day's file is made of what the journal holds when the day is over.
    pub(super) fn reports_are_whole(&mut self, journal: &Journal, usage: &Usage) {
        if usage.report_directory.is_none() {
            return;
        }
        let key = KeyPath::of("usage.report_directory");
        if journal.mode == JournalMode::Off {
            self.warn(
                &key,
                "no reports are written: journal.mode is \"off\"",
                None,
            );
        } else if journal.retention < REPORT_MIN {
            let retention = show_period(journal.retention);
            let message = format!("reports lack what is older than {retention} when a day is over");
            self.warn(&key, message, None);
        }
    }

    /// Quotas outlive a restart only in the journal.
    pub(super) fn quotas_are_kept(
        &mut self,
        journal: &Journal,
        tenants: &[Tenant],
        keys: &[Allowance],
    ) {
        let allowances = || tenants.iter().map(|tenant| &tenant.allowance).chain(keys);
        let of_month = |allowance: &Allowance| {
            allowance.requests_per_month.is_some()
                || allowance.tokens_per_month.is_some()
                || allowance.budget_per_month.is_some()
        };
        if journal.mode == JournalMode::Off {
            if allowances().any(Allowance::is_metered) {
                let message = "limits per day and per month begin anew with every start";
                self.warn(&KeyPath::of("journal.mode"), message, None);
            }
        } else if journal.retention < MONTH_MIN && allowances().any(of_month) {
            let message = format!(
                "limits per month are longer than {}: after a restart they know of no more than that",
                show_period(journal.retention)
            );
            self.warn(&KeyPath::of("journal.retention"), message, None);
        }
    }
}
