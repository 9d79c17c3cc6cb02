//! What a start finds: how far the journal goes, and what of its last segment cannot be read.
//!
//! Nothing is ever added to a segment that another process has written. What is valid of it is kept, acknowledged or not, and
//! a new segment begins after that.

use super::disk::{Failure, sync_directory};
use super::frame::{ENTRY, Span};
use super::frames::{Found, Frames};
use super::payload::Beginning;
use super::segment::{Files, LOCK_NAME, NEXT_NAME, Segment};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

const DIRECTORY_MODE: u32 = 0o700;

/// What a start has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The sequence of the next entry.
    pub next_sequence: u64,
    /// Segments that are there.
    pub segments: usize,
    /// Sequences of entries of the last segment that were there and cannot be read.
    pub lost: Vec<RangeInclusive<u64>>,
    /// Bytes behind the last entry: what a crash has left of entries that were never acknowledged.
    pub cut_bytes: u64,
    /// The last segment, if nothing at all of it can be read.
    pub unreadable: Option<PathBuf>,
    /// Files that have a segment's name and are none of this journal's; they are not touched.
    pub foreign: Vec<PathBuf>,
}

/// The journal, for nobody else to write to.
pub(super) struct Taken {
    pub(super) lock: File,
    pub(super) recovered: Recovered,
    /// Times of the last segment's entries.
    pub(super) previous: Span,
}

/// Takes the journal over.
///
/// # Errors
/// Another gateway has it, or the disk does not let this one write.
pub(super) fn take(directory: &Path) -> Result<Taken, Failure> {
    let doing = |doing: &'static str| move |error: io::Error| Failure { doing, error };
    make_directory(directory).map_err(doing("making the directory"))?;
    let lock = lock(&directory.join(LOCK_NAME)).map_err(doing("locking the directory"))?;
    match fs::remove_file(directory.join(NEXT_NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(doing("removing an unfinished segment")(error));
        }
        _ => {}
    }
    let files = Files::list(directory).map_err(doing("listing segments"))?;
    let mut recovered = Recovered {
        next_sequence: 1,
        segments: files.segments.len(),
        foreign: files.foreign,
        ..Recovered::default()
    };
    let mut previous = Span::EMPTY;
    if let Some(last) = files.segments.last() {
        previous = read_last(last, &mut recovered).map_err(doing("reading the last segment"))?;
    }
    // Their names may be in the kernel's memory only.
    sync_directory(directory).map_err(doing("syncing the directory"))?;
    Ok(Taken {
        lock,
        recovered,
        previous,
    })
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)?;
    directory.parent().map_or(Ok(()), sync_directory)
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "another gateway writes to it: each needs a directory of its own",
        )),
    }
}

fn read_last(segment: &Segment, recovered: &mut Recovered) -> io::Result<Span> {
    let length = fs::metadata(&segment.path)?.len();
    let opened = segment.open()?;
    let mut span = Span::EMPTY;
    if let Ok((file, header)) = opened {
        let mut frames = Frames::new(file, &header);
        loop {
            match frames.next() {
                Found::Frame {
                    kind: ENTRY,
                    payload,
                    ..
                } => {
                    if let Some(entry) = Beginning::of(frames.payload(payload)) {
                        span.add(entry.time_us);
                    }
                }
                Found::Frame { .. } => {}
                Found::Lost(lost) => recovered.lost.push(lost),
                Found::End => break,
            }
        }
        write_again(&segment.path, frames.commit_at()..frames.position())?;
        recovered.next_sequence = frames.expected();
        recovered.cut_bytes = length.saturating_sub(frames.position());
    }
    if span == Span::EMPTY {
        // A segment has its name only with its first entries. Whichever it held, none of them is used again.
        let next = segment.next_sequence_if_unreadable();
        recovered.lost = vec![segment.first_sequence..=next - 1];
        recovered.next_sequence = next;
        recovered.cut_bytes = 0;
        recovered.unreadable = Some(segment.path.clone());
        span = Span::ANY;
    }
    Ok(span)
}

/// The last commit may be in the kernel's memory only, and not even wait there for the disk, where an earlier attempt has
/// failed. From now on it is counted upon: the same bytes are written to the same place again, until they are on the disk.
fn write_again(path: &Path, range: Range<u64>) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    file.write_all_at(&bytes, range.start)?;
    file.sync_data()
}
