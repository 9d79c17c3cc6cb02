//! The frames of one segment's file, one after the other; over damage to the next one that proves itself.

use super::frame::{self, Checked, ENTRY, FRAME_BYTES_MAX, HEADER_BYTES, Header};
use super::segment::SEGMENT_ENTRIES_MAX;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

const _: () = assert!(BUFFER_BYTES >= 2 * FRAME_BYTES_MAX);

/// What the disk does not give is passed over by pages, and by ever more of them at once: each attempt may take seconds.
const PAGE_BYTES: u64 = 4 << 10;

/// Reads a segment, which may still be written to.
pub(super) struct Frames {
    file: File,
    seed: u32,
    first_sequence: u64,
    buffer: Vec<u8>,
    /// What of the buffer has not been consumed.
    rest: Range<usize>,
    /// Where in the file the buffer ends.
    read_to: u64,
    /// Nothing more was to be had the last time.
    is_at_end: bool,
    sight: Sight,
    /// The sequence of the next entry.
    expected: u64,
    /// The sequence with which the next segment begins, once there is one.
    end: Option<u64>,
    /// Where in the file the last commit begins, of those that were read.
    commit_at: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame; where its payload is says [`Frames::payload`].
    Frame {
        sequence: u64,
        kind: u8,
        payload: Range<usize>,
    },
    /// Entries that were there, and cannot be read: maybe none, where only names are damaged.
    Lost(RangeInclusive<u64>),
    /// Nothing, so far.
    End,
}

impl Frames {
    pub(super) fn new(file: File, header: &Header) -> Self {
        Self {
            file,
            seed: header.seed(),
            first_sequence: header.first_sequence,
            buffer: vec![0; BUFFER_BYTES],
            rest: 0..0,
            read_to: HEADER_BYTES as u64,
            is_at_end: false,
            sight: Sight::default(),
            expected: header.first_sequence,
            end: None,
            commit_at: HEADER_BYTES as u64,
        }
    }

    /// The sequence of the next entry.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// The next segment begins with this sequence: whatever has it here was never acknowledged.
    pub(super) fn end_before(&mut self, sequence: u64) {
        self.end = Some(sequence);
    }

    /// See [`Frames::end_before`].
    pub(super) fn end(&self) -> Option<u64> {
        self.end
    }

    pub(super) fn payload(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// What the disk has said since this was last asked, if it did not give something.
    pub(super) fn take_error(&mut self) -> Option<ErrorKind> {
        self.sight.error.take()
    }

    /// What comes next.
    pub(super) fn next(&mut self) -> Found {
        self.is_at_end = false;
        loop {
            if self.end.is_some_and(|end| self.expected >= end) {
                return Found::End;
            }
            match self.check() {
                Checked::Whole(frame) if frame.sequence == self.expected => {
                    let (sequence, kind) = (frame.sequence, frame.kind);
                    let (length, payload_length) = (frame.length, frame.payload.len());
                    let payload = self.rest.start + frame::PAYLOAD_AT;
                    if frame.begins_commit {
                        self.commit_at = self.position();
                    }
                    self.rest.start += length;
                    self.expected += u64::from(kind == ENTRY);
                    return Found::Frame {
                        sequence,
                        kind,
                        payload: payload..payload + payload_length,
                    };
                }
                Checked::Cut => {
                    if !self.fill() {
                        return self.pass_over_damage();
                    }
                }
                Checked::Whole(_) | Checked::Invalid => return self.pass_over_damage(),
            }
        }
    }

    fn check(&self) -> Checked<'_> {
        // Behind damage, a frame whose sequence is much higher is none.
        let plausible = self.expected..=self.expected.saturating_add(SEGMENT_ENTRIES_MAX);
        frame::check(&self.buffer[self.rest.clone()], self.seed, plausible)
    }

    /// Goes to the next frame that proves itself, if what is before it must have been there. Otherwise these are the
    /// remains of a commit that a crash has cut, or one that is being written.
    fn pass_over_damage(&mut self) -> Found {
        let damage = self.position();
        self.rest.start = (self.rest.start + 1).min(self.rest.end);
        let Some(found) = self.search() else {
            self.seek(damage);
            return Found::End;
        };
        let behind = self.position();
        // The first commit was on the disk before the file had its name, and everything before the next segment began.
        let is_certain = self.end.is_some() || self.expected == self.first_sequence;
        if !is_certain && !self.has_later_commit() {
            self.seek(damage);
            return Found::End;
        }
        self.seek(behind);
        let next = self.end.map_or(found, |end| found.min(end));
        let lost = self.expected..=next.saturating_sub(1);
        self.expected = next;
        Found::Lost(lost)
    }

