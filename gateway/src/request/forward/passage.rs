//! An answer on its way to the client, from its first byte to its end.

mod drain;
mod end;
mod hidden;
mod sending;

pub(super) use drain::outlasts_client;

use super::lessons::{self, End, Lessons};
use super::{Ending, Form};
use crate::request::Request;
use crate::request::egress::{Answer, Told};
use crate::request::meter::Transcript;
use crate::request::reply::{Owed, Reply, Streaming};
use crate::worker::Worker;
use end::client_failed;
use hidden::HiddenUsage;
use relay_io::{IoError, Lease, Stream};
use relay_wire::body::Piece;
use relay_wire::dialect::{Dialect, Progress};
use relay_wire::encode::CHUNK_SIZE_LINE_MAX;
use relay_wire::head::Framing;
use smallvec::SmallVec;
use std::io::IoSlice;
use std::ops::Range;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Places in a buffer. A handful is usual; where there are more, the room for them is kept.
type Ranges = SmallVec<[Range<usize>; 4]>;

/// What goes out together. A handful as a rule; where a read brings more pieces than fit here, it costs an allocation: they borrow
/// from the buffer that was read, so that no room for them can be kept longer than that.
type Parts<'l> = SmallVec<[IoSlice<'l>; 8]>;

/// What was read before the head went out: seldom more than what came with it.
type Buffers<'l> = SmallVec<[&'l [u8]; 4]>;

/// An answer on its way.
pub(super) struct Passage {
    answer: Box<Answer>,
    form: Form,
    lessons: Lessons,
    /// What of the buffer is sent, in order; kept so that its room is found once for an answer.
    sent: Ranges,
    /// What of the buffer is payload.
    payload: Ranges,
    /// What the client is not to see of it.
    hidden: Option<Box<HiddenUsage>>,
    body_bytes: u64,
    /// Everything there was has been sent.
    is_whole: bool,
    /// The end of the body has come: by its framing, or as the end of the connection where that may be its end.
    is_over: bool,
    /// The provider's answer is read to its end even if the client leaves.
    outlasts_client: bool,
    /// How it ended at the provider, if that was after the client had left.
    drained: Option<Ending>,
    /// Bytes behind the end of the body: nobody asked for them.
    has_excess: bool,
    /// The point in time at which it must be over.
    total_deadline: u64,
    /// The point in time from which on a provider that was heard last before it is silent for too long, whatever it sends.
    patience_ends: u64,
}

impl Passage {
    /// The answer that goes on in this form.
    pub(super) fn new(
        worker: &Worker,
        answer: Box<Answer>,
        form: Form,
        lessons: Lessons,
        outlasts_client: bool,
    ) -> Self {
        let total = if answer.observer.is_stream() {
            worker.policy.timeouts.stream_total
        } else {
            worker.policy.timeouts.answer_total
        };
        let event_idle_timeout = worker.policy.timeouts.event_idle;
        Self {
            total_deadline: answer.connection.stream.deadline_at(total),
            patience_ends: answer.connection.stream.deadline_at(event_idle_timeout),
            hidden: answer
                .has_hidden_usage()
                .then(|| Box::new(HiddenUsage::new())),
            answer,
            form,
            lessons,
            sent: Ranges::new(),
            payload: Ranges::new(),
            body_bytes: 0,
            is_whole: false,
            is_over: false,
            outlasts_client,
            drained: None,
            has_excess: false,
        }
    }

    /// Everything there was has been sent.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What is known of the answer now that it has ended so.
    pub(super) fn transcript(&self, dialect: Dialect, ending: Ending) -> Transcript {
        Transcript {
            ending,
            status: self.answer.head.status,
            body_bytes: self.body_bytes,
            events: self.answer.observer.events(),
            usage: self.answer.observer.usage(),
            is_final: self.is_final(dialect),
            estimated_output_tokens: self.answer.observer.estimated_output_tokens(),
            streamed: self.answer.observer.is_stream(),
        }
    }

