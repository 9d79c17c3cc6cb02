//! What is told of a request, by the names that the log has for it, as JSON and as CSV.

use super::super::csv;
use super::super::times::show_us;
use codex_relay::config::policy::{Limit, LimitSet, Scope};
use codex_relay::journal::Entry;
use codex_relay::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// A value, or that there is none.
enum Value<'e> {
    Nothing,
    Number(u64),
    Flag(bool),
    Milliseconds(Duration),
    /// From a set of the gateway's own or from its configuration.
    Text(Cow<'e, str>),
    /// A client has written it.
    Foreign(&'e str),
}

type Column = (&'static str, for<'e> fn(&'e Entry<&'e str>) -> Value<'e>);

/// In the order of a line of the log.
const COLUMNS: [Column; 37] = [
    ("time", |one| owned(Some(show_us(one.time_us)))),
    ("sequence", |one| Value::Number(one.sequence)),
    ("request_id", |one| foreign(Some(&one.request_id))),
    ("tenant", |one| text(one.tenant)),
    ("key", |one| owned(key(one))),
    ("route", |one| text(Some(route(one)))),
    ("model", |one| foreign(one.model)),
    ("upstream", |one| text(one.upstream)),
    ("account", |one| text(one.account)),
    ("region", |one| text(one.region)),
    ("egress", |one| owned(one.egress.map(|ip| ip.to_string()))),
    ("status", |one| Value::Number(one.status.into())),
    ("code", |one| text(one.code)),
    ("attempts", |one| Value::Number(one.attempts.into())),
    ("chosen", |one| text(one.chosen)),
    ("failed_status", |one| {
        number(one.failed_status.map(u64::from))
    }),
    ("queued_ms", |one| milliseconds(one.queued)),
    ("overhead_us", |one| number(one.overhead.map(microseconds))),
    ("ttfb_ms", |one| milliseconds(one.first_byte)),
    ("duration_ms", |one| milliseconds(Some(one.duration))),
    ("bytes_in", |one| Value::Number(one.bytes_in)),
    ("bytes_out", |one| Value::Number(one.bytes_out)),
    ("streamed", |one| Value::Flag(one.streamed)),
    ("events", |one| number(one.streamed.then_some(one.events))),
    ("charged", |one| Value::Flag(one.charged)),
    ("input_tokens", |one| tokens(one, |used| used.input_tokens)),
    ("cached_tokens", |one| {
        tokens(one, |used| used.cached_tokens)
    }),
    ("output_tokens", |one| {
        tokens(one, |used| used.output_tokens)
    }),
    ("reasoning_tokens", |one| {
        tokens(one, |used| used.reasoning_tokens)
    }),
    ("known", |one| text(one.known.map(Known::as_str))),
    ("cost", |one| owned(cost(one))),
    ("limit", |one| text(limit(one).map(Limit::as_str))),
    ("limit_of", |one| text(scope(one).map(Scope::as_str))),
    ("shadowed", |one| owned(shadowed(one.shadowed))),
    ("closed_by", |one| {
        text(one.closed.map(|closed| closed.by.as_str()))
    }),
    ("close_code", |one| {
        number(one.closed.map(|closed| closed.code.into()))
    }),
    ("ended", |one| text(Some(one.ended))),
];

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Nothing, |text| Value::Text(text.into()))
}

fn owned(text: Option<String>) -> Value<'static> {
    text.map_or(Value::Nothing, |text| Value::Text(text.into()))
}

fn foreign(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Nothing, Value::Foreign)
}

fn number(number: Option<u64>) -> Value<'static> {
    number.map_or(Value::Nothing, Value::Number)
}

fn milliseconds(time: Option<Duration>) -> Value<'static> {
    time.map_or(Value::Nothing, Value::Milliseconds)
}

fn shadowed(limits: LimitSet) -> Option<String> {
    let names: Vec<_> = limits.iter().map(Limit::as_str).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn tokens(entry: &Entry<&str>, which: fn(&Usage) -> u64) -> Value<'static> {
    number(entry.usage.as_ref().map(which))
}

fn route(entry: &Entry<&str>) -> &'static str {
    entry.route.map_or("none", Dialect::as_str)
}

fn limit(entry: &Entry<&str>) -> Option<Limit> {
    entry.limit.map(|(_, limit)| limit)
}

fn scope(entry: &Entry<&str>) -> Option<Scope> {
    entry.limit.map(|(scope, _)| scope)
}