    /// Searches a frame from here on; its sequence.
    fn search(&mut self) -> Option<u64> {
        loop {
            match self.check() {
                Checked::Whole(frame) => return Some(frame.sequence),
                Checked::Invalid => self.rest.start += 1,
                Checked::Cut => {
                    if self.fill() {
                        continue;
                    }
                    if self.rest.is_empty() {
                        return None;
                    }
                    self.rest.start += 1;
                }
            }
        }
    }

    /// Whether a commit begins here or behind: everything before it was on the disk by then.
    fn has_later_commit(&mut self) -> bool {
        while self.search().is_some() {
            if let Checked::Whole(frame) = self.check() {
                if frame.begins_commit {
                    return true;
                }
                self.rest.start += frame.length;
            }
        }
        false
    }

    /// Where in the file the last commit that was read begins: all that is before it was on the disk by then.
    pub(super) fn commit_at(&self) -> u64 {
        self.commit_at
    }

    /// Where in the file the next frame would be.
    pub(super) fn position(&self) -> u64 {
        self.read_to - self.rest.len() as u64
    }

    fn seek(&mut self, position: u64) {
        (self.rest, self.read_to, self.is_at_end) = (0..0, position, false);
    }

    /// Reads more; false if there is no more.
    fn fill(&mut self) -> bool {
        if self.is_at_end {
            return false;
        }
        self.buffer.copy_within(self.rest.clone(), 0);
        self.rest = 0..self.rest.len();
        let room = &mut self.buffer[self.rest.end..];
        let read = self.sight.read(&self.file, room, self.read_to);
        self.rest.end += read;
        self.read_to += read as u64;
        self.is_at_end = read == 0;
        read > 0
    }
}

/// A file's bytes.
trait Bytes {
    fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<usize>;
    /// Up to where it goes, as far as that is known.
    fn length(&self) -> u64;
}

impl Bytes for File {
    fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, room, at)
    }

    fn length(&self) -> u64 {
        self.metadata().map_or(0, |file| file.len())
    }
}

/// Reads what the disk gives. In the place of what it does not give are zeros, which are no frame.
#[derive(Default)]
struct Sight {
    /// What the last failure was.
    error: Option<ErrorKind>,
    /// Attempts that have failed since the last one that has not.
    failures: u32,
}

impl Sight {
    /// How much was read.
    fn read(&mut self, bytes: &impl Bytes, room: &mut [u8], at: u64) -> usize {
        loop {
            match bytes.read_at(room, at) {
                Ok(read) => {
                    self.failures = 0;
                    return read;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error.kind());
                    let step = PAGE_BYTES << self.failures.min(16);
                    self.failures += 1;
                    let to = (at / PAGE_BYTES * PAGE_BYTES + step).min(bytes.length());
                    let skipped = room.len().min(to.saturating_sub(at) as usize);
                    room[..skipped].fill(0);
                    return skipped;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ones, on a disk with pages that cannot be read.
    struct Failing {
        length: u64,
        pages: Range<u64>,
    }

    impl Bytes for Failing {
        fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<usize> {
            if self.pages.contains(&(at / PAGE_BYTES)) {
                return Err(ErrorKind::Other.into());
            }
            let mut to = self.length;
            if at / PAGE_BYTES < self.pages.start {
                to = to.min(self.pages.start * PAGE_BYTES);
            }
            let read = room.len().min(to.saturating_sub(at) as usize);
            room[..read].fill(1);
            Ok(read)
        }

        fn length(&self) -> u64 {
            self.length
        }
    }

    fn read_all(disk: &Failing) -> (Vec<u8>, Option<ErrorKind>, usize) {
        let (mut sight, mut found, mut reads) = (Sight::default(), Vec::new(), 0);
        let mut room = vec![7; 100_000];
        loop {
            let read = sight.read(disk, &mut room, found.len() as u64);
            reads += 1;
            found.extend_from_slice(&room[..read]);
            if read == 0 {
                return (found, sight.error, reads);
            }
        }
    }

    #[test]
    fn what_the_disk_does_not_give_costs_what_is_there_and_no_more() {
        for (pages, zeros) in [
            (0..0, 0..0),
            (0..1, 0..4_096),
            (2..3, 8_192..12_288),
            (3..99, 12_288..20_000),
        ] {
            let length = 20_000;
            let disk = Failing { length, pages };
            let (found, error, _) = read_all(&disk);
            assert_eq!(found.len(), 20_000);
            for (at, &byte) in found.iter().enumerate() {
                assert_eq!(byte == 0, zeros.contains(&at), "{at} {zeros:?}");
            }
            assert_eq!(error.is_some(), !zeros.is_empty());
        }
    }

    #[test]
    fn a_disk_that_gives_nothing_is_not_asked_for_every_page() {
        let disk = Failing {
            length: 64 << 20,
            pages: 0..u64::MAX,
        };
        let (found, _, reads) = read_all(&disk);
        assert_eq!(found.len(), 64 << 20);
        assert!(reads < 1_000, "{reads}");
    }
}
