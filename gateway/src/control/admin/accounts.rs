//! `/accounts`: how the accounts are, and the operator's orders to them.

use super::{Admin, answer, refused};
use crate::config::closest;
use crate::config::policy::{AccountId, UpstreamId};
use crate::control::accounts::{
    Account, Address, Condition, Listing, Measured, Order, Verb, Wish, Word,
};
use crate::control::health::{Tally, condition, written};
use crate::health::{self, BreakerRecord, Moment, Standing, State};
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// Whoever means longer says nothing about an end.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Words of the operator, in characters: a line of the log.
const REASON_CHARACTERS_MAX: usize = 200;

/// Of an account whose state is the configuration's word.
const CONFIGURED: &str = "configuration";

/// `GET /accounts`
pub(super) async fn list(Shared(admin): Shared<Admin>) -> Response {
    let now = admin.accounts.health.clock().now();
    let all = (0..admin.policy.accounts.len()).map(|index| AccountId(index as u16));
    let upstreams = admin.policy.upstreams.iter().enumerate();
    let panics = upstreams.filter(|(index, _)| {
        let id = UpstreamId(*index as u16);
        Tally::of(&admin.policy, &admin.accounts.health, id, now).is_panic()
    });
    let listing = Listing {
        accounts: all.map(|account| describe(&admin, account, now)).collect(),
        panic: panics.map(|(_, upstream)| upstream.name.clone()).collect(),
    };
    answer(StatusCode::OK, &json!(listing))
}

/// `GET /accounts/{name}`
pub(super) async fn show(Shared(admin): Shared<Admin>, Path(name): Path<String>) -> Response {
    match find(&admin, &name) {
        Ok(account) => {
            let now = admin.accounts.health.clock().now();
            answer(StatusCode::OK, &json!(describe(&admin, account, now)))
        }
        Err(why) => refused(StatusCode::NOT_FOUND, &why),
    }
}

/// `POST /accounts/{name}/{verb}`
pub(super) async fn obey(
    Shared(admin): Shared<Admin>,
    Path((name, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = super::require_order(&headers) {
        return refusal;
    }
    let account = match find(&admin, &name) {
        Ok(account) => account,
        Err(why) => return refused(StatusCode::NOT_FOUND, &why),
    };
    let Some(verb) = Verb::ALL.into_iter().find(|known| known.as_str() == verb) else {
        let known = Verb::ALL.map(Verb::as_str).join(", ");
        let why = format!("there is no order `{verb}`: orders are {known}");
        return refused(StatusCode::NOT_FOUND, &why);
    };
    let health = &admin.accounts.health;
    let now = health.clock().now();
    let order = serde_json::from_slice(&body)
        .map_err(|error| format!("the order cannot be read: {error}"))
        .and_then(|order| meaning(verb, order, now));
    match order {
        Ok(order) => health.obey(account, order, now),
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    }
    // Whether it could be saved is part of the answer.
    let _ = admin.state.save(account).await;
    answer(StatusCode::OK, &json!(describe(&admin, account, now)))
}

fn find(admin: &Admin, name: &str) -> Result<AccountId, String> {
    let mut names = admin.policy.accounts.iter().map(|account| &*account.name);
    if let Some(index) = names.clone().position(|known| known == name) {
        return Ok(AccountId(index as u16));
    }
    let meant = match closest(name, &mut names) {
        Some(meant) => format!(": did you mean `{meant}`?"),
        None => String::new(),
    };
    Err(format!("this gateway runs with no account `{name}`{meant}"))
}

/// What is wanted, checked.
fn meaning(verb: Verb, order: Order, now: Moment) -> Result<health::Order, String> {
    let reason = order.reason.map(|reason| reason.trim().to_owned());
    let reason = reason.filter(|reason| !reason.is_empty());
    if let Some(reason) = &reason
        && reason.chars().count() > REASON_CHARACTERS_MAX
    {
        return Err(format!(
            "`reason` is longer than {REASON_CHARACTERS_MAX} characters"
        ));
    }
    let reason = reason.map(String::into_boxed_str);
    let end = end(order.for_seconds, order.until.as_deref(), now)?;
    let wish = match verb {
        Verb::Reset if end.is_some() => {
            return Err(
                "a reset has no end: it takes neither `for_seconds` nor `until`".to_owned(),
            );
        }
        Verb::Reset => return Ok(health::Order::Reset { reason }),
        Verb::Drain => health::Wish::Drained,
        Verb::Enable => health::Wish::Enabled,
        Verb::Disable => health::Wish::Disabled,
    };
    Ok(health::Order::Wish {
        wish,
        until: end,
        reason,
    })
}

fn end(
    for_seconds: Option<u64>,
    until: Option<&str>,
    now: Moment,
) -> Result<Option<Moment>, String> {
    let end = match (for_seconds, until) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err("one of `for_seconds` and `until` says when it ends, not both".to_owned());
        }
        (Some(seconds), None) => now + Duration::from_secs(seconds),
        (None, Some(text)) => {
            let time: Timestamp = text
                .parse()
                .map_err(|_| format!("`until` is no time like 2026-12-31T18:00:00Z: `{text}`"))?;
            Moment::from_unix_ms(time.as_millisecond().try_into().unwrap_or(0))
        }
    };
    if end <= now {
        return Err("it would be over already".to_owned());
    }
    if end.since(now) > ORDER_TIME_MAX {
        return Err("it would last for more than ten years: leave the end out".to_owned());
    }
    Ok(Some(end))
}

