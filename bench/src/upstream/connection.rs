//! One connection of the upstream.

use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use super::{Chunks, request};
use crate::answer::Answer;
use crate::channel::{Buffers, Channel};
use crate::clock::now_ns;
use crate::framing::hex16;
use crate::net::would_block;
use crate::pacing::{Agenda, StreamKey, first_due_ns};
use crate::plan::Plan;
use crate::poller::{Interest, Poller};

/// Back to back, so much is written at once.
const BURST_BYTES: usize = 64 * 1024;

/// A stream that is being sent.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) chunks: Rc<Chunks>,
    pub(crate) id: u64,
    /// Number of the next event.
    pub(crate) next: u32,
    pub(crate) deltas: u32,
    pub(crate) period_ns: u64,
    pub(crate) back_to_back: bool,
    /// When the next event is due.
    pub(crate) due_ns: u64,
    /// It is put down in the agenda, once.
    pub(crate) is_put_down: bool,
}

impl Streaming {
    fn is_over(&self) -> bool {
        self.next > self.deltas + 1
    }

    fn write_next(&mut self, sent_ns: u64, out: &mut Vec<u8>) {
        let chunk = match self.next {
            0 => &self.chunks.created,
            next if next <= self.deltas => &self.chunks.delta,
            _ => &self.chunks.completed,
        };
        chunk.write(self.id, self.next, sent_ns, out);
        self.next += 1;
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    key: StreamKey,
    watched: Interest,
    input: Vec<u8>,
    out: Vec<u8>,
    /// Sent after `out`: the bytes that answers of one length have in common, from an offset.
    tail: Option<(Rc<[u8]>, usize)>,
    streaming: Option<Streaming>,
    /// The client said that it sends no other request.
    closes: bool,
}

impl Connection {
    pub(crate) fn new(channel: Channel, key: StreamKey) -> Self {
        Self {
            channel,
            key,
            watched: Interest::Read,
            input: Vec::new(),
            out: Vec::new(),
            tail: None,
            streaming: None,
            closes: false,
        }
    }

    pub(crate) fn key(&self) -> StreamKey {
        self.key
    }

