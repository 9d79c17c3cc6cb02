//! The metrics, through the `metrics` facade and the Prometheus exporter.
//!
//! Counted on the control thread from the workers' reports, and read from their figures when somebody asks: a worker spends
//! no instruction on them. Labels come from closed sets: names in the configuration, and enumerations.

pub(super) mod accounts;
mod connections;
mod histograms;
pub(super) mod journal;
mod limits;
mod protocols;
mod sums;
pub(super) mod tls;

pub use connections::Counted;

use crate::accounts::Accounts;
use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use crate::journal::Record;
use crate::limits::{Allowances, InFlight};
use crate::worker::Figures;
use accounts::ByAccount;
use histograms::{Histograms, Observer};
use limits::ByLimit;
use metrics::{Counter, counter, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use relay_wire::dialect::Dialect;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use sums::{ByLabels, Place, Sums};

/// Round-trip times to providers.
pub(super) const RTT: &str = "relay_egress_rtt_seconds";

const RTT_BUCKETS: [f64; 11] = [1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0];

/// A path to a provider that nobody uses any more leaves the metrics: its addresses change as its names do.
const GAUGE_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What the admin API reads.
#[derive(Clone)]
pub struct Metrics {
    exporter: PrometheusHandle,
    histograms: Arc<Histograms>,
    figures: Vec<&'static Figures>,
    in_flight: &'static InFlight,
    allowances: &'static Allowances,
    accounts: &'static Accounts,
    counted: Counted,
}

/// What the control thread counts with: handles made once for each combination of labels. There is one of it.
pub struct Counters {
    sums: Sums,
    /// By tenant; the first are of no tenant.
    requests: Vec<ByLabels<(Option<Dialect>, &'static str)>>,
    streams: ByLabels<&'static str>,
    /// By tenant.
    tokens: Vec<Option<[Place; 4]>>,
    failures: HashMap<(AccountId, &'static str), Counter>,
    observer: Observer,
    bytes_in: Place,
    bytes_out: Place,
    events: Place,
    by_account: ByAccount,
    by_limit: ByLimit,
}

/// Counts what a batch of reports has: what its requests come to is told at its end.
pub struct Batch<'c>(&'c mut Counters);

impl Metrics {
    /// Installs the recorder; once per process. With it comes what counts the requests that it shows.
    ///
    /// # Errors
    /// A recorder is installed already.
    pub fn install(
        figures: Vec<&'static Figures>,
        in_flight: &'static InFlight,
        allowances: &'static Allowances,
        accounts: &'static Accounts,
        counted: Counted,
    ) -> Result<(Self, Counters), BuildError> {
        let mut builder = PrometheusBuilder::new();
        let buckets: [(&str, &[f64]); 3] = [
            (RTT, &RTT_BUCKETS),
            (accounts::RECOVERY, &accounts::RECOVERY_BUCKETS),
            (journal::SYNC, &journal::SYNC_BUCKETS),
        ];
        for (name, bounds) in buckets {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), bounds)?;
        }
        let exporter = builder
            .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE_TIMEOUT))
            .install_recorder()?;
        describe();
        connections::describe();
        accounts::describe();
        journal::describe();
        limits::describe();
        protocols::describe();
        tls::describe();
        let (histograms, observer) = Histograms::with_observer();
        let metrics = Self {
            exporter,
            histograms,
            figures,
            in_flight,
            allowances,
            accounts,
            counted,
        };
        Ok((metrics, Counters::new(observer)))
    }

    /// Everything, in the text format of Prometheus.
    pub fn render(&self, policy: &Policy) -> String {
        self.read_figures(policy);
        let mut text = self.exporter.render();
        self.histograms.render(&mut text);
        text
    }

    /// Folds what was observed into the histograms, so that it does not pile up while nobody asks.
    pub fn fold(&self) {
        self.exporter.run_upkeep();
    }

    fn read_figures(&self, policy: &Policy) {
        self.counted
            .read(policy, &self.figures, &self.accounts.spoken);
        let now = self.accounts.health.clock().now();
        accounts::read(policy, self.accounts, now);
        limits::read(policy, self.allowances, Instant::now());
        protocols::read(&self.figures);
        tls::read(&self.figures);
        let sum = |of: fn(&Figures) -> &AtomicU64| -> u64 {
            self.figures
                .iter()
                .map(|figures| of(figures).load(Ordering::Relaxed))
                .sum()
        };
        gauge!("relay_client_connections").set(sum(|figures| &figures.connections) as f64);
        gauge!("relay_streams_open").set(sum(|figures| &figures.streams_open) as f64);
        gauge!("relay_upstream_connections_idle")
            .set(sum(|figures| &figures.upstream_connections_idle) as f64);
        gauge!("relay_held_body_bytes").set(sum(|figures| &figures.held_body_bytes) as f64);
        counter!("relay_client_connections_accepted_total")
            .absolute(sum(|figures| &figures.connections_accepted));
        counter!("relay_upstream_connections_opened_total")
            .absolute(sum(|figures| &figures.upstream_connections_opened));
        counter!("relay_requests_begun_total").absolute(sum(|figures| &figures.requests_begun));
        counter!("relay_reports_lost_total").absolute(sum(|figures| &figures.reports_lost));
        for (index, tenant) in policy.tenants.iter().enumerate() {
            let in_flight = self.allowances.in_flight(TenantId(index as u16));
            gauge!("relay_tenant_requests_in_flight", "tenant" => tenant.name.clone())
                .set(in_flight);
            let websockets = self.in_flight.websockets_of(TenantId(index as u16));
            gauge!("relay_tenant_websockets", "tenant" => tenant.name.clone()).set(websockets);
        }
        for (index, account) in policy.accounts.iter().enumerate() {
            let in_flight = self.in_flight.of_account(AccountId(index as u16));
            gauge!("relay_account_requests_in_flight", "account" => account.name.clone())
                .set(in_flight);
        }
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(
        "relay_requests_total",
        "Requests that are over, by tenant, route and outcome"
    );
    describe_counter!(
        "relay_requests_begun_total",
        "Requests whose head was read, or refused"
    );
    describe_counter!(
        "relay_streams_total",
        "Streams that are over, by how they ended"
    );
    describe_counter!("relay_events_total", "Server-sent events forwarded");
    describe_counter!(
        "relay_tokens_total",
        "Tokens, by tenant and kind; how they are known tells relay_usage_records_total"
    );
    describe_counter!(
        "relay_upstream_failures_total",
        "Attempts that failed, by upstream, account and kind"
    );
    describe_counter!(
        "relay_bytes_total",
        Unit::Bytes,
        "Payload received from and sent to clients"
    );
    describe_counter!(
        "relay_accept_failures_total",
        "Connections that could not be accepted"
    );
    describe_counter!(
        "relay_panics_total",
        "Connections that ended in a panic: a bug"
    );
    describe_counter!(
        "relay_reports_lost_total",
        "Reports of workers that found no room"
    );
    describe_counter!(
        "relay_log_lines_lost_total",
        "Log lines that could not be written"
    );
    describe_counter!(
        "relay_client_connections_accepted_total",
        "Client connections accepted"
    );
    describe_counter!(
        "relay_upstream_connections_opened_total",
        "Connections opened to providers"
    );
    describe_gauge!("relay_client_connections", "Client connections open");
    describe_gauge!("relay_streams_open", "Streams being forwarded");
    describe_gauge!(
        "relay_upstream_connections_idle",
        "Connections to providers kept for the next request"
    );
    describe_gauge!(
        "relay_held_body_bytes",
        Unit::Bytes,
        "Request bodies being held"
    );
    describe_gauge!(
        "relay_tenant_requests_in_flight",
        "Requests in flight, by tenant"
    );
    describe_gauge!("relay_tenant_websockets", "WebSockets open, by tenant");
    describe_gauge!(
        "relay_account_requests_in_flight",
        "Requests in flight, by account"
    );
}

