//! How the accounts are, watched by the control thread: what has changed goes to the log, the metrics and the disk.

use super::accounts::Condition;
use super::log::Log;
use super::metrics::accounts::{count_transition, note_recovery};
use crate::accounts::Accounts;
use crate::config::Policy;
use crate::config::policy::{AccountId, UpstreamId};
use crate::health::{Change, Health, Moment, Order, Standing, State, Transition, Wish};
use jiff::Timestamp;
use std::time::Duration;

/// How often it is looked whether something has ended by itself.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// What a standing means for the operator.
pub(super) fn condition(standing: Standing) -> Condition {
    match standing {
        Standing::Usable { share } if share < 1.0 => Condition::Recovering,
        Standing::Usable { .. } => Condition::Usable,
        Standing::Due => Condition::Due,
        Standing::Blocked { .. } => Condition::Blocked,
        Standing::Draining => Condition::Draining,
        Standing::Disabled => Condition::Disabled,
    }
}

/// How many accounts of one upstream are in which condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally([u32; Condition::ALL.len()]);

impl Tally {
    /// At this moment.
    pub(super) fn of(policy: &Policy, health: &Health, upstream: UpstreamId, now: Moment) -> Self {
        let mut tally = Self::default();
        for &account in &policy.upstream(upstream).accounts {
            tally.0[condition(health.standing(account, now)) as usize] += 1;
        }
        tally
    }

    /// So many are in this one.
    pub(super) fn count(&self, condition: Condition) -> u32 {
        self.0[condition as usize]
    }

    /// Nobody is well, and not by the operator's order: those that are not are asked all the same.
    pub(super) fn is_panic(&self) -> bool {
        let well = self.count(Condition::Usable) + self.count(Condition::Recovering);
        let unwell = self.count(Condition::Due) + self.count(Condition::Blocked);
        well == 0 && unwell > 0
    }
}

/// Watches.
pub(super) struct Watch {
    accounts: &'static Accounts,
    tick_at: Moment,
    /// By upstream: nobody is well, and that was said.
    panics: Box<[bool]>,
}

impl Watch {
    /// Nothing was seen yet.
    pub(super) fn new(policy: &Policy, accounts: &'static Accounts) -> Self {
        Self {
            accounts,
            tick_at: Moment::default(),
            panics: policy.upstreams.iter().map(|_| false).collect(),
        }
    }

    /// Says what has changed since. The accounts of which what is kept on disk is out of date, each once.
    pub(super) fn tick(&mut self, policy: &Policy, now: Moment, log: &mut Log) -> Vec<AccountId> {
        let health = &self.accounts.health;
        let is_due = now >= self.tick_at;
        if is_due {
            self.tick_at = now + TICK_INTERVAL;
            health.tick(now);
        }
        let transitions = health.take_transitions();
        let mut changed = Vec::new();
        for transition in &transitions {
            tell(policy, transition, log);
            if !changed.contains(&transition.account) {
                changed.push(transition.account);
            }
        }
        // An account becomes usable, or ceases to be, with a transition only; the tick is for those that were lost.
        if is_due || !transitions.is_empty() {
            self.watch_panics(policy, now, log);
        }
        changed
    }

    fn watch_panics(&mut self, policy: &Policy, now: Moment, log: &mut Log) {
        for (index, panics) in self.panics.iter_mut().enumerate() {
            let id = UpstreamId(index as u16);
            let tally = Tally::of(policy, &self.accounts.health, id, now);
            if tally.is_panic() == *panics {
                continue;
            }
            *panics = tally.is_panic();
            let upstream = policy.upstream(id).name.clone();
            if *panics {
                let members = [
                    ("upstream", upstream),
                    ("blocked", tally.count(Condition::Blocked).to_string()),
                    ("due", tally.count(Condition::Due).to_string()),
                ];
                log.error("panic_mode", &members);
            } else {
                log.event("panic_mode_over", &[("upstream", upstream)]);
            }
        }
    }
}

