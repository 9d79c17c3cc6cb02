//! The answer's way to the client: its head once, then its body as it comes.
//!
//! The buffer that the kernel filled is the one that is sent: chunked framing from the upstream is checked by an
//! incremental parser and the same bytes go on. What is read out of them is read after they were sent. A client that
//! does not read stops the reads from its upstream: one buffer waits, and the kernel's windows do the rest.

mod head;

use super::Request;
use super::audit::Trail;
use super::egress::Answer;
use super::meter::Transcript;
use super::reply::{AwaitingHead, Done, Reply, Streaming};
use crate::worker::Worker;
use relay_io::{Interrupt, IoError, Lease, Stream};
use relay_wire::body::Piece;
use relay_wire::dialect::Terminal;
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, chunk_size_line};
use relay_wire::head::{Framing, Version};
use smallvec::SmallVec;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

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
    /// The provider was silent, or busy, for too long.
    Deadline,
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
        }
    }
}

/// In which form the body goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With the framing it came in.
    AsIs,
    /// Without the chunks it came in: the client speaks HTTP/1.0.
    Unchunked,
    /// In chunks of ours: it came without framing.
    Rechunked,
}

/// Places in a buffer. A handful is usual; where there are more, the room for them is kept.
type Ranges = SmallVec<[Range<usize>; 4]>;

/// An answer on its way.
struct Passage {
    answer: Box<Answer>,
    form: Form,
    /// What of the buffer is sent, in order; kept so that the steady state allocates nothing.
    sent: Ranges,
    /// What of the buffer is payload.
    payload: Ranges,
    body_bytes: u64,
    /// Everything there was has been sent.
    is_whole: bool,
    /// Bytes behind the end of the body: nobody asked for them.
    has_excess: bool,
    /// The point in time at which it must be over.
    total_deadline: u64,
}

/// Forwards the answer to its end, or as far as it goes.
pub async fn forward<'c>(
    worker: &'static Worker,
    request: &mut Request<'c>,
    answer: Box<Answer>,
    mut client: Reply<'c, AwaitingHead>,
    trail: &mut Trail,
) -> (Reply<'c, Done>, Transcript) {
    let form = form_for(answer.head.framing, client.version());
    let closes_to_end = client.version() == Version::Http10
        && matches!(answer.head.framing, Framing::Chunked | Framing::UntilClose);
    if closes_to_end || !answer.request_was_sent || worker.is_draining() {
        client.close_after();
    }
    // From here on nothing is sent a second time.
    request.body.let_go();
    let _open = answer
        .observer
        .is_stream()
        .then(|| worker.count_open_stream());
    let head = head::for_client(worker, request, &answer, form, &client, trail);
    let total = if answer.observer.is_stream() {
        worker.policy.timeouts.stream_total
    } else {
        worker.policy.timeouts.answer_total
    };
    let mut passage = Passage {
        total_deadline: answer.connection.stream.deadline_at(total),
        answer,
        form,
        sent: Ranges::new(),
        payload: Ranges::new(),
        body_bytes: 0,
        is_whole: false,
        has_excess: false,
    };
    let status = passage.answer.head.status;
    let (client, ending) = passage.run(worker, request, client, head).await;
    trail.note_first_byte(passage.answer.answered_at);
    let transcript = Transcript {
        ending,
        status,
        body_bytes: passage.body_bytes,
        events: passage.answer.observer.events(),
        usage: passage.answer.observer.usage(),
        streamed: passage.answer.observer.is_stream(),
    };
    let done = if passage.is_whole {
        passage.release(worker);
        client.complete()
    } else {
        client.cut()
    };
    (done, transcript)
}

fn form_for(framing: Framing, version: Version) -> Form {
    match (framing, version) {
        (Framing::Chunked, Version::Http10) => Form::Unchunked,
        (Framing::UntilClose, Version::Http11) => Form::Rechunked,
        _ => Form::AsIs,
    }
}

