//! What was counted and measured.

use serde_json::{Value, json};

use crate::clock::SECOND_NS;
use crate::histogram::Histogram;

/// Counts within the window; errors count from the beginning.
#[derive(Debug, Default)]
pub struct Tally {
    counting: bool,
    started_ns: u64,
    window_ns: u64,
    requests: u64,
    events: u64,
    bytes: u64,
    reconnects: u64,
    errors: u64,
    first_error: Option<String>,
    request_ns: Histogram,
    event_ns: Histogram,
    first_byte_ns: Histogram,
}

impl Tally {
    /// The window begins.
    pub fn start(&mut self, now_ns: u64) {
        self.counting = true;
        self.started_ns = now_ns;
    }

    /// The window ends.
    pub fn end(&mut self, now_ns: u64) {
        self.counting = false;
        self.window_ns = now_ns - self.started_ns;
    }

    pub(crate) fn request(&mut self, latency_ns: u64) {
        if self.counting {
            self.requests += 1;
            self.request_ns.record(latency_ns);
        }
    }

    pub(crate) fn first_byte(&mut self, latency_ns: u64) {
        if self.counting {
            self.first_byte_ns.record(latency_ns);
        }
    }

    pub(crate) fn event(&mut self, latency_ns: u64) {
        if self.counting {
            self.events += 1;
            self.event_ns.record(latency_ns);
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        if self.counting {
            self.bytes += bytes as u64;
        }
    }

    pub(crate) fn reconnect(&mut self) {
        if self.counting {
            self.reconnects += 1;
        }
    }

    pub(crate) fn error(&mut self, error: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
    }

    /// How many errors there were.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The first of them.
    #[must_use]
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// How many events arrived.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many requests were answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The result, as one value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "event": "measured",
            "duration_s": self.window_ns as f64 / SECOND_NS as f64,
            "requests": self.requests,
            "events": self.events,
            "bytes": self.bytes,
            "reconnects": self.reconnects,
            "errors": self.errors,
            "first_error": self.first_error,
            "request_us": quantiles(&self.request_ns),
            "event_us": quantiles(&self.event_ns),
            "first_byte_us": quantiles(&self.first_byte_ns),
        })
    }
}

fn quantiles(histogram: &Histogram) -> Value {
    if histogram.total() == 0 {
        return Value::Null;
    }
    let us = |ns: u64| ns as f64 / 1_000.0;
    json!({
        "p50": us(histogram.quantile(0.5)),
        "p90": us(histogram.quantile(0.9)),
        "p99": us(histogram.quantile(0.99)),
        "p999": us(histogram.quantile(0.999)),
        "max": us(histogram.max()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts_but_every_error_does() {
        let mut tally = Tally::default();
        tally.error("before");
        tally.event(1_000);
        tally.start(5_000);
        tally.event(2_000);
        tally.request(9_000);
        tally.received(100);
        tally.end(2_000_005_000);
        tally.event(3_000);
        tally.error("after");
        let json = tally.to_json();
        assert_eq!(json["events"], 1);
        assert_eq!(json["event_us"]["max"], 2.0);
        assert_eq!(json["request_us"]["p50"], 9.0);
        assert_eq!(json["first_byte_us"], Value::Null);
        assert_eq!(json["bytes"], 100);
        assert_eq!(json["duration_s"], 2.0);
        assert_eq!(json["errors"], 2);
        assert_eq!(json["first_error"], "before");
    }
}