/// How it is now.
fn describe(admin: &Admin, id: AccountId, now: Moment) -> Account {
    let health = &admin.accounts.health;
    let account = admin.policy.account(id);
    let record = health.record(id);
    let unsaved = admin.state.saved(id).err();
    let standing = health.standing(id, now);
    let measured = health.measured(id, now);
    let kept = decisive(&record, measured);
    let (cause, free_at) = why(measured, kept);
    let said = record.operator.as_ref();
    let addresses = account.egress.iter().enumerate().map(|(index, &address)| {
        let standing = health.path_standing(id, index, now);
        let (_, kept) = &record.addresses[index];
        let (reason, until) = why(standing, kept);
        Address {
            address,
            state: condition(standing),
            reason,
            until,
        }
    });
    let state = condition(standing);
    let (since, (reason, until)) = match state {
        Condition::Draining | Condition::Disabled => {
            let words = match said {
                Some(said) => said.reason.as_deref().map(str::to_owned),
                None => Some(CONFIGURED.to_owned()),
            };
            let until = said.and_then(|said| said.until).map(written);
            (said.map(|said| said.since), (words, until))
        }
        _ => (kept.since, (cause.clone(), free_at.clone())),
    };
    let protocol = admin.accounts.spoken.latest(id);
    Account {
        name: account.name.clone(),
        upstream: admin.policy.upstream(account.upstream).name.clone(),
        region: account.region.clone(),
        state,
        reason,
        until,
        since: since.map(written),
        stated: is_stated(standing),
        wish: Wish {
            word: word(health.wish(id, now)),
            since: said.map(|said| written(said.since)),
            until: said.and_then(|said| said.until).map(written),
            reason: said.and_then(|said| said.reason.as_deref().map(str::to_owned)),
        },
        health: Measured {
            state: condition(measured),
            reason: cause,
            until: free_at,
            stated: is_stated(measured),
        },
        openings: record.account.openings.all(),
        in_flight: admin.in_flight.of_account(id),
        max_concurrent: account.max_concurrent,
        protocol: protocol.map(|spoken| spoken.as_str().to_owned()),
        latency_ms: health.latency(id, now).map(|time| time.as_millis() as u64),
        share: match standing {
            Standing::Usable { share } => share.into(),
            _ => 0.0,
        },
        addresses: addresses.collect(),
        saved: unsaved.is_none(),
        unsaved_reason: unsaved.map(|why| why.to_string()),
    }
}

/// The breaker that the standing comes from: the account's own, or that of one of its addresses.
fn decisive(record: &health::Record, standing: Standing) -> &BreakerRecord {
    let paths = record.addresses.iter().map(|(_, kept)| kept);
    let mut all = std::iter::once(&record.account).chain(paths);
    let found = match standing {
        Standing::Blocked { cause, .. } => {
            all.find(|kept| kept.state != State::Closed && kept.cause == Some(cause))
        }
        Standing::Due => all.find(|kept| kept.state != State::Closed),
        // The one that has recovered last.
        Standing::Usable { share } if share < 1.0 => all.max_by_key(|kept| kept.since),
        _ => None,
    };
    found.unwrap_or(&record.account)
}

/// Why somebody is not usable, and until when.
fn why(standing: Standing, kept: &BreakerRecord) -> (Option<String>, Option<String>) {
    let cause = || kept.cause.map(|cause| cause.as_str().to_owned());
    match standing {
        Standing::Blocked { until, cause, .. } => {
            (Some(cause.as_str().to_owned()), Some(written(until)))
        }
        Standing::Due => (cause(), None),
        Standing::Usable { share } if share < 1.0 => (cause(), None),
        _ => (None, None),
    }
}

