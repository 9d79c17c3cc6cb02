//! `codex-relay usage`: what tenants have used.

use super::kept::Kept;
use super::output::{Format, exit_code, stdout};
use super::table::Table;
use super::{EX_DATAERR, EX_USAGE, csv, printable, times};
use codex_relay::usage::{Day, Known, Row, Sum, report};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;

/// What is to be shown.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    kept: Kept,
    /// From this day on (`usage.time_zone`); without it, from the first day of the month
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Day>,
    /// To this day; without it, to today
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Day>,
    /// In this month: 2026-01
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with_all = ["from", "to"])]
    month: Option<Day>,
    /// By this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A line for each; may be given several times
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tenant")]
    by: Vec<By>,
    /// In which form
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What lines are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Day,
    Tenant,
    Key,
    Model,
}

impl By {
    /// For people and for programs.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Day => ("DAY", "day"),
            Self::Tenant => ("TENANT", "tenant"),
            Self::Key => ("KEY", "key"),
            Self::Model => ("MODEL", "model"),
        }
    }

    fn of(self, row: &Row) -> Option<String> {
        match self {
            Self::Day => Some(row.day.to_string()),
            Self::Tenant => Some(row.tenant.to_string()),
            Self::Key => row
                .key
                .map(|key| format!("{:08x}", u32::from_be_bytes(key))),
            Self::Model => row.model.as_deref().map(str::to_owned),
        }
    }
}

/// For people, for programs, and what it is.
type Figure = (&'static str, &'static str, fn(&Sum) -> String);

const FIGURES: [Figure; 9] = [
    ("REQUESTS", "requests", |sum| {
        sum.totals.requests.to_string()
    }),
    ("REFUSED", "refused", |sum| sum.refused.to_string()),
    ("INPUT", "input_tokens", |sum| {
        sum.totals.input_tokens.to_string()
    }),
    ("CACHED", "cached_tokens", |sum| {
        sum.totals.cached_tokens.to_string()
    }),
    ("OUTPUT", "output_tokens", |sum| {
        sum.totals.output_tokens.to_string()
    }),
    ("REASONING", "reasoning_tokens", |sum| {
        sum.totals.reasoning_tokens.to_string()
    }),
    ("COST", COST, |sum| sum.totals.cost.to_string()),
    ("PARTIAL", "partial", |sum| {
        sum.known(Known::Partial).to_string()
    }),
    ("ESTIMATED", "estimated", |sum| {
        sum.known(Known::Estimated).to_string()
    }),
];

/// It is no number in JSON, which would round it.
const COST: &str = "cost";

pub(super) fn run(options: &Options) -> ExitCode {
    match show(options) {
        Ok(code) | Err(code) => code,
    }
}

fn show(options: &Options) -> Result<ExitCode, ExitCode> {
    let books = options.kept.find()?;
    let days = days(options, Timestamp::now(), &books.zone);
    if days.is_empty() {
        eprintln!("{} is after {}", days.start(), days.end());
        return Err(EX_USAGE.into());
    }
    books.warn_of_names(options.tenant.as_slice(), &[]);
    let read = report(
        &books.directory,
        &books.zone,
        &days,
        options.tenant.as_deref(),
    );
    let report = read.map_err(|error| books.unreadable(&error))?;
    eprintln!("{} to {}", days.start(), days.end());
    // Where its beginning cannot be read, that is among the gaps.
    let complete_since_us = report.complete_since_us;
    if complete_since_us > days.start().begins_us(&books.zone) && complete_since_us < u64::MAX {
        let since = times::show_us(complete_since_us);
        eprintln!("what was used before {since} may be missing: the journal begins then");
    }
    for gap in &report.gaps {
        eprintln!("{gap}");
    }
    if report.rows.is_empty() && !report.gaps.is_empty() {
        return Err(EX_DATAERR.into());
    }
    Ok(exit_code(write(options, &report.rows)))
}

