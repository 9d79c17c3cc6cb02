//! What tenants may use and have used: refusals, shadows, how use is known, and what it costs.

use super::sums::{ByLabels, Place, Sums};
use super::tenant_name;
use crate::config::Policy;
use crate::config::policy::{Limit, Money, Scope, TenantId};
use crate::journal::Record;
use crate::limits::Allowances;
use crate::usage::Known;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use std::collections::HashMap;
use std::time::Instant;

/// Counts by limit, with handles made once for each combination of labels.
#[derive(Default)]
pub(super) struct ByLimit {
    refusals: HashMap<(TenantId, Scope, Limit), Place>,
    /// By tenant, since nearly every request counts here.
    used: Vec<Used>,
}

/// What a tenant's requests count.
#[derive(Default)]
struct Used {
    shadows: ByLabels<Limit>,
    by_known: ByLabels<Known>,
    cost: Option<Place>,
}

impl ByLimit {
    /// Counts a request that is over.
    pub(super) fn count_request(&mut self, policy: &Policy, record: &Record, sums: &mut Sums) {
        let Some(tenant) = record.tenant else {
            return;
        };
        let name = || tenant_name(policy, Some(tenant));
        if let Some((scope, limit)) = record.limit {
            let refusals = self.refusals.entry((tenant, scope, limit));
            let place = refusals.or_insert_with(|| {
                sums.place(counter!(
                    "relay_limit_refusals_total",
                    "tenant" => name(),
                    "scope" => scope.as_str(),
                    "limit" => limit.as_str(),
                ))
            });
            sums.add(*place, 1);
        }
        if record.known.is_none() && record.shadowed.is_empty() {
            return;
        }
        if self.used.len() <= usize::from(tenant.0) {
            self.used.resize_with(policy.tenants.len(), Used::default);
        }
        let used = &mut self.used[usize::from(tenant.0)];
        for limit in record.shadowed.iter() {
            let place = used.shadows.place(limit, sums, || {
                counter!("relay_limit_shadow_total", "tenant" => name(), "limit" => limit.as_str())
            });
            sums.add(place, 1);
        }
        let Some(known) = record.known else {
            return;
        };
        let place = used.by_known.place(
            known,
            sums,
            || counter!("relay_usage_records_total", "tenant" => name(), "known" => known.as_str()),
        );
        sums.add(place, 1);
        if record.cost != Money::ZERO {
            let place = used.cost.get_or_insert_with(|| {
                sums.place(counter!("relay_cost_nano_total", "tenant" => name()))
            });
            sums.add(*place, record.cost.nano());
        }
    }
}

/// How the limits of all tenants stand at this moment. Those of keys are told by the gateway's own usage page: there may be
/// tens of thousands.
pub(super) fn read(policy: &Policy, allowances: &Allowances, now: Instant) {
    for (index, tenant) in policy.tenants.iter().enumerate() {
        for state in allowances.state(TenantId(index as u16), None, now).limits {
            let (tenant, limit) = (tenant.name.clone(), state.limit.as_str());
            let unit = match state.limit {
                Limit::BudgetPerMonth => 1e-9,
                _ => 1.0,
            };
            gauge!("relay_limit_used", "tenant" => tenant.clone(), "limit" => limit)
                .set(state.used as f64 * unit);
            gauge!("relay_limit_max", "tenant" => tenant, "limit" => limit)
                .set(state.max as f64 * unit);
        }
    }
}

/// Says what there is.
pub(super) fn describe() {
    let counters = [
        (
            "relay_limit_refusals_total",
            "Requests that a limit has refused, by tenant, scope (tenant, key) and limit",
        ),
        (
            "relay_limit_shadow_total",
            "Requests that a limit in shadow mode would have refused, by tenant and limit",
        ),
        (
            "relay_usage_records_total",
            "Answers that were charged for tokens, by tenant and how it is known how many",
        ),
        (
            "relay_cost_nano_total",
            "What answers have cost by the table of prices, in billionths of the operator's currency, by tenant",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_gauge!(
        "relay_limit_used",
        "What is used of a limit, with what is set aside for requests that run, by tenant and limit; money in the operator's currency"
    );
    describe_gauge!(
        "relay_limit_max",
        "What may be used of a limit, by tenant and limit; money in the operator's currency"
    );
}
