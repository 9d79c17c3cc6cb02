//! One request on a shared connection: between the text that the request's path speaks and a stream of HTTP/2.
//!
//! What the provider sends is taken from its stream at once, so that nothing waits inside `h2`, where it would count against the
//! whole connection. The stream's window is opened only for what the near end has consumed: a client that does not read stops
//! its own stream, after one window, and no other one.

use super::shared::StreamPlace;
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Method;
use http::uri::Scheme;
use relay_io::{Either, Far, either, pause};
use relay_wire::head::Framing;
use relay_wire::translate::{BodyWriter, RequestEvent, RequestReader, response_head};
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What is taken of a request at once.
const TAKEN_BYTES_MAX: usize = 16 * 1024;

/// Informational answers that are passed on; more are a storm, wherever they are counted.
const INFORMATIONAL_MAX: u32 = 16;

/// Payload below this is put together with what comes with it: it would cost more to carry than to copy.
const SMALL_BYTES: usize = 1024;

/// As long as the near end has so much to read, small payload is collected.
const BEHIND_BYTES: usize = 4 * 1024;

/// An answer whose length was announced is over for the near end before the provider has said so.
const LINGER: Duration = Duration::from_secs(1);

/// What no parser takes for an answer: how the near end is told that there is one, but none that is unambiguous.
const NO_ANSWER: &[u8] = b"HTTP/2 malformed\r\n\r\n";

/// What became of the stream where no answer came, or no whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing has gone wrong so far.
    Well,
    /// The provider has not begun to work on it, by its own word (RFC 9113 sections 6.8 and 8.7), or has never seen it.
    Refused,
    /// The provider has ended it, or has broken the rules.
    Reset,
    /// The connection has ended.
    Lost,
}

/// Carries a request and its answer until the near end is gone.
pub(super) async fn carry(
    mut place: StreamPlace,
    far: Far,
    requests: SendRequest<Bytes>,
    scheme: Scheme,
    fate: Rc<Cell<Fate>>,
) {
    let mut exchange = Exchange {
        far,
        reader: RequestReader::new(scheme),
        is_head_request: false,
        taken: Bytes::new(),
        payload: Bytes::new(),
        up: Up::Head(requests),
        down: Down::Unasked,
        text: Vec::new(),
        collected: BytesMut::new(),
        informational: 0,
    };
    let end = poll_fn(|context| exchange.poll(context)).await;
    match end {
        End::Answered => {}
        End::Left => exchange.take_leave().await,
        End::Failed(how) => {
            fate.set(how);
            if how == Fate::Refused {
                place.note_refusal();
            }
        }
    }
    let far = exchange.into_far(end);
    drop(place);
    // The near end still reads what it was sent, and must not wait for anybody to take what it sends.
    poll_fn(|context| {
        while let Poll::Ready(Some(_)) = far.poll_take(context, TAKEN_BYTES_MAX) {}
        far.poll_closed(context)
    })
    .await;
}

/// How the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The whole answer is on its way to the near end.
    Answered,
    /// The near end has gone before.
    Left,
    Failed(Fate),
}

struct Exchange {
    far: Far,
    reader: RequestReader,
    is_head_request: bool,
    /// Taken from the near end, and not looked at yet.
    taken: Bytes,
    /// Of the request's body, and not sent yet.
    payload: Bytes,
    up: Up,
    down: Down,
    /// Where heads are written.
    text: Vec<u8>,
    /// Payload of the answer that waits for more of it, or for the near end.
    collected: BytesMut,
    informational: u32,
}

/// The request.
enum Up {
    Head(SendRequest<Bytes>),
    Body(SendStream<Bytes>),
    /// All of it was sent, or no more of it is wanted.
    Whole(SendStream<Bytes>),
    Gone,
}

/// The answer.
enum Down {
    Unasked,
    Head(ResponseFuture),
    Body(Body),
    Whole,
}

struct Body {
    stream: RecvStream,
    writer: BodyWriter,
    /// What the near end waits for; `None`: until it is told.
    left_bytes: Option<u64>,
}