fn microseconds(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// As the log has it.
pub(super) fn key(entry: &Entry<&str>) -> Option<String> {
    entry
        .key
        .map(|key| format!("{:08x}", u32::from_be_bytes(key)))
}

/// `None` where it is not known what was used.
pub(super) fn cost(entry: &Entry<&str>) -> Option<String> {
    entry.known.map(|_| entry.cost.to_string())
}

/// One object on one line; what is not known is left out.
pub(super) fn json_line(entry: &Entry<&str>) -> String {
    let mut line = String::with_capacity(1 << 10);
    for (name, value) in COLUMNS {
        let value = value(entry);
        if matches!(value, Value::Nothing) {
            continue;
        }
        line.push_str(if line.is_empty() { "{\"" } else { ",\"" });
        line.push_str(name);
        line.push_str("\":");
        value.push_json(&mut line);
    }
    line.push_str("}\n");
    line
}

/// The first line of CSV.
pub(super) fn csv_head() -> String {
    csv::line(COLUMNS.iter().map(|(name, _)| *name))
}

/// One line of CSV; what is not known is empty.
pub(super) fn csv_line(entry: &Entry<&str>) -> String {
    let cells = COLUMNS.map(|(_, value)| value(entry).into_csv());
    csv::line(cells.iter().map(|cell| &**cell))
}

impl<'e> Value<'e> {
    fn push_json(&self, line: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Nothing => write!(line, "null"),
            Self::Number(number) => write!(line, "{number}"),
            Self::Flag(flag) => write!(line, "{flag}"),
            Self::Milliseconds(time) => write!(line, "{}", in_milliseconds(*time)),
            Self::Text(text) => push_json_text(line, text),
            Self::Foreign(text) => push_json_text(line, text),
        };
    }

    fn into_csv(self) -> Cow<'e, str> {
        match self {
            Self::Nothing => "".into(),
            Self::Number(number) => number.to_string().into(),
            Self::Flag(flag) => flag.to_string().into(),
            Self::Milliseconds(time) => in_milliseconds(time).into(),
            Self::Text(text) => text,
            Self::Foreign(text) => csv::foreign(text).into(),
        }
    }
}

/// With all digits that are known.
pub(super) fn in_milliseconds(time: Duration) -> String {
    let time_us = time.as_micros();
    format!("{}.{:03}", time_us / 1000, time_us % 1000)
}

/// A string (RFC 8259 section 7) in which nothing is left that could mean something to a terminal or end the line.
fn push_json_text(line: &mut String, text: &str) -> std::fmt::Result {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                line.push('\\');
                line.push(character);
            }
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                write!(line, "\\u{:04x}", u32::from(character))?;
            }
            _ => line.push(character),
        }
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use serde_json::{Value as Json, json};

    #[test]
    fn a_line_of_json_has_the_members_of_a_line_of_the_log() {
        let line = json_line(&samples::answered());
        assert_eq!(line.matches('\n').count(), 1);
        let expected = json!({
            "time": "2026-03-01T12:00:00.000042Z", "sequence": 7,
            "request_id": "req_0123456789abcdef01234567", "tenant": "team-a", "key": "c0ffee01",
            "route": "responses", "model": "gpt-5", "upstream": "openai", "account": "openai-1",
            "region": "eu", "egress": "203.0.113.10", "status": 200,
            "shadowed": "requests_per_day,tokens_per_day", "attempts": 2,
            "chosen": "balanced", "failed_status": 429, "queued_ms": 3.001, "overhead_us": 61,
            "ttfb_ms": 820.5, "duration_ms": 4200.0, "bytes_in": 900, "bytes_out": 40_000,
            "streamed": true, "events": 120, "charged": true, "input_tokens": 1_000,
            "cached_tokens": 400, "output_tokens": 100, "reasoning_tokens": 64, "known": "final",
            "cost": "0.0018", "ended": "complete",
        });
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let line = json_line(&samples::unparsed());
        let expected = json!({
            "time": "1970-01-01T00:00:00.000000Z", "sequence": 8, "request_id": "req_x",
            "route": "none", "status": 400, "code": "malformed_request", "attempts": 0,
            "duration_ms": 0.0, "bytes_in": 0, "bytes_out": 0, "streamed": false, "charged": false,
            "ended": "refused",
        });
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap(), expected);
        let line = json_line(&samples::limited());
        let line: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(
            [&line["limit"], &line["limit_of"]],
            ["tokens_per_minute", "key"]
        );
    }

    #[test]
    fn a_line_of_csv_has_a_field_for_each_of_the_head() {
        let head = csv_head();
        assert!(head.starts_with("time,sequence,request_id,tenant,key,"));
        for entry in [samples::answered(), samples::unparsed(), samples::limited()] {
            let line = csv_line(&entry);
            // One comma is in what the first one would have been refused for.
            let commas = line.matches(',').count() - usize::from(!entry.shadowed.is_empty());
            assert_eq!(commas, head.matches(',').count());
            assert!(line.ends_with("\r\n"));
        }
        let line = csv_line(&samples::answered());
        let begin =
            "2026-03-01T12:00:00.000042Z,7,req_0123456789abcdef01234567,team-a,c0ffee01,responses,";
        assert!(line.starts_with(begin), "{line}");
        assert!(
            line.contains(",200,,2,balanced,429,3.001,61,820.500,4200.000,"),
            "{line}"
        );
        let end = ",final,0.0018,,,\"requests_per_day,tokens_per_day\",,,complete\r\n";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn a_model_is_what_a_client_says() {
        let mut entry = samples::answered();
        entry.model = Some("=a\"b\\c\n\u{1b}[31m\u{9b}\u{2028}é,");
        let line = json_line(&entry);
        let value: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(value["model"].as_str(), entry.model);
        assert_eq!(line.trim_end_matches('\n').find(char::is_control), None);
        let line = csv_line(&entry);
        assert!(
            line.contains(",\"'=a\"\"b\\c\u{fffd}\u{fffd}[31m\u{fffd}\u{2028}é,\","),
            "{line}"
        );
    }
}
