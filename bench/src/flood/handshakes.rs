//! Handshakes, one after the other, none of which resumes an earlier one.

use std::io::{self, IoSlice};
use std::net::SocketAddrV4;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};

use super::TURN_NS;
use crate::channel::{Buffers, Channel};
use crate::clock::{SECOND_NS, now_ns};
use crate::load::Tally;
use crate::net;
use crate::poller::{Interest, Poller, Ready};
use crate::tls;

/// Handshakes with a server.
#[derive(Clone, Debug)]
pub struct Handshakes {
    /// The server.
    pub target: SocketAddrV4,
    /// How they are begun; sessions should not be resumed.
    pub tls: Arc<ClientConfig>,
    /// How many at a time.
    pub connections: usize,
    /// Handshakes a second; without it, as many as there can be.
    pub rate: Option<f64>,
    /// The same first message each time, and nothing after the server's answer: its work is almost the same, that of the client
    /// next to nothing.
    pub replayed: bool,
}

impl Handshakes {
    /// Goes on as long as `go_on` says, and counts into `tally`.
    ///
    /// # Errors
    /// Connections cannot be made or waited for; a server that refuses them is no error of the flood, but counted as one.
    pub fn run(
        &self,
        tally: &mut Tally,
        mut go_on: impl FnMut(&mut Tally) -> bool,
    ) -> io::Result<()> {
        let mut run = Run::new(self)?;
        let mut ready = Vec::new();
        while go_on(tally) {
            run.begin_due(now_ns())?;
            run.poller.wait(Some(run.timeout_ns()), &mut ready)?;
            for event in &ready {
                run.turn(*event, tally)?;
            }
        }
        Ok(())
    }

    fn hello(&self) -> io::Result<Vec<u8>> {
        let mut hello = Vec::new();
        let client = ClientConnection::new(Arc::clone(&self.tls), tls::server_name());
        client
            .map_err(io::Error::other)?
            .write_tls(&mut hello)
            .map(|_| hello)
    }
}

struct Run<'a> {
    flood: &'a Handshakes,
    poller: Poller,
    hello: Vec<u8>,
    slots: Vec<Option<Attempt>>,
    idle: Vec<usize>,
    buffers: Buffers,
    started_ns: u64,
    begun: u64,
}

struct Attempt {
    channel: Channel,
    intended_ns: u64,
    connected: bool,
}

impl<'a> Run<'a> {
    fn new(flood: &'a Handshakes) -> io::Result<Self> {
        Ok(Self {
            flood,
            poller: Poller::new()?,
            hello: flood.hello()?,
            slots: (0..flood.connections).map(|_| None).collect(),
            idle: (0..flood.connections).rev().collect(),
            buffers: Buffers::new(64 * 1024),
            started_ns: now_ns(),
            begun: 0,
        })
    }

    fn due_ns(&self) -> u64 {
        let after = |rate| self.begun as f64 * SECOND_NS as f64 / rate;
        self.started_ns + self.flood.rate.map_or(0, |rate| after(rate) as u64)
    }

    fn timeout_ns(&self) -> u64 {
        match self.idle.is_empty() {
            true => TURN_NS,
            false => self.due_ns().saturating_sub(now_ns()).min(TURN_NS),
        }
    }

    fn begin_due(&mut self, now: u64) -> io::Result<()> {
        while self.due_ns() <= now
            && let Some(slot) = self.idle.pop()
        {
            let due_ns = self.due_ns();
            self.begun += 1;
            let target = self.flood.target;
            let stream = net::begin_connect(target, net::source_for(target, slot))?;
            self.poller.add(&stream, slot as u64, Interest::Write)?;
            let tls = (!self.flood.replayed).then_some(&self.flood.tls);
            self.slots[slot] = Some(Attempt {
                channel: Channel::to_server(stream, tls)?,
                intended_ns: self.flood.rate.map_or(now, |_| due_ns),
                connected: false,
            });
        }
        Ok(())
    }

    fn turn(&mut self, ready: Ready, tally: &mut Tally) -> io::Result<()> {
        let slot = ready.token as usize;
        let Some(attempt) = &mut self.slots[slot] else {
            return Ok(());
        };
        let done = match attempt.connected {
            true => attempt.go_on(ready, &mut self.buffers),
            false => attempt.say_hello(&self.hello),
        };
        match done {
            Ok(false) => {
                let interest = Interest::of(true, attempt.channel.wants_write());
                return self
                    .poller
                    .modify(attempt.channel.stream(), ready.token, interest);
            }
            Ok(true) => tally.request(now_ns().saturating_sub(attempt.intended_ns)),
            Err(error) => tally.error(&error.to_string()),
        }
        self.slots[slot] = None;
        self.idle.push(slot);
        Ok(())
    }
}

impl Attempt {
    fn say_hello(&mut self, hello: &[u8]) -> io::Result<bool> {
        if let Some(error) = self.channel.stream().take_error()? {
            return Err(error);
        }
        self.connected = true;
        match self.channel.is_handshaking() {
            true => self.channel.flush()?,
            false => drop(self.channel.write(&[IoSlice::new(hello)])?),
        }
        Ok(false)
    }

    /// Returns whether the handshake is done.
    fn go_on(&mut self, ready: Ready, buffers: &mut Buffers) -> io::Result<bool> {
        if ready.write {
            self.channel.flush()?;
        }
        let replayed = !self.channel.is_handshaking();
        match self.channel.read(buffers) {
            Ok([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if net::would_block(&error) => {}
            Err(error) => return Err(error),
        }
        if replayed {
            return Ok(true);
        }
        let done = !self.channel.is_handshaking();
        if done {
            self.channel.say_goodbye();
        }
        Ok(done)
    }
}