fn write(options: &Options, rows: &[Row]) -> io::Result<()> {
    let lines = grouped(rows, &options.by);
    let text = match options.format {
        Format::Table => as_table(&lines, &options.by),
        Format::Json => lines
            .iter()
            .map(|line| as_json(line, &options.by))
            .collect(),
        Format::Csv => as_csv(&lines, &options.by),
    };
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn day(text: &str) -> Result<Day, &'static str> {
    let is_day = text.len() == "2026-01-31".len();
    let day = text.parse().ok().filter(|_| is_day);
    day.ok_or("expected a day such as 2026-01-31")
}

/// Its first day.
fn month(text: &str) -> Result<Day, &'static str> {
    let is_month = text.len() == "2026-01".len();
    let first = day(&format!("{text}-01")).ok().filter(|_| is_month);
    first.ok_or("expected a month such as 2026-01")
}

fn days(options: &Options, now: Timestamp, zone: &TimeZone) -> RangeInclusive<Day> {
    if let Some(first) = options.month {
        return first..=first.last_of_month();
    }
    let today = Day::of(now.as_microsecond().max(0) as u64, zone);
    let to = options.to.unwrap_or(today);
    options.from.unwrap_or(to.first_of_month())..=to
}

type Line = (Vec<Option<String>>, Sum);

/// In the order of what they are about.
fn grouped(rows: &[Row], by: &[By]) -> Vec<Line> {
    let mut sums = BTreeMap::<_, Sum>::new();
    for row in rows {
        let label: Vec<_> = by.iter().map(|by| by.of(row)).collect();
        sums.entry(label).or_default().merge(&row.sum);
    }
    sums.into_iter().collect()
}

/// The last line is the sum of the others, if there are several.
fn as_table(lines: &[Line], by: &[By]) -> String {
    let figures = FIGURES.map(|(head, ..)| head);
    let heads = by.iter().map(|by| by.names().0).chain(figures);
    let mut table = Table::new(heads).with_figures(&figures);
    let row = |label: Vec<String>, sum: &Sum| -> Vec<String> {
        let figures = FIGURES.iter().map(|(_, _, figure)| figure(sum));
        label.into_iter().chain(figures).collect()
    };
    let mut rows: Vec<_> = lines
        .iter()
        .map(|(label, sum)| {
            let shown = |cell: &Option<String>| cell.as_deref().map_or("-".to_owned(), printable);
            row(label.iter().map(shown).collect(), sum)
        })
        .collect();
    if lines.len() > 1 {
        let mut total = Sum::default();
        lines.iter().for_each(|(_, sum)| total.merge(sum));
        let mut label = vec![String::new(); by.len()];
        label[0] = "total".to_owned();
        rows.push(row(label, &total));
    }
    table.lay_out(&rows)
}

fn as_json((label, sum): &Line, by: &[By]) -> String {
    let names = by.iter().map(|by| by.names().1.to_owned());
    let label = names.zip(label.iter().map(|cell| Value::from(cell.as_deref())));
    let figures = FIGURES.iter().map(|(_, name, figure)| {
        let shown = figure(sum);
        let value = match shown.parse::<u64>() {
            Ok(number) if *name != COST => Value::from(number),
            _ => Value::from(shown),
        };
        ((*name).to_owned(), value)
    });
    let line = Map::from_iter(label.chain(figures));
    Value::from(line).to_string() + "\n"
}

