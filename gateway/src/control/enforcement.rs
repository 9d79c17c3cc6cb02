//! Watching over what the kernel enforces: its events, its lease, its counts, its canary.
//!
//! Whatever fails here is told (log, metrics, `/ready`) and stops nothing: the programs go on by themselves.

mod canary;
mod checks;

use super::egress::{Egress, OpenConnections};
use super::log::Log;
use crate::config::Policy;
use crate::health::Health;
use crate::kernel::{Features, Kernel};
use canary::Canary;
use checks::{Checks, Findings};
use metrics::counter;
use relay_ebpf::{Feature, LEASE_PERIOD, Live, Missing, PathPorts};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often the lease is renewed.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);

/// How often counts are compared with sockets, and ports counted.
const CHECKS_INTERVAL: Duration = Duration::from_secs(5);

/// How often an untagged connect is tried; where it was not refused, as often as everything else is looked at.
const CANARY_INTERVAL: Duration = Duration::from_secs(30);

/// Where counts are compared, and have not been for so long, the lease runs out: what nobody corrects must keep nobody out.
/// Where they cannot be compared at all, which was said at start, the programs' own counting is trusted.
const UNCOMPARED_MAX: Duration = Duration::from_secs(60);

/// How long far sides may take to agree to the end of connections, when the gateway ends.
const LAST_ENDS_TIMEOUT: Duration = Duration::from_millis(500);

/// How often it is looked whether they have.
const LAST_ENDS_INTERVAL: Duration = Duration::from_millis(10);

/// Watches, if there is something to watch.
pub(super) struct Enforcement(Option<Watch>);

struct Watch {
    programs: relay_ebpf::Kernel,
    live: Live,
    features: Arc<Features>,
    egress: Egress,
    checks: Option<Checks>,
    running: Option<JoinHandle<(Checks, Findings)>>,
    is_reconciling: bool,
    compared_at: Instant,
    lease_at: Instant,
    checks_at: Instant,
    canary_at: Instant,
    canary: Canary,
    /// Caps let everybody through, since nobody has compared the counts.
    caps_are_suspended: bool,
    told: Told,
}

/// What was said already, so that it is said once.
#[derive(Default)]
struct Told {
    reconciliation: Option<Missing>,
    survey: Option<Missing>,
    sharing: u64,
    ports: Vec<PathPorts>,
}

impl Enforcement {
    /// Begins to watch.
    pub(super) fn new(
        kernel: Kernel,
        policy: &Policy,
        open: Arc<OpenConnections>,
        health: &'static Health,
    ) -> Self {
        let features = kernel.features().clone();
        Self(kernel.into_programs().map(|programs| {
            let now = Instant::now();
            let checks = Checks::of(&programs);
            Watch {
                live: programs.live(),
                egress: Egress::new(policy, open, health),
                is_reconciling: checks.reconciler.is_some(),
                checks: Some(checks),
                running: None,
                programs,
                canary: Canary::new(features.clone()),
                features,
                compared_at: now,
                lease_at: now,
                checks_at: now,
                canary_at: now + CANARY_INTERVAL,
                caps_are_suspended: false,
                told: Told::default(),
            }
        }))
    }

    /// Does what is due. Takes no longer than the events that have come.
    pub(super) async fn tick(&mut self, policy: &Policy, log: &mut Log) {
        if let Some(watch) = &mut self.0 {
            watch.tick(policy, log).await;
        }
    }

    /// What has come since, and the last lines of the egress log. The workers have let go of their connections, which end when
    /// the far sides have agreed.
    pub(super) async fn finish(&mut self, policy: &Policy, log: &mut Log, limit: Duration) {
        if let Some(watch) = &mut self.0 {
            let until = Instant::now() + LAST_ENDS_TIMEOUT;
            watch.take_events(policy, log);
            while watch.egress.knows_open() && Instant::now() < until {
                tokio::time::sleep(LAST_ENDS_INTERVAL).await;
                watch.take_events(policy, log);
            }
            watch.egress.finish(limit).await;
        }
    }
}

