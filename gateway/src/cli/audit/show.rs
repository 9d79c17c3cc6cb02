//! Requests for people to read.

use super::super::printable;
use super::super::table::Table;
use super::super::times::show_us;
use super::columns::{cost, key};
use codex_relay::config::policy::Money;
use codex_relay::journal::Entry;
use codex_relay::usage::Known;
use std::time::Duration;

const NOTHING: &str = "-";

/// Characters of a model's name; a client can send a name of any length.
const MODEL_CHARS_MAX: usize = 40;

pub(super) type Row = [String; 14];

pub(super) fn table() -> Table {
    let head = [
        "TIME", "TENANT", "KEY", "MODEL", "ACCOUNT", "STATUS", "TRIES", "TTFB", "DURATION", "IN",
        "CACHED", "OUT", "COST", "ENDED",
    ];
    let figures = ["TRIES", "TTFB", "DURATION", "IN", "CACHED", "OUT", "COST"];
    Table::new(head).with_figures(&figures)
}

pub(super) fn row(entry: &Entry<&str>) -> Row {
    let used = entry.usage.as_ref();
    let tokens = |count: u64| match entry.known {
        Some(Known::Final) | None => count.to_string(),
        // Counted here, or not to the end.
        Some(Known::Partial | Known::Estimated) => format!("~{count}"),
    };
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let name = |text: Option<&str>| or_nothing(text.map(str::to_owned));
    [
        show_us(entry.time_us),
        name(entry.tenant),
        or_nothing(key(entry)),
        or_nothing(entry.model.map(model)),
        name(entry.account),
        status(entry),
        entry.attempts.to_string(),
        or_nothing(entry.first_byte.map(span)),
        span(entry.duration),
        or_nothing(used.map(|used| tokens(used.input_tokens))),
        or_nothing(used.map(|used| tokens(used.cached_tokens))),
        or_nothing(used.map(|used| tokens(used.output_tokens))),
        // Where no price covers the model, it is not known rather than nothing.
        or_nothing(cost(entry).filter(|_| entry.cost > Money::ZERO)),
        entry.ended.to_string(),
    ]
}

fn status(entry: &Entry<&str>) -> String {
    match &entry.code {
        Some(code) => format!("{} {code}", entry.status),
        None => entry.status.to_string(),
    }
}

fn model(name: &str) -> String {
    match name.char_indices().nth(MODEL_CHARS_MAX) {
        Some((end, _)) => printable(&name[..end]) + "…",
        None => printable(name),
    }
}

/// Three digits matter.
fn span(span: Duration) -> String {
    let milliseconds = span.as_micros() as f64 / 1e3;
    match milliseconds {
        ..9.995 => format!("{milliseconds:.2} ms"),
        ..99.95 => format!("{milliseconds:.1} ms"),
        ..999.5 => format!("{milliseconds:.0} ms"),
        ..9_995.0 => format!("{:.2} s", milliseconds / 1e3),
        ..99_950.0 => format!("{:.1} s", milliseconds / 1e3),
        _ => format!("{:.0} s", milliseconds / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_row_tells_what_matters() {
        let expected = [
            "2026-03-01T12:00:00.000042Z",
            "team-a",
            "c0ffee01",
            "gpt-5",
            "openai-1",
            "200",
            "2",
            "820 ms",
            "4.20 s",
            "1000",
            "400",
            "100",
            "0.0018",
            "complete",
        ];
        let mut entry = samples::answered();
        entry.first_byte = Some(Duration::from_millis(820));
        assert_eq!(row(&entry), expected);
        entry.known = Some(Known::Estimated);
        entry.cost = Money::ZERO;
        assert_eq!(row(&entry)[9..13], ["~1000", "~400", "~100", "-"]);

        let expected = [
            "1970-01-01T00:00:00.000000Z",
            "team-a",
            "00000001",
            "-",
            "-",
            "429 tenant_rate_limited",
            "0",
            "-",
            "0.00 ms",
            "-",
            "-",
            "-",
            "-",
            "refused",
        ];
        assert_eq!(row(&samples::limited()), expected);
    }

    #[test]
    fn a_model_cannot_take_over_the_table() {
        let mut entry = samples::answered();
        let name = format!("\u{1b}[2J{}", "é".repeat(200));
        entry.model = Some(&name);
        let shown = &row(&entry)[3];
        assert_eq!(shown.chars().count(), MODEL_CHARS_MAX + 1);
        assert!(
            shown.starts_with("\u{fffd}[2Jé") && shown.ends_with("é…"),
            "{shown}"
        );
    }

    #[test]
    fn spans_have_three_digits() {
        for (time_us, expected) in [
            (0, "0.00 ms"),
            (61, "0.06 ms"),
            (9_994, "9.99 ms"),
            (9_995, "10.0 ms"),
            (99_949, "99.9 ms"),
            (99_950, "100 ms"),
            (999_499, "999 ms"),
            (999_500, "1.00 s"),
            (9_994_999, "9.99 s"),
            (9_995_000, "10.0 s"),
            (3_600_000_000, "3600 s"),
        ] {
            assert_eq!(span(Duration::from_micros(time_us)), expected, "{time_us}");
        }
    }
}