/// What a line of the log says.
type Members = Vec<(&'static str, String)>;

/// Into the log and the metrics.
fn tell(policy: &Policy, transition: &Transition, log: &mut Log) {
    let account = policy.account(transition.account);
    let mut members: Members = vec![("account", account.name.clone())];
    if let Some(address) = transition.address {
        members.push(("address", account.egress[address].to_string()));
    }
    let is_bad = match &transition.change {
        Change::Breaker {
            from,
            to,
            cause,
            until,
            recovered_after,
            ordered,
        } => {
            let reason = if *ordered { OPERATOR } else { cause.as_str() };
            count_transition(policy, transition.account, to.as_str(), reason);
            members.push(("from", from.as_str().to_owned()));
            members.push(("to", to.as_str().to_owned()));
            members.push(("reason", reason.to_owned()));
            push_end(&mut members, *until);
            if let Some(after) = recovered_after {
                note_recovery(policy, transition.account, *after);
                members.push(("recovered_after_s", after.as_secs().to_string()));
            }
            *to == State::Open
        }
        Change::Ordered(order) => {
            push_order(&mut members, policy, transition.account, order);
            false
        }
        Change::Expired(wish) => {
            let to = wish_name(*wish);
            count_transition(policy, transition.account, to, EXPIRED);
            members.push(("to", to.to_owned()));
            members.push(("reason", EXPIRED.to_owned()));
            false
        }
    };
    if is_bad {
        log.warning("account_state", &members);
    } else {
        log.event("account_state", &members);
    }
}

/// One line for each order, so that it is known later what was wanted, and why.
fn push_order(members: &mut Members, policy: &Policy, account: AccountId, order: &Order) {
    let (to, until, words) = match order {
        Order::Wish {
            wish,
            until,
            reason,
        } => {
            let to = wish_name(*wish);
            count_transition(policy, account, to, OPERATOR);
            (to, *until, reason)
        }
        Order::Reset { reason } => ("reset", None, reason),
    };
    members.push(("to", to.to_owned()));
    members.push(("reason", OPERATOR.to_owned()));
    members.push(("ordered", true.to_string()));
    push_end(members, until);
    members.extend(words.as_deref().map(|words| ("words", words.to_owned())));
}

fn push_end(members: &mut Members, until: Option<Moment>) {
    members.extend(until.map(|until| ("until", written(until))));
}

fn wish_name(wish: Wish) -> &'static str {
    match wish {
        Wish::Enabled => "enabled",
        Wish::Drained => "drained",
        Wish::Disabled => "disabled",
    }
}