impl Watch {
    async fn tick(&mut self, policy: &Policy, log: &mut Log) {
        self.take_events(policy, log);
        let now = Instant::now();
        if now >= self.lease_at {
            self.lease_at = now + LEASE_INTERVAL;
            self.egress.turn_day();
            self.renew_lease(now, log);
        }
        self.egress.write_out(log).await;
        if self.running.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(running) = self.running.take()
        {
            match running.await {
                Ok((checks, findings)) => {
                    self.checks = Some(checks);
                    self.note(policy, findings, log);
                }
                Err(error) => {
                    let missing = Missing {
                        piece: "reconciliation",
                        detail: format!("the comparison has broken down: {error}"),
                    };
                    self.note_reconciliation(Some(missing), log);
                    self.checks = Some(Checks::of(&self.programs));
                }
            }
        }
        if now >= self.checks_at
            && let Some(checks) = self.checks.take()
        {
            self.checks_at = now + CHECKS_INTERVAL;
            self.running = Some(tokio::task::spawn_blocking(move || checks.run()));
        }
        if now >= self.canary_at {
            let outcome = self.programs.check_canary();
            let interval = if outcome.is_ok() {
                CANARY_INTERVAL
            } else {
                CHECKS_INTERVAL
            };
            self.canary_at = now + interval;
            self.canary.note(outcome, log);
        }
    }

    fn renew_lease(&mut self, now: Instant, log: &mut Log) {
        if !self.is_reconciling || now < self.compared_at + UNCOMPARED_MAX {
            self.live.renew_lease(LEASE_PERIOD);
            if self.caps_are_suspended {
                self.caps_are_suspended = false;
                self.features.set(Feature::ConnectionCaps, None);
                log.event("kernel_caps_in_force_again", &[]);
            }
        } else if !self.caps_are_suspended && self.features.is_active(Feature::ConnectionCaps) {
            self.caps_are_suspended = true;
            let missing = Missing {
                piece: "lease",
                detail: "counts have not been compared with sockets for a minute: caps let everybody through"
                    .to_owned(),
            };
            log.error("kernel_caps_suspended", &members(&missing));
            let why = Some(missing.to_string());
            self.features.set(Feature::ConnectionCaps, why);
        }
    }

    fn take_events(&mut self, policy: &Policy, log: &mut Log) {
        let egress = &mut self.egress;
        egress.set_clock();
        self.programs
            .take_events(|event| egress.observe(policy, event, log));
    }

    fn note(&mut self, policy: &Policy, findings: Findings, log: &mut Log) {
        match findings.drift {
            Some(Ok(drift)) => {
                self.compared_at = Instant::now();
                counter!("relay_kernel_reconciliations_total").increment(1);
                counter!("relay_kernel_drift_total").increment(drift.connections);
                if drift.corrected > 0 {
                    let members = [
                        ("counts", drift.corrected.to_string()),
                        ("connections", drift.connections.to_string()),
                        ("sockets", drift.sockets.to_string()),
                    ];
                    log.warning("kernel_drift_corrected", &members);
                }
                self.note_reconciliation(None, log);
            }
            Some(Err(missing)) => self.note_reconciliation(Some(missing), log),
            None => {}
        }
        let (ports, sharing) = match findings.survey {
            Some(Ok(survey)) => survey,
            Some(Err(missing)) => {
                checks::count_failure("ports");
                if self.told.survey.as_ref() != Some(&missing) {
                    log.error("kernel_survey_failed", &members(&missing));
                }
                self.told.survey = Some(missing);
                return;
            }
            None => return,
        };
        self.told.survey = None;
        checks::publish(policy, &ports, &self.told.ports, sharing);
        self.told.ports = ports;
        if sharing > self.told.sharing {
            let members = [("addresses", sharing.to_string())];
            log.error("accounts_sharing_address", &members);
        }
        self.told.sharing = sharing;
    }

    fn note_reconciliation(&mut self, failed: Option<Missing>, log: &mut Log) {
        match &failed {
            Some(missing) => {
                checks::count_failure("reconciliation");
                if self.told.reconciliation.as_ref() != Some(missing) {
                    log.error("kernel_reconciliation_failed", &members(missing));
                }
            }
            None if self.told.reconciliation.is_some() => {
                log.event("kernel_reconciliation_works_again", &[]);
            }
            None => {}
        }
        let why = failed.as_ref().map(ToString::to_string);
        self.features.set(Feature::Reconciliation, why);
        self.told.reconciliation = failed;
    }
}

fn members(missing: &Missing) -> [(&'static str, String); 2] {
    [
        ("piece", missing.piece.to_owned()),
        ("detail", missing.detail.clone()),
    ]
}
