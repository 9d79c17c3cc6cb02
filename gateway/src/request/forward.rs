//! The answer's way to the client: its head once, then its body as it comes.
//!
//! The buffer that the kernel filled is the one that is sent: chunked framing from the upstream is checked by an
//! incremental parser and the same bytes go on. What is read out of them is read after they were sent. A client that
//! does not read stops the reads from its upstream: one buffer waits, and the kernel's windows do the rest.

mod head;
mod lessons;
mod passage;
mod replaced;

pub(super) use head::OwnFields;
pub(super) use lessons::fault_of_report;

use super::Request;
use super::audit::Trail;
use super::egress::Answer;
use super::limit::Permit;
use super::meter::Transcript;
use super::reply::{AwaitingHead, Done, Owed, Reply, Unsent};
use crate::worker::Worker;
use lessons::{End, Lessons};
use passage::{Passage, outlasts_client};
use relay_wire::head::{Framing, Version};
use std::pin::pin;
use std::time::Instant;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was passed on, or the client left after the event that ends its stream.
    Complete,
    /// The provider ended the stream properly, but without the event that ends it in this dialect.
    Unfinished,
    /// The client left.
    ClientGone,
    /// The client took nothing for too long.
    ClientStalled,
    /// The provider broke off.
    UpstreamBroken,
    /// The provider was silent, or busy, for too long; or the whole took too long, whoever was slow.
    Deadline,
    /// The gateway itself ended, and did not wait for the rest.
    Shutdown,
    /// A stream had been begun before the answer, and that was none: an error event stands for it.
    Replaced,
}

impl Ending {
    /// A name for logs and metrics, from a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unfinished => "unfinished",
            Self::ClientGone => "client_gone",
            Self::ClientStalled => "client_stalled",
            Self::UpstreamBroken => "upstream_broken",
            Self::Deadline => "deadline",
            Self::Shutdown => "shutdown",
            Self::Replaced => "replaced",
        }
    }
}

/// In which form the body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// With the framing it came in.
    AsIs,
    /// Without the framing it came in: to the client the connection's end is the body's, since it speaks HTTP/1.0.
    Unframed,
    /// In chunks of ours: the client was not told how long it is, and it did not come in chunks, or does not go on as it came.
    Rechunked,
}

/// Forwards the answer to its end, or as far as it goes.
pub async fn forward<'c>(
    worker: &'static Worker,
    request: &mut Request<'c>,
    mut answer: Box<Answer>,
    mut client: Reply<'c, AwaitingHead>,
    permit: &Permit,
    trail: &mut Trail,
) -> (Reply<'c, Done>, Transcript) {
    let (version, head_is_out) = (client.version(), client.is_begun());
    let is_changed = answer.has_hidden_usage();
    let form = form_for(answer.head.framing, version, head_is_out, is_changed);
    let closes_to_end = form == Form::Unframed
        || version == Version::Http10 && answer.head.framing == Framing::UntilClose;
    if closes_to_end || !answer.request_was_sent || worker.is_draining() {
        client.close_after();
    }
    let lessons = Lessons::of(request, &answer, trail.tenant());
    let outlasts_client = outlasts_client(worker, request, &answer, trail.tenant());
    // From here on nothing is sent a second time.
    request.body.let_go();
    trail.note_first_byte(answer.answered_at);
    let now = Instant::now();
    let overhead = answer.overhead + now.saturating_duration_since(answer.answered_at);
    trail.note_overhead(overhead);
    let (client, head) = match client.owed() {
        Owed::All(client) => {
            let own = OwnFields {
                attempts: trail.attempts(),
                overhead,
                standings: permit.standings(now),
            };
            let head = head::for_client(worker, request, &answer, form, &client, &own);
            (Owed::All(client), head)
        }
        Owed::Rest(client) if replaced::fits(&answer) => (Owed::Rest(client), Vec::new()),
        Owed::Rest(client) => {
            let replaced = replaced::replace(worker, request, &mut answer, client, trail);
            let (done, transcript) = Box::pin(replaced).await;
            let end = End {
                ending: transcript.ending,
                owes_last_event: false,
                ran_out_of_time: false,
            };
            lessons::report(worker, &mut answer, &end, None);
            return (done, transcript);
        }
    };
    let _open = answer
        .observer
        .is_stream()
        .then(|| worker.count_open_stream());
    let mut passage = Passage::new(worker, answer, form, lessons, outlasts_client);
    let (client, ending) = pin!(passage.run(worker, request, client, head)).await;
    let transcript = passage.transcript(request.dialect, ending);
    passage.report(worker, request.dialect, ending);
    let done = if passage.is_whole() {
        client.complete()
    } else {
        client.cut()
    };
    if passage.was_read_to_its_end() {
        passage.release(worker);
    }
    (done, transcript)
}

