//! The files of a journal: one for each segment, named by the sequence of its first entry.

use super::frame::{FRAME_BYTES_MIN, HEADER_BYTES, Header, HeaderError};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A segment under this name is not finished: it gets its own with its first entries on the disk.
pub(super) const NEXT_NAME: &str = "segment.next";

/// Held by the one gateway that writes.
pub(super) const LOCK_NAME: &str = "journal.lock";

const SUFFIX: &str = ".seg";
const DIGITS: usize = 20;

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sequence of its first entry.
    pub first_sequence: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The name of the segment that begins with this sequence.
pub(super) fn name(first_sequence: u64) -> String {
    format!("{first_sequence:0DIGITS$}{SUFFIX}")
}

fn first_sequence(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The segments in a directory, the oldest first.
///
/// # Errors
/// It cannot be read.
pub fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(first_sequence) = entry.file_name().to_str().and_then(first_sequence) {
            segments.push(Segment {
                first_sequence,
                path: entry.path(),
            });
        }
    }
    segments.sort_by_key(|segment| segment.first_sequence);
    Ok(segments)
}

/// Why a segment cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It does not begin as one.
    Damaged,
    /// It was written by a later version of this program.
    Newer,
}

impl Segment {
    /// What it says of itself.
    ///
    /// # Errors
    /// It is not there, or the disk failed.
    pub fn header(&self) -> io::Result<Result<Header, Unreadable>> {
        self.open().map(|opened| opened.map(|(_, header)| header))
    }

    /// The first sequence that none of its entries can have, whatever it holds.
    pub(super) fn next_sequence_if_unreadable(&self) -> io::Result<u64> {
        let entries_max = fs::metadata(&self.path)?.len() / FRAME_BYTES_MIN as u64;
        Ok(self.first_sequence.saturating_add(entries_max.max(1)))
    }

    pub(super) fn open(&self) -> io::Result<Result<(File, Header), Unreadable>> {
        let file = File::open(&self.path)?;
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Err(Unreadable::Damaged));
            }
            Err(error) => return Err(error),
        }
        Ok(match Header::read(&bytes) {
            // Somebody has renamed it: what it holds is not what comes between its neighbours.
            Ok(header) if header.first_sequence != self.first_sequence => Err(Unreadable::Damaged),
            Ok(header) => Ok((file, header)),
            Err(HeaderError::Broken) => Err(Unreadable::Damaged),
            Err(HeaderError::Newer) => Err(Unreadable::Newer),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_have_a_segments_name() {
        assert_eq!(name(7), "00000000000000000007.seg");
        for sequence in [1, 7, u64::MAX] {
            assert_eq!(first_sequence(&name(sequence)), Some(sequence));
        }
        for other in [
            "7.seg",
            "00000000000000000007",
            "00000000000000000007.usage",
            "+0000000000000000007.seg",
            "99999999999999999999.seg",
            NEXT_NAME,
            LOCK_NAME,
        ] {
            assert_eq!(first_sequence(other), None, "{other}");
        }
    }

    #[test]
    fn segments_are_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for sequence in [30, 2, 100] {
            fs::write(directory.path().join(name(sequence)), "").unwrap();
        }
        fs::write(directory.path().join(LOCK_NAME), "").unwrap();
        let found = segments(directory.path()).unwrap();
        let sequences: Vec<_> = found.iter().map(|segment| segment.first_sequence).collect();
        assert_eq!(sequences, [2, 30, 100]);
        assert_eq!(found[0].header().unwrap(), Err(Unreadable::Damaged));
    }
}
