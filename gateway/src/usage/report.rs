//! What was used on which days, from the journal's directory alone: the node may run or not.

use super::summary::{self, Source, Summary};
use super::{Day, Row, Sheet, past};
use crate::journal::{Entries, Files, Filter, Item, Segment};
use jiff::tz::TimeZone;
use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

/// What was used.
#[derive(Debug, Default)]
pub struct Report {
    /// By day, tenant, key and model.
    pub rows: Vec<Row>,
    /// What could not be read, in words: the sums lack it.
    pub gaps: Vec<String>,
    /// What was used earlier may have been dropped: in microseconds since 1970.
    pub complete_since_us: u64,
}

/// What was used on these days, by all tenants or this one.
///
/// # Errors
/// The directory cannot be read.
pub fn report(
    directory: &Path,
    zone: &TimeZone,
    days: &RangeInclusive<Day>,
    tenant: Option<&str>,
) -> io::Result<Report> {
    let mut report = Report::default();
    let mut sheet = Sheet::new(zone);
    let files = Files::list(directory)?;
    let dropped = past::summaries(&files, zone);
    report.complete_since_us = past::complete_since_us(&files.segments, &dropped);
    let times_us = days.start().begins_us(zone)..days.end().ends_us(zone);
    let is_asked_for = |row: &&Row| {
        days.contains(&row.day) && tenant.is_none_or(|tenant| tenant == row.tenant.as_ref())
    };
    for (sidecar, head) in &dropped {
        if !head.covers(days) {
            continue;
        }
        let name = sidecar.path.file_name().unwrap_or_default().display();
        match Summary::read(&sidecar.path) {
            Some(summary) => add(&summary, &name, is_asked_for, &mut sheet, &mut report.gaps),
            None => report.gaps.push(format!("{name}: damaged")),
        }
    }
    for (index, segment) in files.segments.iter().enumerate() {
        let next = files.segments.get(index + 1);
        if next.is_some_and(|next| is_of_other_times(next, &times_us)) {
            continue;
        }
        let name = segment.path.file_name().unwrap_or_default().display();
        match kept(segment, next, zone).map_or_else(|| sum_up(directory, segment, next, zone), Ok) {
            Ok(summary) => add(&summary, &name, is_asked_for, &mut sheet, &mut report.gaps),
            Err(error) => report.gaps.push(format!("{name}: {error}")),
        }
    }
    report.rows = sheet.rows();
    Ok(report)
}

/// Adds what a segment comes to, and tells what is missing in that.
fn add(
    summary: &Summary,
    name: &impl Display,
    is_asked_for: impl Fn(&&Row) -> bool,
    sheet: &mut Sheet,
    gaps: &mut Vec<String>,
) {
    let rows = summary.rows.iter().filter(is_asked_for);
    rows.for_each(|row| sheet.merge(row));
    if summary.lost > 0 {
        let lost = summary.lost;
        gaps.push(format!("{name}: {lost} records cannot be read"));
    }
}

