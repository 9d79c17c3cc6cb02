//! One stream of an HTTP/2 connection: between the stream and a connection in memory, whose near end is served like any other.
//!
//! Both directions go on at the same time, each only as far as its receiver goes: the window of the request is opened by what the
//! near end has consumed, and of the answer no more is taken from the near end than the client's windows let through, so that
//! a client that takes nothing is found out where it always is, by the send that waits.

use super::session::{Counted, Session};
use crate::listen::connection;
use crate::worker::protocols::StreamEnd;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use relay_io::{Far, Lease, SMALL_LEASE_BYTES, Stream, TINY_LEASE_BYTES, pause, pipe};
use relay_wire::head::{Framing, FramingError};
use relay_wire::translate::{
    AnswerEvent, AnswerReader, BodyWriter, LengthMismatch, RequestError, request_head,
};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long the connection's task is given to send what it was given last: a turn of the loop, which is over by then.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(1);

/// Begins to serve a stream.
pub(super) fn begin(
    session: &Rc<Session>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let worker = session.worker;
    let (parts, body) = request.into_parts();
    let mut text = worker.head_buffer();
    let translated = request_head(&parts, body.is_end_stream(), &worker.head_limits, &mut text);
    let (head, framing) = match translated {
        Ok(framing) => (Ok(lease_of(session, &text)), framing),
        Err(RequestError::Refused(error)) => (Err(error), Framing::Empty),
        Err(RequestError::Malformed) => {
            // RFC 9113 section 8.1.1
            respond.send_reset(Reason::PROTOCOL_ERROR);
            worker.note_stream_end(StreamEnd::Malformed);
            return session.note_malformed();
        }
    };
    worker.keep_head_buffer(text);
    worker.note_stream();
    let is_refused = head.is_err();
    let (near, far) = pipe(&worker.wheel);
    worker.spawn(serve(session.count_request(), near, head));
    let exchange = Exchange {
        upload: Upload {
            is_over: body.is_end_stream(),
            is_wanted: !is_refused,
            body,
            writer: BodyWriter::new(framing, 0),
        },
        answer: Answer {
            reader: AnswerReader::new(parts.method == Method::HEAD),
            to: To::Head(respond),
            input: Bytes::new(),
            payload: Bytes::new(),
            untaken_bytes: 0,
        },
    };
    worker.spawn(translate(session.count_stream(), far, exchange));
}

/// The head as if it had been received.
fn lease_of(session: &Session, text: &[u8]) -> Lease {
    let pool = &session.worker.pool;
    let mut lease = if text.len() <= TINY_LEASE_BYTES {
        pool.tiny()
    } else if text.len() <= SMALL_LEASE_BYTES {
        pool.small()
    } else {
        pool.large()
    };
    let fits = lease.append(text);
    debug_assert!(fits, "heads are shorter than large leases");
    lease
}

/// The task of the near end.
async fn serve(session: Counted, near: Stream, head: Result<Lease, FramingError>) {
    connection::run_one(session.worker, &near, &session.inbound, head).await;
}

/// The task of the far end.
async fn translate(session: Counted, far: Far, mut exchange: Exchange) {
    let end = poll_fn(|context| exchange.poll(context, &session, &far)).await;
    let worker = session.worker;
    match end {
        End::Complete => {}
        End::Gone => {
            worker.note_stream_end(StreamEnd::ResetByClient);
            far.fail();
        }
        End::Malformed => {
            worker.note_stream_end(StreamEnd::Malformed);
            exchange.answer.reset(Reason::PROTOCOL_ERROR);
            session.note_malformed();
            far.fail();
        }
        End::Cut => {
            worker.note_stream_end(StreamEnd::Cut);
            // Of a stream that is reset the protocol throws away what it has not sent, and the last of it may be why the answer breaks
            // off. The connection's task sends it, which every send has woken.
            pause(LAST_WORDS_PAUSE).await;
            exchange.answer.reset(Reason::INTERNAL_ERROR);
        }
    }
    // Only without anybody who holds it the stream can end: of a request that is not complete the rest is declined without an
    // error (RFC 9113 section 8.1).
    drop(exchange);
    drop(session);
    if matches!(end, End::Complete) {
        // The near end has its time to close: it must not look as if the client had left.
        far.end();
        poll_fn(|context| discard(&far, context)).await;
    }
}

