//! What segments came to that retention has dropped: kept for a while longer, since a month has more days than a journal may.

use super::summary::Head;
use crate::journal::{Files, Segment, Sidecar};
use jiff::tz::TimeZone;
use std::fs;
use std::io::{self, ErrorKind};

const DAY_US: u64 = 86_400_000_000;

/// So much longer than the records: two whole months. Records of a segment are of one day at most.
const KEPT_LONGER_US: u64 = (62 + 1) * DAY_US;

/// Summaries without their segments, the newest first. Of those that overlap with what comes after them, or have the days
/// of another zone, nothing can be said.
pub(super) fn summaries<'f>(files: &'f Files, zone: &TimeZone) -> Vec<(&'f Sidecar, Head)> {
    let mut end = first_sequence(&files.segments);
    let mut found = Vec::new();
    for sidecar in of_dropped(&files.segments, &files.sidecars).iter().rev() {
        let Some(head) = Head::read(&sidecar.path) else {
            continue;
        };
        let source = &head.source;
        let is_its_own = source.first == sidecar.first_sequence && source.first < source.end;
        let has_these_days = *source.zone == *zone.iana_name().unwrap_or_default();
        if is_its_own && has_these_days && source.end <= end {
            end = source.first;
            found.push((sidecar, head));
        }
    }
    found
}

/// Since when nothing is missing, in microseconds since 1970.
pub(super) fn complete_since_us(segments: &[Segment], dropped: &[(&Sidecar, Head)]) -> u64 {
    let Some(first) = segments.first() else {
        return 0;
    };
    let mut begins = first.first_sequence;
    let mut created_us = match first.header() {
        Ok(Ok(header)) => header.created_us,
        _ => u64::MAX,
    };
    for (_, head) in dropped {
        if head.source.end != begins {
            break;
        }
        begins = head.source.first;
        created_us = head.created_us;
    }
    if begins == 1 { 0 } else { created_us }
}

/// Removes what segments came to that were dropped, when all of it is from long before this time (in microseconds since
/// 1970), at which records end to be kept.
///
/// # Errors
/// One cannot be removed; the others are.
pub fn forget_before(
    segments: &[Segment],
    sidecars: &[Sidecar],
    horizon_us: u64,
) -> io::Result<()> {
    let dropped = of_dropped(segments, sidecars);
    let mut end = 0;
    for (index, sidecar) in dropped.iter().enumerate() {
        match Head::read(&sidecar.path) {
            Some(head) if head.created_us.saturating_add(KEPT_LONGER_US) < horizon_us => {
                end = index + 1;
            }
            Some(_) => break,
            // A later one will tell.
            None => {}
        }
    }
    let mut outcome = Ok(());
    for sidecar in &dropped[..end] {
        match fs::remove_file(&sidecar.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => outcome = Err(error),
            _ => {}
        }
    }
    outcome
}

/// Those of segments before the first one.
fn of_dropped<'f>(segments: &[Segment], sidecars: &'f [Sidecar]) -> &'f [Sidecar] {
    let first = first_sequence(segments);
    let end = sidecars.partition_point(|sidecar| sidecar.first_sequence < first);
    &sidecars[..end]
}

/// 0: there is none.
fn first_sequence(segments: &[Segment]) -> u64 {
    segments.first().map_or(0, |first| first.first_sequence)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, keep};
    use super::super::{Day, Report, report, summarize};
    use super::*;
    use crate::journal;
    use std::collections::HashSet;
    use std::path::Path;

    /// Five segments with one record each, and what they come to but for the last.
    fn journal(directory: &Path) -> Vec<Segment> {
        for _ in 0..5 {
            keep(directory, 1, &[entry("a", "m")]);
        }
        let segments = journal::segments(directory).unwrap();
        summarize(directory, &segments, &TimeZone::UTC, &mut HashSet::new()).unwrap();
        segments
    }

    fn of(directory: &Path, day: &str, zone: &TimeZone) -> Report {
        let day: Day = day.parse().unwrap();
        report(directory, zone, &(day..=day), None).unwrap()
    }

    fn requests(report: &Report) -> u64 {
        let rows = report.rows.iter();
        rows.map(|row| row.sum.totals.requests).sum()
    }

    #[test]
    fn what_was_dropped_still_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let segments = journal(path);
        for segment in &segments[..3] {
            fs::remove_file(&segment.path).unwrap();
        }
        let day = "2024-10-04";
        let whole = of(path, day, &TimeZone::UTC);
        assert_eq!((requests(&whole), whole.complete_since_us), (5, 0));
        assert!(whole.gaps.is_empty());
        assert_eq!(requests(&of(path, "2024-10-05", &TimeZone::UTC)), 0);

        // Other days: nothing can be said.
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let elsewhere = of(path, day, &zone);
        let fourth = segments[3].header().unwrap().unwrap().created_us;
        assert_eq!(
            (requests(&elsewhere), elsewhere.complete_since_us),
            (2, fourth)
        );

        // One between them is gone as well.
        let third = super::super::summary_path(&segments[2].path);
        let head = Head::read(&third).unwrap();
        fs::remove_file(super::super::summary_path(&segments[1].path)).unwrap();
        let rest = of(path, day, &TimeZone::UTC);
        assert_eq!(
            (requests(&rest), rest.complete_since_us),
            (4, head.created_us)
        );
    }

    #[test]
    fn one_that_is_damaged_behind_its_head_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let segments = journal(path);
        fs::remove_file(&segments[0].path).unwrap();
        let first = super::super::summary_path(&segments[0].path);
        let mut bytes = fs::read(&first).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&first, bytes).unwrap();
        let report = of(path, "2024-10-04", &TimeZone::UTC);
        assert_eq!((requests(&report), report.gaps.len()), (4, 1));
        // Of other days it has nothing.
        let other = of(path, "2024-10-05", &TimeZone::UTC);
        assert_eq!((requests(&other), other.gaps.len()), (0, 0));
    }

    #[test]
    fn what_is_older_than_two_months_more_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let segments = journal(path);
        for segment in &segments[..3] {
            fs::remove_file(&segment.path).unwrap();
        }
        let second = super::super::summary_path(&segments[1].path);
        let second_us = Head::read(&second).unwrap().created_us;
        let left = |horizon_us| {
            let files = Files::list(path).unwrap();
            forget_before(&files.segments, &files.sidecars, horizon_us).unwrap();
            Files::list(path).unwrap().sidecars.len()
        };
        assert_eq!(left(second_us), 4);
        assert_eq!(left(second_us + 62 * DAY_US), 4);
        assert_eq!(left(second_us + KEPT_LONGER_US), 3);
        // One that cannot be read goes with the next one; those beside a segment stay.
        fs::write(second, "damaged").unwrap();
        assert_eq!(left(second_us + KEPT_LONGER_US + 1), 3);
        assert_eq!(left(u64::MAX), 1);
    }
}
