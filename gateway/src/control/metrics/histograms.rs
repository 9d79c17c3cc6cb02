//! Histograms that nearly every request adds to. The exporter would keep each observation with its time until somebody folds
//! it into what is shown; here it is a step of a counter at once. They are shown as the exporter shows its own.

use crate::journal::Record;
use relay_wire::dialect::Dialect;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is observed of requests.
pub(super) struct Histograms {
    added_latency: Histogram,
    duration: Histogram,
    attempts: Histogram,
    queue_wait: Histogram,
    /// By route, as [`Dialect::ALL`] has them.
    first_byte: [Histogram; Dialect::ALL.len()],
}

/// Adds to [`Histograms`], alone: with a second one at the same time observations would be lost.
pub(super) struct Observer(Arc<Histograms>);

/// From 5 µs: what the gateway itself adds.
const ADDED_LATENCY_BUCKETS: [f64; 12] = [
    5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 1.0,
];

/// Up to an hour: what the provider takes.
const PROVIDER_BUCKETS: [f64; 13] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0,
];

/// As many as `limits.attempts_max` may be.
const ATTEMPTS_BUCKETS: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0];

/// Waiting is for short saturation; what takes longer is refused.
const QUEUE_WAIT_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

impl Default for Histograms {
    fn default() -> Self {
        Self {
            added_latency: Histogram::new(&ADDED_LATENCY_BUCKETS),
            duration: Histogram::new(&PROVIDER_BUCKETS),
            attempts: Histogram::new(&ATTEMPTS_BUCKETS),
            queue_wait: Histogram::new(&QUEUE_WAIT_BUCKETS),
            first_byte: Dialect::ALL.map(|_| Histogram::new(&PROVIDER_BUCKETS)),
        }
    }
}

impl Histograms {
    /// Empty ones, with what adds to them.
    pub(super) fn with_observer() -> (Arc<Self>, Observer) {
        let histograms = Arc::new(Self::default());
        (histograms.clone(), Observer(histograms))
    }

    /// From a request's head to the answer's first bytes.
    fn first_byte(&self, route: Dialect) -> &Histogram {
        let place = Dialect::ALL.iter().position(|one| *one == route);
        &self.first_byte[place.unwrap_or_default()]
    }

    /// Puts all of them behind what is there.
    pub(super) fn render(&self, out: &mut String) {
        let alone = [
            (
                "relay_added_latency_seconds",
                "What the gateway added before an answer's head",
                &self.added_latency,
            ),
            (
                "relay_request_duration_seconds",
                "From a request's head to its end",
                &self.duration,
            ),
            (
                "relay_request_attempts",
                "Accounts asked for a request",
                &self.attempts,
            ),
            (
                "relay_queue_wait_seconds",
                "How long requests have waited for an account",
                &self.queue_wait,
            ),
        ];
        for (name, description, histogram) in alone {
            render_family(out, name, description, [(String::new(), histogram)]);
        }
        let routes = Dialect::ALL.into_iter().zip(&self.first_byte);
        let seen = routes.filter(|(_, histogram)| histogram.count() > 0);
        let by_route = seen.map(|(route, it)| (format!("route=\"{}\"", route.as_str()), it));
        let mut by_route = by_route.peekable();
        if by_route.peek().is_some() {
            let description = "From a request's head to the answer's first bytes";
            render_family(
                out,
                "relay_time_to_first_byte_seconds",
                description,
                by_route,
            );
        }
    }
}

impl Observer {
    /// Adds what is known of a request that is over.
    pub(super) fn observe(&mut self, record: &Record) {
        let histograms = &self.0;
        histograms.duration.record(record.duration.as_secs_f64());
        if let Some(overhead) = record.overhead {
            histograms.added_latency.record(overhead.as_secs_f64());
        }
        if let (Some(route), Some(first_byte)) = (record.route, record.first_byte) {
            let by_route = histograms.first_byte(route);
            by_route.record(first_byte.as_secs_f64());
        }
        if let Some(queued) = record.queued {
            histograms.queue_wait.record(queued.as_secs_f64());
        }
        if record.account.is_some() && record.attempts > 0 {
            histograms.attempts.record(record.attempts.into());
        }
    }
}

