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
const SIDECAR_SUFFIX: &str = ".usage";
const DIGITS: usize = 20;

/// No journal gets so far: a file with a higher sequence in its name is none of its own, and must not use up what is left.
const FIRST_SEQUENCE_MAX: u64 = 1 << 63;

/// No segment holds more entries.
pub(super) const SEGMENT_ENTRIES_MAX: u64 = 1 << 26;

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

/// The sequence in a file's name with this suffix.
fn sequence(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Twenty digits may be more than a number holds.
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// What is kept beside a segment, and may be there for longer than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The sequence of the segment's first entry.
    pub first_sequence: u64,
    /// Where it is; the segment's own path has another extension.
    pub path: PathBuf,
}

/// The files in a journal's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Segments, the oldest first.
    pub segments: Vec<Segment>,
    /// Sidecars, those of the oldest segments first, whether these are there or not.
    pub sidecars: Vec<Sidecar>,
    /// What has a segment's name, but a sequence in it that no journal gets to.
    pub foreign: Vec<PathBuf>,
}

impl Files {
    /// What is in this directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(directory: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            if let Some(first_sequence) = sequence(name, SUFFIX) {
                files.add_segment(first_sequence, entry.path());
            } else if let Some(first_sequence) = sequence(name, SIDECAR_SUFFIX) {
                files.sidecars.push(Sidecar {
                    first_sequence,
                    path: entry.path(),
                });
            }
        }
        files.segments.sort_by_key(|segment| segment.first_sequence);
        files.sidecars.sort_by_key(|sidecar| sidecar.first_sequence);
        files.foreign.sort();
        Ok(files)
    }

    fn add_segment(&mut self, first_sequence: u64, path: PathBuf) {
        if (1..=FIRST_SEQUENCE_MAX).contains(&first_sequence) {
            self.segments.push(Segment {
                first_sequence,
                path,
            });
        } else {
            self.foreign.push(path);
        }
    }
}

/// The segments in a directory, the oldest first.
///
/// # Errors
/// It cannot be read.
pub fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    Files::list(directory).map(|files| files.segments)
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
    pub(super) fn next_sequence_if_unreadable(&self) -> u64 {
        let entries_max = match fs::metadata(&self.path) {
            Ok(file) => file.len() / FRAME_BYTES_MIN as u64,
            Err(_) => SEGMENT_ENTRIES_MAX,
        };
        self.first_sequence.saturating_add(entries_max.max(1))
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
        for number in [1, 7, u64::MAX] {
            assert_eq!(sequence(&name(number), SUFFIX), Some(number));
        }
        for other in [
            "7.seg",
            "00000000000000000007",
            "00000000000000000007.usage",
            "+0000000000000000007.seg",
            NEXT_NAME,
            LOCK_NAME,
        ] {
            assert_eq!(sequence(other, SUFFIX), None, "{other}");
        }
    }

    #[test]
    fn files_are_in_order_and_those_of_others_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let foreign = [
            name(0),
            name(FIRST_SEQUENCE_MAX + 1),
            "99999999999999999999.seg".to_owned(),
        ];
        let segments = [30, 2, 100, FIRST_SEQUENCE_MAX].map(name);
        let sidecars = [2, 1].map(|number| format!("{number:020}.usage"));
        for name in segments.iter().chain(&sidecars).chain(&foreign) {
            fs::write(path(name), "").unwrap();
        }
        fs::write(path(LOCK_NAME), "").unwrap();
        let found = Files::list(directory.path()).unwrap();
        let first_sequences = found.segments.iter().map(|segment| segment.first_sequence);
        assert!(first_sequences.eq([2, 30, 100, FIRST_SEQUENCE_MAX]));
        assert_eq!(
            found.segments[0].header().unwrap(),
            Err(Unreadable::Damaged)
        );
        let sidecars = sidecars.map(|name| path(&name));
        assert!(
            found
                .sidecars
                .iter()
                .map(|it| &it.path)
                .eq(sidecars.iter().rev())
        );
        assert_eq!(found.foreign, foreign.map(|name| path(&name)));
    }
}
