//! One end of a connection.

use super::frame::{Frame, code, setting};
use super::hpack::{self, Decoder};
use super::received::Incoming;
use super::{FRAME_BYTES, PREFACE, WINDOW_BYTES};
use crate::client::{Ending, Response};
use crate::http::Head;
use crate::request::Request;
use crate::wire::Wire;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::time::Duration;

mod expect;
mod take_in;

/// Streams that were not asked for have no answer.
const NO_ANSWER: &str = "a stream that was opened";

/// One end of a connection. Whatever it waits for, it takes in all frames that come meanwhile: it acknowledges settings and
/// pings, gives back credit for what it has read, and fails the test where a frame breaks RFC 9113.
#[derive(Debug)]
pub struct Peer {
    wire: Wire,
    buffer: Vec<u8>,
    is_client: bool,
    decoder: Decoder,
    streams: BTreeMap<u32, Incoming>,
    next_stream: u32,
    settings: BTreeMap<u16, u32>,
    settings_frames: usize,
    acks: usize,
    pongs: Vec<[u8; 8]>,
    goaways: Vec<(u32, u32)>,
    gives_credit: bool,
    /// What the other side may still send.
    window_bytes: i64,
    /// How much a new stream begins with.
    initial_window_bytes: i64,
    owed_bytes: u32,
    /// What this side may still send: on the connection, and on streams (what their window was changed by).
    send_window_bytes: i64,
    send_windows: BTreeMap<u32, i64>,
    outgoing: BTreeMap<u32, Outgoing>,
    /// Streams whose request somebody has taken.
    taken: BTreeSet<u32>,
    is_over: bool,
}

/// Payload that waits for room in the windows.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: VecDeque<u8>,
    end: bool,
}

impl Peer {
    /// A client's end that has sent nothing yet.
    pub fn silent_client(wire: Wire) -> Self {
        Self::new(wire, true)
    }

    /// A client's end whose settings and the other side's are exchanged and acknowledged.
    pub fn client(wire: Wire) -> Self {
        Self::client_with(wire, &[])
    }

    /// The same with these settings.
    pub fn client_with(wire: Wire, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::new(wire, true);
        peer.send(PREFACE);
        peer.change_settings(settings);
        peer
    }

    /// A server's end whose settings and the other side's are exchanged and acknowledged. `None` if the client leaves before.
    ///
    /// # Panics
    /// If it begins with anything but the preface.
    pub fn server(wire: Wire, settings: &[(u16, u32)]) -> Option<Self> {
        let mut peer = Self::new(wire, false);
        while peer.buffer.len() < PREFACE.len() {
            if !peer.read() {
                return None;
            }
        }
        let preface: Vec<u8> = peer.buffer.drain(..PREFACE.len()).collect();
        assert_eq!(preface, PREFACE, "the preface");
        peer.note_settings(settings, |_| true);
        peer.try_frame(&Frame::settings(settings));
        Some(peer)
    }

