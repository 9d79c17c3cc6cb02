//! Asking for the usage of a Chat stream where the client did not, and taking the answer to that question out of the stream:
//! a last chunk without choices, which not every client expects.

use super::event;
use crate::json::{DEPTH_CEILING, EVERY_ITEM, Found, JsonScan, Paths};
use crate::sse::{EventScan, Line};
use std::ops::Range;

/// A change of a request body: what is put in the place of some of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes in front of the change.
    pub at: u64,
    /// How many bytes it takes away.
    pub remove: u64,
    /// What it puts there.
    pub insert: &'static [u8],
}

impl Edit {
    fn insert(at: u64, insert: &'static [u8]) -> Self {
        Self {
            at,
            remove: 0,
            insert,
        }
    }

    fn replace(found: &Found, insert: &'static [u8]) -> Self {
        Self {
            at: found.start,
            remove: found.raw.len() as u64,
            insert,
        }
    }

    /// What makes a complete request for a stream also one for its usage; `None` if it is one already, if it does not ask for a
    /// stream, or if it says any of that in a way that the provider may take for something else.
    pub(super) fn asking_for_usage(
        stream: &Found,
        stream_options: &Found,
        include_usage: &Found,
    ) -> Option<Self> {
        if stream.times != 1 || stream.as_bool() != Some(true) {
            return None;
        }
        match (stream_options.times, include_usage.times) {
            (0, _) => Some(Self::insert(
                stream.start + stream.raw.len() as u64,
                b",\"stream_options\":{\"include_usage\":true}",
            )),
            (1, 0) if &*stream_options.raw == b"null" => {
                Some(Self::replace(stream_options, b"{\"include_usage\":true}"))
            }
            (1, 0) => {
                let members = stream_options.raw.strip_prefix(b"{")?.trim_ascii_start();
                let insert: &[u8] = match members.first()? {
                    b'}' => b"\"include_usage\":true",
                    _ => b"\"include_usage\":true,",
                };
                Some(Self::insert(stream_options.start + 1, insert))
            }
            (1, 1) if matches!(&*include_usage.raw, b"false" | b"null") => {
                Some(Self::replace(include_usage, b"true"))
            }
            _ => None,
        }
    }
}

/// Takes the chunk that has the usage out of a Chat stream, without a choice among its `choices`. Everything else passes
/// unchanged; an event that has not come to its end is kept as long as it may be that chunk.
#[derive(Debug)]
pub struct UsageChunkFilter {
    lines: EventScan,
    sieve: Sieve,
}

/// Bytes that go on to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Of `UsageChunkFilter::kept`.
    Kept(Range<usize>),
    /// Of the piece that was fed.
    Piece(Range<usize>),
}

impl Default for UsageChunkFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageChunkFilter {
    /// A filter at the start of a stream.
    pub fn new() -> Self {
        Self {
            lines: EventScan::new(),
            sieve: Sieve {
                chunk: Chunk {
                    reading: Reading::Awaited,
                    json: JsonScan::new(&PATHS, DEPTH_CEILING, MEMBER_BYTES_MAX),
                },
                kept: Vec::new(),
                undecided_from: 0,
                earlier_bytes: 0,
                line_feed_passes: None,
            },
        }
    }

    /// Filters the next payload bytes and tells `pass` what goes on, in order.
    pub fn feed(&mut self, piece: &[u8], pass: &mut impl FnMut(Passed)) {
        let Self { lines, sieve } = self;
        let mut cursor = sieve.begin_piece(piece);
        lines.feed(piece, &mut |line| sieve.line(&line, &mut cursor, pass));
        sieve.end_piece(&cursor, pass);
    }

    /// The stream is over, in the midst of an event perhaps.
    pub fn finish(&mut self, pass: &mut impl FnMut(Passed)) {
        if self.sieve.chunk.is_usage_chunk() {
            self.sieve.kept.truncate(self.sieve.undecided_from);
        } else {
            self.sieve.pass_kept(pass);
        }
    }

    /// The bytes of earlier pieces that `Passed::Kept` is about. They stay where they are until `forget_passed`.
    pub fn kept(&self) -> &[u8] {
        &self.sieve.kept
    }

    /// The kept bytes that passed have been sent.
    pub fn forget_passed(&mut self) {
        let passed = std::mem::take(&mut self.sieve.undecided_from);
        self.sieve.kept.drain(..passed);
    }
}

/// The chunk has a dozen counts and a few names. What is longer is something else, and is not worth keeping.
const CHUNK_BYTES_MAX: u64 = 16 * 1024;

static PATHS: Paths = Paths::new(&[
    &["choices"],
    &["choices", EVERY_ITEM],
    &["usage"],
    &["error"],
]);
const CHOICES: usize = 0;
const CHOICE: usize = 1;
const USAGE: usize = 2;
const ERROR: usize = 3;
/// Of which kind a value is, its first bytes tell.
const MEMBER_BYTES_MAX: usize = 4;

#[derive(Debug)]
struct Sieve {
    chunk: Chunk,
    /// What came in earlier pieces and was not passed at once.
    kept: Vec<u8>,
    /// From here on it is not decided; before that it has passed.
    undecided_from: usize,
    /// Bytes of the current event in earlier pieces.
    earlier_bytes: u64,
    /// The last byte was the CR of an event's empty line: an LF would belong to that event, which has passed or not.
    line_feed_passes: Option<bool>,
}

