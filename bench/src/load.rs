//! The client's part: sends requests, checks every byte of the answers, measures.
//!
//! Latency is open loop: a request counts from the moment it was to be sent, an event from the moment the upstream sent
//! it, however late the proxy lets either happen. A closed loop ([`Pace::Saturated`]) is for CPU per request only.

use std::net::SocketAddrV4;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::channel::Buffers;
use crate::clock::{SECOND_NS, now_ns};
use crate::plan::Shape;
use crate::poller::{Poller, Ready};
use client::{Client, Turn};
use expected::Expected;
pub use tally::Tally;

mod client;
mod expected;
mod tally;

/// More errors than this end the run: the proxy does not work.
const ERRORS_MAX: u64 = 100;
/// An exchange that is still open at the end must have moved within this time, and that between two of its events.
const STALL_NS: u64 = 2 * SECOND_NS;
/// Streams must all be open after this time.
const OPENING_NS: u64 = 30 * SECOND_NS;
/// New streams are opened over this time, not all at once: many take longer, at a pace at which none waits for the handshakes of others.
const RAMP_NS: u64 = SECOND_NS / 2;
const RAMP_NS_PER_STREAM: u64 = SECOND_NS / 1_000;
/// Shares of the streams' events that must have arrived in the window.
const DELIVERED_MIN: f64 = 0.97;

/// When a connection begins its next exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the one before it is done, on every connection.
    Saturated,
    /// At this many requests a second over all connections, whether or not earlier ones are done.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// The proxy.
    pub target: SocketAddrV4,
    /// The tenant's key, sent as X-API-Key.
    pub key: Option<String>,
    /// TLS to the proxy, if it is spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// How many connections.
    pub connections: usize,
    /// Each request opens a connection and closes it after the answer.
    pub fresh: bool,
    /// What is asked for.
    pub shape: Shape,
    /// When it is asked for.
    pub pace: Pace,
    /// Not measured, at the beginning.
    pub warmup_ns: u64,
    /// Measured.
    pub window_ns: u64,
}

impl Load {
    /// Runs until the window is over and then as long as `hold` says; `on_start` and `on_end` are told of the window.
    ///
    /// # Errors
    /// The load could not be made; what went wrong with single requests is in the tally.
    pub fn run(
        &self,
        on_start: impl FnOnce(),
        on_end: impl FnOnce(&Tally),
        mut hold: impl FnMut() -> bool,
    ) -> Result<Tally, String> {
        let mut run = Run::new(self)?;
        run.warm_up()?;
        run.tally.start(now_ns());
        on_start();
        let end = now_ns() + self.window_ns;
        run.drive(|run, now| now < end && run.tally.errors() < ERRORS_MAX)?;
        run.tally.end(now_ns());
        run.check_end();
        on_end(&run.tally);
        run.drive(|_, _| hold())?;
        Ok(run.tally)
    }

    /// When the stream with this number is opened, from the beginning.
    fn ramp_ns(&self, number: u64) -> u64 {
        let streams = self.connections as u64;
        number * RAMP_NS.max(streams * RAMP_NS_PER_STREAM) / streams
    }

    /// An exchange that is still open at the end must have moved within this time.
    fn stall_ns(&self) -> u64 {
        match self.shape {
            Shape::Sse { millirate, .. } if millirate > 0 => {
                STALL_NS + SECOND_NS * 1_000 / u64::from(millirate)
            }
            _ => STALL_NS,
        }
    }

    fn events_expected(&self) -> Option<f64> {
        match self.shape {
            Shape::Sse { millirate, .. } if millirate > 0 => {
                let per_second = f64::from(millirate) / 1_000.0 * self.connections as f64;
                Some(per_second * self.window_ns as f64 / SECOND_NS as f64)
            }
            _ => None,
        }
    }
}

/// A load that is running.
struct Run<'a> {
    load: &'a Load,
    poller: Poller,
    clients: Vec<Client>,
    /// Clients without an exchange.
    idle: Vec<usize>,
    expected: Expected,
    tally: Tally,
    buffers: Buffers,
    started_ns: u64,
    /// How many exchanges of the schedule have begun.
    begun: u64,
}

impl<'a> Run<'a> {
    fn new(load: &'a Load) -> Result<Self, String> {
        let poller = Poller::new().map_err(|error| format!("epoll: {error}"))?;
        let expected = Expected::new(load.shape)?;
        let clients = (0..load.connections)
            .map(|index| Client::new(index, load))
            .collect();
        Ok(Self {
            load,
            poller,
            clients,
            // Taken from the end, so that they are used in their order at first.
            idle: (0..load.connections).rev().collect(),
            expected,
            tally: Tally::default(),
            buffers: Buffers::new(256 * 1024),
            started_ns: now_ns(),
            begun: 0,
        })
    }

