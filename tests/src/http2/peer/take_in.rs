//! What comes, and what it has to keep to.

use super::{NO_ANSWER, Peer};
use crate::http2::received::Incoming;
use crate::http2::{FRAME_BYTES, Frame, WINDOW_BYTES, flag, kind};
use std::io::{ErrorKind, Read};

impl Peer {
    /// Takes in one frame; `None` at the end of the connection.
    pub fn step(&mut self) -> Option<Frame> {
        let frame = self.next_frame()?;
        self.take_in(&frame);
        Some(frame)
    }

    fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer) {
                return Some(frame);
            }
            if !self.read() {
                self.is_over = true;
                return None;
            }
        }
    }

    pub(super) fn read(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.wire.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("nothing came: {:?} {:?}", self.goaways, self.streams)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => false,
        }
    }

    fn take_in(&mut self, frame: &Frame) {
        assert!(frame.payload.len() <= FRAME_BYTES, "too long: {frame:?}");
        match frame.kind {
            kind::DATA => self.take_data(frame),
            kind::HEADERS => self.take_headers(frame),
            kind::SETTINGS => self.take_settings(frame),
            kind::PING => {
                let payload: [u8; 8] = frame.payload.as_slice().try_into().expect("eight bytes");
                if frame.has(flag::ACK) {
                    self.pongs.push(payload);
                } else {
                    self.try_frame(&Frame::ping(payload).flags(flag::ACK));
                }
            }
            kind::GOAWAY => {
                assert_eq!(frame.stream, 0, "{frame:?}");
                let goaway = (frame.number(0), frame.number(4));
                let before = self.goaways.last().map_or(u32::MAX, |before| before.0);
                assert!(goaway.0 <= before, "RFC 9113, section 6.8: {frame:?}");
                self.goaways.push(goaway);
            }
            kind::RST_STREAM => {
                assert_eq!(frame.payload.len(), 4, "{frame:?}");
                let incoming = self.streams.get_mut(&frame.stream);
                let incoming = incoming.unwrap_or_else(|| panic!("idle: {frame:?}"));
                incoming.reset.get_or_insert(frame.number(0));
                self.outgoing.remove(&frame.stream);
            }
            kind::WINDOW_UPDATE => {
                let bytes = i64::from(frame.number(0));
                assert!(bytes > 0 && frame.payload.len() == 4, "{frame:?}");
                let window = match frame.stream {
                    0 => &mut self.send_window_bytes,
                    stream => self.send_windows.entry(stream).or_default(),
                };
                *window += bytes;
                self.pump();
            }
            _ => panic!("not to be sent: {frame:?}"),
        }
    }

    fn take_settings(&mut self, frame: &Frame) {
        assert_eq!((frame.stream, frame.payload.len() % 6), (0, 0), "{frame:?}");
        if frame.has(flag::ACK) {
            assert!(frame.payload.is_empty(), "{frame:?}");
            self.acks += 1;
            return;
        }
        for one in frame.payload.chunks(6) {
            let name = u16::from_be_bytes([one[0], one[1]]);
            let value = u32::from_be_bytes([one[2], one[3], one[4], one[5]]);
            self.settings.insert(name, value);
        }
        self.settings_frames += 1;
        self.try_frame(&Frame::settings_ack());
        self.pump();
    }

    fn take_headers(&mut self, first: &Frame) {
        let mut block = first.content().to_vec();
        let mut is_whole = first.has(flag::END_HEADERS);
        while !is_whole {
            let Some(next) = self.next_frame() else {
                return;
            };
            let follows = next.kind == kind::CONTINUATION && next.stream == first.stream;
            assert!(follows, "RFC 9113, section 6.10: {next:?}");
            block.extend_from_slice(&next.payload);
            is_whole = next.has(flag::END_HEADERS);
        }
        let fields = self.decoder.decode(&block);
        let fields = fields.unwrap_or_else(|error| panic!("{error}: {block:?}"));
        if !self.is_client && !self.streams.contains_key(&first.stream) {
            let last = self.streams.keys().next_back().copied().unwrap_or(0);
            let is_next = first.stream > last && first.stream % 2 == 1;
            assert!(is_next, "RFC 9113, section 5.1.1: {first:?} behind {last}");
            self.expect_answer_on(first.stream);
        }
        let of_answers = self.is_client;
        let end = first.has(flag::END_STREAM);
        let incoming = self.open_stream(first);
        incoming.add_head(fields, end, of_answers);
        incoming.is_complete = end;
    }

    fn take_data(&mut self, frame: &Frame) {
        let content = frame.content().to_vec();
        // Padding counts too (RFC 9113, section 6.9.1).
        let bytes = u32::try_from(frame.payload.len()).expect("a frame");
        let gives_credit = self.gives_credit;
        self.window_bytes -= i64::from(bytes);
        let connection_bytes = self.window_bytes;
        let incoming = self.open_stream(frame);
        assert!(!incoming.heads.is_empty(), "no head before {frame:?}");
        incoming.window_bytes -= i64::from(bytes);
        let least = incoming.window_bytes.min(connection_bytes);
        assert!(least >= 0 || bytes == 0, "{least} bytes are left");
        incoming.body_bytes += content.len();
        incoming.body.extend_from_slice(&content);
        incoming.is_complete = frame.has(flag::END_STREAM);
        if gives_credit {
            incoming.owed_bytes += bytes;
            self.owed_bytes += bytes;
            self.give_back(frame.stream);
        }
    }

    /// Gives credit in large pieces, as clients do.
    fn give_back(&mut self, stream: u32) {
        if self.owed_bytes > WINDOW_BYTES / 2 {
            let owed = std::mem::take(&mut self.owed_bytes);
            self.give_credit(0, owed);
        }
        let incoming = self.streams.get_mut(&stream).expect(NO_ANSWER);
        let is_due = incoming.owed_bytes > incoming.window_bytes.try_into().unwrap_or(0);
        if is_due && !incoming.is_complete {
            let owed = std::mem::take(&mut incoming.owed_bytes);
            self.give_credit(stream, owed);
        }
    }

    /// Sends WINDOW_UPDATE, for the connection if the stream is 0.
    pub fn give_credit(&mut self, stream: u32, bytes: u32) {
        match stream {
            0 => self.window_bytes += i64::from(bytes),
            stream => {
                self.expect_answer_on(stream);
                let incoming = self.streams.get_mut(&stream).expect(NO_ANSWER);
                incoming.window_bytes += i64::from(bytes);
            }
        }
        self.try_frame(&Frame::window_update(stream, bytes));
    }

    /// The stream of a frame that only an open one has (RFC 9113, section 5.1).
    fn open_stream(&mut self, frame: &Frame) -> &mut Incoming {
        let incoming = self.streams.get_mut(&frame.stream);
        let incoming = incoming.unwrap_or_else(|| panic!("idle: {frame:?}"));
        assert!(!incoming.is_over(), "after the end: {frame:?}");
        incoming
    }
}
