//! A client that sends frames without caring for what comes back.

use super::Flood;
use relay_tests::http2::{Frame, PREFACE, kind};
use relay_tests::{DEADLINE, Gateway, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// One connection.
pub(crate) struct Attacker {
    socket: TcpStream,
    reader: JoinHandle<Heard>,
    answers: Arc<AtomicU32>,
}

/// What the gateway said, until it ended the connection.
#[derive(Debug)]
struct Heard {
    goaway: Option<u32>,
}

/// How an attack ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The error code of the last GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// How many rounds were sent.
    pub(crate) rounds: u32,
}

impl Attacker {
    /// Connects, with empty settings.
    pub(crate) fn connect(gateway: &Gateway) -> Self {
        Self::with_settings(gateway, &[])
    }

    /// Connects with these settings.
    pub(crate) fn with_settings(gateway: &Gateway, settings: &[(u16, u32)]) -> Self {
        let mut attacker = Self::begin(gateway, PREFACE);
        attacker.send(&[Frame::settings(settings), Frame::settings_ack()]);
        attacker
    }

    /// Connects, and sends these bytes.
    pub(crate) fn begin(gateway: &Gateway, bytes: &[u8]) -> Self {
        let socket = TcpStream::connect(gateway.address()).expect("somebody listens");
        socket
            .set_write_timeout(Some(DEADLINE))
            .expect("a connected socket");
        let incoming = socket.try_clone().expect("a descriptor");
        let answers = Arc::new(AtomicU32::new(0));
        let counted = answers.clone();
        let reader = thread::spawn(move || listen(incoming, &counted));
        let mut attacker = Self {
            socket,
            reader,
            answers,
        };
        attacker.send_bytes(bytes);
        attacker
    }

    /// Sends frames.
    pub(crate) fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.send_bytes(&bytes);
    }

    /// Sends bytes, whatever becomes of them.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends round after round until the gateway does not take them any more, and then waits for its end.
    pub(crate) fn flood(mut self, mut flood: impl Flood) -> End {
        let mut rounds = 0;
        let gives_up_at = Instant::now() + DEADLINE;
        while !self.is_over() && Instant::now() < gives_up_at {
            let frames = flood(rounds);
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
            if !self.send_bytes(&bytes) {
                break;
            }
            rounds += 1;
        }
        self.wait_end(rounds)
    }

    /// Waits until the gateway ends the connection.
    pub(crate) fn wait_end(self, rounds: u32) -> End {
        eventually(&format!("the end after {rounds} rounds"), || {
            self.is_over().then_some(())
        });
        let heard = self.reader.join().expect("a thread without assertions");
        End {
            goaway: heard.goaway,
            rounds,
        }
    }

    /// How many answers have begun.
    pub(crate) fn answers(&self) -> u32 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Has the gateway ended the connection?
    pub(crate) fn is_over(&self) -> bool {
        self.reader.is_finished()
    }

    /// Leaves, and waits until that has been seen.
    pub(crate) fn leave(self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        self.wait_end(0);
    }
}

/// Reads until the end, remembers the last GOAWAY and counts the heads.
fn listen(mut socket: TcpStream, answers: &AtomicU32) -> Heard {
    let mut goaway = None;
    let mut buffer = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut piece) {
        buffer.extend_from_slice(&piece[..count]);
        let mut at = 0;
        while let Some(&[a, b, c, code, ..]) = buffer[at..].first_chunk::<9>() {
            let end = at + 9 + u32::from_be_bytes([0, a, b, c]) as usize;
            if end > buffer.len() {
                break;
            }
            if code == kind::HEADERS {
                answers.fetch_add(1, Ordering::Relaxed);
            }
            if code == kind::GOAWAY
                && let Some(error) = buffer[at + 13..end].first_chunk()
            {
                goaway = Some(u32::from_be_bytes(*error));
            }
            at = end;
        }
        buffer.drain(..at);
    }
    Heard { goaway }
}
