//! What an answer used.

mod tariff;

pub use tariff::{Charge, Tariff};

use super::forward::Ending;
use super::limit::Permit;
use relay_wire::dialect::{
    AnswerObserver, Dialect, ErrorReport, Progress, StreamObserver, Terminal, Usage,
};
use std::time::Instant;

/// Of a text, about as many bytes as a token stands for.
const BYTES_PER_TOKEN: u64 = 4;

/// Everything that is known of an answer once it has been forwarded.
pub struct Transcript {
    /// How it ended.
    pub ending: Ending,
    /// The status that the client saw.
    pub status: u16,
    /// Bytes of the body sent to the client.
    pub body_bytes: u64,
    /// Events, if it was a stream.
    pub events: u64,
    /// Tokens as the provider counted them, if it said so.
    pub usage: Option<Usage>,
    /// The answer came to its proper end at the provider, whatever the client got of it: its usage is the last word.
    pub is_final: bool,
    /// Tokens of output, by the length of what the provider sent.
    pub estimated_output_tokens: u64,
    /// It was a stream.
    pub streamed: bool,
}

impl Transcript {
    /// Of a connection on which answers were charged for one by one.
    pub fn of_tunnel() -> Self {
        Self {
            ending: Ending::Complete,
            status: 101,
            body_bytes: 0,
            events: 0,
            usage: None,
            is_final: false,
            estimated_output_tokens: 0,
            streamed: false,
        }
    }
}

/// What was seen of an answer of which nothing was passed on, since its client had left by then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpassed {
    usage: Option<Usage>,
    estimated_output_tokens: u64,
}

impl Unpassed {
    /// As if the client had left as soon as it had the answer's head.
    fn transcript(self) -> Transcript {
        Transcript {
            ending: Ending::ClientGone,
            status: 200,
            body_bytes: 0,
            events: 0,
            usage: self.usage,
            is_final: false,
            estimated_output_tokens: self.estimated_output_tokens,
            streamed: false,
        }
    }
}

/// The request is over: what it has used is charged in place of what was set aside, and its place is given back.
///
/// ```
/// # use codex_relay::request::{limit::Permit, meter::{Transcript, settle}};
/// # use std::time::Instant;
/// fn over(permit: Permit, transcript: &Transcript) {
///     settle(permit, transcript, 0, Instant::now());
/// }
/// ```
///
/// A request is settled once:
///
/// ```compile_fail,E0382
/// # use codex_relay::request::{limit::Permit, meter::{Transcript, settle}};
/// # use std::time::Instant;
/// fn over(permit: Permit, transcript: &Transcript) {
///     settle(permit, transcript, 0, Instant::now());
///     settle(permit, transcript, 0, Instant::now());
/// }
/// ```
pub fn settle(permit: Permit, transcript: &Transcript, body_bytes: u64, now: Instant) -> Charge {
    let charge = permit.tariff().charge(transcript, body_bytes);
    permit.settle(&charge.used, now);
    charge
}

/// The request is over, before its client has seen anything of an answer: what the provider has done for it until then is charged.
pub fn settle_unpassed(permit: Permit, unpassed: Unpassed, body_bytes: u64) -> Charge {
    settle(permit, &unpassed.transcript(), body_bytes, Instant::now())
}

/// Reads an answer as it passes.
#[allow(
    clippy::large_enum_variant,
    reason = "one per answer, in the answer's own box: another one would cost an allocation"
)]
pub enum Observer {
    /// Server-sent events. In a box of its own: with it an answer would be larger than 1,032 bytes, the most that glibc's malloc
    /// keeps at hand for each thread.
    Stream(Box<StreamObserver>),
    /// One JSON document.
    Document(AnswerObserver),
    /// Something in which there is nothing to read but how long it is.
    Blind {
        /// So far.
        bytes: u64,
    },
}

impl Observer {
    /// The observer that fits the answer's media type.
    pub fn new(
        dialect: Dialect,
        content_type: Option<&[u8]>,
        event_bytes_max: u64,
        depth_max: usize,
    ) -> Self {
        match content_type {
            Some(media) if is_media_type(media, b"text/event-stream") => {
                Self::Stream(Box::new(StreamObserver::new(dialect, event_bytes_max)))
            }
            Some(media) if is_media_type(media, b"application/json") => {
                Self::Document(AnswerObserver::new(dialect, depth_max))
            }
            _ => Self::blind(),
        }
    }

