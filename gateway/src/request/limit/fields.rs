//! The fields `x-ratelimit-*`: how the tenant's own limits stand, in the form of the provider's.

use crate::config::policy::Limit;
use crate::limits::Standing;
use relay_wire::encode::{HeadWriter, Value};
use std::time::Duration;

/// Begins the names of all of them.
const PREFIX: &[u8] = b"x-ratelimit-";

/// What a limit counts, as far as there are fields for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    Requests,
    Tokens,
}

impl Unit {
    /// What this limit counts. There are no fields for requests in flight and for money.
    pub fn of(limit: Limit) -> Option<Self> {
        match limit {
            Limit::RequestsPerSecond
            | Limit::RequestsPerMinute
            | Limit::RequestsPerDay
            | Limit::RequestsPerMonth => Some(Self::Requests),
            Limit::TokensPerMinute | Limit::TokensPerDay | Limit::TokensPerMonth => {
                Some(Self::Tokens)
            }
            Limit::ConcurrentRequests | Limit::BudgetPerMonth => None,
        }
    }

    /// Limit, what remains of it, and until when.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Requests => [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
            Self::Tokens => [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        }
    }

    /// Writes the three fields.
    pub fn write(self, head: &mut HeadWriter<'_>, standing: &Standing) {
        let [limit, remaining, reset] = self.names();
        head.number(limit, standing.limit);
        head.number(remaining, standing.remaining);
        head.composed(reset, |text| write_span(text, standing.reset));
    }
}

/// How the limits of a tenant and its key stand; `None` where there is none of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Standings {
    pub requests: Option<Standing>,
    pub tokens: Option<Standing>,
}

impl Standings {
    /// Does this field of the provider's stop here? It speaks of the operator's account, and beside the tenant's own limits
    /// nobody could tell which of them it means.
    pub fn replace(&self, name: &[u8]) -> bool {
        (self.requests.is_some() || self.tokens.is_some())
            && name
                .get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }

    /// Writes the fields.
    pub fn write(&self, head: &mut HeadWriter<'_>) {
        if let Some(standing) = &self.requests {
            Unit::Requests.write(head, standing);
        }
        if let Some(standing) = &self.tokens {
            Unit::Tokens.write(head, standing);
        }
    }
}

/// `120ms`, `1s`, `6m0s`, `1h0m5s`: rounded up, since before that it would be too early.
fn write_span(mut text: Value<'_>, duration: Duration) {
    let mut push = |value: u64, unit: &str| {
        text.decimal(value);
        text.text(unit);
    };
    if duration.as_secs() == 0 {
        let milliseconds = duration.subsec_nanos().div_ceil(1_000_000);
        if (1..1000).contains(&milliseconds) {
            push(milliseconds.into(), "ms");
            return;
        }
    }
    let begun = u64::from(duration.subsec_nanos() > 0);
    let seconds = duration.as_secs().saturating_add(begun);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        push(hours, "h");
    }
    if seconds >= 60 {
        push(minutes, "m");
    }
    push(seconds % 60, "s");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_form_of_the_providers() {
        for (duration, shown) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ms"),
            (Duration::from_micros(119_001), "120ms"),
            (Duration::from_millis(999), "999ms"),
            (Duration::from_nanos(999_000_001), "1s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(1_001), "2s"),
            (Duration::from_secs(59), "59s"),
            (Duration::from_millis(59_001), "1m0s"),
            (Duration::from_secs(360), "6m0s"),
            (Duration::from_secs(3_605), "1h0m5s"),
            (Duration::from_secs(31 * 86_400), "744h0m0s"),
        ] {
            let mut out = Vec::new();
            HeadWriter::response(&mut out, 200).composed("a", |text| write_span(text, duration));
            let wanted = format!("HTTP/1.1 200 OK\r\na: {shown}\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "{duration:?}");
        }
    }

    #[test]
    fn the_fields_of_both_kinds() {
        let standings = Standings {
            requests: Some(Standing {
                limit: 1_000,
                remaining: 999,
                reset: Duration::from_millis(60),
            }),
            tokens: Some(Standing {
                limit: u64::MAX,
                remaining: 0,
                reset: Duration::from_secs(360),
            }),
        };
        let mut out = Vec::new();
        let mut head = HeadWriter::response(&mut out, 200);
        standings.write(&mut head);
        let wanted = "HTTP/1.1 200 OK\r\n\
            x-ratelimit-limit-requests: 1000\r\n\
            x-ratelimit-remaining-requests: 999\r\n\
            x-ratelimit-reset-requests: 60ms\r\n\
            x-ratelimit-limit-tokens: 18446744073709551615\r\n\
            x-ratelimit-remaining-tokens: 0\r\n\
            x-ratelimit-reset-tokens: 6m0s\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn the_providers_fields_stop_where_there_are_our_own() {
        let none = Standings::default();
        let some = Standings {
            tokens: Some(Standing::default()),
            ..none
        };
        for (name, stops) in [
            ("x-ratelimit-limit-requests", true),
            ("X-RateLimit-Reset-Tokens", true),
            ("x-ratelimit", false),
            ("retry-after", false),
        ] {
            assert_eq!(some.replace(name.as_bytes()), stops, "{name}");
            assert!(!none.replace(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_limit_on_requests_or_tokens_has_fields() {
        for limit in Limit::ALL {
            let wanted = match limit.as_str() {
                "concurrent_requests" | "budget_per_month" => None,
                name if name.starts_with("requests_") => Some(Unit::Requests),
                _ => Some(Unit::Tokens),
            };
            assert_eq!(Unit::of(limit), wanted, "{limit:?}");
        }
    }
}
