//! What is written when, without any disk: entries go in, batches of bytes and what is to be done with them come out.
//!
//! Entries wait as payloads until a batch with them is on the disk; only then are they forgotten. If it does not get there,
//! nobody knows what the disk holds: the segment is left, and the same entries begin a new one.

use super::disk::Step;
use super::entry::Entry;
use super::frame::{self, ENTRY, Header, NAME, Span};
use super::names::{Defined, Names, REPEAT_BYTES};
use super::payload::{self, Beginning};
use super::segment;
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Entries are put into a batch by so many bytes of payload.
const CHUNK_BYTES: usize = 256 << 10;

/// A batch has so many chunks at most: more has to wait for the next one.
const BATCH_CHUNKS_MAX: usize = 16;

/// Buffers of chunks that are kept for the next ones.
const SPARE_BUFFERS: usize = 2;

/// A segment is written to for no longer: segments are removed as a whole, when the last of their entries is old enough.
const SEGMENT_AGE_MAX: Duration = Duration::from_hours(24);

/// What waits, and where it will go.
pub(super) struct Appender {
    segment_bytes_max: u64,
    /// The last sequence that is on the disk.
    acknowledged: u64,
    chunks: VecDeque<Chunk>,
    spare: Vec<Vec<u8>>,
    /// Of payloads.
    waiting_bytes: usize,
    /// Names of the chunks' entries, by generation; those that come have the last one.
    names: VecDeque<Names>,
    /// What these take in memory.
    names_bytes: usize,
    /// The generation of the first of them.
    first_generation: u64,
    /// Where the next batch goes, unless it begins a segment.
    open: Option<Open>,
    /// Times of the entries of the last segment that was left.
    previous: Span,
    in_flight: Option<InFlight>,
    /// Entries, the first of those that wait, of which nobody knows whether they are on the disk.
    unanswered: u64,
}

/// Payloads, each behind its length in two bytes.
struct Chunk {
    generation: u64,
    payloads: Vec<u8>,
    entries: u64,
    since: Instant,
}

/// A segment that is written to.
struct Open {
    seed: u32,
    bytes: u64,
    began_at: SystemTime,
    generation: u64,
    defined: Defined,
    /// From this length on, definitions begin anew.
    repeats_at: u64,
    /// Times of its entries.
    span: Span,
    /// Something of it is on the disk.
    is_kept: bool,
    /// The next frame is a commit's first one.
    begins_commit: bool,
}

/// The batch that is being written: so many of the first chunks.
struct InFlight {
    chunks: usize,
    entries: u64,
}

/// What has to be done at once.
#[derive(Debug)]
pub(super) struct Batch {
    /// In this order. If one of them fails, the others must not be done.
    pub(super) steps: Vec<Step>,
    /// What is written.
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
    pub(super) begins_segment: bool,
}

impl Appender {
    pub(super) fn new(segment_bytes_max: u64) -> Self {
        Self {
            segment_bytes_max,
            acknowledged: 0,
            chunks: VecDeque::new(),
            spare: Vec::new(),
            waiting_bytes: 0,
            names: VecDeque::from([Names::default()]),
            names_bytes: 0,
            first_generation: 0,
            open: None,
            previous: Span::ANY,
            in_flight: None,
            unanswered: 0,
        }
    }

    /// What is on the disk ends before this sequence; `previous`: times of the last segment's entries.
    pub(super) fn begin_at(&mut self, next_sequence: u64, previous: Span) {
        self.acknowledged = next_sequence - 1;
        self.previous = previous;
    }

    /// The last sequence that is on the disk.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes of what is not on the disk yet, with the names that it needs.
    pub(super) fn waiting_bytes(&self) -> usize {
        if self.chunks.is_empty() {
            return 0;
        }
        self.waiting_bytes + self.names_bytes
    }

