//! The operator's accounts: how they are, why they were asked, and what came of it.

use super::super::accounts::Condition;
use super::super::health::{Tally, condition};
use super::sums::{ByLabels, Place, Sums};
use crate::accounts::Accounts;
use crate::config::Policy;
use crate::config::policy::{AccountId, UpstreamId};
use crate::health::Moment;
use crate::journal::Record;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::time::Duration;

pub(super) const RECOVERY: &str = "relay_account_recovery_seconds";

/// From the first back-off to the longest block that a provider states.
pub(super) const RECOVERY_BUCKETS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 18_000.0, 86_400.0, 604_800.0,
];

/// Counts by account, with handles made once for each combination of labels.
#[derive(Default)]
pub(super) struct ByAccount {
    choices: ByLabels<(UpstreamId, &'static str)>,
    failovers: ByLabels<UpstreamId>,
    /// By account.
    tokens: Vec<Option<[Place; 3]>>,
}

impl ByAccount {
    /// Counts a request that is over.
    pub(super) fn count_request(&mut self, policy: &Policy, record: &Record, sums: &mut Sums) {
        let Some(id) = record.account else {
            return;
        };
        let upstream = policy.account(id).upstream;
        let name = || policy.upstream(upstream).name.clone();
        if let Some(reason) = record.chosen {
            let place = self.choices.place(
                (upstream, reason),
                sums,
                || counter!("relay_choices_total", "upstream" => name(), "reason" => reason),
            );
            sums.add(place, 1);
        }
        let further = record.attempts.saturating_sub(1);
        if further > 0 {
            let counter = || counter!("relay_failovers_total", "upstream" => name());
            let place = self.failovers.place(upstream, sums, counter);
            sums.add(place, further.into());
        }
        if let Some(usage) = record.usage {
            if self.tokens.len() <= usize::from(id.0) {
                self.tokens.resize(policy.accounts.len(), None);
            }
            let places = self.tokens[usize::from(id.0)].get_or_insert_with(|| {
                ["input", "cached", "output"].map(|kind| {
                    let account = policy.account(id).name.clone();
                    sums.place(
                        counter!("relay_account_tokens_total", "account" => account, "kind" => kind),
                    )
                })
            });
            let [input, cached, output] = *places;
            sums.add(input, usage.input_tokens);
            sums.add(cached, usage.cached_tokens);
            sums.add(output, usage.output_tokens);
        }
    }
}

/// Counts a change of an account or of one of its addresses. `reason` is from a closed set.
pub(in crate::control) fn count_transition(
    policy: &Policy,
    account: AccountId,
    to: &'static str,
    reason: &'static str,
) {
    counter!(
        "relay_account_transitions_total",
        "account" => policy.account(account).name.clone(),
        "to" => to,
        "reason" => reason,
    )
    .increment(1);
}

/// An account, or one of its addresses, is well again, so long after the first opening.
pub(in crate::control) fn note_recovery(policy: &Policy, account: AccountId, after: Duration) {
    let account = policy.account(account).name.clone();
    histogram!(RECOVERY, "account" => account).record(after);
}

/// Counts a probe. `result` is from a closed set.
pub(in crate::control) fn count_probe(policy: &Policy, account: AccountId, result: &'static str) {
    let account = policy.account(account).name.clone();
    counter!("relay_probes_total", "account" => account, "result" => result).increment(1);
}

/// How all of them are at this moment.
pub(super) fn read(policy: &Policy, accounts: &Accounts, now: Moment) {
    let health = &accounts.health;
    for (index, account) in policy.accounts.iter().enumerate() {
        let id = AccountId(index as u16);
        let is = condition(health.standing(id, now));
        for state in Condition::ALL {
            let (account, name) = (account.name.clone(), state.as_str());
            gauge!("relay_account_state", "account" => account, "state" => name)
                .set(one_if(is == state));
        }
        // One series each: there may be tens of thousands.
        for (number, address) in account.egress.iter().enumerate() {
            let is = condition(health.path_standing(id, number, now));
            let (account, address) = (account.name.clone(), address.to_string());
            gauge!("relay_account_address_state", "account" => account, "address" => address)
                .set(is.number());
        }
    }
    for (index, upstream) in policy.upstreams.iter().enumerate() {
        let id = UpstreamId(index as u16);
        let panics = Tally::of(policy, health, id, now).is_panic();
        gauge!("relay_upstream_panic", "upstream" => upstream.name.clone()).set(one_if(panics));
        gauge!("relay_queue_waiting", "upstream" => upstream.name.clone())
            .set(accounts.rooms.count(id) as f64);
        counter!("relay_retries_denied_total", "upstream" => upstream.name.clone())
            .absolute(accounts.budgets.denied(id));
    }
}

fn one_if(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Says what there is.
pub(super) fn describe() {
    let gauges = [
        (
            "relay_account_state",
            "1 for the state that the account is in, by account and state",
        ),
        (
            "relay_account_address_state",
            "The state that the address is in, by account and address: 0 usable, 1 recovering, 2 due, 3 blocked",
        ),
        (
            "relay_upstream_panic",
            "1 if no account of the upstream is well: but for those with a stated end they are asked all the same",
        ),
        (
            "relay_queue_waiting",
            "Requests that wait for an account, by upstream",
        ),
        (
            "relay_state_saving",
            "1 if the state of the accounts can be saved, so that it outlives the process",
        ),
    ];
    for (name, text) in gauges {
        describe_gauge!(name, text);
    }
    let counters = [
        (
            "relay_account_transitions_total",
            "Changes of accounts and their addresses, by account, new state and reason",
        ),
        (
            "relay_failovers_total",
            "Further attempts after the first of a request, by upstream",
        ),
        (
            "relay_retries_denied_total",
            "Further attempts that the retry budget did not allow, by upstream",
        ),
        (
            "relay_choices_total",
            "Requests by upstream and why the account was chosen that was asked last",
        ),
        (
            "relay_account_tokens_total",
            "Tokens as the providers counted them, by account and kind; input includes cached",
        ),
        (
            "relay_probes_total",
            "Probes of accounts, by account and result",
        ),
        (
            "relay_state_quarantined_total",
            "States of the accounts that were doubtful and were put away",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_gauge!(
        "relay_state_saved_timestamp_seconds",
        Unit::Seconds,
        "When the state of the accounts was saved last, in seconds since 1970"
    );
    describe_histogram!(
        RECOVERY,
        Unit::Seconds,
        "From the first block of an account or address until it was well again, by account"
    );
}
