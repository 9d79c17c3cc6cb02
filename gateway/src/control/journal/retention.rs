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