    /// How many entries are not on the disk yet.
    pub(super) fn waiting_entries(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.entries).sum()
    }

    /// Since when the oldest of them waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.since)
    }

    /// The last one of all.
    pub(super) fn append(&mut self, entry: &Entry<&str>, now: impl FnOnce() -> Instant) {
        if self.names.back().is_none_or(Names::are_full) {
            self.names.push_back(Names::default());
        }
        let generation = self.first_generation + self.names.len() as u64 - 1;
        let taken = self.in_flight.as_ref().map_or(0, |batch| batch.chunks);
        let takes_more =
            |chunk: &Chunk| chunk.generation == generation && chunk.payloads.len() < CHUNK_BYTES;
        if self.chunks.len() == taken || !self.chunks.back().is_some_and(takes_more) {
            self.chunks.push_back(Chunk {
                generation,
                payloads: self.spare.pop().unwrap_or_else(chunk_memory),
                entries: 0,
                since: now(),
            });
        }
        let (Some(chunk), Some(names)) = (self.chunks.back_mut(), self.names.back_mut()) else {
            return;
        };
        let begin = chunk.payloads.len();
        chunk.payloads.extend_from_slice(&[0; 2]);
        let names_bytes = names.bytes();
        payload::encode(entry, names, &mut chunk.payloads);
        self.names_bytes += names.bytes() - names_bytes;
        let length = chunk.payloads.len() - begin - 2;
        chunk.payloads[begin..begin + 2].copy_from_slice(&(length as u16).to_le_bytes());
        chunk.entries += 1;
        self.waiting_bytes += length + 2;
    }

    /// The next batch, if something waits and the one before it is done. `identity`: random, for a segment that begins.
    pub(super) fn next_batch(
        &mut self,
        now: SystemTime,
        identity: [u8; 8],
        mut bytes: Vec<u8>,
    ) -> Option<Batch> {
        let generation = self.chunks.front()?.generation;
        if self.in_flight.is_some() {
            return None;
        }
        bytes.clear();
        let first_sequence = self.acknowledged + 1;
        let goes_on = |open: &Open| {
            let age = now.duration_since(open.began_at).unwrap_or_default();
            open.bytes < self.segment_bytes_max
                && open.generation == generation
                && age < SEGMENT_AGE_MAX
        };
        let mut steps = Vec::new();
        let mut open = match self.open.take() {
            Some(open) if goes_on(&open) => open,
            left => {
                self.leave(left);
                steps.push(Step::Create);
                self.begin_segment(first_sequence, now, identity, &mut bytes)
            }
        };
        steps.push(Step::Write { at: open.bytes });
        steps.push(Step::Sync);
        if !open.is_kept {
            steps.push(Step::Name(segment::name(first_sequence)));
            steps.push(Step::SyncDirectory);
        }
        open.begins_commit = true;
        let written_before = open.bytes;
        let (mut chunks, mut sequence) = (0, first_sequence);
        for chunk in self.chunks.iter().take(BATCH_CHUNKS_MAX) {
            if chunk.generation != generation || open.bytes >= self.segment_bytes_max {
                break;
            }
            let names = &self.names[(generation - self.first_generation) as usize];
            open.lay_out(chunk, names, &mut sequence, &mut bytes);
            open.bytes = written_before + bytes.len() as u64;
            chunks += 1;
        }
        let begins_segment = !open.is_kept;
        self.open = Some(open);
        let entries = sequence - first_sequence;
        self.in_flight = Some(InFlight { chunks, entries });
        Some(Batch {
            steps,
            begins_segment,
            bytes,
            entries,
        })
    }

    fn begin_segment(
        &self,
        first_sequence: u64,
        now: SystemTime,
        identity: [u8; 8],
        bytes: &mut Vec<u8>,
    ) -> Open {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = Header {
            identity,
            first_sequence,
            created_us: since_epoch.as_micros() as u64,
            previous: self.previous,
        };
        bytes.extend_from_slice(&header.to_bytes());
        let mut defined = Defined::default();
        defined.begin_anew();
        Open {
            seed: header.seed(),
            bytes: 0,
            began_at: now,
            generation: self.chunks.front().map_or(0, |chunk| chunk.generation),
            defined,
            repeats_at: REPEAT_BYTES,
            span: Span::EMPTY,
            is_kept: false,
            begins_commit: true,
        }
    }

    /// The batch is on the disk.
    pub(super) fn committed(&mut self) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        self.acknowledged += batch.entries;
        for chunk in self.chunks.drain(..batch.chunks) {
            self.waiting_bytes -= chunk.payloads.len();
            if self.spare.len() < SPARE_BUFFERS {
                let mut payloads = chunk.payloads;
                payloads.clear();
                self.spare.push(payloads);
            }
        }
        if let Some(open) = &mut self.open {
            open.is_kept = true;
        }
        let last = self.first_generation + self.names.len() as u64 - 1;
        let oldest = self.chunks.front().map_or(last, |chunk| chunk.generation);
        while self.first_generation < oldest {
            let forgotten = self.names.pop_front();
            self.names_bytes -= forgotten.map_or(0, |names| names.bytes());
            self.first_generation += 1;
        }
    }

    /// The batch did not get there, or nobody knows.
    pub(super) fn failed(&mut self) {
        self.in_flight = None;
        let left = self.open.take();
        self.leave(left);
    }

    /// The batch's fate will be known when it is seen how far the journal goes: see [`Appender::go_on_at`].
    pub(super) fn lost_sight(&mut self) {
        self.unanswered = self.in_flight.as_ref().map_or(0, |batch| batch.entries);
        self.failed();
    }

    /// What is on the disk was looked at: it ends before `next_sequence`, and can be read up to `readable_to`. What waits and
    /// is there is not written once more.
    pub(super) fn go_on_at(&mut self, next_sequence: u64, readable_to: u64, previous: Span) {
        let unanswered = std::mem::take(&mut self.unanswered);
        let kept = (readable_to - 1).saturating_sub(self.acknowledged);
        self.forget(kept.min(unanswered));
        self.begin_at(next_sequence, previous);
    }

    /// So many of those that wait, the oldest first.
    fn forget(&mut self, mut entries: u64) {
        while entries > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let forgotten = chunk.forget(entries);
            self.waiting_bytes -= forgotten.bytes;
            entries -= forgotten.entries;
            if chunk.entries == 0 {
                self.chunks.pop_front();
            }
        }
    }

    fn leave(&mut self, left: Option<Open>) {
        if let Some(left) = left.filter(|left| left.is_kept) {
            self.previous = left.span;
        }
    }
}

