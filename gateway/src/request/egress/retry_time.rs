//! When to come again, as the fields of an error answer tell it.

use super::failure::Reset;
use crate::health::Moment;
use jiff::fmt::rfc2822;
use relay_wire::dialect::{ErrorKind, ErrorReport};
use relay_wire::head::ResponseHead;
use std::time::Duration;

/// What is longer is not meant as a time to wait.
const SECONDS_MAX: f64 = 1e9;

/// What the head of an answer says about time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// When that was, by this host's clock.
    heard_at: Moment,
    /// `Retry-After`, or its more precise sibling.
    retry_after: Option<Duration>,
    /// Until the limits of the rate that are used up are set anew.
    rate_resets_after: Option<Duration>,
    /// The provider's own time of day.
    date: Option<Moment>,
}

impl Told {
    /// By a head that was heard just then.
    pub fn by(head: &ResponseHead, bytes: &[u8], heard_at: Moment) -> Self {
        let text = |name: &str| std::str::from_utf8(head.value(bytes, name)?).ok();
        let date = text("date").and_then(http_date);
        let in_milliseconds = text("retry-after-ms")
            .and_then(seconds)
            .map(|told| told / 1000);
        // Seconds or a date (RFC 9110 section 10.2.3).
        let in_seconds = || {
            let told = text("retry-after")?;
            seconds(told).or_else(|| Some(http_date(told)?.since(date.unwrap_or(heard_at))))
        };
        let used_up = |remaining: &str, reset: &str| {
            let is_used_up = text(remaining)?.trim() == "0";
            is_used_up.then(|| span(text(reset)?)).flatten()
        };
        let requests = used_up(
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        );
        let tokens = used_up("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
        Self {
            heard_at,
            retry_after: in_milliseconds.or_else(in_seconds),
            rate_resets_after: requests.max(tokens),
            date,
        }
    }

    /// When it is over, by what the head and the report say. What names a point in time is meant by the provider's clock, which
    /// may differ from this host's.
    pub fn reset(&self, report: &ErrorReport, now: Moment) -> Option<Reset> {
        let of_head = |after: Duration| self.heard_at + after;
        let at = |since_epoch: Duration| {
            let date = self.date.unwrap_or(self.heard_at);
            of_head((Moment::default() + since_epoch).since(date))
        };
        let until = self
            .retry_after
            .map(of_head)
            .or(report.resets_after.map(|after| now + after))
            .or_else(|| report.resets_at.map(at))
            .or(self.rate_resets_after.map(of_head))?;
        Some(Reset {
            until,
            after: until.since(now),
        })
    }

    /// The same for a failure that a stream reports. What its head says about the rate has nothing to do with an overload.
    pub fn reset_of_stream(&self, report: &ErrorReport, now: Moment) -> Option<Reset> {
        let told = match report.kind {
            ErrorKind::Overloaded => Self {
                retry_after: None,
                rate_resets_after: None,
                ..*self
            },
            _ => *self,
        };
        told.reset(report, now)
    }
}

/// Seconds, perhaps with a fraction; what is negative is over.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds < SECONDS_MAX).then(|| Duration::from_secs_f64(seconds.max(0.0)))
}

/// RFC 9110 section 5.6.7; of its obsolete forms none is sent by the providers.
fn http_date(text: &str) -> Option<Moment> {
    let parsed = rfc2822::DateTimeParser::new().parse_timestamp(text.trim());
    let milliseconds = parsed.ok()?.as_millisecond();
    u64::try_from(milliseconds).ok().map(Moment::from_unix_ms)
}

