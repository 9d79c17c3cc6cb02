//! `GET /v1/relay/usage`: a tenant sees its own limits, and what it has used of them. No provider is asked, nothing is charged, and
//! it is answered however much is used up.

use super::Request;
use super::audit::{self, Trail};
use super::authenticate::{self, Caller};
use super::limit;
use super::refusal::Refusal;
use super::reply::{AwaitingHead, Done, Reply};
use crate::config::policy::{Limit, Money};
use crate::limits::{LimitState, ScopeState};
use crate::usage::Totals;
use crate::worker::Worker;
use relay_wire::head::Method;
use serde::{Serialize, Serializer};
use std::time::{Instant, UNIX_EPOCH};

/// Where it is asked for.
const PATH: &[u8] = b"/v1/relay/usage";

/// Is this what the request asks for, by whatever method?
pub fn is_asked_for(request: &Request<'_>) -> bool {
    request.path() == PATH
}

/// Answers with what the caller may use and has used; or refuses.
pub async fn answer<'c>(
    worker: &'static Worker,
    request: &mut Request<'c>,
    client: Reply<'c, AwaitingHead>,
) -> Reply<'c, Done> {
    let mut trail = audit::open(worker, request);
    let done = match told(worker, request, &mut trail) {
        Ok(body) => {
            trail.note_own_answer(body.len() as u64);
            client.answer(worker, request, &body).await
        }
        Err(refusal) => {
            trail.note_refusal(&refusal, false);
            client.refuse(worker, request, &refusal, 0).await
        }
    };
    trail.close(worker, request, Instant::now());
    done
}

fn told(worker: &Worker, request: &Request<'_>, trail: &mut Trail) -> Result<String, Refusal> {
    let caller = authenticate::authenticate(worker, request)?;
    trail.note_caller(&caller);
    if !matches!(request.head.method, Method::Get | Method::Head) {
        return Err(Refusal::ReadOnly);
    }
    limit::claim_connection(request, &caller)?;
    Ok(body(worker, &caller))
}

fn body(worker: &Worker, caller: &Caller) -> String {
    let (policy, now) = (&worker.policy, Instant::now());
    let tenant = caller.tenant();
    let of_tenant = worker.allowances.state(tenant, None, now);
    let of_key = worker.allowances.state(tenant, Some(caller.key()), now);
    let page = Page {
        object: "relay.usage",
        tenant: &policy.tenant(tenant).name,
        key: format!("{:08x}", u32::from_be_bytes(caller.key_id())),
        time_zone: policy.usage.time_zone.iana_name().unwrap_or("UTC"),
        limits: Limits {
            tenant: limits_of(&of_tenant),
            key: limits_of(&of_key),
        },
        day: of_tenant.day.into(),
        month: of_tenant.month.into(),
        key_day: of_key.day.into(),
        key_month: of_key.month.into(),
    };
    // Strings and numbers can always be written.
    serde_json::to_string(&page).unwrap_or_default()
}

#[derive(Serialize)]
struct Page<'p> {
    object: &'static str,
    tenant: &'p str,
    key: String,
    time_zone: &'p str,
    limits: Limits,
    day: Used,
    month: Used,
    key_day: Used,
    key_month: Used,
}

#[derive(Serialize)]
struct Limits {
    tenant: Vec<Shown>,
    key: Vec<Shown>,
}

/// One limit.
#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    limit: &'static str,
    max: Amount,
    used: Amount,
    remaining: Amount,
    /// In seconds since 1970, where a day or month ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
    shadow: bool,
}

/// How much: a number, and money as text, since a number of JSON may lose digits.
#[derive(Debug, PartialEq)]
enum Amount {
    Count(u64),
    Money(Money),
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Money(money) => serializer.collect_str(money),
        }
    }
}

#[derive(Serialize)]
struct Used {
    requests: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    cost: Amount,
}

impl From<Totals> for Used {
    fn from(totals: Totals) -> Self {
        Self {
            requests: totals.requests,
            input_tokens: totals.input_tokens,
            cached_tokens: totals.cached_tokens,
            output_tokens: totals.output_tokens,
            reasoning_tokens: totals.reasoning_tokens,
            cost: Amount::Money(totals.cost),
        }
    }
}

fn limits_of(state: &ScopeState) -> Vec<Shown> {
    state.limits.iter().map(shown).collect()
}

fn shown(state: &LimitState) -> Shown {
    let amount = |value| match state.limit {
        Limit::BudgetPerMonth => Amount::Money(Money::from_nano(value)),
        _ => Amount::Count(value),
    };
    Shown {
        limit: state.limit.as_str(),
        max: amount(state.max),
        used: amount(state.used),
        remaining: amount(state.remaining),
        resets_at: state.resets_at.map(|at| {
            let since_epoch = at.duration_since(UNIX_EPOCH);
            since_epoch.unwrap_or_default().as_secs()
        }),
        shadow: state.is_shadow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn money_is_shown_as_text_and_counts_as_numbers() {
        let state = |limit, max: u64, used| LimitState {
            limit,
            is_shadow: false,
            max,
            used,
            remaining: max.saturating_sub(used),
            resets_at: None,
        };
        let tokens = LimitState {
            is_shadow: true,
            resets_at: Some(UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)),
            ..state(Limit::TokensPerDay, 1_000, 1_200)
        };
        assert_eq!(
            json!(shown(&tokens)),
            json!({
                "limit": "tokens_per_day", "max": 1_000, "used": 1_200, "remaining": 0,
                "resets_at": 1_800_000_000, "shadow": true,
            })
        );
        let budget = state(Limit::BudgetPerMonth, 250_000_000_000, 1_500_000_001);
        assert_eq!(
            json!(shown(&budget)),
            json!({
                "limit": "budget_per_month", "max": "250.00", "used": "1.500000001",
                "remaining": "248.499999999", "shadow": false,
            })
        );
    }
}