/// Takes what is still sent, until the near end is gone.
fn discard(far: &Far, context: &Context<'_>) -> Poll<()> {
    while let Poll::Ready(Some(piece)) = far.poll_front(context) {
        far.take(piece.len());
    }
    far.poll_closed(context)
}

/// How a stream ended.
enum End {
    /// The whole answer is on its way.
    Complete,
    /// The client has reset it, or the connection is lost.
    Gone,
    /// The request's body is not what was announced.
    Malformed,
    /// The near end left before the answer was complete.
    Cut,
}

struct Exchange {
    upload: Upload,
    answer: Answer,
}

impl Exchange {
    fn poll(&mut self, context: &mut Context<'_>, session: &Session, far: &Far) -> Poll<End> {
        if self.answer.poll_reset(context).is_ready() {
            return Poll::Ready(End::Gone);
        }
        if let Some(end) = self.upload.poll(context, far) {
            return Poll::Ready(end);
        }
        self.answer.poll(context, session, far)
    }
}

/// From the client.
struct Upload {
    body: RecvStream,
    writer: BodyWriter,
    is_over: bool,
    /// The near end was given the head, and is still there to consume it.
    is_wanted: bool,
}

impl Upload {
    /// Moves on what there is. `Some`: that ends the stream.
    ///
    /// What nobody wants is taken all the same, as far as its window lets it come: an answer may wait for its client for long, and
    /// beside it nothing is to be kept.
    fn poll(&mut self, context: &mut Context<'_>, far: &Far) -> Option<End> {
        loop {
            self.release(context, far);
            if self.is_over {
                return None;
            }
            let pushed = match self.body.poll_data(context) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(payload))) => self.push(payload, far),
                Poll::Ready(Some(Err(_))) => return Some(End::Gone),
                Poll::Ready(None) => self.end(context, far),
            };
            if pushed.is_err() {
                return Some(End::Malformed);
            }
        }
    }

    fn push(&mut self, payload: Bytes, far: &Far) -> Result<(), LengthMismatch> {
        if self.is_wanted {
            for piece in self.writer.data(payload)? {
                far.push(piece);
            }
        }
        Ok(())
    }

    fn end(&mut self, context: &mut Context<'_>, far: &Far) -> Result<(), LengthMismatch> {
        self.is_over = true;
        // Trailers are never passed on, and take several times the memory that their client has sent (RFC 7541 section 7.3).
        let trailers = self.body.poll_trailers(context);
        drop(trailers);
        if self.is_wanted {
            far.push(self.writer.end()?);
        }
        Ok(())
    }

    /// Opens the window by what the near end has consumed.
    fn release(&mut self, context: &Context<'_>, far: &Far) {
        while self.is_wanted
            && let Poll::Ready(consumed_bytes) = far.poll_consumed(context)
        {
            // Of one that is gone this is told.
            self.is_wanted = consumed_bytes > 0;
            let payload_bytes = self.writer.consumed(consumed_bytes);
            // Of a stream that was reset the window has been given back already.
            let _ = self.body.flow_control().release_capacity(payload_bytes);
        }
    }
}

/// To the client.
struct Answer {
    reader: AnswerReader,
    to: To,
    /// What the near end sends, as far as it was not read yet.
    input: Bytes,
    /// Read, and waiting for the window.
    payload: Bytes,
    /// Read, or about to be sent, and not taken from the near end yet.
    untaken_bytes: usize,
}

/// Where an answer goes.
enum To {
    /// Its head has not been sent.
    Head(SendResponse<Bytes>),
    /// Its head has.
    Body(SendStream<Bytes>),
    /// Its end has.
    Nowhere,
}