    fn warm_up(&mut self) -> Result<(), String> {
        let end = self.started_ns + self.load.warmup_ns;
        let limit = end + OPENING_NS;
        let mut opened = false;
        self.drive(|run, now| {
            let warm = now >= end && run.tally.errors() < ERRORS_MAX;
            opened = opened || (warm && run.is_open());
            !opened && now < limit && run.tally.errors() < ERRORS_MAX
        })?;
        if let Some(error) = self.tally.first_error() {
            return Err(format!(
                "{} errors, the first: {error}",
                self.tally.errors()
            ));
        }
        if opened {
            return Ok(());
        }
        let answered = self.clients.iter().filter(|client| client.was_answered());
        let (answered, all) = (answered.count(), self.clients.len());
        Err(format!(
            "only {answered} of {all} connections were answered"
        ))
    }

    /// Is what is measured under way?
    fn is_open(&self) -> bool {
        match self.load.shape {
            Shape::Sse { .. } => self.clients.iter().all(Client::was_answered),
            Shape::Json { .. } => self.clients.iter().any(Client::was_answered),
        }
    }

    /// Turns the loop as long as `go_on` says, which is asked before each turn.
    fn drive(&mut self, mut go_on: impl FnMut(&Self, u64) -> bool) -> Result<(), String> {
        /// `go_on` is asked at least this often.
        const TURN_NS: u64 = SECOND_NS / 100;
        let mut ready: Vec<Ready> = Vec::new();
        let mut now = now_ns();
        while go_on(self, now) {
            let next_ns = self.begin_due(now);
            let timeout_ns = next_ns.saturating_sub(now_ns()).min(TURN_NS);
            self.poller
                .wait(Some(timeout_ns), &mut ready)
                .map_err(|error| format!("epoll: {error}"))?;
            for event in &ready {
                self.turn(*event);
            }
            now = now_ns();
        }
        Ok(())
    }

    /// Begins the exchanges that are due and can be begun; returns when the next is due.
    fn begin_due(&mut self, now: u64) -> u64 {
        loop {
            let due_ns = self.due_ns(self.begun);
            if due_ns > now {
                return due_ns;
            }
            // None is free: the exchange waits, and its latency counts from when it was due.
            let Some(index) = self.idle.pop() else {
                return u64::MAX;
            };
            self.begun += 1;
            let intended_ns = match self.load.pace {
                Pace::Saturated => now_ns(),
                Pace::Open { .. } => due_ns,
            };
            self.begin(index, intended_ns);
        }
    }

    /// When the exchange with this number is due.
    fn due_ns(&self, number: u64) -> u64 {
        match (self.load.pace, self.load.shape) {
            (Pace::Open { rate }, _) => {
                self.started_ns + (number as f64 * SECOND_NS as f64 / rate) as u64
            }
            // The first ones only: a later one takes the place of one that failed.
            (Pace::Saturated, Shape::Sse { .. }) if number < self.clients.len() as u64 => {
                self.started_ns + self.load.ramp_ns(number)
            }
            (Pace::Saturated, _) => self.started_ns,
        }
    }

    fn begin(&mut self, index: usize, intended_ns: u64) {
        let client = &mut self.clients[index];
        if let Err(error) = client.begin(intended_ns, &self.poller, &mut self.tally) {
            self.fail(index, &error);
        }
    }

    fn turn(&mut self, ready: Ready) {
        let index = ready.token as usize;
        let client = &mut self.clients[index];
        let turn = client.turn(
            ready,
            &mut self.buffers,
            &self.expected,
            &self.poller,
            &mut self.tally,
        );
        match turn {
            Ok(Turn::Open) => {}
            Ok(Turn::Done) => {
                if self.load.pace == Pace::Saturated {
                    self.begin(index, now_ns());
                } else {
                    self.idle.push(index);
                }
            }
            Err(error) => self.fail(index, &error),
        }
    }

    fn fail(&mut self, index: usize, error: &str) {
        self.tally.error(&format!("connection {index}: {error}"));
        self.clients[index].disconnect();
        self.idle.push(index);
    }

    /// Looks for what no single byte shows: streams that stand still, events that did not come.
    fn check_end(&mut self) {
        let now = now_ns();
        let stalled = self
            .clients
            .iter()
            .filter(|client| client.is_stalled(now, self.load.stall_ns()))
            .count();
        if stalled > 0 {
            self.tally
                .error(&format!("{stalled} exchanges stand still"));
        }
        if let Some(expected) = self.load.events_expected() {
            let arrived = self.tally.events();
            if (arrived as f64) < expected * DELIVERED_MIN {
                self.tally
                    .error(&format!("{arrived} of {expected:.0} events arrived"));
            }
        }
    }
}
