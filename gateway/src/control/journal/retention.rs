//! What is too old is dropped, a segment at a time.

use crate::journal::Segment;
use crate::usage;
use std::fs;
use std::io::{self, ErrorKind};

/// Removes the segments all of whose records were written before this time (in microseconds since 1970), with what belongs
/// to them; how many. The last segment is never among them.
///
/// # Errors
/// One cannot be removed; those before it are.
pub(super) fn drop_before(segments: &[Segment], horizon_us: u64) -> io::Result<usize> {
    let mut dropped = 0;
    for (index, next) in segments.iter().enumerate().skip(1) {
        // One that cannot be read says nothing about the one before it; a later one will.
        let Ok(Ok(header)) = next.header() else {
            continue;
        };
        if header.created_us >= horizon_us {
            break;
        }
        for old in &segments[dropped..index] {
            remove(old)?;
        }
        dropped = index;
    }
    Ok(dropped)
}

fn remove(segment: &Segment) -> io::Result<()> {
    // In this order nothing is left behind that nobody would ever look for.
    for path in [usage::summary_path(&segment.path), segment.path.clone()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal;
    use crate::usage::samples::{entry, keep};
    use jiff::tz::TimeZone;
    use std::path::Path;

    /// Five segments with their summaries, and when each was begun.
    fn journal(directory: &Path) -> (Vec<Segment>, Vec<u64>) {
        for _ in 0..5 {
            keep(directory, 1, &[entry("a", "m")]);
        }
        let segments = journal::segments(directory).unwrap();
        usage::summarize(directory, &segments, &TimeZone::UTC).unwrap();
        let begins = segments.iter();
        let begins = begins.map(|segment| segment.header().unwrap().unwrap().created_us);
        (segments.clone(), begins.collect())
    }

    fn left(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "journal.lock")
            .map(|name| name.trim_start_matches('0').to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn segments_go_when_all_of_their_records_are_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, begins) = journal(directory.path());
        assert!(begins.is_sorted_by(|one, next| one < next));
        assert_eq!(drop_before(&segments, begins[0]).unwrap(), 0);
        // The first one was written to until the second began.
        assert_eq!(drop_before(&segments, begins[1]).unwrap(), 0);
        assert_eq!(drop_before(&segments, begins[1] + 1).unwrap(), 1);
        assert_eq!(drop_before(&segments[1..], begins[3] + 1).unwrap(), 2);
        assert_eq!(left(directory.path()), ["4.seg", "4.usage", "5.seg"]);
    }

    #[test]
    fn the_last_segment_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, _) = journal(directory.path());
        assert_eq!(drop_before(&segments, u64::MAX).unwrap(), 4);
        assert_eq!(left(directory.path()), ["5.seg"]);
        assert_eq!(drop_before(&segments[4..], u64::MAX).unwrap(), 0);
        assert_eq!(drop_before(&[], u64::MAX).unwrap(), 0);
    }

    #[test]
    fn one_that_cannot_be_read_goes_with_those_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, begins) = journal(directory.path());
        fs::write(&segments[2].path, "damaged").unwrap();
        // Nothing says when the second one ended.
        assert_eq!(drop_before(&segments, begins[3]).unwrap(), 1);
        assert_eq!(drop_before(&segments[1..], begins[3] + 1).unwrap(), 2);
        assert_eq!(left(directory.path()), ["4.seg", "4.usage", "5.seg"]);
    }

    #[test]
    fn what_is_gone_already_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let (segments, _) = journal(directory.path());
        fs::remove_file(&segments[1].path).unwrap();
        assert_eq!(drop_before(&segments, u64::MAX).unwrap(), 4);
        assert_eq!(left(directory.path()), ["5.seg"]);
    }
}
