//! `[health]` and `[upstream.probe]`

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::policy::Probe;
use crate::config::raw::health;
use crate::config::units::show_period;
use crate::health::Rules;
use std::time::Duration;

impl Meaning<'_> {
    pub(super) fn health(&mut self, raw: &health::Health) -> Rules {
        let rules = Rules {
            failures_max: raw.failures_max,
            failure_rate_max: share(raw.failure_percent_max),
            failure_rate_requests_min: raw.failure_rate_requests_min,
            failure_window: raw.failure_window.get(),
            backoff_min: raw.backoff_min.get(),
            backoff_max: raw.backoff_max.get(),
            refused_backoff_min: raw.refused_backoff_min.get(),
            refused_backoff_max: raw.refused_backoff_max.get(),
            stated_block_max: raw.stated_block_max.get(),
            trials_max: raw.trials_max,
            trial_successes: raw.trial_successes,
            slow_start: raw.slow_start.get(),
            ejection_max: share(raw.ejection_percent_max),
        };
        let within = [
            (
                "backoff_min",
                rules.backoff_min,
                "backoff_max",
                rules.backoff_max,
            ),
            (
                "refused_backoff_min",
                rules.refused_backoff_min,
                "refused_backoff_max",
                rules.refused_backoff_max,
            ),
        ];
        for (short, short_value, long, long_value) in within {
            if short_value > long_value {
                let shown = [show_period(short_value), show_period(long_value)];
                let table = KeyPath::of("health");
                self.must(&table, [short, long], "must not be longer than", shown);
            }
        }
        rules
    }

    /// `addresses`: how many there are to be probed, over all accounts of the upstream.
    pub(super) fn probe(
        &mut self,
        raw: &health::Probe,
        upstream: &KeyPath,
        addresses: usize,
    ) -> Probe {
        let probe = Probe {
            path: raw.path.0.clone(),
            interval: raw.interval.get(),
            timeout: raw.timeout.get(),
            per_second_max: raw.per_second_max,
        };
        let path = upstream.key("probe");
        if probe.timeout > probe.interval {
            let shown = [show_period(probe.timeout), show_period(probe.interval)];
            self.must(
                &path,
                ["timeout", "interval"],
                "must not be longer than",
                shown,
            );
        }
        // A cap and a count that a file can hold are far below what a u32 holds.
        let round_seconds = u32::try_from(addresses)
            .unwrap_or(u32::MAX)
            .div_ceil(probe.per_second_max);
        let round = Duration::from_secs(round_seconds.into());
        if round > probe.interval.max(Duration::from_secs(1)) {
            let message = format!(
                "{addresses} addresses take {} at {} probes a second: each is probed less often than every {}",
                show_period(round),
                probe.per_second_max,
                show_period(probe.interval),
            );
            self.warn(&path, message, None);
        }
        probe
    }
}

fn share(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}