impl Answer {
    /// Waits until the client does not want it any more.
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.to {
            To::Head(respond) => respond.poll_reset(context).map(drop),
            To::Body(stream) => stream.poll_reset(context).map(drop),
            To::Nowhere => Poll::Pending,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, session: &Session, far: &Far) -> Poll<End> {
        loop {
            if !self.payload.is_empty() {
                match self.poll_send(context, session, far) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    // What waits although the near end is gone waits for nobody.
                    Poll::Pending if far.poll_closed(context).is_ready() => {
                        return Poll::Ready(End::Cut);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            } else if matches!(self.to, To::Nowhere) {
                far.take(self.untaken_bytes + self.input.len());
                return Poll::Ready(End::Complete);
            } else if !self.input.is_empty() {
                if let Err(end) = self.read(session) {
                    return Poll::Ready(end);
                }
            } else {
                far.take(std::mem::take(&mut self.untaken_bytes));
                match far.poll_front(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(front)) => self.input = front,
                    Poll::Ready(None) => return Poll::Ready(End::Cut),
                }
            }
        }
    }

    /// Reads the next event out of what has come.
    fn read(&mut self, session: &Session) -> Result<(), End> {
        let before_bytes = self.input.len();
        // What the gateway writes is well-formed; where it cannot be carried over it is cut.
        let event = self.reader.next(&mut self.input).map_err(|_| End::Cut)?;
        self.untaken_bytes += before_bytes - self.input.len();
        match event {
            None => Ok(()),
            Some(AnswerEvent::Informational(response)) => match &mut self.to {
                To::Head(respond) => respond.send_informational(response).map_err(|_| End::Gone),
                To::Body(_) | To::Nowhere => Err(End::Cut),
            },
            Some(AnswerEvent::Head(response)) => {
                let To::Head(respond) = &mut self.to else {
                    return Err(End::Cut);
                };
                let is_all = self.reader.is_at_end();
                let stream = respond
                    .send_response(response, is_all)
                    .map_err(|_| End::Gone)?;
                session.note_answered();
                self.to = if is_all {
                    To::Nowhere
                } else {
                    To::Body(stream)
                };
                Ok(())
            }
            Some(AnswerEvent::Payload(payload)) => {
                self.payload = payload;
                Ok(())
            }
            Some(AnswerEvent::End) => self.send(Bytes::new(), true),
        }
    }

    /// Sends as much of the payload as the windows let through.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        session: &Session,
        far: &Far,
    ) -> Poll<Result<(), End>> {
        let To::Body(stream) = &mut self.to else {
            return Poll::Ready(Err(End::Cut));
        };
        // Asked for only as long as there is something to send: what a stream reserves of the connection's window, no other
        // one has.
        stream.reserve_capacity(self.payload.len());
        let mut room_bytes = stream.capacity();
        while room_bytes == 0 {
            room_bytes = match stream.poll_capacity(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => bytes,
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(End::Gone)),
            };
        }
        let piece = self.payload.split_to(room_bytes.min(self.payload.len()));
        let piece_bytes = piece.len();
        let is_last = self.payload.is_empty() && self.reader.is_at_end();
        self.send(piece, is_last)?;
        session.note_sent(piece_bytes);
        self.untaken_bytes -= piece_bytes;
        far.take(piece_bytes);
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, payload: Bytes, is_last: bool) -> Result<(), End> {
        let To::Body(stream) = &mut self.to else {
            return Err(End::Cut);
        };
        stream.send_data(payload, is_last).map_err(|_| End::Gone)?;
        if is_last {
            self.to = To::Nowhere;
        }
        Ok(())
    }

    /// Ends the stream at once; what waits is not sent any more.
    fn reset(&mut self, reason: Reason) {
        match &mut self.to {
            To::Head(respond) => respond.send_reset(reason),
            To::Body(stream) => stream.send_reset(reason),
            To::Nowhere => {}
        }
    }
}
