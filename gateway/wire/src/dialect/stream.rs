//! What a streamed answer says about itself as it passes: how far it is, how it ended, what it used.

use super::event::{self, Effect, Meaning, Share, Wanted};
use super::layout::{Layout, Member, RESPONSE_ID_BYTES_MAX};
use super::start::Start;
use super::usage::Counts;
use super::{Dialect, ErrorReport, Usage};
use crate::json::{DEPTH_CEILING, Found, JsonScan};
use crate::sse::{EventScan, Line};

/// How a stream says that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The answer is complete (`response.completed`, `[DONE]`, `message_stop`), or ended as the provider meant it to
    /// (`response.incomplete`, Gemini's `blockReason`).
    Completed,
    /// The provider reported a failure in the stream (`response.failed`, `error`).
    Failed,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No event yet.
    Silent,
    /// Events that carry no output (`response.created`, `response.in_progress`, `message_start`, `ping`), and reports of failure.
    Preamble,
    /// At least one output event was seen: from here on a retry could repeat output.
    Output,
}

/// Reads a streamed answer as it passes.
#[derive(Debug)]
pub struct StreamObserver {
    lines: EventScan,
    reader: EventReader,
}

impl StreamObserver {
    /// An observer. Events longer than `event_bytes_max` are counted but not read.
    pub fn new(dialect: Dialect, event_bytes_max: u64) -> Self {
        Self {
            lines: EventScan::new(),
            reader: EventReader::new(dialect, event_bytes_max),
        }
    }

    /// Observes the next payload bytes. Allocates nothing for events in which nothing is looked for.
    pub fn observe(&mut self, payload: &[u8]) {
        let Self { lines, reader } = self;
        lines.feed(payload, &mut |line| reader.line(&line));
    }

    /// Events with data so far.
    pub fn events(&self) -> u64 {
        self.reader.events()
    }

    /// Between two events.
    pub fn at_boundary(&self) -> bool {
        self.lines.at_boundary()
    }

    /// How far the stream has come.
    pub fn progress(&self) -> Progress {
        self.reader.progress
    }

    /// How the stream said that it is over, if it did. A failure outweighs a completion.
    pub fn terminal(&self) -> Option<Terminal> {
        self.reader.terminal
    }

    /// The same of a stream whose body ends here. Gemini's `finishReason` is about one candidate: whether others are still to
    /// come, and counts, only the end of the body tells.
    pub fn terminal_at_end(&self) -> Option<Terminal> {
        let has_finished = self.reader.has_finished;
        self.terminal()
            .or(has_finished.then_some(Terminal::Completed))
    }

    /// What the provider said about its failure, if it reported one. Of several reports the first counts.
    pub fn failure(&self) -> Option<ErrorReport> {
        self.reader.failure()
    }

    /// The identifier of the response (Responses API), once an event has named it.
    pub fn response_id(&self) -> Option<&str> {
        self.reader.response_id()
    }

    /// About how many tokens the provider has written so far: what it counted last, and since then what the events look like.
    /// For answers that are cut before their usage comes.
    pub fn estimated_output_tokens(&self) -> u64 {
        self.reader.estimated_output_tokens()
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.reader.usage()
    }
}

/// Enough for the longest type that matters (`response.code_interpreter_call_code.delta`).
const TYPE_BYTES_MAX: usize = 48;
/// Enough for types, counts, codes, and an identifier with its quotes; of other members it matters only whether they are null.
const MEMBER_BYTES_MAX: usize = RESPONSE_ID_BYTES_MAX + 2;
/// The identifier of a response stands near the start of an event that may have all of its instructions behind it, so in
/// such pieces it is looked for.
const ID_PIECE_BYTES: usize = 256;
/// Enough for the type at the start of the data.
const HEAD_BYTES_MAX: usize = 64;

/// What a single event has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer goes on.
    #[default]
    GoesOn,
    /// It is over.
    Over(Terminal),
    /// A failure is reported of which it is not said that it is this answer's.
    Failure,
}

/// What was seen of an answer that is not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its events.
    pub events: u64,
    /// The last usage seen.
    pub usage: Option<Usage>,
    /// About how many tokens the provider has written of it.
    pub estimated_output_tokens: u64,
}

