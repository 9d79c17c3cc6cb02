//! How an answer on its way ends, and what the client sees of it.

use super::Passage;
use crate::request::Request;
use crate::request::forward::{Ending, Form};
use crate::request::reply::{Reply, Streaming, chunk};
use crate::worker::Worker;
use relay_io::{Interrupt, IoError, Stream};
use relay_wire::dialect::{Dialect, Terminal};
use relay_wire::encode::CHUNK_SIZE_LINE_MAX;
use relay_wire::head::Framing;
use std::io::IoSlice;

impl Passage {
    pub(super) fn ended(&self) -> Ending {
        match self.answer.observer.terminal_at_end() {
            None if self.answer.observer.is_stream() && !self.answer.is_opaque => {
                Ending::Unfinished
            }
            _ => Ending::Complete,
        }
    }

    /// The provider has said all that it had to say: its last event, or a body that came to its end without owing one.
    pub(super) fn is_final(&self, dialect: Dialect) -> bool {
        self.answer.observer.terminal().is_some() || self.is_over && !self.owes_last_event(dialect)
    }

    /// All of the body was passed on.
    pub(super) async fn end<'c>(
        &mut self,
        worker: &Worker,
        client: Reply<'c, Streaming>,
    ) -> (Reply<'c, Streaming>, Ending) {
        if let Some(mut hidden) = self.hidden.take() {
            hidden.finish();
            let sent = self.send_rest(worker, client.client(), &hidden, &[]).await;
            if let Err(error) = sent {
                return (client, self.client_failed(&error));
            }
            self.body_bytes += hidden.bytes() as u64;
        }
        if self.form == Form::Rechunked {
            let mut last = [IoSlice::new(b"0\r\n\r\n")];
            if let Err(error) = self.send_parts(worker, client.client(), &mut last).await {
                return (client, self.client_failed(&error));
            }
        }
        self.is_whole = true;
        (client, self.ended())
    }

    /// The upstream has closed the connection: is that how this body ends? Nothing tells a proper end from a broken connection
    /// here, so of a stream its own last event has to.
    pub(super) fn ends_with_connection(&mut self) -> bool {
        self.is_over = self.answer.parser.may_end_here() && self.ended() != Ending::Unfinished;
        self.is_over
    }

    /// The answer cannot go on. If the client is still there and stands between two events, it is told in its dialect; in
    /// any case it must see that this is not the end.
    pub(super) fn broke<'c>(
        &mut self,
        request: &Request<'_>,
        client: Reply<'c, Streaming>,
        ending: Ending,
    ) -> (Reply<'c, Streaming>, Ending) {
        let ending = self.left_unnoticed(client.client(), ending);
        if matches!(ending, Ending::Complete | Ending::ClientGone) {
            return (client, ending);
        }
        if self.answer.observer.terminal().is_none()
            && self.answer.observer.is_at_boundary()
            && self.answer.parser.at_chunk_boundary()
            && (self.form != Form::AsIs || !matches!(self.answer.head.framing, Framing::Length(_)))
            && let Some(event) = error_event(request, ending)
        {
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let parts = chunk(&event, self.is_chunked_to_client(), &mut line);
            // Last words: if the client does not take them at once, the cut alone has to do.
            client.client().send_without_waiting(&parts);
        }
        (client, ending)
    }

    pub(super) fn client_failed(&mut self, error: &IoError) -> Ending {
        // Clients close as soon as they have read the event that ends the stream.
        if self.answer.observer.terminal() == Some(Terminal::Completed) {
            return Ending::Complete;
        }
        match client_failed(error) {
            // What is sent to the client is bounded by the time of the whole answer too: that was over first.
            Ending::ClientStalled if self.has_run_out_of_time() => {
                // That the provider was not heard meanwhile is not its fault: nobody listened.
                self.patience_ends = u64::MAX;
                Ending::Deadline
            }
            ending => ending,
        }
    }

    pub(super) fn upstream_failed(&self, error: &IoError, client: &Stream) -> Ending {
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
            IoError::Interrupted(Interrupt::Tied)
                if client.interrupted() == Some(Interrupt::Shutdown) =>
            {
                Ending::Shutdown
            }
            IoError::Interrupted(Interrupt::Tied) => Ending::ClientGone,
            IoError::Interrupted(Interrupt::Deadline) => Ending::Deadline,
            IoError::Interrupted(Interrupt::Shutdown) => Ending::Shutdown,
            _ => Ending::UpstreamBroken,
        }
    }
}

fn error_event(request: &Request<'_>, ending: Ending) -> Option<Vec<u8>> {
    let (code, message) = match ending {
        Ending::Shutdown => (
            "gateway_shutting_down",
            "The gateway is being stopped: send the request again.",
        ),
        _ => (
            "upstream_stream_incomplete",
            "The provider's stream ended before it was complete.",
        ),
    };
    let id = request.id.as_str();
    request.dialect.error_event(code, message, None, id)
}

pub(super) fn client_failed(error: &IoError) -> Ending {
    match error {
        IoError::Interrupted(Interrupt::Deadline) => Ending::ClientStalled,
        IoError::Interrupted(Interrupt::Shutdown) => Ending::Shutdown,
        _ => Ending::ClientGone,
    }
}
