//! What a start finds: how far the journal goes, and what of its last segment cannot be read.
//!
//! Nothing is ever added to a segment that another process has written. What is valid of it is kept, acknowledged or not, and
//! a new segment begins after that.

use super::disk::{Failure, sync_directory};
use super::frame::{ENTRY, Header, Span};
use super::frames::{Found, Frames};
use super::lock::Lock;
use super::payload::Beginning;
use super::segment::{Files, LOCK_NAME, NEXT_NAME, Segment};
use std::fs::{self, DirBuilder, File};
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
    /// Sequences of entries of the last segment that were on the disk and cannot be read.
    pub lost: Vec<RangeInclusive<u64>>,
    /// Sequences of the very last commit, some of whose entries cannot be read although later ones can. A crash leaves that
    /// of what it had not acknowledged, but damage looks the same.
    pub torn: Option<RangeInclusive<u64>>,
    /// Bytes behind the last entry: what a crash has left of entries that were never acknowledged.
    pub cut_bytes: u64,
    /// The last segment, if nothing at all of it can be read, or the disk has failed with it.
    pub unreadable: Option<PathBuf>,
    /// How the disk has failed.
    pub error: Option<String>,
    /// Files that have a segment's name and are none of this journal's; they are not touched.
    pub foreign: Vec<PathBuf>,
}

impl Recovered {
    /// The first sequence, from this one on, whose entry cannot be read.
    pub(super) fn readable_to(&self, from: u64) -> u64 {
        let unreadable = self.lost.iter().chain(&self.torn);
        let begins = unreadable
            .filter(|sequences| *sequences.end() >= from)
            .map(|sequences| *sequences.start());
        begins.fold(self.next_sequence, u64::min)
    }
}

/// The journal, for nobody else to write to.
pub(super) struct Taken {
    pub(super) lock: Lock,
    pub(super) recovered: Recovered,
    /// Times of the last segment's entries.
    pub(super) previous: Span,
}

/// What is there, and what has to be done before it is counted upon.
pub(super) struct Survey {
    pub(super) recovered: Recovered,
    /// Times of the last segment's entries.
    pub(super) previous: Span,
    /// In this order.
    pub(super) repairs: Vec<Repair>,
}

/// One thing to be done.
#[derive(Debug)]
pub(super) enum Repair {
    /// A segment that has no name of its own yet goes.
    RemoveUnfinished,
    /// These bytes of a segment may be in the kernel's memory only, and not even wait there for the disk, where an earlier
    /// attempt has failed: the same bytes are written to the same place again, until they are on the disk.
    WriteAgain { segment: PathBuf, range: Range<u64> },
    /// Names may be in the kernel's memory only.
    SyncDirectory,
}

/// Takes the journal over.
///
/// # Errors
/// Another gateway has it, or the disk does not let this one write.
pub(super) fn take(directory: &Path) -> Result<Taken, Failure> {
    let doing = |doing: &'static str| move |error: io::Error| Failure { doing, error };
    make_directory(directory).map_err(doing("making the directory"))?;
    let lock = Lock::take(&directory.join(LOCK_NAME)).map_err(doing("locking the directory"))?;
    let Survey {
        mut recovered,
        previous,
        repairs,
    } = survey(directory).map_err(doing("listing segments"))?;
    for repair in repairs {
        match (repair.carry_out(directory), repair) {
            (Ok(()), _) => {}
            // What was read is there, for now. A gateway that did not start for that would never start again.
            (Err(error), Repair::WriteAgain { segment, .. }) => {
                recovered.unreadable = Some(segment);
                recovered.error = Some(error.to_string());
            }
            (Err(error), Repair::RemoveUnfinished) => {
                return Err(doing("removing an unfinished segment")(error));
            }
            (Err(error), Repair::SyncDirectory) => {
                return Err(doing("syncing the directory")(error));
            }
        }
    }
    Ok(Taken {
        lock,
        recovered,
        previous,
    })
}

