//! What a provider's messages say, where each of them is one event of an answer (WebSocket).

use super::stream::{EventReader, Outcome, Seen};
use super::{Dialect, ErrorReport, Terminal, Usage};
use crate::sse::Line;

/// Reads the messages of one answer after the other as they pass.
#[derive(Debug)]
pub struct MessageObserver {
    dialect: Dialect,
    event_bytes_max: u64,
    reader: EventReader,
    /// Bytes of the message that has begun; `None`: none has.
    message_bytes: Option<u64>,
}

/// What a message has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The answer goes on, or nothing is said about it.
    Nothing,
    /// The answer is over.
    Over(Terminal),
    /// Something has failed, and it is not said that it is this answer.
    Failure,
}

impl MessageObserver {
    /// An observer. Messages longer than `event_bytes_max` are counted but not read.
    pub fn new(dialect: Dialect, event_bytes_max: u64) -> Self {
        Self {
            dialect,
            event_bytes_max,
            reader: EventReader::of_answers(dialect, event_bytes_max),
            message_bytes: None,
        }
    }

    /// Observes the next bytes of a message.
    pub fn observe(&mut self, payload: &[u8]) {
        let bytes = self.message_bytes.unwrap_or_else(|| {
            self.reader.line(&Line::EventStart);
            self.reader.line(&Line::DataStart { is_last: false });
            0
        });
        self.message_bytes = Some(bytes + payload.len() as u64);
        self.reader.line(&Line::Data(payload));
    }

    /// The message is over.
    pub fn end_message(&mut self) -> Told {
        let Some(bytes) = self.message_bytes.take() else {
            return Told::Nothing;
        };
        self.reader.line(&Line::Dispatch {
            has_data: true,
            bytes,
        });
        match self.reader.outcome() {
            Outcome::GoesOn => Told::Nothing,
            Outcome::Over(terminal) => Told::Over(terminal),
            Outcome::Failure => Told::Failure,
        }
    }

    /// The next message belongs to another answer.
    pub fn start_over(&mut self) {
        self.reader = EventReader::of_answers(self.dialect, self.event_bytes_max);
    }

    /// What was seen of an answer of which the last message has shown that it is over: it was of another one. Told once.
    pub fn take_earlier(&mut self) -> Option<Seen> {
        self.reader.take_earlier()
    }

    /// The model that has answered, if the answer's last message has named it.
    pub fn model(&self) -> Option<&str> {
        self.reader.model()
    }

    /// Messages of the answer so far.
    pub fn messages(&self) -> u64 {
        self.reader.events()
    }

    /// The identifier of the response, once a message has named it.
    pub fn response_id(&self) -> Option<&str> {
        self.reader.response_id()
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.reader.usage()
    }

    /// About how many tokens the provider has written of the answer so far.
    pub fn estimated_output_tokens(&self) -> u64 {
        self.reader.estimated_output_tokens()
    }

    /// What the provider said about its failure, if it reported one.
    pub fn failure(&self) -> Option<ErrorReport> {
        self.reader.failure()
    }
}