/// Puts events together and draws the conclusions.
#[derive(Debug)]
pub(super) struct EventReader {
    dialect: Dialect,
    layout: Layout,
    event_bytes_max: u64,
    events: u64,
    progress: Progress,
    terminal: Option<Terminal>,
    /// A part of the answer is complete.
    has_finished: bool,
    failure: Option<ErrorReport>,
    counts: Option<Counts>,
    estimated_output_tokens: u64,
    response_id: Option<Box<str>>,
    /// Another answer may begin without an event that ends the one before: every event that may name one is read for that.
    follows_answers: bool,
    /// What was seen of the answer before this one, if the last event has ended it by naming another.
    earlier: Option<Seen>,
    model: Option<Box<str>>,
    /// Of the last event.
    outcome: Outcome,
    /// Of the current event: the value of its `event:` line.
    event_type: Start<TYPE_BYTES_MAX>,
    /// Of the current event: what it means, if the type said so when the data began.
    meaning: Option<Meaning>,
    /// Of the current event: how its data begins, as long as that may matter.
    head: Start<HEAD_BYTES_MAX>,
    data: Data,
    data_bytes: u64,
    json: JsonScan,
}

/// What is done with the data of the current event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// None has come.
    Awaited,
    /// It is only kept in `head`, until that says of which type the event is.
    Typing,
    /// All of it comes at once.
    Whole,
    /// The JSON scan reads it.
    Read,
    /// The JSON scan reads it until it has the identifier of the response; after so many bytes is looked whether it has.
    ReadForId {
        left_bytes: usize,
    },
    /// The JSON scan has read what is needed of it.
    HasId,
    Skipped,
}

impl EventReader {
    pub(super) fn new(dialect: Dialect, event_bytes_max: u64) -> Self {
        let layout = dialect.layout();
        Self {
            dialect,
            layout,
            event_bytes_max,
            events: 0,
            progress: Progress::Silent,
            terminal: None,
            has_finished: false,
            failure: None,
            counts: None,
            estimated_output_tokens: 0,
            response_id: None,
            follows_answers: false,
            earlier: None,
            model: None,
            outcome: Outcome::GoesOn,
            event_type: Start::default(),
            meaning: None,
            head: Start::default(),
            data: Data::Awaited,
            data_bytes: 0,
            json: JsonScan::new(layout.paths, DEPTH_CEILING, MEMBER_BYTES_MAX),
        }
    }

    /// The same where one answer follows the other.
    pub(super) fn of_answers(dialect: Dialect, event_bytes_max: u64) -> Self {
        Self {
            follows_answers: true,
            ..Self::new(dialect, event_bytes_max)
        }
    }

    pub(super) fn line(&mut self, line: &Line<'_>) {
        match *line {
            Line::EventStart => {
                self.event_type.clear();
                self.meaning = None;
            }
            Line::Event(part) => {
                self.event_type.push(part);
            }
            Line::DataStart { is_last } if self.data == Data::Awaited => self.begin_data(is_last),
            Line::DataStart { .. } => self.read_data(b"\n"),
            Line::Data(part) => {
                self.data_bytes += part.len() as u64;
                self.read_data(part);
            }
            Line::Dispatch { has_data, bytes } => {
                if has_data {
                    self.end_event(bytes);
                }
                self.event_type.clear();
            }
        }
    }