    /// One that sees only how long the answer is.
    pub fn blind() -> Self {
        Self::Blind { bytes: 0 }
    }

    /// Observes the next bytes of the body.
    pub fn observe(&mut self, payload: &[u8]) {
        match self {
            Self::Stream(stream) => stream.observe(payload),
            Self::Document(document) => document.observe(payload),
            Self::Blind { bytes } => *bytes += payload.len() as u64,
        }
    }

    /// Is the answer a stream of events?
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// There is nothing to read in the answer.
    pub fn is_blind(&self) -> bool {
        matches!(self, Self::Blind { .. })
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        if let Self::Stream(stream) = self {
            stream.events()
        } else {
            0
        }
    }

    /// The tokens, as far as known.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::Stream(stream) => stream.usage(),
            Self::Document(document) => document.usage(),
            Self::Blind { .. } => None,
        }
    }

    /// About how many tokens the provider has written, by the length of what has passed.
    pub fn estimated_output_tokens(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.estimated_output_tokens(),
            Self::Document(document) => document.estimated_output_tokens(),
            Self::Blind { bytes } => bytes / BYTES_PER_TOKEN,
        }
    }

    /// All that counts where nothing of the answer is passed on.
    pub fn unpassed(&self) -> Unpassed {
        Unpassed {
            usage: self.usage(),
            estimated_output_tokens: self.estimated_output_tokens(),
        }
    }

    /// How the stream said that it is over.
    pub fn terminal(&self) -> Option<Terminal> {
        if let Self::Stream(stream) = self {
            stream.terminal()
        } else {
            None
        }
    }

    /// The same where its body ends here.
    pub fn terminal_at_end(&self) -> Option<Terminal> {
        if let Self::Stream(stream) = self {
            stream.terminal_at_end()
        } else {
            None
        }
    }

    /// How far a stream has come.
    pub fn progress(&self) -> Progress {
        if let Self::Stream(stream) = self {
            stream.progress()
        } else {
            Progress::Silent
        }
    }

    /// What the provider said about its failure, if it reported one in its stream.
    pub fn failure(&self) -> Option<ErrorReport> {
        if let Self::Stream(stream) = self {
            stream.failure()
        } else {
            None
        }
    }

    /// The identifier of a response (Responses API): of a stream once an event has named it, else at the answer's end.
    pub fn response_id(&self) -> Option<&str> {
        match self {
            Self::Stream(stream) => stream.response_id(),
            Self::Document(document) => document.response_id(),
            Self::Blind { .. } => None,
        }
    }

    /// Before, between or behind the events of a stream: something of the gateway's own may be sent here.
    pub fn is_at_boundary(&self) -> bool {
        if let Self::Stream(stream) = self {
            stream.at_boundary()
        } else {
            false
        }
    }
}

/// Is this `Content-Type` of that media type, whatever its parameters (RFC 9110 section 8.3.1)?
pub fn is_media_type(content_type: &[u8], media_type: &[u8]) -> bool {
    content_type
        .split(|&byte| byte == b';')
        .next()
        .is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(media_type))
}

#[cfg(test)]
mod tests {
    use super::{Observer, is_media_type};
    use relay_wire::dialect::Dialect;

    #[test]
    fn of_what_cannot_be_read_the_length_is_known() {
        let types = [None, Some(&b"audio/mpeg"[..]), Some(b"text/plain")];
        for content_type in types {
            let mut observer = Observer::new(Dialect::Responses, content_type, 100, 8);
            observer.observe(&[0; 5]);
            observer.observe(&[0; 4]);
            assert_eq!(observer.estimated_output_tokens(), 2);
            assert_eq!(observer.usage(), None);
        }
    }

    #[test]
    fn media_types_without_their_parameters() {
        assert!(is_media_type(b"text/event-stream", b"text/event-stream"));
        assert!(is_media_type(
            b"Text/Event-Stream; charset=utf-8",
            b"text/event-stream"
        ));
        assert!(!is_media_type(b"text/event-streams", b"text/event-stream"));
        assert!(!is_media_type(b"", b"text/event-stream"));
    }
}