fn is_stated(standing: Standing) -> bool {
    matches!(standing, Standing::Blocked { stated: true, .. })
}

fn word(wish: health::Wish) -> Word {
    match wish {
        health::Wish::Enabled => Word::Enabled,
        health::Wish::Drained => Word::Drained,
        health::Wish::Disabled => Word::Disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Cause;

    fn now() -> Moment {
        Moment::from_unix_ms(1_800_000_000_000)
    }

    fn order(body: &str) -> Order {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_reason_is_that_of_the_breaker_that_decides() {
        let kept = |state, cause, since_s: u64| BreakerRecord {
            state,
            cause: Some(cause),
            since: Some(Moment::from_unix_ms(since_s * 1_000)),
            ..BreakerRecord::default()
        };
        let record = |account, path| health::Record {
            account,
            addresses: vec![([127, 0, 7, 1].into(), path)],
            ..health::Record::default()
        };
        let (refused, missing) = (Cause::Refused, Cause::AddressMissing);
        let blocked = |cause| Standing::Blocked {
            until: now(),
            stated: false,
            cause,
        };
        let slow = Standing::Usable { share: 0.5 };
        // The account has recovered from something long ago.
        let closed = kept(State::Closed, refused, 1);
        for (account, path, standing, cause) in [
            (
                closed,
                kept(State::Open, missing, 2),
                blocked(missing),
                missing,
            ),
            (
                closed,
                kept(State::Open, missing, 2),
                Standing::Due,
                missing,
            ),
            (closed, kept(State::Closed, missing, 2), slow, missing),
            (
                kept(State::Closed, refused, 3),
                kept(State::Closed, missing, 2),
                slow,
                refused,
            ),
            (
                kept(State::Open, refused, 3),
                closed,
                Standing::Due,
                refused,
            ),
        ] {
            let record = record(account, path);
            let decides = decisive(&record, standing);
            assert_eq!(decides.cause, Some(cause), "{standing:?}");
        }
    }

    #[test]
    fn orders_mean_what_they_say() {
        let wish = |wish, until, reason: Option<&str>| health::Order::Wish {
            wish,
            until,
            reason: reason.map(Into::into),
        };
        let hour = Some(now() + Duration::from_secs(3_600));
        for (verb, body, meant) in [
            (Verb::Drain, "{}", wish(health::Wish::Drained, None, None)),
            (
                Verb::Disable,
                r#"{"for_seconds": 3600, "reason": " new key\n"}"#,
                wish(health::Wish::Disabled, hour, Some("new key")),
            ),
            (
                Verb::Enable,
                r#"{"until": "2027-01-15T10:00:00+01:00", "reason": ""}"#,
                wish(health::Wish::Enabled, hour, None),
            ),
            (
                Verb::Reset,
                r#"{"reason": "seen to"}"#,
                health::Order::Reset {
                    reason: Some("seen to".into()),
                },
            ),
        ] {
            assert_eq!(meaning(verb, order(body), now()), Ok(meant), "{body}");
        }
    }

    #[test]
    fn orders_that_cannot_be_meant_are_refused_with_what_helps() {
        let long = format!(r#"{{"reason": "{}"}}"#, "ä".repeat(201));
        for (verb, body, said) in [
            (Verb::Drain, r#"{"for_seconds": 0}"#, "already"),
            (
                Verb::Drain,
                r#"{"until": "2020-01-01T00:00:00Z"}"#,
                "already",
            ),
            (
                Verb::Drain,
                r#"{"until": "1960-01-01T00:00:00Z"}"#,
                "already",
            ),
            (Verb::Drain, r#"{"until": "tomorrow"}"#, "2026-12-31"),
            (Verb::Drain, r#"{"until": "2027-01-15"}"#, "2026-12-31"),
            (
                Verb::Drain,
                r#"{"for_seconds": 18446744073709551615}"#,
                "ten years",
            ),
            (
                Verb::Drain,
                r#"{"for_seconds": 60, "until": "2027-01-15T10:00:00Z"}"#,
                "not both",
            ),
            (Verb::Reset, r#"{"for_seconds": 60}"#, "neither"),
            (Verb::Drain, &long, "200"),
        ] {
            let why = meaning(verb, order(body), now()).unwrap_err();
            assert!(why.contains(said), "{body}: {why}");
        }
        assert!(serde_json::from_str::<Order>(r#"{"for": 60}"#).is_err());
    }
}