/// Counts of observations by how large they are.
struct Histogram {
    bounds: &'static [f64],
    /// Between two bounds each; the last ones are beyond all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0_f64.to_bits()),
        }
    }

    /// One more, of an [`Observer`]: what is added at the same time may be lost.
    fn record(&self, value: f64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        let count = &self.counts[place.unwrap_or(self.bounds.len())];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sum = self.sum() + value;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// `histograms` with their labels.
fn render_family<'h>(
    out: &mut String,
    name: &str,
    description: &str,
    histograms: impl IntoIterator<Item = (String, &'h Histogram)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {description}\n# TYPE {name} histogram");
    for (labels, histogram) in histograms {
        let behind = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bound, more) in histogram.bounds.iter().zip(&histogram.counts) {
            count += more.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}{behind}le=\"{bound}\"}} {count}"
            );
        }
        let count = histogram.count();
        let _ = writeln!(out, "{name}_bucket{{{labels}{behind}le=\"+Inf\"}} {count}");
        let braced = match labels.is_empty() {
            true => labels,
            false => format!("{{{labels}}}"),
        };
        let _ = writeln!(out, "{name}_sum{braced} {}", histogram.sum());
        let _ = writeln!(out, "{name}_count{braced} {count}");
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    const NAME: &str = "relay_test_seconds";

    /// What the exporter shows of the same values.
    fn exported(values: &[f64], route: Option<&'static str>) -> String {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Full(NAME.to_owned());
        let builder = builder.set_buckets_for_metric(matcher, &ADDED_LATENCY_BUCKETS);
        let recorder = builder.unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_histogram!(NAME, metrics::Unit::Seconds, "What is tested");
            let histogram = match route {
                Some(route) => metrics::histogram!(NAME, "route" => route),
                None => metrics::histogram!(NAME),
            };
            values.iter().for_each(|value| histogram.record(*value));
        });
        recorder.handle().render()
    }

    #[test]
    fn they_are_shown_as_the_exporter_shows_its_own() {
        let rng = &mut Rng::with_seed(5);
        for round in 0..200 {
            // Sums of these are exact in whatever order.
            let value = |rng: &mut Rng| f64::from(rng.u32(..) >> rng.u32(..32)) / 1_048_576.0;
            let mut values: Vec<_> = (0..round).map(|_| value(rng)).collect();
            // A bound itself is below it.
            values.extend(ADDED_LATENCY_BUCKETS.last());
            for route in [None, Some("responses")] {
                let histogram = Histogram::new(&ADDED_LATENCY_BUCKETS);
                values.iter().for_each(|value| histogram.record(*value));
                let labels = route.map_or(String::new(), |route| format!("route=\"{route}\""));
                let mut shown = String::new();
                render_family(&mut shown, NAME, "What is tested", [(labels, &histogram)]);
                assert_eq!(shown, exported(&values, route));
            }
        }
    }

    #[test]
    fn routes_are_shown_from_their_first_request_on() {
        let histograms = Histograms::default();
        let shown = || {
            let mut text = String::new();
            histograms.render(&mut text);
            text
        };
        assert!(!shown().contains("relay_time_to_first_byte_seconds"));
        for route in Dialect::ALL {
            let count = format!(
                "relay_time_to_first_byte_seconds_count{{route=\"{}\"}} 1\n",
                route.as_str()
            );
            assert!(!shown().contains(&count));
            histograms.first_byte(route).record(0.5);
            assert!(shown().contains(&count));
        }
        assert!(shown().contains("relay_queue_wait_seconds_count 0\n"));
    }
}
