//! The frames of one segment's file, one after the other; over damage to the next one that proves itself.

use super::frame::{self, Checked, ENTRY, FRAME_BYTES_MAX, HEADER_BYTES, Header};
use std::fs::File;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

const _: () = assert!(BUFFER_BYTES >= 2 * FRAME_BYTES_MAX);

/// Behind damage, a frame whose sequence is so much higher is none: no segment holds so many.
const SEQUENCES_AHEAD_MAX: u64 = 1 << 26;

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
    /// Entries that were there, and cannot be read.
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

    /// What comes next.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        self.is_at_end = false;
        loop {
            if self.end.is_some_and(|end| self.expected >= end) {
                return Ok(Found::End);
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
                    return Ok(Found::Frame {
                        sequence,
                        kind,
                        payload: payload..payload + payload_length,
                    });
                }
                Checked::Cut => {
                    if !self.fill()? {
                        return self.pass_over_damage();
                    }
                }
                Checked::Whole(_) | Checked::Invalid => return self.pass_over_damage(),
            }
        }
    }

    fn check(&self) -> Checked<'_> {
        let plausible = self.expected..=self.expected.saturating_add(SEQUENCES_AHEAD_MAX);
        frame::check(&self.buffer[self.rest.clone()], self.seed, plausible)
    }

    /// Goes to the next frame that proves itself, if what is before it must have been there. Otherwise these are the
    /// remains of a commit that a crash has cut, or one that is being written.
    fn pass_over_damage(&mut self) -> io::Result<Found> {
        let damage = self.position();
        self.rest.start = (self.rest.start + 1).min(self.rest.end);
        let Some(found) = self.search()? else {
            self.seek(damage);
            return Ok(Found::End);
        };
        let behind = self.position();
        // The first commit was on the disk before the file had its name, and everything before the next segment began.
        let is_certain = self.end.is_some() || self.expected == self.first_sequence;
        if !is_certain && !self.has_later_commit()? {
            self.seek(damage);
            return Ok(Found::End);
        }
        self.seek(behind);
        let next = self.end.map_or(found, |end| found.min(end));
        let lost = self.expected..=next.saturating_sub(1);
        self.expected = next;
        if lost.is_empty() {
            return self.next();
        }
        Ok(Found::Lost(lost))
    }

    /// Searches a frame from here on; its sequence.
    fn search(&mut self) -> io::Result<Option<u64>> {
        loop {
            match self.check() {
                Checked::Whole(frame) => return Ok(Some(frame.sequence)),
                Checked::Invalid => self.rest.start += 1,
                Checked::Cut => {
                    if self.fill()? {
                        continue;
                    }
                    if self.rest.is_empty() {
                        return Ok(None);
                    }
                    self.rest.start += 1;
                }
            }
        }
    }

    /// Whether a commit begins here or behind: everything before it was on the disk by then.
    fn has_later_commit(&mut self) -> io::Result<bool> {
        while self.search()?.is_some() {
            if let Checked::Whole(frame) = self.check() {
                if frame.begins_commit {
                    return Ok(true);
                }
                self.rest.start += frame.length;
            }
        }
        Ok(false)
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
    fn fill(&mut self) -> io::Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        self.buffer.copy_within(self.rest.clone(), 0);
        self.rest = 0..self.rest.len();
        let room = &mut self.buffer[self.rest.end..];
        let read = loop {
            match self.file.read_at(room, self.read_to) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.rest.end += read;
        self.read_to += read as u64;
        self.is_at_end = read == 0;
        Ok(read > 0)
    }
}