/// The head with which a client hears that from here on its connection is no longer one of requests and answers.
pub(super) fn switching_head(
    worker: &Worker,
    request: &Request<'_>,
    answer: &Answer,
    client: &Reply<'_, Unsent>,
    own: &OwnFields,
) -> Vec<u8> {
    head::for_client(worker, request, answer, Form::AsIs, client, own)
}

/// `head_is_out`: the client was not told how long the body is. `is_changed`: it is not passed on as it comes.
fn form_for(framing: Framing, version: Version, head_is_out: bool, is_changed: bool) -> Form {
    match (framing, version) {
        (Framing::Chunked, Version::Http11) if is_changed => Form::Rechunked,
        (Framing::Chunked, Version::Http10) => Form::Unframed,
        (Framing::UntilClose, Version::Http11) => Form::Rechunked,
        (Framing::Length(_), Version::Http10) if is_changed => Form::Unframed,
        (Framing::Length(_), Version::Http11) if is_changed => Form::Rechunked,
        (Framing::Length(_) | Framing::Empty, Version::Http10) if head_is_out => Form::Unframed,
        (Framing::Length(_) | Framing::Empty, Version::Http11) if head_is_out => Form::Rechunked,
        _ => Form::AsIs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_keeps_what_the_head_has_promised() {
        let (old, new) = (Version::Http10, Version::Http11);
        let length = Framing::Length(5);
        for (framing, version, [head_is_out, is_changed], form) in [
            (Framing::Chunked, new, [false, false], Form::AsIs),
            (Framing::Chunked, new, [true, false], Form::AsIs),
            (Framing::Chunked, old, [false, false], Form::Unframed),
            (Framing::Chunked, old, [true, false], Form::Unframed),
            (Framing::UntilClose, new, [false, false], Form::Rechunked),
            (Framing::UntilClose, new, [true, false], Form::Rechunked),
            (Framing::UntilClose, old, [false, false], Form::AsIs),
            (Framing::UntilClose, old, [true, false], Form::AsIs),
            (length, new, [false, false], Form::AsIs),
            (length, new, [true, false], Form::Rechunked),
            (length, old, [false, false], Form::AsIs),
            (length, old, [true, false], Form::Unframed),
            (Framing::Empty, new, [false, false], Form::AsIs),
            (Framing::Empty, new, [true, false], Form::Rechunked),
            (Framing::Chunked, new, [false, true], Form::Rechunked),
            (Framing::Chunked, new, [true, true], Form::Rechunked),
            (Framing::Chunked, old, [false, true], Form::Unframed),
            (Framing::UntilClose, new, [false, true], Form::Rechunked),
            (Framing::UntilClose, old, [false, true], Form::AsIs),
            (length, new, [false, true], Form::Rechunked),
            (length, old, [false, true], Form::Unframed),
            (Framing::Empty, new, [false, true], Form::AsIs),
        ] {
            let found = form_for(framing, version, head_is_out, is_changed);
            assert_eq!(
                found, form,
                "{framing:?}, {version:?}, {head_is_out}, {is_changed}"
            );
        }
    }
}
