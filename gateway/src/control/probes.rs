//! Active probes: where the operator wants it, accounts are tried from time to time, also while nobody asks for them. Each
//! probe is a cheap request from one of the account's addresses. Its failure means for the account's health what a request's
//! would mean; that it goes well means less, for it is not what tenants ask.

mod channel;
mod exchange;
mod schedule;

use super::log::Log;
use super::metrics::accounts::count_probe;
use super::upstream_tls::Refusals;
use crate::accounts::Accounts;
use crate::config::Policy;
use crate::config::policy::{AccountId, Probe, UpstreamId};
use crate::connections::Connections;
use crate::health::{Cause, Health, Moment, Standing, State, Trial, Wish};
use crate::request::egress::Failure;
use crate::tls::Clients;
use crate::worker::mailbox::Mailbox;
use exchange::Means;
use schedule::{Next, Schedule, Target};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked whether the gateway ends.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Oddities that wait to be told; more are not worth telling.
const ODDITIES_MAX: usize = 16;

/// Who probes.
#[derive(Clone)]
pub(super) struct Prober {
    pub(super) policy: Arc<Policy>,
    pub(super) mailbox: &'static Mailbox,
    pub(super) connections: &'static Connections,
    pub(super) accounts: &'static Accounts,
    pub(super) tls: Arc<Clients>,
}

/// What the operator is told of.
enum Oddity {
    /// An answer that tells nothing of the account: the probe itself is probably not what the provider has.
    Status(UpstreamId, u16),
    /// There was no agreement on TLS.
    Tls(AccountId, Cow<'static, str>),
}

/// Oddities that are to be told.
pub(super) struct Oddities(mpsc::Receiver<Oddity>);

impl Oddities {
    /// Says what has come.
    pub(super) fn tell(&mut self, policy: &Policy, refusals: &mut Refusals, log: &mut Log) {
        while let Ok(oddity) = self.0.try_recv() {
            match oddity {
                Oddity::Status(upstream, status) => {
                    let members = [
                        ("upstream", policy.upstream(upstream).name.clone()),
                        ("status", status.to_string()),
                    ];
                    log.warning("probe_answer_unexpected", &members);
                }
                Oddity::Tls(account, reason) => refusals.tell(policy, account, &reason, log),
            }
        }
    }
}

/// Begins to probe every upstream that wants it, until the gateway drains.
pub(super) fn start(prober: &Prober) -> Oddities {
    let (odd, oddities) = mpsc::channel(ODDITIES_MAX);
    for (index, upstream) in prober.policy.upstreams.iter().enumerate() {
        if let Some(probe) = upstream.probe.clone() {
            let round = Round {
                prober: prober.clone(),
                upstream: UpstreamId(index as u16),
                probe,
                odd: odd.clone(),
                odd_status: AtomicU16::new(0),
            };
            tokio::spawn(Arc::new(round).go_on());
        }
    }
    Oddities(oddities)
}

/// The probes of one upstream.
struct Round {
    prober: Prober,
    upstream: UpstreamId,
    probe: Probe,
    odd: mpsc::Sender<Oddity>,
    /// The status that was told last.
    odd_status: AtomicU16,
}

impl Round {
    async fn go_on(self: Arc<Self>) {
        let accounts = self.prober.accounts;
        let clock = accounts.health.clock();
        let targets = targets(&self.prober.policy, self.upstream);
        let mut schedule = Schedule::new(targets, &self.probe, clock.now(), fastrand::f64);
        while !self.prober.mailbox.is_draining() {
            let now = clock.now();
            match schedule.next(now) {
                Next::At(at) => tokio::time::sleep(at.since(now).min(PAUSE_MAX)).await,
                Next::Probe(target) => {
                    let due_at = match admit(&accounts.health, target, now) {
                        Admission::Now(trial) => {
                            tokio::spawn(self.clone().probe(target, trial));
                            None
                        }
                        Admission::NotBefore(at) => Some(at),
                        Admission::No => None,
                    };
                    schedule.put_back(target, due_at, now, fastrand::f64());
                }
            }
        }
    }

    /// One probe, and what it means.
    async fn probe(self: Arc<Self>, target: Target, trial: Option<Trial>) {
        let Prober {
            policy,
            mailbox,
            connections,
            accounts,
            tls,
        } = &self.prober;
        let health = &accounts.health;
        let addresses = mailbox.addresses();
        let means = Means {
            policy,
            connections,
            clock: health.clock(),
            addresses: &addresses[usize::from(self.upstream.0)],
            tls,
        };
        let outcome = exchange::ask(means, target, &self.probe).await;
        let outcome = outcome.map_err(|failed| {
            if let Some(reason) = failed.tls_reason {
                let _ = self.odd.try_send(Oddity::Tls(target.account, reason));
            }
            failed.failure
        });
        count_probe(policy, target.account, result(&outcome));
        let (account, address, now) = (target.account, target.address, health.clock().now());
        match outcome {
            Ok(200..=299) => health.probe_succeeded(account, address, trial, now),
            Ok(status) => {
                if self.odd_status.swap(status, Ordering::Relaxed) != status {
                    // Where many wait, one more tells nothing new.
                    let _ = self.odd.try_send(Oddity::Status(self.upstream, status));
                }
            }
            Err(failure) => {
                if let Some(fault) = failure.fault() {
                    health.probe_failed(account, address, trial, fault, now, fastrand::f64());
                }
            }
        }
    }
}

/// For the metrics, from a closed set.
fn result(outcome: &Result<u16, Failure>) -> &'static str {
    match outcome {
        Ok(200..=299) => "succeeded",
        Ok(_) => "unexpected",
        Err(failure) => failure.kind(),
    }
}