    pub(crate) fn read(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        match self.channel.read(buffers) {
            Ok([]) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.input.extend_from_slice(bytes);
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next request, once it is there whole and the answer before it is out.
    pub(crate) fn take_request(&mut self) -> Option<Result<Plan, String>> {
        if self.input.is_empty() || self.closes || self.is_busy() {
            return None;
        }
        match request::take(&self.input) {
            Ok(None) => None,
            Ok(Some(request)) => {
                self.input.drain(..request.bytes);
                self.closes = request.closes;
                Some(request.plan)
            }
            Err(reason) => {
                self.closes = true;
                Some(Err(reason))
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.streaming.is_some() || self.is_writing()
    }

    fn is_writing(&self) -> bool {
        !self.out.is_empty() || self.tail.is_some() || self.channel.wants_write()
    }

    fn head(&mut self, id: u64, fields: &str) {
        self.out
            .extend_from_slice(b"HTTP/1.1 200 OK\r\nx-request-id: req_");
        self.out.extend_from_slice(&hex16(id));
        self.out
            .extend_from_slice(b"\r\nopenai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\n");
        if self.closes {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(fields.as_bytes());
    }

    pub(crate) fn answer(&mut self, id: u64, answer: &Answer) {
        let bytes = answer.bytes();
        let fields = format!(
            "content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        self.head(id, &fields);
        self.out.extend_from_slice(&Answer::head(id));
        self.tail = Some((Rc::clone(bytes), Answer::COMMON_FROM));
    }

    pub(crate) fn stream(&mut self, mut streaming: Streaming) {
        let fields = "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
             transfer-encoding: chunked\r\n\r\n";
        self.head(streaming.id, fields);
        let now = now_ns();
        streaming.write_next(now, &mut self.out);
        streaming.due_ns = first_due_ns(self.key.slot, streaming.period_ns, now);
        self.streaming = Some(streaming);
    }

    pub(crate) fn refuse(&mut self, reason: &str) {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{reason}",
            reason.len()
        );
        self.out.extend_from_slice(answer.as_bytes());
    }

    /// Sends what there is to send, and puts the stream down for its next event.
    pub(crate) fn write_on(&mut self, agenda: &mut Agenda) -> io::Result<()> {
        if !self.flush()? {
            return Ok(());
        }
        let Some(streaming) = &mut self.streaming else {
            return Ok(());
        };
        if streaming.is_over() {
            self.streaming = None;
        } else if streaming.back_to_back {
            // One burst a turn: the connection stays watched for room, so that all streams advance alike.
            while self.out.len() < BURST_BYTES && !streaming.is_over() {
                streaming.write_next(now_ns(), &mut self.out);
            }
            self.flush()?;
        } else if !streaming.is_put_down {
            self.catch_up(agenda)?;
        }
        Ok(())
    }

    /// Events that fell due while the connection had no room bear the time at which they were due: the wait is the proxy's.
    fn catch_up(&mut self, agenda: &mut Agenda) -> io::Result<()> {
        while let Some(streaming) = &self.streaming {
            if streaming.due_ns > now_ns() {
                self.put_down(agenda);
                break;
            }
            let due_ns = streaming.due_ns;
            if !self.send_event(due_ns)? {
                break;
            }
        }
        Ok(())
    }

    /// Sends the event for which the agenda called; each is a write of its own.
    pub(crate) fn send_due_event(&mut self, agenda: &mut Agenda) -> io::Result<()> {
        if let Some(streaming) = &mut self.streaming {
            streaming.is_put_down = false;
        }
        if self.send_event(now_ns())? {
            self.put_down(agenda);
        }
        Ok(())
    }

    fn put_down(&mut self, agenda: &mut Agenda) {
        if let Some(streaming) = &mut self.streaming {
            agenda.put(streaming.due_ns, self.key);
            streaming.is_put_down = true;
        }
    }

    /// Returns whether all of it could be written.
    fn send_event(&mut self, sent_ns: u64) -> io::Result<bool> {
        let Some(streaming) = &mut self.streaming else {
            return Ok(true);
        };
        streaming.write_next(sent_ns, &mut self.out);
        streaming.due_ns += streaming.period_ns;
        if !self.flush()? {
            return Ok(false);
        }
        if self.streaming.as_ref().is_some_and(Streaming::is_over) {
            self.streaming = None;
        }
        Ok(true)
    }

    /// Writes once; returns whether nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        let tail = match &self.tail {
            Some((bytes, from)) => &bytes[*from..],
            None => &[],
        };
        let total = self.out.len() + tail.len();
        if total == 0 {
            self.channel.flush()?;
            return Ok(!self.channel.wants_write());
        }
        let pieces = [IoSlice::new(&self.out), IoSlice::new(tail)];
        let written = match self.channel.write(&pieces) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        if written == total {
            self.out.clear();
            self.tail = None;
            return Ok(!self.channel.wants_write());
        }
        let of_out = written.min(self.out.len());
        self.out.drain(..of_out);
        if let Some((_, from)) = &mut self.tail {
            *from += written - of_out;
        }
        Ok(false)
    }

    /// Watches for what comes next; an error ends the connection.
    pub(crate) fn watch(&mut self, poller: &Poller) -> io::Result<()> {
        if self.closes && !self.is_busy() {
            self.channel.say_goodbye();
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let bursting = self
            .streaming
            .as_ref()
            .is_some_and(|streaming| streaming.back_to_back);
        let write = bursting || self.is_writing();
        let wanted = Interest::of(true, write);
        if wanted != self.watched {
            poller.modify(self.channel.stream(), u64::from(self.key.slot), wanted)?;
            self.watched = wanted;
        }
        Ok(())
    }
}