/// `1s`, `6m0s`, `120ms`, `1h2m3.5s`, or plain seconds.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    if let Some(plain) = seconds(rest) {
        return Some(plain);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit_bytes = behind
            .find(|next: char| !next.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_bytes);
        let unit_seconds = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let value: f64 = number.parse().ok()?;
        let seconds = value * unit_seconds;
        total += (seconds < SECONDS_MAX).then(|| Duration::from_secs_f64(seconds))?;
        rest = next;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_wire::head::HeadLimits;

    /// 1994-11-06 08:49:37 UTC.
    const NOW: Moment = Moment::from_unix_ms(784_111_777_000);

    fn told(fields: &[(&str, &str)]) -> Told {
        let mut text = "HTTP/1.1 429 Too Many Requests\r\n".to_owned();
        for (name, value) in fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += "content-length: 0\r\n\r\n";
        let limits = HeadLimits {
            head_bytes_max: 16_384,
            fields_max: 100,
            target_bytes_max: 100,
        };
        let head = ResponseHead::parse(text.as_bytes(), &limits, false)
            .unwrap()
            .unwrap();
        Told::by(&head, text.as_bytes(), NOW)
    }

    fn after(fields: &[(&str, &str)], report: &ErrorReport) -> Option<u128> {
        let reset = told(fields).reset(report, NOW)?;
        assert_eq!(reset.until, NOW + reset.after);
        Some(reset.after.as_millis())
    }

    #[test]
    fn retry_after_in_every_form() {
        for (value, wanted) in [
            ("7", Some(7_000)),
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("-3", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
            ("inf", None),
            ("NaN", None),
            ("1e300", None),
        ] {
            let told = after(&[("retry-after", value)], &ErrorReport::default());
            assert_eq!(told, wanted, "{value}");
        }
        // Nobody says that the provider's clock is right, but it is its own date that it counts from.
        let dates = [
            ("date", "Sun, 06 Nov 1994 09:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 09:49:40 GMT"),
        ];
        assert_eq!(after(&dates, &ErrorReport::default()), Some(3_000));
    }

    #[test]
    fn what_is_most_precise_counts() {
        let report = ErrorReport {
            resets_at: Some(Duration::from_secs(784_111_777 + 60)),
            resets_after: Some(Duration::from_secs(50)),
            ..ErrorReport::default()
        };
        let only_at = ErrorReport {
            resets_after: None,
            ..report
        };
        let nothing = ErrorReport::default();
        let rate = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "2s"),
        ];
        let with = |field| [&[field], &rate[..]].concat();
        let milliseconds = [("retry-after-ms", "1500"), ("retry-after", "2")];
        assert_eq!(after(&milliseconds, &report), Some(1_500));
        let broken = [("retry-after-ms", "x"), ("retry-after", "2")];
        assert_eq!(after(&broken, &report), Some(2_000));
        assert_eq!(after(&with(("retry-after", "3")), &report), Some(3_000));
        assert_eq!(after(&rate, &report), Some(50_000));
        assert_eq!(after(&rate, &only_at), Some(60_000));
        let ahead = ("date", "Sun, 06 Nov 1994 08:49:47 GMT");
        assert_eq!(after(&with(ahead), &only_at), Some(50_000));
        assert_eq!(after(&rate, &nothing), Some(2_000));
        assert_eq!(after(&[], &nothing), None);
    }

    #[test]
    fn a_report_that_comes_long_after_its_head() {
        let minute = Duration::from_secs(60);
        let now = NOW + minute;
        let of_head = |field: (&str, &str), report: &ErrorReport| {
            let date = ("date", "Sun, 06 Nov 1994 08:00:00 GMT");
            let reset = told(&[date, field]).reset_of_stream(report, now)?;
            assert_eq!(reset.until, now + reset.after);
            Some(reset.after.as_secs())
        };
        let date_seconds = 784_108_800;
        let nothing = ErrorReport::default();
        let at = ErrorReport {
            resets_at: Some(Duration::from_secs(date_seconds + 90)),
            ..nothing
        };
        let after = ErrorReport {
            resets_after: Some(minute),
            ..nothing
        };
        let overloaded = |report| ErrorReport {
            kind: ErrorKind::Overloaded,
            ..report
        };
        let (other, waits) = (("x-other", ""), ("retry-after", "70"));
        for (field, report, wanted) in [
            (other, nothing, None),
            (other, at, Some(30)),
            (other, overloaded(at), Some(30)),
            (other, after, Some(60)),
            (waits, nothing, Some(10)),
            (waits, after, Some(10)),
            (waits, overloaded(nothing), None),
            (waits, overloaded(after), Some(60)),
        ] {
            assert_eq!(of_head(field, &report), wanted, "{field:?} {report:?}");
        }
    }

    #[test]
    fn only_limits_that_are_used_up_are_waited_for() {
        let limits = |requests_left, tokens_left| {
            let fields = [
                ("x-ratelimit-remaining-requests", requests_left),
                ("x-ratelimit-reset-requests", "120ms"),
                ("x-ratelimit-remaining-tokens", tokens_left),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ];
            after(&fields, &ErrorReport::default())
        };
        assert_eq!(limits("0", "0"), Some(360_000));
        assert_eq!(limits("0", "5"), Some(120));
        assert_eq!(limits("1", "0"), Some(360_000));
        assert_eq!(limits("1", "10"), None);
        assert_eq!(
            after(
                &[("x-ratelimit-reset-requests", "1s")],
                &ErrorReport::default()
            ),
            None
        );
    }

    #[test]
    fn spans_in_every_form() {
        for (text, wanted) in [
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("120ms", Some(120)),
            ("8.64s", Some(8_640)),
            ("1h2m3.5s", Some(3_723_500)),
            ("1d", Some(86_400_000)),
            ("59", Some(59_000)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("1", Some(1_000)),
            ("1x", None),
            ("1s2", None),
            (".s", None),
            ("1..2s", None),
            ("-1s", None),
            ("1 s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), wanted, "{text:?}");
        }
    }
}