/// What a chunk has no more.
struct Forgotten {
    entries: u64,
    bytes: usize,
}

impl Chunk {
    /// The first entries, so many at most.
    fn forget(&mut self, entries: u64) -> Forgotten {
        let entries = entries.min(self.entries);
        let mut rest = &self.payloads[..];
        for _ in 0..entries {
            if let Some((length, behind)) = rest.split_first_chunk() {
                rest = &behind[usize::from(u16::from_le_bytes(*length))..];
            }
        }
        let bytes = self.payloads.len() - rest.len();
        self.payloads.drain(..bytes);
        self.entries -= entries;
        Forgotten { entries, bytes }
    }
}

/// As much as a chunk can come to: what grows takes up to twice as much as it holds.
fn chunk_memory() -> Vec<u8> {
    Vec::with_capacity(CHUNK_BYTES + 2 + payload::BYTES_MAX)
}

impl Open {
    fn push(&mut self, sequence: u64, kind: u8, payload: &[u8], bytes: &mut Vec<u8>) {
        let begins_commit = std::mem::take(&mut self.begins_commit);
        frame::push(bytes, self.seed, sequence, kind, payload, begins_commit);
    }

    /// Puts a chunk's entries behind what is there, and before each the names that have not been defined yet.
    fn lay_out(&mut self, chunk: &Chunk, names: &Names, sequence: &mut u64, bytes: &mut Vec<u8>) {
        if self.bytes >= self.repeats_at {
            self.repeats_at = self.bytes + REPEAT_BYTES;
            self.defined.begin_anew();
        }
        let mut rest = &chunk.payloads[..];
        let mut definition = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (payload, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)));
            rest = behind;
            if let Some(beginning) = Beginning::of(payload) {
                self.span.add(beginning.time_us);
                for number in beginning.names() {
                    if self.defined.insert(number) {
                        definition.clear();
                        payload::encode_name(number, names.name(number), &mut definition);
                        self.push(*sequence, NAME, &definition, bytes);
                    }
                }
            }
            self.push(*sequence, ENTRY, payload, bytes);
            *sequence += 1;
        }
    }
}
