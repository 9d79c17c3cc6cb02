//! `codex-relay egress log`

use super::super::{EX_DATAERR, EX_NOINPUT, EX_USAGE, Place, admin, print, table::table, times};
use super::{SILENCE_MAX, milliseconds};
use codex_relay::config::Policy;
use codex_relay::control::egress::record::{self, Record};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::ExitCode;

/// What is to be shown.
#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    place: Place,
    /// The gateway's admin address, if it is not the configured one
    #[arg(long, value_name = "ADDRESS:PORT", requires = "open")]
    admin: Option<SocketAddr>,
    /// Of this account alone
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Those that have ended since: a time of RFC 3339, or for how long (`90s`, `30m`, `2h`, `7d`)
    #[arg(long, value_name = "TIME", conflicts_with = "open")]
    since: Option<String>,
    /// Those that are open now, by the running gateway
    #[arg(long)]
    open: bool,
    /// As JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Lines of a table that are laid out together: a log can be longer than memory.
const PAGE_ROWS: usize = 10_000;

pub(super) fn run(options: &Options) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn show(options: &Options) -> Result<(), ExitCode> {
    let policy = options.place.policy()?;
    let mut pages = Pages {
        options,
        page: Vec::new(),
        is_first: true,
    };
    if options.open {
        for record in open_now(options.admin.unwrap_or(policy.admin))? {
            pages.push(record)?;
        }
    } else {
        let since = since(options.since.as_deref(), Timestamp::now()).ok_or_else(|| {
            eprintln!(
                "--since wants a time such as 2026-01-31T12:00:00Z, or for how long: 30m, 2h, 7d"
            );
            ExitCode::from(EX_USAGE)
        })?;
        each_ended(&policy, &since, |record| pages.push(record))?;
    }
    pages.finish()
}

/// Prints a page at a time.
struct Pages<'o> {
    options: &'o Options,
    page: Vec<Record>,
    is_first: bool,
}

impl Pages<'_> {
    fn push(&mut self, record: Record) -> Result<(), ExitCode> {
        let account = self.options.account.as_ref();
        if account.is_none_or(|account| record.account == *account) {
            self.page.push(record);
        }
        if self.page.len() < PAGE_ROWS {
            return Ok(());
        }
        self.print()
    }

    /// The last page; of a table also the first one, if there is nothing to show.
    fn finish(mut self) -> Result<(), ExitCode> {
        if self.is_first || !self.page.is_empty() {
            self.print()?;
        }
        Ok(())
    }

    fn print(&mut self) -> Result<(), ExitCode> {
        self.is_first = false;
        let page = std::mem::take(&mut self.page);
        let text = if self.options.json {
            page.iter().map(Record::to_line).collect()
        } else {
            as_table(&page)
        };
        match print(text.as_bytes()) {
            code if code == ExitCode::SUCCESS => Ok(()),
            code => Err(code),
        }
    }
}

/// The time in the form of the log; the beginning of time if there is none.
fn since(text: Option<&str>, now: Timestamp) -> Option<String> {
    let Some(text) = text else {
        return Some(String::new());
    };
    times::parse_moment(text, now, &TimeZone::UTC).map(record::format)
}

fn open_now(admin: SocketAddr) -> Result<Vec<Record>, ExitCode> {
    let mut answer =
        admin::call(admin, "/egress/connections", None, SILENCE_MAX).map_err(|why| {
            eprintln!("{why}");
            why.exit_code()
        })?;
    if let Some(why) = answer["missing"].as_str() {
        eprintln!("the gateway is not told of its connections by the kernel ({why})");
        return Err(ExitCode::FAILURE);
    }
    serde_json::from_value(answer["connections"].take()).map_err(|error| {
        eprintln!("the gateway's answer is not understood: {error}");
        EX_DATAERR.into()
    })
}

/// Those of the files, in the order in which the gateway has learned that they have ended.
fn each_ended(
    policy: &Policy,
    since: &str,
    mut each: impl FnMut(Record) -> Result<(), ExitCode>,
) -> Result<(), ExitCode> {
    let directory = record::directory(policy);
    let cannot = |error: io::Error| {
        let directory = directory.display();
        if error.kind() == io::ErrorKind::NotFound {
            eprintln!(
                "there is no egress log in {directory}: it is written where the kernel reports connections \
                 (see [kernel] mode, and `codex-relay kernel status`)"
            );
        } else {
            eprintln!("the egress log in {directory} cannot be read: {error}");
        }
        ExitCode::from(EX_NOINPUT)
    };
    let day = since.get(..10).unwrap_or_default();
    let files = record::files(&directory).map_err(cannot)?;
    let mut unreadable = 0_u64;
    for (_, path) in files.into_iter().filter(|(of, _)| of.as_str() >= day) {
        for line in BufReader::new(File::open(path).map_err(cannot)?).split(b'\n') {
            let line = line.map_err(cannot)?;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) if record.closed.as_deref().unwrap_or_default() >= since => {
                    each(record)?;
                }
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        }
    }
    if unreadable > 0 {
        eprintln!("{unreadable} lines could not be read: they were cut when the disk was full");
    }
    Ok(())
}

fn as_table(records: &[Record]) -> String {
    let rows: Vec<_> = records.iter().map(row).collect();
    let head = [
        "ACCOUNT",
        "TENANT",
        "SOURCE",
        "DESTINATION",
        "OPENED",
        "CLOSED",
        "SENT",
        "RECEIVED",
        "RTT",
        "RESENT",
        "",
    ];
    table(head, &rows)
}

fn row(record: &Record) -> [String; 11] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    // The kernel tells them with the end.
    let at_end = |figure: u64| match record.closed {
        Some(_) => figure.to_string(),
        None => "-".to_owned(),
    };
    let note = match (record.violation, &record.opened) {
        (true, _) => "NOT FROM THE ACCOUNT'S ADDRESS",
        (false, None) => "not established",
        (false, Some(_)) => "",
    };
    [
        record.account.clone(),
        or_dash(&record.tenant),
        record.source.to_string(),
        record.destination.to_string(),
        or_dash(&record.opened),
        or_dash(&record.closed),
        at_end(record.bytes_sent),
        at_end(record.bytes_received),
        milliseconds(record.rtt_us.into()),
        at_end(record.retransmits.into()),
        note.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_for_how_long() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            (None, Some("")),
            (Some("2h"), Some("2026-03-01T10:00:00.000000Z")),
            (Some("1d"), Some("2026-02-28T12:00:00.000000Z")),
            (Some("90s"), Some("2026-03-01T11:58:30.000000Z")),
            (
                Some("2026-03-01T13:00:00+01:00"),
                Some("2026-03-01T12:00:00.000000Z"),
            ),
            (Some("2"), None),
            (Some("h"), None),
            (Some("-2h"), None),
            (Some("2é"), None),
            (Some(""), None),
        ] {
            assert_eq!(since(text, now).as_deref(), expected, "{text:?}");
        }
    }
}
