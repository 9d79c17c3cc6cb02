//! What is too old is dropped, a segment at a time.

use crate::journal::Segment;
use std::fs;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// A segment is written to for no longer: a clock that is further ahead of the newest one is not believed.
const SEGMENT_TIME_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What has come of it.
pub(super) struct Dropped {
    /// Segments that are left.
    pub(super) left: Vec<Segment>,
    pub(super) count: usize,
    /// Why one could not be removed.
    pub(super) error: Option<io::Error>,
}

/// What was written before is too old. In microseconds since 1970.
pub(super) fn horizon_us(segments: &[Segment], now_us: u64, retention: Duration) -> u64 {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let newest = segments.iter().rev().find_map(created_us);
    let end = newest.map_or(u64::MAX, |newest| {
        newest.saturating_add(micros(SEGMENT_TIME_MAX))
    });
    now_us.min(end).saturating_sub(micros(retention))
}

/// Removes the segments all of whose records were written before the horizon. The last segment is never among them.
/// What they come to stays.
pub(super) fn drop_before(segments: Vec<Segment>, horizon_us: u64, now_us: u64) -> Dropped {
    let mut end = 0;
    for (index, next) in segments.iter().enumerate().skip(1) {
        match created_us(next) {
            Some(created_us) if created_us < horizon_us => end = index,
            Some(created_us) if created_us <= now_us => break,
            // One that cannot be read, or comes from a clock that was wrong, says nothing about the one before it; a
            // later one will.
            _ => {}
        }
    }
    let mut dropped = Dropped {
        left: Vec::with_capacity(segments.len()),
        count: 0,
        error: None,
    };
    for (index, segment) in segments.into_iter().enumerate() {
        if index >= end {
            dropped.left.push(segment);
            continue;
        }
        match fs::remove_file(&segment.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                dropped.error.get_or_insert(error);
                dropped.left.push(segment);
            }
            _ => dropped.count += 1,
        }
    }
    dropped
}

/// When a segment was begun, if it says so.
pub(super) fn created_us(segment: &Segment) -> Option<u64> {
    Some(segment.header().ok()?.ok()?.created_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal;
    use crate::usage;
    use crate::usage::samples::{entry, keep};
    use jiff::tz::TimeZone;
    use std::collections::HashSet;
    use std::path::Path;

    /// Five segments with their summaries, and when each was begun.
    fn journal(directory: &Path) -> (Vec<Segment>, Vec<u64>) {
        for _ in 0..5 {
            keep(directory, 1, &[entry("a", "m")]);
        }
        let segments = journal::segments(directory).unwrap();
        usage::summarize(directory, &segments, &TimeZone::UTC, &mut HashSet::new()).unwrap();
        let begins = segments.iter();
        let begins = begins.map(|segment| created_us(segment).unwrap());
        (segments.clone(), begins.collect())
    }

    fn left(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".seg"))
            .map(|name| name.trim_start_matches('0').to_owned())
            .collect();
        names.sort();
        names
    }

    /// How many are dropped; the clock says that everything was a while ago.
    fn dropped(segments: &[Segment], horizon_us: u64) -> usize {
        let dropped = drop_before(segments.to_vec(), horizon_us, u64::MAX);
        assert!(dropped.error.is_none());
        assert_eq!(dropped.left, segments[dropped.count..]);
        dropped.count
    }

    #[test]
    fn segments_go_when_all_of_their_records_are_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, begins) = journal(directory.path());
        assert!(begins.is_sorted_by(|one, next| one < next));
        assert_eq!(dropped(&segments, begins[0]), 0);
        // The first one was written to until the second began.
        assert_eq!(dropped(&segments, begins[1]), 0);
        assert_eq!(dropped(&segments, begins[1] + 1), 1);
        assert_eq!(dropped(&segments[1..], begins[3] + 1), 2);
        assert_eq!(left(directory.path()), ["4.seg", "5.seg"]);
        // What they came to is still known.
        assert!(usage::summary_path(&segments[0].path).exists());
    }

    #[test]
    fn the_last_segment_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, _) = journal(directory.path());
        assert_eq!(dropped(&segments, u64::MAX), 4);
        assert_eq!(left(directory.path()), ["5.seg"]);
        assert_eq!(dropped(&segments[4..], u64::MAX), 0);
        assert_eq!(dropped(&[], u64::MAX), 0);
    }

    #[test]
    fn one_that_cannot_be_read_goes_with_those_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, begins) = journal(directory.path());
        fs::write(&segments[2].path, "damaged").unwrap();
        // Nothing says when the second one ended.
        assert_eq!(dropped(&segments, begins[3]), 1);
        assert_eq!(dropped(&segments[1..], begins[3] + 1), 2);
        assert_eq!(left(directory.path()), ["4.seg", "5.seg"]);
    }

    #[test]
    fn a_time_in_the_future_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut segments, begins) = journal(directory.path());
        // The last one stands for one between that is ahead of all others.
        segments.swap(2, 4);
        segments.truncate(4);
        let now_us = begins[3];
        let dropped = drop_before(segments, begins[3] + 1, now_us);
        assert_eq!(dropped.count, 3);
    }

    #[test]
    fn a_time_long_past_takes_nothing_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let (mut segments, begins) = journal(directory.path());
        segments.swap(0, 4);
        assert_eq!(dropped(&segments, begins[0] + 1), 0);
    }

    #[test]
    fn a_clock_that_is_ahead_of_everything_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, begins) = journal(directory.path());
        let hour = Duration::from_secs(3_600);
        let hours = |count: u64| count * 3_600_000_000;
        let newest = begins[4];
        for (now_us, expected) in [
            (newest + hours(2), newest + hours(1)),
            (newest + hours(24), newest + hours(23)),
            (u64::MAX, newest + hours(23)),
            (0, 0),
        ] {
            assert_eq!(horizon_us(&segments, now_us, hour), expected);
        }
        assert_eq!(horizon_us(&[], hours(5), hour), hours(4));
    }

    #[test]
    fn one_that_cannot_be_removed_does_not_keep_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, _) = journal(directory.path());
        fs::remove_file(&segments[0].path).unwrap();
        fs::remove_file(&segments[1].path).unwrap();
        fs::create_dir(&segments[1].path).unwrap();
        let dropped = drop_before(segments.clone(), u64::MAX, u64::MAX);
        assert!(dropped.error.is_some());
        assert_eq!(dropped.count, 3);
        assert_eq!(dropped.left, [segments[1].clone(), segments[4].clone()]);
    }
}