impl Passage {
    async fn run<'c>(
        &mut self,
        worker: &'static Worker,
        request: &Request<'c>,
        client: Reply<'c, AwaitingHead>,
        head: Vec<u8>,
    ) -> (Reply<'c, Streaming>, Ending) {
        let mut lease = self.answer.lease.take();
        lease.consume(self.answer.head.head_bytes);
        let mut step = self.frame(lease.filled());
        let first_payload = self
            .sent
            .first()
            .map_or(&[][..], |range| &lease.filled()[range.clone()]);
        let mut line = [0; CHUNK_SIZE_LINE_MAX];
        let (before, after) = self.chunk_around(first_payload.len(), &mut line);
        let mut parts = [
            IoSlice::new(&head),
            IoSlice::new(before),
            IoSlice::new(first_payload),
            IoSlice::new(after),
        ];
        let (client, sent) = client.begin(worker, &mut parts).await;
        worker.keep_head_buffer(head);
        if let Err(error) = sent {
            return (client, self.client_failed(&error));
        }
        if !self.sent.is_empty() {
            self.sent.remove(0);
            if let Err(error) = self.send(worker, client.client(), &lease).await {
                return (client, self.client_failed(&error));
            }
        }
        // What was read of a stream before it was worth forwarding was observed then.
        let mut is_observed = self.answer.observer.is_stream();
        let mut held = std::mem::take(&mut self.answer.held).into_iter();
        loop {
            for range in &self.payload {
                if !is_observed {
                    self.answer.observer.observe(&lease.filled()[range.clone()]);
                }
                self.body_bytes += range.len() as u64;
            }
            drop(lease);
            match step {
                Step::More => {}
                Step::End => {
                    self.is_whole = true;
                    return (client, self.ended());
                }
                Step::Broken => return self.broke(request, client, Ending::UpstreamBroken),
            }
            if let Some(next) = held.next() {
                lease = next;
                step = self.frame(lease.filled());
                if let Err(error) = self.send(worker, client.client(), &lease).await {
                    return (client, self.client_failed(&error));
                }
                continue;
            }
            is_observed = false;
            self.let_heartbeat_beat(worker, request, client.client());
            self.set_deadline(worker);
            let received = self.answer.connection.stream.receive(&worker.pool).await;
            client.client().disarm_heartbeat();
            lease = match received {
                Ok(Some(lease)) => lease,
                Ok(None) if self.answer.parser.may_end_here() => {
                    return self.end_without_framing(worker, request, client).await;
                }
                Ok(None) => return self.broke(request, client, Ending::UpstreamBroken),
                Err(error) => {
                    let ending = self.upstream_failed(&error, client.client());
                    return self.broke(request, client, ending);
                }
            };
            step = self.frame(lease.filled());
            if let Err(error) = self.send(worker, client.client(), &lease).await {
                return (client, self.client_failed(&error));
            }
        }
    }

    /// Finds out what of the buffer goes on, and what of it is payload.
    fn frame(&mut self, bytes: &[u8]) -> Step {
        self.sent.clear();
        self.payload.clear();
        let mut at = 0;
        let keeps_framing = self.form == Form::AsIs;
        loop {
            match self.answer.parser.next(bytes, at) {
                Ok(Some(Piece::Payload(range))) => {
                    at = range.end;
                    push_joined(&mut self.sent, range.clone());
                    push_joined(&mut self.payload, range);
                }
                Ok(Some(Piece::Framing(range))) => {
                    at = range.end;
                    if keeps_framing {
                        push_joined(&mut self.sent, range);
                    }
                }
                Ok(Some(Piece::Trailer(range))) => at = range.end,
                Ok(Some(Piece::End(index))) => {
                    self.has_excess = index < bytes.len();
                    return Step::End;
                }
                Ok(None) if self.answer.parser.is_complete() => return Step::End,
                Ok(None) => return Step::More,
                Err(_) => return Step::Broken,
            }
        }
    }

    /// Sends what `frame` found, all of the parts that the buffer allows in one call.
    async fn send(
        &mut self,
        worker: &Worker,
        client: &Stream,
        lease: &Lease,
    ) -> Result<(), IoError> {
        if let [only] = &self.sent[..] {
            let payload = &lease.filled()[only.clone()];
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let (before, after) = self.chunk_around(payload.len(), &mut line);
            let mut three = [
                IoSlice::new(before),
                IoSlice::new(payload),
                IoSlice::new(after),
            ];
            let parts = if before.is_empty() {
                &mut three[1..2]
            } else {
                &mut three[..]
            };
            return self.send_parts(worker, client, parts).await;
        }
        let mut rest = &self.sent[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PARTS_MAX));
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            for (part, range) in parts.iter_mut().zip(now) {
                *part = IoSlice::new(&lease.filled()[range.clone()]);
            }
            self.send_parts(worker, client, &mut parts[..now.len()])
                .await?;
            rest = later;
        }
        Ok(())
    }

    async fn send_parts(
        &self,
        worker: &Worker,
        client: &Stream,
        parts: &mut [IoSlice<'_>],
    ) -> Result<(), IoError> {
        // While the client is slow, only the time of the whole answer runs, not the time between two events.
        self.answer
            .connection
            .stream
            .set_deadline_at(self.total_deadline);
        let stall_timeout = worker.policy.timeouts.write_stall;
        client
            .send_within(parts, stall_timeout, self.total_deadline)
            .await
    }

    /// What stands before and behind so many bytes of payload in the form in which they go on.
    fn chunk_around<'l>(
        &self,
        payload_bytes: usize,
        line: &'l mut [u8; CHUNK_SIZE_LINE_MAX],
    ) -> (&'l [u8], &'static [u8]) {
        if self.form != Form::Rechunked || payload_bytes == 0 {
            return (b"", b"");
        }
        let taken = chunk_size_line(payload_bytes, line);
        (&line[CHUNK_SIZE_LINE_MAX - taken..], b"\r\n")
    }

    fn set_deadline(&self, worker: &Worker) {
        let timeouts = &worker.policy.timeouts;
        let idle_timeout = if !self.answer.observer.is_stream() {
            timeouts.answer_total
        } else if self.answer.observer.events() == 0 {
            timeouts.first_event
        } else {
            timeouts.event_idle
        };
        self.answer
            .connection
            .stream
            .set_deadline_within(idle_timeout, self.total_deadline);
    }

    /// While the upstream is silent between two events, the client may be sent something harmless.
    fn let_heartbeat_beat(&self, worker: &Worker, request: &Request<'_>, client: &Stream) {
        let every = worker.policy.timeouts.heartbeat;
        if every == Duration::ZERO
            || self.answer.observer.terminal().is_some()
            || self.answer.observer.events() == 0
            || !self.answer.observer.is_at_boundary()
            || !self.answer.parser.at_chunk_boundary()
        {
            return;
        }
        let chunked = self.is_chunked_to_client();
        if let Some(bytes) = worker.heartbeats.of(request.dialect, chunked) {
            client.arm_heartbeat(bytes, every);
        }
    }

    fn is_chunked_to_client(&self) -> bool {
        match self.form {
            Form::Rechunked => true,
            Form::Unchunked => false,
            Form::AsIs => self.answer.head.framing == Framing::Chunked,
        }
    }

    fn ended(&self) -> Ending {
        match self.answer.observer.terminal() {
            None if self.answer.observer.is_stream() && !self.answer.is_opaque => {
                Ending::Unfinished
            }
            _ => Ending::Complete,
        }
    }

    /// The upstream has closed the connection, and that is how this body ends.
    async fn end_without_framing<'c>(
        &mut self,
        worker: &Worker,
        request: &Request<'_>,
        client: Reply<'c, Streaming>,
    ) -> (Reply<'c, Streaming>, Ending) {
        let ending = self.ended();
        if ending == Ending::Unfinished {
            // Nothing tells a proper end from a broken connection here, so the stream's own last event has to.
            return self.broke(request, client, Ending::UpstreamBroken);
        }
        if self.form == Form::Rechunked {
            let mut last = [IoSlice::new(b"0\r\n\r\n")];
            if let Err(error) = self.send_parts(worker, client.client(), &mut last).await {
                return (client, self.client_failed(&error));
            }
        }
        self.is_whole = true;
        (client, ending)
    }

    /// The answer cannot go on. If the client is still there and stands between two events, it is told in its dialect; in
    /// any case it must see that this is not the end.
    fn broke<'c>(
        &self,
        request: &Request<'_>,
        client: Reply<'c, Streaming>,
        ending: Ending,
    ) -> (Reply<'c, Streaming>, Ending) {
        if matches!(ending, Ending::Complete | Ending::ClientGone) {
            return (client, ending);
        }
        if self.answer.observer.terminal().is_none()
            && self.answer.observer.is_at_boundary()
            && self.answer.parser.at_chunk_boundary()
            && (self.is_chunked_to_client()
                || !matches!(self.answer.head.framing, Framing::Length(_)))
            && let Some(event) = request.dialect.error_event(
                "upstream_stream_incomplete",
                "The provider's stream ended before it was complete.",
                None,
                request.id.as_str(),
            )
        {
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let taken = chunk_size_line(event.len(), &mut line);
            let size_line = &line[CHUNK_SIZE_LINE_MAX - taken..];
            let chunk = [
                IoSlice::new(size_line),
                IoSlice::new(&event),
                IoSlice::new(b"\r\n"),
            ];
            let parts = if self.is_chunked_to_client() {
                &chunk[..]
            } else {
                &chunk[1..2]
            };
            // Last words: if the client does not take them at once, the cut alone has to do.
            client.client().send_without_waiting(parts);
        }
        (client, ending)
    }

    fn client_failed(&self, error: &IoError) -> Ending {
        match error {
            _ if self.answer.observer.terminal() == Some(Terminal::Completed) => Ending::Complete,
            IoError::Interrupted(Interrupt::Deadline) => Ending::ClientStalled,
            _ => Ending::ClientGone,
        }
    }

    fn upstream_failed(&self, error: &IoError, client: &Stream) -> Ending {
        match error {
            // Clients close as soon as they have read the event that ends the stream.
            IoError::Interrupted(Interrupt::Tied)
                if self.answer.observer.terminal() == Some(Terminal::Completed) =>
            {
                Ending::Complete
            }
            IoError::Interrupted(Interrupt::Tied)
                if client.interrupted() == Some(Interrupt::Deadline) =>
            {
                Ending::ClientStalled
            }
            IoError::Interrupted(Interrupt::Tied) => Ending::ClientGone,
            IoError::Interrupted(Interrupt::Deadline) => Ending::Deadline,
            _ => Ending::UpstreamBroken,
        }
    }

    /// Keeps the connection for the next request, if it is certain where the next answer begins.
    fn release(self, worker: &Worker) {
        let answer = *self.answer;
        let ends_itself = answer.parser.is_complete() && answer.head.keep_alive;
        if ends_itself && answer.request_was_sent && !self.has_excess {
            worker.idle.keep(answer.connection, &worker.policy.timeouts);
        }
    }
}

/// What follows what was read.
enum Step {
    More,
    End,
    Broken,
}

/// Parts of one `sendmsg` where a buffer holds many small chunks whose framing is taken out.
const PARTS_MAX: usize = 64;

fn push_joined(ranges: &mut Ranges, next: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}