    /// What the last event has done.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn failure(&self) -> Option<ErrorReport> {
        self.failure
    }

    pub(super) fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }

    /// What was seen of the answer that the last event has ended by naming another one, once.
    pub(super) fn take_earlier(&mut self) -> Option<Seen> {
        self.earlier.take()
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub(super) fn estimated_output_tokens(&self) -> u64 {
        self.estimated_output_tokens
    }

    /// The last usage seen.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.counts.map(|counts| counts.usage(self.dialect))
    }

    fn begin_data(&mut self, is_last: bool) {
        let event_type = self.event_type.bytes();
        self.data = match self.dialect {
            Dialect::Responses | Dialect::Messages if event_type.is_empty() => Data::Typing,
            Dialect::Responses | Dialect::Messages => {
                self.data_of_meaning(self.dialect.meaning(event_type))
            }
            _ if event_type == b"error" => Data::Read,
            Dialect::ChatCompletions | Dialect::Opaque if is_last => Data::Whole,
            Dialect::ChatCompletions | Dialect::Opaque | Dialect::Gemini => Data::Read,
        };
    }

    fn data_of_meaning(&mut self, meaning: Meaning) -> Data {
        self.meaning = Some(meaning);
        match meaning.wanted {
            Wanted::All => Data::Read,
            Wanted::Id if self.response_id.is_none() || self.follows_answers => Data::ReadForId {
                left_bytes: ID_PIECE_BYTES,
            },
            Wanted::Id | Wanted::Nothing => Data::Skipped,
        }
    }

    fn read_data(&mut self, part: &[u8]) {
        match self.data {
            Data::Skipped | Data::Awaited | Data::HasId => {}
            Data::Typing => {
                let rest = self.head.push(part);
                if self.head.is_full() {
                    self.end_typing();
                    self.read_data(rest);
                }
            }
            Data::Whole => {
                self.data = Data::Read;
                if event::may_have_error_or_usage(part) {
                    self.read_data(part);
                } else {
                    self.head.push(part);
                }
            }
            Data::Read => {
                self.head.push(part);
                // From data that is not JSON nothing is concluded; the scan keeps the error.
                let _ = self.json.feed(part);
            }
            Data::ReadForId { left_bytes } => self.read_for_id(part, left_bytes),
        }
    }

    /// Where it is looked whether the identifier has come depends on the data alone, not on how it was split.
    fn read_for_id(&mut self, part: &[u8], mut left_bytes: usize) {
        let mut rest = part;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(left_bytes));
            let _ = self.json.feed(piece);
            left_bytes -= piece.len();
            rest = behind;
            if left_bytes == 0 {
                if found_id(&self.layout, &self.json).is_some() {
                    self.data = Data::HasId;
                    return;
                }
                left_bytes = ID_PIECE_BYTES;
            }
        }
        self.data = Data::ReadForId { left_bytes };
    }

    /// The type is in `head` or nowhere near, unless an `event:` line has come behind the data.
    fn end_typing(&mut self) {
        self.data = match event::type_at_start(self.head.bytes()) {
            Some(event_type) => self.data_of_meaning(self.dialect.meaning(event_type)),
            None => Data::Read,
        };
        if !self.event_type.bytes().is_empty() {
            self.meaning = None;
        }
        match self.data {
            Data::Read => {
                let _ = self.json.feed(self.head.bytes());
            }
            Data::ReadForId { left_bytes } => {
                let head = self.head;
                self.read_for_id(head.bytes(), left_bytes);
            }
            _ => {}
        }
    }

    fn end_event(&mut self, bytes: u64) {
        if self.data == Data::Typing {
            self.end_typing();
        }
        if self.follows_answers && self.names_another() {
            self.begin_another();
        }
        self.events += 1;
        let is_read = bytes <= self.event_bytes_max && self.json.is_complete();
        let Meaning {
            effect,
            wanted,
            share,
        } = self.meaning.take().unwrap_or_else(|| self.meaning(is_read));
        let tokens = share.tokens(self.data_bytes);
        self.estimated_output_tokens = self.estimated_output_tokens.saturating_add(tokens);
        if is_read && wanted == Wanted::All {
            self.read_usage();
        }
        let was_scanned = self.was_scanned();
        let id = if was_scanned {
            found_id(&self.layout, &self.json)
        } else {
            None
        };
        self.outcome = match effect {
            Effect::Completed => Outcome::Over(Terminal::Completed),
            Effect::Failed if id.is_some() => Outcome::Over(Terminal::Failed),
            Effect::Failed => Outcome::Failure,
            Effect::Preamble | Effect::Output | Effect::Finished => Outcome::GoesOn,
        };
        if let Some(id) = id.filter(|_| self.response_id.is_none()) {
            self.response_id = Some(id.into());
        }
        if effect == Effect::Completed && self.follows_answers && is_read {
            self.model =
                found_text(&self.layout, &self.json, Member::ResponseModel).map(Into::into);
        }
        if effect == Effect::Failed && self.failure.is_none() {
            let report = is_read.then(|| ErrorReport::found(&self.layout, &self.json));
            self.failure = Some(report.unwrap_or_default());
        }
        let (progress, terminal) = match effect {
            Effect::Preamble => (Progress::Preamble, None),
            Effect::Failed => (Progress::Preamble, Some(Terminal::Failed)),
            Effect::Output | Effect::Finished => (Progress::Output, None),
            Effect::Completed => (Progress::Output, Some(Terminal::Completed)),
        };
        self.progress = self.progress.max(progress);
        self.has_finished |= effect == Effect::Finished;
        if self.terminal != Some(Terminal::Failed) {
            self.terminal = terminal.or(self.terminal);
        }
        if was_scanned {
            self.json.reset();
        }
        self.data = Data::Awaited;
        self.data_bytes = 0;
        self.head.clear();
    }

    /// The data of the current event has gone through the JSON scan, at least until its identifier was found.
    fn was_scanned(&self) -> bool {
        matches!(self.data, Data::Read | Data::ReadForId { .. } | Data::HasId)
    }

    /// The current event is another answer's than the events before it.
    fn names_another(&self) -> bool {
        let known = self.response_id();
        if known.is_none() || !self.was_scanned() {
            return false;
        }
        let id = found_id(&self.layout, &self.json);
        id.is_some() && id != known
    }

    /// The answer before this event is over.
    fn begin_another(&mut self) {
        self.earlier = Some(Seen {
            events: self.events,
            usage: self.usage(),
            estimated_output_tokens: self.estimated_output_tokens,
        });
        self.events = 0;
        self.progress = Progress::Silent;
        self.terminal = None;
        self.has_finished = false;
        self.failure = None;
        self.counts = None;
        self.estimated_output_tokens = 0;
        self.response_id = None;
        self.model = None;
    }

    fn meaning(&self, is_read: bool) -> Meaning {
        let event_type = self.event_type.bytes();
        if !self.dialect.has_event_types() {
            let effect = match event_type {
                _ if self.head.bytes().starts_with(b"[DONE]") => Effect::Completed,
                b"error" => Effect::Failed,
                _ if is_read => event::effect_of_members(&self.layout, &self.json),
                _ => Effect::Output,
            };
            let share = match effect {
                Effect::Output | Effect::Finished => self.dialect.share_of_untyped(),
                _ => Share::None,
            };
            return Meaning {
                effect,
                wanted: Wanted::All,
                share,
            };
        }
        if !event_type.is_empty() {
            return self.dialect.meaning(event_type);
        }
        if let Some(event_type) = event::type_at_start(self.head.bytes()) {
            return self.dialect.meaning(event_type);
        }
        let found = self.layout.found(&self.json, Member::Type).next();
        let event_type = found.filter(|_| is_read).and_then(Found::as_str);
        self.dialect
            .meaning(event_type.as_deref().unwrap_or_default().as_bytes())
    }

    fn read_usage(&mut self) {
        if let Some(counts) = Counts::found(&self.layout, &self.json) {
            // In Messages one event has the tokens read, later ones those written; Gemini's early ones have only some.
            let is_put_together = matches!(self.dialect, Dialect::Messages | Dialect::Gemini);
            let earlier = self.counts.filter(|_| is_put_together);
            let updated = earlier.unwrap_or_default().updated(counts);
            if counts.has_output() {
                self.estimated_output_tokens = updated.usage(self.dialect).output_tokens;
            }
            self.counts = Some(updated);
        }
    }
}

/// The identifier of the response that the current event is part of.
fn found_id<'j>(layout: &Layout, json: &'j JsonScan) -> Option<&'j str> {
    found_text(layout, json, Member::ResponseId)
}

fn found_text<'j>(layout: &Layout, json: &'j JsonScan, member: Member) -> Option<&'j str> {
    layout.found(json, member).find_map(Found::as_plain_str)
}