fn as_csv(lines: &[Line], by: &[By]) -> String {
    let names = by.iter().map(|by| by.names().1);
    let mut text = csv::line(names.chain(FIGURES.map(|(_, name, _)| name)));
    for (label, sum) in lines {
        let label = label
            .iter()
            .map(|cell| cell.as_deref().map_or_else(String::new, csv::foreign));
        let figures = FIGURES.iter().map(|(_, _, figure)| figure(sum));
        let cells: Vec<_> = label.chain(figures).collect();
        text += &csv::line(cells.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_relay::config::policy::Money;
    use codex_relay::usage::Totals;

    fn row(day: &str, tenant: &str, model: Option<&str>, requests: u64) -> Row {
        Row {
            day: day.parse().unwrap(),
            tenant: tenant.into(),
            key: Some([0, 0, 0, 7]),
            model: model.map(Into::into),
            sum: Sum {
                totals: Totals {
                    requests,
                    input_tokens: 10 * requests,
                    cached_tokens: 4 * requests,
                    output_tokens: 2 * requests,
                    reasoning_tokens: requests,
                    cost: Money::from_nano(500_000_000 * requests),
                },
                refused: 1,
                known: [0, 1, 3],
            },
        }
    }

    fn rows() -> [Row; 3] {
        [
            row("2026-03-01", "a", Some("=x"), 1),
            row("2026-03-01", "b", None, 2),
            row("2026-03-02", "a", Some("\u{1b}[2J"), 4),
        ]
    }

    #[test]
    fn a_table_has_a_line_for_each_and_their_sum() {
        let by = [By::Tenant];
        let expected = "\
TENANT  REQUESTS  REFUSED  INPUT  CACHED  OUTPUT  REASONING  COST  PARTIAL  ESTIMATED
a              5        2     50      20      10          5  2.50        2          6
b              2        1     20       8       4          2  1.00        1          3
total          7        3     70      28      14          7  3.50        3          9
";
        assert_eq!(as_table(&grouped(&rows(), &by), &by), expected);
        let alone = as_table(&grouped(&rows()[..1], &by), &by);
        assert_eq!(alone.lines().count(), 2, "{alone}");
    }

    #[test]
    fn lines_are_about_what_was_asked_in_its_order() {
        let by = [By::Model, By::Day, By::Key];
        let table = as_table(&grouped(&rows(), &by), &by);
        let begin = |line: &str| {
            line.split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let lines: Vec<_> = table.lines().map(begin).collect();
        let expected = [
            "MODEL DAY KEY",
            "- 2026-03-01 00000007",
            "\u{fffd}[2J 2026-03-02 00000007",
            "=x 2026-03-01 00000007",
            "total 7 3",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn programs_get_the_same_names_in_json_and_csv() {
        let by = [By::Model];
        let lines = grouped(&rows(), &by);
        let json: String = lines.iter().map(|line| as_json(line, &by)).collect();
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({
            "model": null, "requests": 2, "refused": 1, "input_tokens": 20, "cached_tokens": 8,
            "output_tokens": 4, "reasoning_tokens": 2, "cost": "1.00", "partial": 1, "estimated": 3,
        });
        assert_eq!(first, expected);
        assert_eq!(json.lines().count(), 3);
        let expected = "model,requests,refused,input_tokens,cached_tokens,output_tokens,\
                        reasoning_tokens,cost,partial,estimated\r\n\
                        ,2,1,20,8,4,2,1.00,1,3\r\n\
                        \u{fffd}[2J,4,1,40,16,8,4,2.00,1,3\r\n\
                        '=x,1,1,10,4,2,1,0.50,1,3\r\n";
        assert_eq!(as_csv(&lines, &by), expected);
    }

    #[test]
    fn which_days_are_meant() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let now = "2026-03-15T23:30:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (arguments, expected) in [
            (&[][..], Some(["2026-03-01", "2026-03-16"])),
            (
                &["--from", "2026-02-10"],
                Some(["2026-02-10", "2026-03-16"]),
            ),
            (&["--to", "2026-01-20"], Some(["2026-01-01", "2026-01-20"])),
            (&["--month", "2024-02"], Some(["2024-02-01", "2024-02-29"])),
            (&["--month", "2024-13"], None),
            (&["--month", "2024-02-0"], None),
            (&["--from", "2026-02-30"], None),
            (&["--from", "20260201"], None),
            (&["--month", "2024-02", "--to", "2024-02-03"], None),
        ] {
            let line = [&["usage", "--journal", "x"], arguments].concat();
            let line = <Line as clap::Parser>::try_parse_from(line).ok();
            let days = line.map(|line| days(&line.options, now, &zone));
            let days = days.map(|days| [days.start().to_string(), days.end().to_string()]);
            assert_eq!(
                days,
                expected.map(|days| days.map(str::to_owned)),
                "{arguments:?}"
            );
        }
    }
}