impl Exchange {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.far.poll_closed(context).is_ready() {
            return Poll::Ready(End::Left);
        }
        self.open_window(context);
        let up = self.poll_request(context);
        // A provider may answer before it has seen all, and may then want no more of it.
        match self.poll_answer(context) {
            Poll::Ready(Ok(())) => return Poll::Ready(End::Answered),
            Poll::Ready(Err(fate)) => return Poll::Ready(End::Failed(fate)),
            Poll::Pending => {}
        }
        match up {
            Poll::Ready(Err(fate)) => Poll::Ready(End::Failed(fate)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Lets the provider send as much more as the near end has consumed.
    fn open_window(&mut self, context: &Context<'_>) {
        while let Poll::Ready(consumed_bytes @ 1..) = self.far.poll_consumed(context) {
            if let Down::Body(body) = &mut self.down {
                let payload_bytes = body.writer.consumed(consumed_bytes);
                // Only more than was received would be refused.
                let _ = body.stream.flow_control().release_capacity(payload_bytes);
            }
        }
    }

    /// Sends what there is of the request, as far as the provider takes it.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fate>> {
        loop {
            if !self.payload.is_empty() {
                ready!(self.poll_payload(context))?;
                continue;
            }
            if !matches!(self.up, Up::Head(_) | Up::Body(_)) {
                return Poll::Ready(Ok(()));
            }
            if self.taken.is_empty() {
                match ready!(self.far.poll_take(context, TAKEN_BYTES_MAX)) {
                    Some(bytes) => self.taken = bytes,
                    // It sends no more, but still wants the answer to what it has sent.
                    None => return Poll::Pending,
                }
            }
            match self.reader.next(&mut self.taken) {
                Ok(None) => {}
                Ok(Some(RequestEvent::Head(request))) => self.begin(request)?,
                Ok(Some(RequestEvent::Payload(payload))) => self.payload = payload,
                Ok(Some(RequestEvent::End)) => self.finish_request(Bytes::new()),
                // The gateway has written it itself, and its head by its own rules: nothing of it has been sent.
                Err(_) => return Poll::Ready(Err(Fate::Reset)),
            }
        }
    }

    fn begin(&mut self, request: http::Request<()>) -> Result<(), Fate> {
        let Up::Head(mut requests) = std::mem::replace(&mut self.up, Up::Gone) else {
            return Err(Fate::Reset);
        };
        self.is_head_request = request.method() == Method::HEAD;
        let is_whole = self.reader.is_at_end();
        // A connection that takes no more streams says so here, before anything was sent.
        let sent = requests.send_request(request, is_whole);
        let (response, stream) = sent.map_err(|_| Fate::Refused)?;
        self.down = Down::Head(response);
        self.up = if is_whole {
            Up::Whole(stream)
        } else {
            Up::Body(stream)
        };
        Ok(())
    }

    fn poll_payload(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fate>> {
        let Up::Body(stream) = &mut self.up else {
            self.payload.clear();
            return Poll::Ready(Ok(()));
        };
        stream.reserve_capacity(self.payload.len());
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                // The provider wants no more of it. Why, and whether it answers all the same, shows on the other side.
                Some(Err(_)) | None => {
                    self.no_more_is_wanted();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = stream.capacity().min(self.payload.len());
        let piece = self.payload.split_to(count);
        if self.payload.is_empty() && self.reader.is_at_end() {
            self.finish_request(piece);
        } else if stream.send_data(piece, false).is_err() {
            self.no_more_is_wanted();
        }
        Poll::Ready(Ok(()))
    }

    fn finish_request(&mut self, last: Bytes) {
        if let Up::Body(stream) = &mut self.up {
            // It fails where the stream was ended from the other side, which shows there.
            let _ = stream.send_data(last, true);
        }
        self.no_more_is_wanted();
    }

    fn no_more_is_wanted(&mut self) {
        self.payload.clear();
        self.up = match std::mem::replace(&mut self.up, Up::Gone) {
            Up::Body(stream) => Up::Whole(stream),
            other => other,
        };
    }

    /// Passes on what there is of the answer.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fate>> {
        loop {
            match &mut self.down {
                Down::Unasked => return Poll::Pending,
                Down::Whole => return Poll::Ready(Ok(())),
                Down::Head(response) => {
                    while let Poll::Ready(Some(early)) = response.poll_informational(context) {
                        let early = early.map_err(|error| fate_of(&error, &self.far))?;
                        self.informational += 1;
                        let (parts, ()) = early.into_parts();
                        let written =
                            response_head(&parts, false, self.is_head_request, &mut self.text);
                        if written.is_err() || self.informational > INFORMATIONAL_MAX {
                            return Poll::Ready(Err(malformed(&self.far)));
                        }
                        self.far.push(Bytes::copy_from_slice(&self.text));
                    }
                    let answer = ready!(Pin::new(response).poll(context));
                    let answer = answer.map_err(|error| fate_of(&error, &self.far))?;
                    self.begin_body(answer)?;
                }
                Down::Body(_) => ready!(self.poll_body(context))?,
            }
        }
    }

    fn begin_body(&mut self, answer: http::Response<RecvStream>) -> Result<(), Fate> {
        let (parts, stream) = answer.into_parts();
        let ends = stream.is_end_stream();
        let written = response_head(&parts, ends, self.is_head_request, &mut self.text);
        let framing = written.map_err(|_| malformed(&self.far))?;
        self.far.push(Bytes::copy_from_slice(&self.text));
        self.down = Down::Body(Body {
            stream,
            writer: BodyWriter::new(framing, self.text.len()),
            left_bytes: match framing {
                Framing::Length(bytes) => Some(bytes),
                Framing::Empty => Some(0),
                Framing::Chunked | Framing::UntilClose => None,
            },
        });
        Ok(())
    }

    /// Takes all that has come, and passes it on.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fate>> {
        let Down::Body(body) = &mut self.down else {
            return Poll::Ready(Ok(()));
        };
        let ends = loop {
            match body.stream.poll_data(context) {
                Poll::Pending => break None,
                Poll::Ready(None) => break Some(Ok(())),
                Poll::Ready(Some(Err(error))) => break Some(Err(fate_within(&error))),
                Poll::Ready(Some(Ok(payload))) => {
                    if !body.push(&self.far, &mut self.collected, payload) {
                        break Some(Err(Fate::Reset));
                    }
                }
            }
        };
        if (ends.is_some() || self.far.unread_bytes() < BEHIND_BYTES)
            && !body.push_collected(&self.far, &mut self.collected)
        {
            return Poll::Ready(Err(Fate::Reset));
        }
        match ends {
            None => Poll::Pending,
            Some(Err(fate)) => Poll::Ready(Err(fate)),
            Some(Ok(())) => {
                let last = body.writer.end().map_err(|_| Fate::Reset)?;
                self.far.push(last);
                self.down = Down::Whole;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The near end has left, which is no concern of the other streams.
    async fn take_leave(&mut self) {
        // It may have had all that it waited for. A reset would look as if it had not.
        if let (Up::Whole(_), Down::Body(body)) = (&self.up, &mut self.down)
            && body.left_bytes == Some(0)
        {
            let end = poll_fn(|context| body.stream.poll_data(context));
            if matches!(either(end, pause(LINGER)).await, Either::First(None)) {
                return;
            }
        }
        self.reset(Reason::CANCEL);
    }

    fn reset(&mut self, reason: Reason) {
        if let Up::Body(stream) | Up::Whole(stream) = &mut self.up {
            stream.send_reset(reason);
        }
    }

    /// Ends the stream for the provider, if it has not ended, and says to the near end that nothing more comes.
    fn into_far(mut self, end: End) -> Far {
        match end {
            // The request was not wanted to its end; who has answered does not need the rest (RFC 9113 section 8.1).
            End::Answered if matches!(self.up, Up::Body(_)) => self.reset(Reason::NO_ERROR),
            End::Answered | End::Left => {}
            End::Failed(_) => {
                self.reset(Reason::CANCEL);
                self.far.end();
            }
        }
        self.far
    }
}

impl Body {
    /// False: it does not fit the length that was announced.
    fn push(&mut self, far: &Far, collected: &mut BytesMut, payload: Bytes) -> bool {
        let is_idle = collected.is_empty() && far.unread_bytes() == 0;
        if payload.len() < SMALL_BYTES && !is_idle {
            collected.extend_from_slice(&payload);
            return true;
        }
        self.push_collected(far, collected) && self.push_now(far, payload)
    }

    fn push_collected(&mut self, far: &Far, collected: &mut BytesMut) -> bool {
        self.push_now(far, collected.split().freeze())
    }

    fn push_now(&mut self, far: &Far, payload: Bytes) -> bool {
        if let Some(left_bytes) = &mut self.left_bytes {
            *left_bytes = left_bytes.saturating_sub(payload.len() as u64);
        }
        let Ok(pieces) = self.writer.data(payload) else {
            return false;
        };
        pieces.into_iter().for_each(|piece| far.push(piece));
        true
    }
}

/// There is no answer yet. Where what came was none, the near end finds that.
fn fate_of(error: &h2::Error, far: &Far) -> Fate {
    // `h2` has found the message malformed, or its head too large.
    if error.is_reset() && error.is_library() {
        return malformed(far);
    }
    fate_within(error)
}

fn malformed(far: &Far) -> Fate {
    far.push(Bytes::from_static(NO_ANSWER));
    Fate::Reset
}

fn fate_within(error: &h2::Error) -> Fate {
    let was_refused = error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || error.is_reset() && was_refused) {
        // Only streams that it says it has not begun are ended by a GOAWAY.
        return Fate::Refused;
    }
    if error.is_reset() {
        return Fate::Reset;
    }
    Fate::Lost
}