/// Each new level is on the disk before there is anything in it.
fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made?,
    }
    sync_directory(parent)
}

/// Looks at what is there, and changes nothing.
///
/// # Errors
/// The directory cannot be listed.
pub(super) fn survey(directory: &Path) -> io::Result<Survey> {
    let files = Files::list(directory)?;
    let mut survey = Survey {
        recovered: Recovered {
            next_sequence: 1,
            segments: files.segments.len(),
            foreign: files.foreign,
            ..Recovered::default()
        },
        previous: Span::EMPTY,
        repairs: vec![Repair::RemoveUnfinished],
    };
    if let Some(last) = files.segments.last() {
        survey.look_at_last(last);
    }
    survey.repairs.push(Repair::SyncDirectory);
    Ok(survey)
}

impl Survey {
    fn look_at_last(&mut self, segment: &Segment) {
        let error = match segment.open() {
            Ok(Ok((file, header))) => self.read(segment, file, &header),
            Ok(Err(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        let recovered = &mut self.recovered;
        if self.previous == Span::EMPTY {
            // A segment has its name only with its first entries. Whichever it held, none of them is used again.
            let next = segment.next_sequence_if_unreadable();
            recovered.lost = vec![segment.first_sequence..=next - 1];
            recovered.torn = None;
            recovered.next_sequence = next;
            recovered.cut_bytes = 0;
            self.previous = Span::ANY;
        } else if error.is_some() && recovered.cut_bytes > 0 {
            // Nor is any that may be where the disk gives nothing.
            let next = segment.next_sequence_if_unreadable();
            let hidden = recovered.next_sequence..=next - 1;
            recovered.next_sequence = recovered.next_sequence.max(next);
            recovered
                .lost
                .extend((!hidden.is_empty()).then_some(hidden));
            self.previous = Span::ANY;
        } else if error.is_none() {
            return;
        }
        recovered.unreadable = Some(segment.path.clone());
        recovered.error = error;
    }

    /// Reads a segment to its end; how the disk has failed.
    fn read(&mut self, segment: &Segment, file: File, header: &Header) -> Option<String> {
        let recovered = &mut self.recovered;
        let mut frames = Frames::new(file, header);
        let mut torn_from = None;
        loop {
            match frames.next() {
                Found::Frame {
                    kind: ENTRY,
                    payload,
                    ..
                } => {
                    if let Some(entry) = Beginning::of(frames.payload(payload)) {
                        self.previous.add(entry.time_us);
                    }
                }
                Found::Frame { .. } => {}
                Found::Lost(torn) if frames.end().is_some() => {
                    torn_from.get_or_insert(*torn.start());
                }
                Found::Lost(lost) => recovered.lost.extend((!lost.is_empty()).then_some(lost)),
                // Nothing comes to it any more. What is still found of the last commit may have been acknowledged.
                Found::End if frames.end().is_none() => frames.end_before(u64::MAX),
                Found::End => break,
            }
        }
        let (from, to) = (frames.commit_at(), frames.position());
        if from < to {
            self.repairs.push(Repair::WriteAgain {
                segment: segment.path.clone(),
                range: from..to,
            });
        }
        let length = fs::metadata(&segment.path).map_or(to, |file| file.len());
        recovered.next_sequence = frames.expected();
        recovered.torn = torn_from.map(|from| from..=frames.expected() - 1);
        recovered.cut_bytes = length.saturating_sub(to);
        frames.take_error().map(|error| error.to_string())
    }
}

impl Repair {
    fn carry_out(&self, directory: &Path) -> io::Result<()> {
        match self {
            Self::RemoveUnfinished => match fs::remove_file(directory.join(NEXT_NAME)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::WriteAgain { segment, range } => write_again(segment, range),
            Self::SyncDirectory => sync_directory(directory),
        }
    }
}

fn write_again(path: &Path, range: &Range<u64>) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    file.write_all_at(&bytes, range.start)?;
    file.sync_data()
}