/// Where in a piece.
struct Cursor<'p> {
    piece: &'p [u8],
    /// What comes before has passed or been taken out.
    pass_from: usize,
    event_start: usize,
}

impl Sieve {
    fn begin_piece<'p>(&mut self, piece: &'p [u8]) -> Cursor<'p> {
        let (mut pass_from, mut event_start) = (0, 0);
        if let Some(&first) = piece.first()
            && let Some(passes) = self.line_feed_passes.take()
            && first == b'\n'
        {
            event_start = 1;
            pass_from = usize::from(!passes);
        }
        Cursor {
            piece,
            pass_from,
            event_start,
        }
    }

    fn line(&mut self, line: &Line<'_>, cursor: &mut Cursor<'_>, pass: &mut impl FnMut(Passed)) {
        match *line {
            Line::EventStart | Line::Event(_) => {}
            Line::DataStart { is_last } => self.chunk.begin_line(is_last),
            Line::Data(part) => self.chunk.read(part),
            Line::Dispatch { bytes, .. } => self.end_event(bytes, cursor, pass),
        }
        if self.chunk.reading == Reading::RuledOut {
            self.pass_kept(pass);
        }
    }

    fn end_event(&mut self, bytes: u64, cursor: &mut Cursor<'_>, pass: &mut impl FnMut(Passed)) {
        let passes = bytes > CHUNK_BYTES_MAX || !self.chunk.is_usage_chunk();
        let bytes_in_piece = (bytes - self.earlier_bytes) as usize;
        let mut end = cursor.event_start + bytes_in_piece;
        let ends_with_return = cursor.piece[end - 1] == b'\r';
        if ends_with_return && cursor.piece.get(end) == Some(&b'\n') {
            end += 1;
        } else if ends_with_return && end == cursor.piece.len() {
            self.line_feed_passes = Some(passes);
        }
        if passes {
            self.pass_kept(pass);
        } else {
            self.kept.truncate(self.undecided_from);
            cursor.pass_up_to(cursor.event_start, pass);
            cursor.pass_from = end;
        }
        cursor.event_start = end;
        self.earlier_bytes = 0;
        self.chunk.reset();
    }

    fn end_piece(&mut self, cursor: &Cursor<'_>, pass: &mut impl FnMut(Passed)) {
        let begun = &cursor.piece[cursor.event_start..];
        self.earlier_bytes += begun.len() as u64;
        if self.chunk.reading != Reading::RuledOut && self.earlier_bytes > CHUNK_BYTES_MAX {
            self.chunk.reading = Reading::RuledOut;
            self.pass_kept(pass);
        }
        if self.chunk.reading == Reading::RuledOut {
            cursor.pass_up_to(cursor.piece.len(), pass);
        } else {
            cursor.pass_up_to(cursor.event_start, pass);
            self.kept.extend_from_slice(begun);
        }
    }

    fn pass_kept(&mut self, pass: &mut impl FnMut(Passed)) {
        if self.undecided_from < self.kept.len() {
            pass(Passed::Kept(self.undecided_from..self.kept.len()));
            self.undecided_from = self.kept.len();
        }
    }
}

impl Cursor<'_> {
    fn pass_up_to(&self, end: usize, pass: &mut impl FnMut(Passed)) {
        if self.pass_from < end {
            pass(Passed::Piece(self.pass_from..end));
        }
    }
}

/// Reads the data of an event.
#[derive(Debug)]
struct Chunk {
    reading: Reading,
    json: JsonScan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// No data has come.
    Awaited,
    /// All of it comes at once.
    Whole,
    /// The JSON scan reads it.
    Read,
    /// It is another event.
    RuledOut,
}

impl Chunk {
    fn begin_line(&mut self, is_last: bool) {
        match self.reading {
            Reading::Awaited if is_last => self.reading = Reading::Whole,
            Reading::Awaited => self.reading = Reading::Read,
            Reading::Whole | Reading::Read => self.read(b"\n"),
            Reading::RuledOut => {}
        }
    }

    fn read(&mut self, part: &[u8]) {
        match self.reading {
            Reading::RuledOut | Reading::Awaited => return,
            Reading::Whole if !event::may_have_usage(part) => {
                self.reading = Reading::RuledOut;
                return;
            }
            Reading::Whole | Reading::Read => self.reading = Reading::Read,
        }
        // What is not JSON is ruled out with what has a choice.
        let is_json = self.json.feed(part).is_ok();
        if !is_json || self.json.found(CHOICE).times > 0 {
            self.reading = Reading::RuledOut;
        }
    }

    fn is_usage_chunk(&self) -> bool {
        let found = |index| self.json.found(index);
        let begins =
            |index, with| found(index).times == 1 && found(index).raw.first() == Some(with);
        self.reading == Reading::Read
            && self.json.is_complete()
            && begins(CHOICES, &b'[')
            && begins(USAGE, &b'{')
            && !found(ERROR).is_not_null()
    }

    fn reset(&mut self) {
        self.reading = Reading::Awaited;
        self.json.reset();
    }
}
