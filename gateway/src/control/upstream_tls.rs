//! Handshakes with providers that came to nothing: the operator is told why, and not by every request again.

use super::log::Log;
use crate::config::Policy;
use crate::config::policy::{AccountId, UpstreamId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same reason is told again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// Reasons of one upstream that are remembered; what it sends could make any number of them.
const REASONS_MAX: usize = 16;

/// What was told, by upstream.
#[derive(Default)]
pub(super) struct Refusals(HashMap<UpstreamId, HashMap<String, Told>>);

struct Told {
    at: Instant,
    /// Times that it was not told since.
    held_back: u64,
}

impl Refusals {
    /// Says it, unless it was said lately.
    pub(super) fn tell(
        &mut self,
        policy: &Policy,
        account: AccountId,
        reason: &str,
        log: &mut Log,
    ) {
        let upstream = policy.account(account).upstream;
        let Some(held_back) = self.is_due(upstream, reason, Instant::now()) else {
            return;
        };
        let members = [
            ("upstream", policy.upstream(upstream).name.clone()),
            ("account", policy.account(account).name.clone()),
            ("reason", reason.to_owned()),
            ("held_back", held_back.to_string()),
        ];
        log.warning("upstream_tls_refused", &members);
    }

    /// How often it was held back since it was told last, if it is to be told now.
    fn is_due(&mut self, upstream: UpstreamId, reason: &str, now: Instant) -> Option<u64> {
        let reasons = self.0.entry(upstream).or_default();
        if let Some(told) = reasons.get_mut(reason) {
            if now.saturating_duration_since(told.at) < AGAIN {
                told.held_back += 1;
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.held_back));
        }
        if reasons.len() >= REASONS_MAX {
            reasons.retain(|_, told| now.saturating_duration_since(told.at) < AGAIN);
        }
        if reasons.len() >= REASONS_MAX {
            return None;
        }
        let told = Told {
            at: now,
            held_back: 0,
        };
        reasons.insert(reason.to_owned(), told);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: UpstreamId = UpstreamId(0);
    const SECOND: UpstreamId = UpstreamId(1);

    #[test]
    fn the_same_reason_is_told_once_a_minute() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        assert_eq!(refusals.is_due(FIRST, "expired", now), Some(0));
        assert_eq!(refusals.is_due(FIRST, "expired", now), None);
        assert_eq!(refusals.is_due(FIRST, "expired", now), None);
        assert_eq!(refusals.is_due(FIRST, "another name", now), Some(0));
        assert_eq!(refusals.is_due(SECOND, "expired", now), Some(0));
        assert_eq!(refusals.is_due(FIRST, "expired", now + AGAIN), Some(2));
        assert_eq!(refusals.is_due(FIRST, "expired", now + AGAIN), None);
    }

    #[test]
    fn no_more_reasons_are_remembered_than_there_is_room_for() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        for number in 0..REASONS_MAX {
            assert_eq!(refusals.is_due(FIRST, &number.to_string(), now), Some(0));
        }
        assert_eq!(refusals.is_due(FIRST, "one more", now), None);
        assert_eq!(refusals.is_due(FIRST, "one more", now + AGAIN), Some(0));
    }
}