impl Counters {
    /// Of which nothing is shown.
    #[cfg(test)]
    pub(super) fn unseen() -> Self {
        Self::new(Histograms::with_observer().1)
    }

    fn new(observer: Observer) -> Self {
        let mut sums = Sums::default();
        Self {
            requests: Vec::new(),
            streams: ByLabels::default(),
            tokens: Vec::new(),
            failures: HashMap::new(),
            observer,
            bytes_in: sums.place(counter!("relay_bytes_total", "direction" => "in")),
            bytes_out: sums.place(counter!("relay_bytes_total", "direction" => "out")),
            events: sums.place(counter!("relay_events_total")),
            sums,
            by_account: ByAccount::default(),
            by_limit: ByLimit::default(),
        }
    }

    /// Begins a batch of reports.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch(self)
    }

    fn count_request(&mut self, policy: &Policy, record: &Record) {
        self.count_outcome(policy, record);
        let sums = &mut self.sums;
        sums.add(self.bytes_in, record.bytes_in);
        sums.add(self.bytes_out, record.bytes_out);
        self.observer.observe(record);
        if record.streamed {
            self.count_stream(record);
        }
        self.count_tokens(policy, record);
        self.by_account
            .count_request(policy, record, &mut self.sums);
        self.by_limit.count_request(policy, record, &mut self.sums);
    }

    fn count_outcome(&mut self, policy: &Policy, record: &Record) {
        let index = record.tenant.map_or(0, |tenant| usize::from(tenant.0) + 1);
        if self.requests.len() <= index {
            self.requests
                .resize_with(policy.tenants.len() + 1, ByLabels::default);
        }
        let (route, outcome) = (record.route, record.code.unwrap_or(record.ended));
        let place = self.requests[index].place((route, outcome), &mut self.sums, || {
            counter!(
                "relay_requests_total",
                "tenant" => tenant_name(policy, record.tenant),
                "route" => route.map_or("none", Dialect::as_str),
                "outcome" => outcome,
            )
        });
        self.sums.add(place, 1);
    }

    fn count_stream(&mut self, record: &Record) {
        self.sums.add(self.events, record.events);
        let ended = record.ended;
        let counter = || counter!("relay_streams_total", "ended" => ended);
        let place = self.streams.place(ended, &mut self.sums, counter);
        self.sums.add(place, 1);
    }

    fn count_tokens(&mut self, policy: &Policy, record: &Record) {
        let (Some(usage), Some(tenant)) = (record.usage, record.tenant) else {
            return;
        };
        if self.tokens.len() <= usize::from(tenant.0) {
            self.tokens.resize(policy.tenants.len(), None);
        }
        let places = self.tokens[usize::from(tenant.0)].get_or_insert_with(|| {
            ["input", "cached", "output", "reasoning"].map(|kind| {
                let tenant = tenant_name(policy, Some(tenant));
                self.sums
                    .place(counter!("relay_tokens_total", "tenant" => tenant, "kind" => kind))
            })
        });
        let [input, cached, output, reasoning] = *places;
        self.sums.add(input, usage.input_tokens);
        self.sums.add(cached, usage.cached_tokens);
        self.sums.add(output, usage.output_tokens);
        self.sums.add(reasoning, usage.reasoning_tokens);
    }
}

impl Batch<'_> {
    /// Counts a request that is over.
    pub fn count_request(&mut self, policy: &Policy, record: &Record) {
        self.0.count_request(policy, record);
    }

    /// Counts an attempt that failed.
    pub fn count_failure(&mut self, policy: &Policy, account: AccountId, kind: &'static str) {
        self.0
            .failures
            .entry((account, kind))
            .or_insert_with(|| {
                let account = policy.account(account);
                let upstream = policy.upstream(account.upstream).name.clone();
                counter!(
                    "relay_upstream_failures_total",
                    "upstream" => upstream,
                    "account" => account.name.clone(),
                    "kind" => kind,
                )
            })
            .increment(1);
    }

    /// Counts a connection that could not be accepted.
    pub fn count_accept_failure(&self) {
        counter!("relay_accept_failures_total").increment(1);
    }

    /// Counts a panic.
    pub fn count_panic(&self) {
        counter!("relay_panics_total").increment(1);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.0.sums.tell();
    }
}

pub(super) fn tenant_name(policy: &Policy, tenant: Option<TenantId>) -> String {
    tenant.map_or_else(
        || "none".into(),
        |tenant| policy.tenant(tenant).name.clone(),
    )
}