/// Puts beside each segment that is written to no more what it comes to, unless that is there: those in `done` are not
/// looked at again.
///
/// # Errors
/// A segment cannot be read, or its summary not be written; the others are.
pub fn summarize(
    directory: &Path,
    segments: &[Segment],
    zone: &TimeZone,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    for pair in segments.windows(2) {
        let (segment, next) = (&pair[0], Some(&pair[1]));
        if done.contains(&segment.first_sequence) {
            continue;
        }
        let is_there = kept(segment, next, zone).is_some();
        let summed_up = match is_there {
            true => Ok(()),
            false => sum_up(directory, segment, next, zone)
                .and_then(|summary| summary.write(&summary::path(&segment.path))),
        };
        match summed_up {
            Ok(()) => {
                done.insert(segment.first_sequence);
            }
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// What is kept beside a segment, if it was made of what the segment is now.
fn kept(segment: &Segment, next: Option<&Segment>, zone: &TimeZone) -> Option<Summary> {
    let summary = Summary::read(&summary::path(&segment.path))?;
    let is_it = source(segment, next, zone).ok()? == summary.source;
    is_it.then_some(summary)
}

fn source(segment: &Segment, next: Option<&Segment>, zone: &TimeZone) -> io::Result<Source> {
    Ok(Source {
        first: segment.first_sequence,
        end: next.map_or(u64::MAX, |next| next.first_sequence),
        bytes: fs::metadata(&segment.path)?.len(),
        zone: zone.iana_name().unwrap_or_default().into(),
    })
}

/// Reads a segment; the last one with what comes after it meanwhile.
fn sum_up(
    directory: &Path,
    segment: &Segment,
    next: Option<&Segment>,
    zone: &TimeZone,
) -> io::Result<Summary> {
    let source = source(segment, next, zone)?;
    let filter = Filter {
        sequences: source.first..source.end,
        ..Filter::default()
    };
    let mut entries = Entries::open(directory, filter)?;
    let mut sheet = Sheet::new(zone);
    let mut lost = 0;
    while let Some(item) = entries.next()? {
        match item {
            Item::Entry(entry) => sheet.add(&entry),
            Item::Gap(gap) => lost += gap.sequences.end() - gap.sequences.start() + 1,
        }
    }
    let created_us = match segment.header() {
        Ok(Ok(header)) => header.created_us,
        _ => 0,
    };
    Ok(Summary {
        source,
        created_us,
        lost,
        rows: sheet.rows(),
    })
}

/// What the segment before this one says nothing about.
fn is_of_other_times(next: &Segment, times_us: &Range<u64>) -> bool {
    let Ok(Ok(header)) = next.header() else {
        return false;
    };
    header.previous.to_us < times_us.start || header.previous.from_us >= times_us.end
}

#[cfg(test)]
mod tests {
    use super::super::samples::{DAY_US, entry, keep};
    use super::*;
    use crate::journal::{self, Entry};
    use std::path::PathBuf;

    const MIDNIGHT_US: u64 = 20_000 * DAY_US;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn all(directory: &Path, zone: &TimeZone) -> Report {
        report(
            directory,
            zone,
            &(day("1970-01-01")..=day("2099-01-01")),
            None,
        )
        .unwrap()
    }

    /// By day: requests, of those that one asks for.
    fn requests(report: &Report) -> Vec<(String, String, u64)> {
        let rows = report.rows.iter();
        let shown = rows.map(|row| {
            let requests = row.sum.totals.requests;
            (row.day.to_string(), row.tenant.to_string(), requests)
        });
        shown.collect()
    }

    fn shown(rows: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
        let owned = |(day, tenant, count): &(&str, &str, u64)| {
            ((*day).to_owned(), (*tenant).to_owned(), *count)
        };
        rows.iter().map(owned).collect()
    }

    fn entries() -> Vec<Entry<&'static str>> {
        let at = |tenant, hours: u64| Entry {
            time_us: MIDNIGHT_US + hours * 3_600_000_000,
            ..entry(tenant, "m")
        };
        vec![
            at("a", 1),
            at("a", 2),
            at("b", 2),
            at("a", 23),
            at("a", 25),
            at("b", 49),
            at("a", 24),
        ]
    }

    fn summaries(directory: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "usage"))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn segments_and_summaries_come_to_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        // Two restarts, and segments of one commit each.
        keep(path, 1, &entries());
        keep(path, 1, &entries()[..2]);
        keep(path, 1 << 20, &entries()[2..]);
        let scanned = all(path, &TimeZone::UTC);
        let expected = shown(&[
            ("2024-10-04", "a", 6),
            ("2024-10-04", "b", 2),
            ("2024-10-05", "a", 4),
            ("2024-10-06", "b", 2),
        ]);
        assert_eq!(requests(&scanned), expected);
        assert_eq!((scanned.gaps.len(), scanned.complete_since_us), (0, 0));

        let segments = journal::segments(path).unwrap();
        assert_eq!(segments.len(), 10);
        summarize(path, &segments, &TimeZone::UTC, &mut HashSet::new()).unwrap();
        assert_eq!(summaries(path).len(), segments.len() - 1);
        assert_eq!(all(path, &TimeZone::UTC).rows, scanned.rows);

        let some = day("2024-10-05")..=day("2024-10-06");
        let of_b = report(path, &TimeZone::UTC, &some, Some("b")).unwrap();
        assert_eq!(requests(&of_b), shown(&[("2024-10-06", "b", 2)]));
    }

    #[test]
    fn a_summary_is_used_only_for_what_it_was_made_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        keep(path, 1, &entries());
        summarize(
            path,
            &journal::segments(path).unwrap(),
            &TimeZone::UTC,
            &mut HashSet::new(),
        )
        .unwrap();
        // It is used: what it says is believed.
        let first = &summaries(path)[0];
        let mut summary = Summary::read(first).unwrap();
        summary.rows[0].sum.totals.requests = 100;
        summary.write(first).unwrap();
        assert_eq!(requests(&all(path, &TimeZone::UTC))[0].2, 102);
        // Other days: it says nothing.
        let zone = TimeZone::get("Etc/GMT+12").unwrap();
        let elsewhere = all(path, &zone);
        let expected = [
            ("2024-10-03", "a", 2),
            ("2024-10-03", "b", 1),
            ("2024-10-04", "a", 3),
        ];
        assert_eq!(requests(&elsewhere)[..3], shown(&expected));
        // And it is made anew for them.
        summarize(
            path,
            &journal::segments(path).unwrap(),
            &zone,
            &mut HashSet::new(),
        )
        .unwrap();
        assert_eq!(all(path, &zone).rows, elsewhere.rows);
        assert_eq!(&*Summary::read(first).unwrap().source.zone, "Etc/GMT+12");
        // A damaged one is none.
        let mut bytes = fs::read(first).unwrap();
        bytes[10] ^= 1;
        fs::write(first, bytes).unwrap();
        assert_eq!(all(path, &zone).rows, elsewhere.rows);
    }

    #[test]
    fn what_cannot_be_read_is_told_whether_it_was_summed_up_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        keep(path, 1, &entries());
        let segments = journal::segments(path).unwrap();
        let mut bytes = fs::read(&segments[1].path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&segments[1].path, bytes).unwrap();
        let gaps = ["00000000000000000002.seg: 1 records cannot be read"];
        let scanned = all(path, &TimeZone::UTC);
        assert_eq!(scanned.gaps, gaps);
        assert_eq!(requests(&scanned)[0].2, 2);
        summarize(path, &segments, &TimeZone::UTC, &mut HashSet::new()).unwrap();
        let summed_up = all(path, &TimeZone::UTC);
        assert_eq!(
            (summed_up.rows, summed_up.gaps),
            (scanned.rows, scanned.gaps)
        );
    }

    #[test]
    fn what_was_dropped_makes_a_report_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(all(path, &TimeZone::UTC).complete_since_us, 0);
        keep(path, 1, &entries());
        let segments = journal::segments(path).unwrap();
        fs::remove_file(&segments[0].path).unwrap();
        let second = segments[1].header().unwrap().unwrap();
        let left = all(path, &TimeZone::UTC);
        assert_eq!(left.complete_since_us, second.created_us);
        // What retention has dropped is not missing.
        assert_eq!(left.gaps, [""; 0]);
        assert_eq!(requests(&left)[0].2, 2);
    }

    #[test]
    fn a_journal_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        let days = day("2024-10-04")..=day("2024-10-04");
        let error = report(&nowhere, &TimeZone::UTC, &days, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