    /// Events of it were seen, and in its dialect no provider leaves the last one out.
    fn owes_last_event(&self, dialect: Dialect) -> bool {
        matches!(dialect, Dialect::Responses | Dialect::Messages)
            && self.answer.observer.progress() > Progress::Silent
    }

    /// Tells the account's health how it ended.
    pub(super) fn report(&mut self, worker: &Worker, dialect: Dialect, ending: Ending) {
        let stream = &self.answer.connection.stream;
        let end = End {
            ending: self.ended_at_provider(ending),
            owes_last_event: self.owes_last_event(dialect),
            ran_out_of_time: self.has_run_out_of_time() && !stream.has_passed(self.patience_ends),
        };
        lessons::report(worker, &mut self.answer, &end, self.lessons.told());
    }

    /// Passes all of it on. `head`: nothing where it is out already.
    pub(super) async fn run<'c>(
        &mut self,
        worker: &'static Worker,
        request: &Request<'c>,
        client: Owed<'c>,
        head: Vec<u8>,
    ) -> (Reply<'c, Streaming>, Ending) {
        if self.outlasts_client {
            let upstream = &self.answer.connection.stream;
            request.client.tie_as_orphan(upstream);
        }
        let (client, mut step, opened) = pin!(self.open(worker, client, &head)).await;
        worker.keep_head_buffer(head);
        if let Err(error) = opened {
            let ending = client_failed(&error);
            let ending = self.outlast(worker, client.client(), step, ending).await;
            return (client, ending);
        }
        loop {
            self.tie_again(client.client());
            match step {
                Step::More => {}
                Step::End => return pin!(self.end(worker, client)).await,
                Step::Broken => return self.broke(request, client, Ending::UpstreamBroken),
            }
            self.let_heartbeat_beat(worker, request, client.client());
            self.set_deadline(worker);
            let received = pin!(self.answer.connection.stream.receive(&worker.pool)).await;
            client.client().disarm_heartbeat();
            let lease = match received {
                Ok(Some(lease)) => lease,
                Ok(None) if self.ends_with_connection() => {
                    return pin!(self.end(worker, client)).await;
                }
                Ok(None) => return self.broke(request, client, Ending::UpstreamBroken),
                Err(error) => {
                    let ending = self.upstream_failed(&error, client.client());
                    return self.broke(request, client, ending);
                }
            };
            step = self.frame(lease.filled());
            let looks_first = self.lessons.names_response();
            if looks_first {
                self.observe(worker, lease.filled());
            }
            let sent = pin!(self.send(worker, client.client(), &lease)).await;
            let sent = sent.map_err(|error| self.client_failed(&error));
            // What the provider has said counts, though the client may be gone.
            if !looks_first {
                self.observe(worker, lease.filled());
            }
            match sent {
                Ok(payload_bytes) => self.body_bytes += payload_bytes as u64,
                Err(ending) => {
                    let ending = self.outlast(worker, client.client(), step, ending).await;
                    return (client, ending);
                }
            }
        }
    }

    /// Sends the head together with everything that was read before it was certain that this is the answer: the buffers that
    /// were held back, as they are and in as few calls as they allow.
    async fn open<'c>(
        &mut self,
        worker: &Worker,
        client: Owed<'c>,
        head: &[u8],
    ) -> (Reply<'c, Streaming>, Step, Result<(), IoError>) {
        let answered_at = self.answer.answered_at;
        self.lessons.look(worker, &self.answer, || answered_at);
        let first = self.answer.lease.take();
        let held = std::mem::take(&mut self.answer.held);
        let mut hidden = self.hidden.take();
        let mut line = [0; CHUNK_SIZE_LINE_MAX];
        let beginning = &first.filled()[self.answer.head.head_bytes..];
        let buffers: Buffers<'_> = std::iter::once(beginning)
            .chain(held.iter().map(Lease::filled))
            .collect();
        let mut parts = Parts::new();
        let (step, payload_bytes) = self.gather(&buffers, &mut hidden, &mut parts);
        self.push_chunk_around(&mut parts, payload_bytes, &mut line);
        // Of a stream the observer has seen all of this already; of another answer nothing is held back.
        let (is_seen, looks_first) = (
            self.answer.observer.is_stream(),
            self.lessons.names_response(),
        );
        if !is_seen && looks_first {
            self.observe(worker, beginning);
        }
        let (client, sent) = pin!(self.send_opening(worker, client, head, &mut parts)).await;
        drop(parts);
        if let Some(mut hidden) = hidden {
            hidden.forget();
            self.hidden = Some(hidden);
        }
        self.answer.held_bytes.give_back();
        if is_seen {
            let head_at = worker.accounts.health.clock().at(self.answer.head_at);
            let told = Told::by(&self.answer.head, first.filled(), head_at);
            self.lessons.note_told(told);
        }
        if sent.is_ok() {
            self.body_bytes += payload_bytes as u64;
        }
        if !is_seen && !looks_first {
            self.observe(worker, beginning);
        }
        (client, step, sent)
    }

    /// What goes on of the buffers, how much payload that is, and what follows them.
    fn gather<'l>(
        &mut self,
        buffers: &[&'l [u8]],
        hidden: &'l mut Option<Box<HiddenUsage>>,
        parts: &mut Parts<'l>,
    ) -> (Step, usize) {
        let (mut step, mut payload_bytes) = (Step::More, 0);
        for (index, bytes) in buffers.iter().enumerate() {
            step = self.frame(bytes);
            match hidden {
                Some(hidden) => hidden.sift(&self.payload, bytes, index),
                None => {
                    payload_bytes += self.payload_bytes();
                    let places = self.sent.iter().cloned();
                    parts.extend(places.map(|range| IoSlice::new(&bytes[range])));
                }
            }
            if !matches!(step, Step::More) {
                break;
            }
        }
        if let Some(hidden) = hidden {
            payload_bytes = hidden.bytes();
            hidden.push_to(parts, buffers);
        }
        (step, payload_bytes)
    }

    /// Looks at the payload that `frame` found. This is done when it has been sent, unless the client may refer to what stands
    /// in it as soon as it has seen it.
    fn observe(&mut self, worker: &Worker, bytes: &[u8]) {
        for range in &self.payload {
            self.answer.observer.observe(&bytes[range.clone()]);
        }
        self.lessons.look(worker, &self.answer, Instant::now);
    }

    /// How much payload `frame` found.
    fn payload_bytes(&self) -> usize {
        self.payload.iter().map(Range::len).sum()
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
                    self.is_over = true;
                    self.has_excess = index < bytes.len();
                    return Step::End;
                }
                Ok(None) if self.answer.parser.is_complete() => {
                    self.is_over = true;
                    return Step::End;
                }
                Ok(None) => return Step::More,
                Err(_) => return Step::Broken,
            }
        }
    }

    /// The time of the whole answer is over.
    fn has_run_out_of_time(&self) -> bool {
        self.answer
            .connection
            .stream
            .has_passed(self.total_deadline)
    }

    fn set_deadline(&mut self, worker: &Worker) {
        let timeouts = &worker.policy.timeouts;
        let idle_timeout = if !self.answer.observer.is_stream() {
            timeouts.answer_total
        } else if self.answer.observer.events() == 0 {
            timeouts.first_event
        } else {
            timeouts.event_idle
        };
        let stream = &self.answer.connection.stream;
        self.patience_ends = stream.deadline_at(timeouts.event_idle);
        stream.set_deadline_within(idle_timeout, self.total_deadline);
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
            Form::Unframed => false,
            Form::AsIs => self.answer.head.framing == Framing::Chunked,
        }
    }

    /// Keeps the connection for the next request, if it is certain where the next answer begins.
    pub(super) fn release(self, worker: &Worker) {
        let answer = self.answer;
        let ends_itself = answer.parser.is_complete() && answer.head.keep_alive;
        if ends_itself && answer.request_was_sent && !self.has_excess {
            answer.connection.stream.set_orphaned(false);
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

fn push_joined(ranges: &mut Ranges, next: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}