/// A moment as the operator reads it.
pub(super) fn written(moment: Moment) -> String {
    let milliseconds = i64::try_from(moment.unix_ms()).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The reason where the operator wanted it so.
const OPERATOR: &str = "operator";

/// The reason where what the operator wanted has come to its end.
const EXPIRED: &str = "expired";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Fault;
    use std::path::Path;

    const FIRST: AccountId = AccountId(0);
    const SECOND: AccountId = AccountId(1);
    const SECOND_OF_TIME: Duration = Duration::from_secs(1);

    fn two_accounts() -> (Policy, &'static Accounts) {
        let text = r#"
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "first"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.1", "127.0.7.2"]
            [[account]]
            name = "second"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.3"]
        "#;
        let environment = |_: &str| Some("sk-test".into());
        let loaded = crate::config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let accounts = Box::leak(Box::new(Accounts::new(&loaded.policy)));
        (loaded.policy, accounts)
    }

    fn now() -> Moment {
        Moment::from_unix_ms(1_800_000_000_000)
    }

    /// The lines since the last time, as JSON.
    fn lines(log: &Log, from: &mut usize) -> Vec<serde_json::Value> {
        let text = &log.waiting()[*from..];
        *from = log.waiting().len();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn what_changes_is_told_with_who_why_and_until_when() {
        let (policy, accounts) = two_accounts();
        let health = &accounts.health;
        let mut watch = Watch::new(&policy, accounts);
        let (mut log, mut seen) = (Log::nowhere(), 0);
        assert_eq!(watch.tick(&policy, now(), &mut log), []);
        assert_eq!(lines(&log, &mut seen).len(), 0);

        let until = Some(now() + 3_600 * SECOND_OF_TIME);
        let limited = Fault::RateLimited { until };
        health.failed(FIRST, 0, None, limited, now(), 0.5);
        health.failed(FIRST, 1, None, Fault::AddressMissing, now(), 0.5);
        assert_eq!(watch.tick(&policy, now(), &mut log), [FIRST]);
        let told = lines(&log, &mut seen);
        assert_eq!(told.len(), 2, "{told:?}");
        for (member, value) in [
            ("event", "account_state"),
            ("level", "warning"),
            ("account", "first"),
            ("from", "closed"),
            ("to", "open"),
            ("reason", "rate_limited"),
            ("until", "2027-01-15T09:00:00Z"),
        ] {
            assert_eq!(told[0][member], value, "{told:?}");
        }
        assert!(told[0]["address"].is_null(), "{told:?}");
        assert_eq!(told[1]["address"], "127.0.7.2", "{told:?}");
        assert_eq!(told[1]["reason"], "address_missing", "{told:?}");

        let order = || Order::Reset {
            reason: Some("new key".into()),
        };
        health.obey(FIRST, order(), now());
        assert_eq!(watch.tick(&policy, now(), &mut log), [FIRST]);
        let mut told = lines(&log, &mut seen);
        let by_order = told.pop().unwrap_or_default();
        for line in &told {
            assert_eq!(
                (&line["to"], &line["reason"]),
                (&"closed".into(), &"operator".into())
            );
            assert_eq!(line["level"], "info");
            assert!(line["ordered"].is_null(), "{line}");
        }
        assert_eq!(told.len(), 2, "{told:?}");
        // Each order has one line of its own, also the one that changes nothing.
        health.obey(FIRST, order(), now());
        assert_eq!(watch.tick(&policy, now(), &mut log), [FIRST]);
        let told = lines(&log, &mut seen);
        assert_eq!(told.len(), 1, "{told:?}");
        for line in [&by_order, &told[0]] {
            for (member, value) in [
                ("account", "first"),
                ("to", "reset"),
                ("reason", "operator"),
                ("ordered", "true"),
                ("words", "new key"),
            ] {
                assert_eq!(line[member], value, "{line}");
            }
        }
    }

    #[test]
    fn the_operators_word_and_its_end_are_told() {
        let (policy, accounts) = two_accounts();
        let mut watch = Watch::new(&policy, accounts);
        let (mut log, mut seen) = (Log::nowhere(), 0);
        let order = Order::Wish {
            wish: Wish::Drained,
            until: Some(now() + 60 * SECOND_OF_TIME),
            reason: Some("new key".into()),
        };
        accounts.health.obey(SECOND, order, now());
        assert_eq!(watch.tick(&policy, now(), &mut log), [SECOND]);
        let told = lines(&log, &mut seen);
        assert_eq!(told.len(), 1, "{told:?}");
        for (member, value) in [
            ("account", "second"),
            ("to", "drained"),
            ("reason", "operator"),
            ("ordered", "true"),
            ("until", "2027-01-15T08:01:00Z"),
            ("words", "new key"),
        ] {
            assert_eq!(told[0][member], value, "{told:?}");
        }
        let later = now() + 61 * SECOND_OF_TIME;
        assert_eq!(watch.tick(&policy, later, &mut log), [SECOND]);
        let told = lines(&log, &mut seen);
        assert_eq!(
            (&told[0]["to"], &told[0]["reason"]),
            (&"enabled".into(), &"expired".into())
        );
    }

    #[test]
    fn panic_begins_when_nobody_is_well_and_ends_when_somebody_is() {
        let (policy, accounts) = two_accounts();
        let health = &accounts.health;
        let mut watch = Watch::new(&policy, accounts);
        let (mut log, mut seen) = (Log::nowhere(), 0);
        let mut events = |watch: &mut Watch| -> Vec<String> {
            watch.tick(&policy, now(), &mut log);
            let told = lines(&log, &mut seen).into_iter();
            let events = told.map(|line| line["event"].as_str().unwrap_or_default().to_owned());
            events.filter(|event| event != "account_state").collect()
        };
        health.failed(FIRST, 0, None, Fault::Refused, now(), 0.5);
        assert_eq!(events(&mut watch), [""; 0], "the other one is well");
        health.failed(SECOND, 0, None, Fault::Refused, now(), 0.5);
        assert_eq!(events(&mut watch), ["panic_mode"]);
        assert_eq!(events(&mut watch), [""; 0], "it is said once");
        health.obey(FIRST, Order::Reset { reason: None }, now());
        assert_eq!(events(&mut watch), ["panic_mode_over"]);
    }

    #[test]
    fn what_the_operator_has_switched_off_is_no_panic() {
        let (policy, accounts) = two_accounts();
        let tally = || Tally::of(&policy, &accounts.health, UpstreamId(0), now());
        for (account, wish) in [(FIRST, Wish::Drained), (SECOND, Wish::Disabled)] {
            let order = Order::Wish {
                wish,
                until: None,
                reason: None,
            };
            accounts.health.obey(account, order, now());
        }
        assert_eq!(tally().count(Condition::Draining), 1);
        assert_eq!(tally().count(Condition::Disabled), 1);
        assert!(!tally().is_panic());
    }

    #[test]
    fn moments_are_written_for_people_whatever_they_are() {
        assert_eq!(written(Moment::default()), "1970-01-01T00:00:00Z");
        assert_eq!(written(now()), "2027-01-15T08:00:00Z");
        assert!(written(Moment::from_unix_ms(u64::MAX)).starts_with("9999-"));
    }
}