    fn new(wire: Wire, is_client: bool) -> Self {
        let window_bytes = i64::from(WINDOW_BYTES);
        Self {
            wire,
            buffer: Vec::new(),
            is_client,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            next_stream: 1,
            settings: BTreeMap::new(),
            settings_frames: 0,
            acks: 0,
            pongs: Vec::new(),
            goaways: Vec::new(),
            gives_credit: true,
            window_bytes,
            initial_window_bytes: window_bytes,
            owed_bytes: 0,
            send_window_bytes: window_bytes,
            send_windows: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            taken: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Gives credit for what is read, or leaves that to the test: then the other side has to stop when its windows are used up.
    pub fn gives_credit(&mut self, gives: bool) {
        self.gives_credit = gives;
    }

    /// The connection below.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Waits for so long where something takes longer than anything else is waited for.
    pub fn be_patient(&mut self, patience: Duration) {
        self.wire.set_patience(patience);
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_all(bytes.as_ref()).expect("it reads");
    }

    /// Sends bytes; false if the other side does not take them any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the other side is gone.
    pub fn frame(&mut self, frame: &Frame) {
        self.send(frame.bytes());
    }

    /// Sends a frame; false if the other side is gone, which reading will show.
    pub fn try_frame(&mut self, frame: &Frame) -> bool {
        self.try_send(frame.bytes())
    }

    /// Sends frames in one write.
    pub fn frames(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.send(bytes);
    }

    /// Sends settings and waits until they are acknowledged.
    ///
    /// # Panics
    /// If they are not.
    pub fn change_settings(&mut self, settings: &[(u16, u32)]) {
        let acks = self.acks;
        self.note_settings(settings, |change| change > 0);
        self.frame(&Frame::settings(settings));
        self.wait("SETTINGS, and an acknowledgement", |peer| {
            (peer.acks > acks && peer.settings_frames > 0).then_some(())
        });
        self.note_settings(settings, |_| true);
    }

    /// What comes is held against these: what allows more at once, what allows less when the other side has heard of it.
    fn note_settings(&mut self, settings: &[(u16, u32)], holds: impl Fn(i64) -> bool) {
        for (name, value) in settings {
            let change = i64::from(*value) - self.initial_window_bytes;
            if *name == setting::INITIAL_WINDOW_SIZE && holds(change) {
                self.initial_window_bytes += change;
                for stream in self.streams.values_mut() {
                    stream.window_bytes += change;
                }
            }
        }
    }

    /// What the other side has set, if it has.
    pub fn setting(&self, name: u16) -> Option<u32> {
        self.settings.get(&name).copied()
    }

    /// The number that the next stream of this side has.
    pub fn next_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.expect_answer_on(stream);
        stream
    }

    /// Frames may come on this stream, which was opened by hand.
    pub fn expect_answer_on(&mut self, stream: u32) {
        let window_bytes = self.initial_window_bytes;
        self.streams.entry(stream).or_insert_with(|| Incoming {
            window_bytes,
            ..Incoming::default()
        });
    }

    /// Opens a stream with this field block, in as many frames as it needs.
    pub fn open_with(&mut self, block: impl Into<Vec<u8>>, end: bool) -> u32 {
        let stream = self.next_stream();
        self.frames(&Frame::whole_block(stream, &block.into(), end));
        stream
    }

    /// Opens a stream with these fields.
    pub fn open<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)], end: bool) -> u32 {
        self.open_with(hpack::block(fields), end)
    }

    /// Sends a request; its body within the windows that the other side gives.
    pub fn request(&mut self, request: &Request) -> u32 {
        let (fields, body) = request.http2();
        let stream = self.open(&fields, body.is_empty());
        if !body.is_empty() {
            self.body(stream, &body, true);
        }
        stream
    }

    /// Sends a body within the windows that the other side gives, until that is over or takes no more.
    pub fn body(&mut self, stream: u32, body: &[u8], end: bool) {
        self.queue(stream, body, end);
        self.wait_unless_over(|peer| !peer.outgoing.contains_key(&stream));
    }

    /// The same without waiting: what finds no room now is sent while something else is waited for.
    pub fn queue(&mut self, stream: u32, body: &[u8], end: bool) {
        let outgoing = self.outgoing.entry(stream).or_default();
        outgoing.bytes.extend(body);
        outgoing.end = end;
        self.pump();
    }

    fn pump(&mut self) {
        let streams: Vec<u32> = self.outgoing.keys().copied().collect();
        for stream in streams {
            while let Some(frame) = self.next_data(stream) {
                if !self.try_frame(&frame) {
                    // How it ended is for the next read to tell.
                    self.outgoing.clear();
                    return;
                }
            }
        }
    }

    /// The next frame of what waits on this stream, if there is room for it.
    fn next_data(&mut self, stream: u32) -> Option<Frame> {
        let room = self.send_window(stream).min(self.send_window_bytes);
        let room = usize::try_from(room).unwrap_or(0).min(FRAME_BYTES);
        let outgoing = self.outgoing.get_mut(&stream)?;
        let count = outgoing.bytes.len().min(room);
        if count == 0 && !outgoing.bytes.is_empty() {
            return None;
        }
        let payload: Vec<u8> = outgoing.bytes.drain(..count).collect();
        let end = outgoing.end && outgoing.bytes.is_empty();
        if outgoing.bytes.is_empty() {
            self.outgoing.remove(&stream);
        }
        if count == 0 && !end {
            return None;
        }
        let count = i64::try_from(count).expect("a frame");
        self.send_window_bytes -= count;
        *self.send_windows.entry(stream).or_default() -= count;
        Some(Frame::data(stream, payload, end))
    }

    /// Sends a frame of DATA as soon as the windows have room for all of it, with its padding (RFC 9113, section 6.9.1).
    pub fn padded_data(&mut self, frame: &Frame) {
        let count = i64::try_from(frame.payload.len()).expect("a frame");
        self.wait("room to send", |peer| {
            let room = peer.send_window(frame.stream).min(peer.send_window_bytes);
            (room >= count).then_some(())
        });
        self.send_window_bytes -= count;
        *self.send_windows.entry(frame.stream).or_default() -= count;
        self.frame(frame);
    }

    /// What this side may still send on the stream.
    pub fn send_window(&self, stream: u32) -> i64 {
        let initial = self.setting(setting::INITIAL_WINDOW_SIZE);
        let changed = self.send_windows.get(&stream).copied().unwrap_or(0);
        i64::from(initial.unwrap_or(WINDOW_BYTES)) + changed
    }

    /// Sends a head; `fields` come behind the status.
    pub fn answer_head(&mut self, stream: u32, status: u16, fields: &[(&str, &str)], end: bool) {
        let status = status.to_string();
        let mut all = vec![(":status", status.as_str())];
        all.extend_from_slice(fields);
        self.try_frame(&Frame::headers(stream, hpack::block(&all), end));
    }

    /// Answers with a body, within the windows that the other side gives and without waiting for them.
    pub fn answer(&mut self, stream: u32, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        self.answer_head(stream, status, fields, false);
        self.queue(stream, body, true);
    }

    /// The next request that is complete, or whose head is there; `None` when the client has left.
    pub fn next_request(&mut self, at_head: bool) -> Option<u32> {
        loop {
            let is_next = |(stream, incoming): &(&u32, &Incoming)| {
                let has_come = incoming.is_complete || at_head && !incoming.heads.is_empty();
                has_come && !self.taken.contains(*stream)
            };
            if let Some((stream, _)) = self.streams.iter().find(is_next) {
                let stream = *stream;
                self.taken.insert(stream);
                return Some(stream);
            }
            self.step()?;
        }
    }

    /// Sends a request and reads the whole answer.
    pub fn call(&mut self, request: &Request) -> Response {
        let stream = self.request(request);
        self.response(stream)
    }

    /// The head of the answer on this stream.
    ///
    /// # Panics
    /// If there is none.
    pub fn begin_response(&mut self, stream: u32) -> Head {
        self.wait("the head of an answer", |peer| {
            let incoming = peer.incoming(stream);
            let head = incoming.answer();
            let is_over = peer.is_over || incoming.is_over();
            assert!(head.is_some() || !is_over, "no answer: {incoming:?}");
            head
        })
    }

    /// The whole answer on this stream; of one that was read in part, what is left.
    pub fn response(&mut self, stream: u32) -> Response {
        let head = self.begin_response(stream);
        let (payload, ending) = self.finish_response(stream);
        Response {
            head,
            payload,
            ending,
        }
    }

    /// Reads exactly so many bytes of the body.
    ///
    /// # Panics
    /// If the body is over before.
    pub fn read_payload(&mut self, stream: u32, count: usize) -> Vec<u8> {
        self.wait("payload", |peer| {
            let is_over = peer.is_over || peer.incoming(stream).is_over();
            let has_come = peer.incoming(stream).body.len() >= count;
            assert!(has_come || !is_over, "{:?}", peer.incoming(stream));
            has_come.then_some(())
        });
        let body = &mut self.streams.get_mut(&stream).expect(NO_ANSWER).body;
        body.drain(..count).collect()
    }

    /// Reads the rest of the body.
    pub fn finish_response(&mut self, stream: u32) -> (Vec<u8>, Ending) {
        self.wait("the end of an answer", |peer| {
            (peer.is_over || peer.incoming(stream).is_over()).then_some(())
        });
        let incoming = self.streams.get_mut(&stream).expect(NO_ANSWER);
        (std::mem::take(&mut incoming.body), incoming.ending())
    }

    /// What has come on this stream so far.
    ///
    /// # Panics
    /// If it was not opened.
    pub fn incoming(&self, stream: u32) -> &Incoming {
        self.streams.get(&stream).expect(NO_ANSWER)
    }

    /// All streams that were opened by either side, with what has come on them.
    pub fn streams(&self) -> &BTreeMap<u32, Incoming> {
        &self.streams
    }

    /// The last streams and codes of the GOAWAYs that have come.
    pub fn goaways(&self) -> &[(u32, u32)] {
        &self.goaways
    }

    /// Has the other side ended the connection?
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Says that a stream is given up.
    pub fn cancel(&mut self, stream: u32) {
        self.try_frame(&Frame::reset(stream, code::CANCEL));
    }
}
