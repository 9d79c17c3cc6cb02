//! `codex-relay audit …`: what is kept of each request.

mod columns;
mod export;
mod filter;
mod follow;
mod print;
#[cfg(test)]
mod samples;
mod show;
mod source;

use super::kept::Kept;
use super::output::{self, Format, stdout};
use super::{EX_DATAERR, EX_USAGE, times};
use clap::Subcommand;
use filter::Filter;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use print::Printer;
use source::Source;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shown where nothing says how many.
const SHOWN: usize = 100;

/// The sequences of those that are looked for from the end are held in memory.
const LIMIT_MAX: usize = 1_000_000;

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Show requests that are over, the newest last
    Query {
        #[command(flatten)]
        kept: Kept,
        #[command(flatten)]
        bounds: Bounds,
        /// The newest ones, so many at most; without it and without a time, 100
        #[arg(long, value_name = "COUNT", value_parser = limit)]
        limit: Option<usize>,
        /// In which form
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show requests as they end, until Ctrl-C
    Tail {
        #[command(flatten)]
        kept: Kept,
        /// So many of those that have ended before
        #[arg(long, value_name = "COUNT", default_value = "10", value_parser = limit)]
        limit: usize,
        /// In which form
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        filter: Filter,
    },
    /// Write requests that are over to a file, the newest last
    Export {
        #[command(flatten)]
        kept: Kept,
        #[command(flatten)]
        bounds: Bounds,
        /// The file; there is all of it or nothing
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// In which form; without it CSV if the file's name ends with `.csv`, else JSON
        #[arg(long, value_enum)]
        format: Option<export::Format>,
        #[command(flatten)]
        filter: Filter,
    },
}

/// When the requests came.
#[derive(clap::Args)]
pub(super) struct Bounds {
    /// From then on: a time of RFC 3339, a day (2026-01-31, in `usage.time_zone`), or how long ago (30m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before then, in the same forms
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Bounds {
    const NONE: Self = Self {
        since: None,
        until: None,
    };

    /// In microseconds since 1970.
    fn range(&self, now: Timestamp, zone: &TimeZone) -> Result<Range<u64>, ExitCode> {
        let moment = |name: &str, text: &Option<String>, without: u64| match text {
            None => Ok(without),
            Some(text) => match times::parse_moment(text, now, zone) {
                Some(time) => Ok(time.as_microsecond().max(0) as u64),
                None => {
                    eprintln!(
                        "--{name} wants a time such as 2026-01-31T12:00:00Z, a day such as 2026-01-31, or how \
                         long ago: 30m, 2h, 7d"
                    );
                    Err(ExitCode::from(EX_USAGE))
                }
            },
        };
        let range = moment("since", &self.since, 0)?..moment("until", &self.until, u64::MAX)?;
        if range.is_empty() {
            eprintln!("--since is not before --until");
            return Err(EX_USAGE.into());
        }
        Ok(range)
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let count = text.parse().ok();
    let count = count.filter(|count| (1..=LIMIT_MAX).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {LIMIT_MAX}"))
}

/// Why a listing ends early.
enum Stop {
    /// There is nothing that could be read, as was said.
    Unreadable(ExitCode),
    Unwritable(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unwritable(error)
    }
}

pub(super) fn run(command: &Audit) -> ExitCode {
    match obey(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Unreadable(code)) => code,
        Err(Stop::Unwritable(error)) => output::exit_code(Err(error)),
    }
}

fn obey(command: &Audit) -> Result<(), Stop> {
    let source = |kept, bounds, filter| Source::of(kept, bounds, filter).map_err(Stop::Unreadable);
    match command {
        Audit::Query {
            kept,
            bounds,
            limit,
            format,
            filter,
        } => query(&source(kept, bounds, filter)?, *limit, *format),
        Audit::Tail {
            kept,
            limit,
            format,
            filter,
        } => follow::run(&source(kept, &Bounds::NONE, filter)?, *limit, *format),
        Audit::Export {
            kept,
            bounds,
            output,
            format,
            filter,
        } => export::run(&source(kept, bounds, filter)?, output, *format),
    }
}

fn query(source: &Source<'_>, limit: Option<usize>, format: Format) -> Result<(), Stop> {
    let limit = limit.or(source.has_no_bounds().then_some(SHOWN));
    let from = match limit {
        None => 0,
        Some(limit) => {
            let newest = source.newest(limit, u64::MAX)?;
            if newest.are_cut {
                eprintln!("the newest {limit}; see --since, --until and --limit");
            }
            newest.from
        }
    };
    write(source, from, Printer::new(stdout(), format))?;
    Ok(())
}

/// Everything from there on that there is by now.
fn write<W: Write>(source: &Source<'_>, from: u64, mut printer: Printer<W>) -> Result<u64, Stop> {
    let mut is_damaged = false;
    let mut entries = source.open(from..u64::MAX)?;
    source.read(
        &mut entries,
        |entry| printer.push(entry),
        |lost| {
            is_damaged = true;
            eprintln!("{lost}");
        },
    )?;
    printer.flush()?;
    match printer.count {
        0 if is_damaged => return Err(Stop::Unreadable(EX_DATAERR.into())),
        0 => eprintln!("there is no such record"),
        _ => {}
    }
    Ok(printer.count)
}