/// Every address of every account.
fn targets(policy: &Policy, upstream: UpstreamId) -> impl Iterator<Item = Target> {
    let accounts = policy.upstream(upstream).accounts.iter();
    accounts.flat_map(|&account| {
        let addresses = 0..policy.account(account).egress.len();
        addresses.map(move |address| Target { account, address })
    })
}

/// Whether a target is probed.
enum Admission {
    /// Yes; as a trial, if one is due that a probe can be.
    Now(Option<Trial>),
    /// It is blocked: a probe before that would be held against it.
    NotBefore(Moment),
    /// The operator does not want it asked, or trials enough are on the way.
    No,
}

fn admit(health: &'static Health, target: Target, now: Moment) -> Admission {
    let Target { account, address } = target;
    if health.wish(account, now) == Wish::Disabled {
        return Admission::No;
    }
    let path = health.path_standing(account, address, now);
    if let Standing::Blocked { until, .. } = path {
        return Admission::NotBefore(until);
    }
    // What is drained is probed like the rest, so that it is known how it is when it comes back: its standing does not tell.
    let own = health.record(account).account;
    if own.state == State::Open
        && let Some(until) = own.until.filter(|until| *until > now)
    {
        return Admission::NotBefore(until);
    }
    // Where a probe is no trial, it may still find that the account is not well yet, before a tenant does.
    let is_told = own.cause.is_none_or(Cause::is_seen_by_probes);
    match health.begin_probe_trial(account, address, now) {
        Some(trial) => Admission::Now(Some(trial)),
        None if (own.state == State::Closed || !is_told)
            && matches!(path, Standing::Usable { .. }) =>
        {
            Admission::Now(None)
        }
        None => Admission::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Fault, Order};
    use std::path::Path;

    const TARGET: Target = Target {
        account: AccountId(0),
        address: 1,
    };

    fn one_account() -> (Policy, &'static Health) {
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
        "#;
        let environment = |_: &str| Some("sk-test".into());
        let loaded = crate::config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let accounts: &'static Accounts = Box::leak(Box::new(Accounts::new(&loaded.policy)));
        (loaded.policy, &accounts.health)
    }

    fn now() -> Moment {
        Moment::from_unix_ms(1_800_000_000_000)
    }

    fn word(wish: Wish) -> Order {
        Order::Wish {
            wish,
            until: None,
            reason: None,
        }
    }

    #[test]
    fn every_address_is_a_target() {
        let (policy, _) = one_account();
        let all: Vec<_> = targets(&policy, UpstreamId(0)).collect();
        let first = Target {
            address: 0,
            ..TARGET
        };
        assert_eq!(all, [first, TARGET]);
    }

    #[test]
    fn who_is_well_is_probed_and_so_is_who_is_drained_but_not_who_is_disabled() {
        let (_, health) = one_account();
        for (wish, probed) in [
            (Wish::Enabled, true),
            (Wish::Drained, true),
            (Wish::Disabled, false),
        ] {
            health.obey(TARGET.account, word(wish), now());
            let admission = admit(health, TARGET, now());
            assert_eq!(
                matches!(admission, Admission::Now(None)),
                probed,
                "{wish:?}"
            );
        }
    }

    #[test]
    fn who_is_blocked_is_probed_when_that_is_over() {
        for drained in [false, true] {
            for (fault, is_trial) in [
                (Fault::Refused, true),
                (Fault::RateLimited { until: None }, false),
                (Fault::QuotaExhausted { until: None }, false),
            ] {
                let (_, health) = one_account();
                if drained {
                    health.obey(TARGET.account, word(Wish::Drained), now());
                }
                health.failed(TARGET.account, 0, None, fault, now(), 0.5);
                let until = health.record(TARGET.account).account.until;
                let admission = admit(health, TARGET, now());
                assert!(matches!(admission, Admission::NotBefore(at) if Some(at) == until));
                let Some(until) = until else {
                    panic!("{fault:?}")
                };
                let Admission::Now(trial) = admit(health, TARGET, until) else {
                    panic!("a probe is due: {fault:?}");
                };
                assert_eq!(trial.is_some(), is_trial, "{fault:?}");
            }
        }
    }

    #[test]
    fn an_address_that_is_blocked_leaves_the_others_alone() {
        let (_, health) = one_account();
        let (account, address) = (TARGET.account, TARGET.address);
        health.failed(account, address, None, Fault::AddressMissing, now(), 0.5);
        assert!(matches!(
            admit(health, TARGET, now()),
            Admission::NotBefore(_)
        ));
        let other = Target {
            account,
            address: 0,
        };
        assert!(matches!(admit(health, other, now()), Admission::Now(None)));
    }

    #[test]
    fn no_more_trials_than_there_are_places() {
        let (policy, health) = one_account();
        health.failed(TARGET.account, 0, None, Fault::Refused, now(), 0.5);
        let later = now() + policy.health.refused_backoff_max;
        let mut trials = Vec::new();
        while let Admission::Now(trial) = admit(health, TARGET, later) {
            trials.push(trial.expect("only trials"));
        }
        assert_eq!(trials.len(), policy.health.trials_max as usize);
    }

    #[test]
    fn results_are_told_apart() {
        assert_eq!(result(&Ok(204)), "succeeded");
        assert_eq!(result(&Ok(404)), "unexpected");
        assert_eq!(result(&Err(Failure::Connect)), "connect");
    }
}
