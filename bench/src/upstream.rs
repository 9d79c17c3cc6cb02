//! The provider's part: answers each request as its plan says (see [`crate::plan`]).

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::answer::Answer;
use crate::channel::{Buffers, Channel};
use crate::clock::{SECOND_NS, now_ns};
use crate::event::{EventTexts, Template};
use crate::net;
use crate::pacing::{Agenda, StreamKey};
use crate::plan::{Plan, Shape};
use crate::poller::{Interest, Poller, Ready};
use connection::{Connection, Streaming};

mod connection;
mod request;

const LISTENER: u64 = u64::MAX;

/// A listening upstream.
pub struct Upstream {
    poller: Poller,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    generation: u32,
    agenda: Agenda,
    texts: Texts,
    buffers: Buffers,
    tls: Option<Arc<ServerConfig>>,
}

/// What is sent, built once for each length.
#[derive(Debug, Default)]
struct Texts {
    answers: HashMap<u32, Answer>,
    events: HashMap<u32, Rc<Chunks>>,
}

/// The events of a stream as chunks, ready to be sent.
#[derive(Debug)]
pub(crate) struct Chunks {
    pub(crate) created: Template,
    pub(crate) delta: Template,
    pub(crate) completed: Template,
}

impl Texts {
    fn answer(&mut self, body_bytes: u32) -> Result<Answer, String> {
        if let Some(answer) = self.answers.get(&body_bytes) {
            return Ok(answer.clone());
        }
        let answer = Answer::new(body_bytes as usize)?;
        self.answers.insert(body_bytes, answer.clone());
        Ok(answer)
    }

    fn chunks(&mut self, payload_bytes: u32) -> Result<Rc<Chunks>, String> {
        if let Some(chunks) = self.events.get(&payload_bytes) {
            return Ok(Rc::clone(chunks));
        }
        let texts = EventTexts::new(payload_bytes as usize)?;
        let chunks = Rc::new(Chunks {
            created: texts.created.chunked(""),
            delta: texts.delta.chunked(""),
            completed: texts.completed.chunked("0\r\n\r\n"),
        });
        self.events.insert(payload_bytes, Rc::clone(&chunks));
        Ok(chunks)
    }
}

impl Upstream {
    /// Listens, for TLS if there is a configuration; port 0 takes any.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn new(address: SocketAddrV4, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let listener = net::listen(address)?;
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self {
            poller,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            agenda: Agenda::default(),
            texts: Texts::default(),
            buffers: Buffers::new(64 * 1024),
            tls,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    /// The listener or epoll failed; what happens to a single connection is no error.
    pub fn serve(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let now = now_ns();
            let timeout_ns = self.agenda.next_due_ns().map(|due| due.saturating_sub(now));
            self.poller.wait(timeout_ns, &mut ready)?;
            for event in &ready {
                match u32::try_from(event.token) {
                    Ok(slot) => self.turn(slot, *event),
                    Err(_) => self.accept()?,
                }
            }
            let now = now_ns();
            while let Some(key) = self.agenda.take_due(now) {
                self.send_due_event(key);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(stream) = net::accept(&self.listener)? {
            let channel = Channel::of_client(stream, self.tls.as_ref())?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() as u32 - 1
            });
            self.poller
                .add(channel.stream(), u64::from(slot), Interest::Read)?;
            self.generation = self.generation.wrapping_add(1);
            let key = StreamKey {
                slot,
                generation: self.generation,
            };
            self.connections[slot as usize] = Some(Connection::new(channel, key));
        }
        Ok(())
    }

    fn turn(&mut self, slot: u32, ready: Ready) {
        self.with_connection(slot, |connection, agenda, buffers| {
            if ready.read {
                connection.read(buffers)?;
            }
            if ready.write {
                connection.write_on(agenda)?;
            }
            Ok(())
        });
    }

    fn send_due_event(&mut self, key: StreamKey) {
        self.with_connection(key.slot, |connection, agenda, _| {
            if connection.key() == key {
                connection.send_due_event(agenda)?;
            }
            Ok(())
        });
    }

    /// Does one thing with a connection, then begins the requests that can be begun; closes it if anything fails.
    fn with_connection(
        &mut self,
        slot: u32,
        act: impl FnOnce(&mut Connection, &mut Agenda, &mut Buffers) -> io::Result<()>,
    ) {
        let Some(connection) = self.connections[slot as usize].as_mut() else {
            return;
        };
        let turn = || -> io::Result<()> {
            act(connection, &mut self.agenda, &mut self.buffers)?;
            while let Some(plan) = connection.take_request() {
                let start = plan.and_then(|plan| start(connection, &mut self.texts, plan));
                if let Err(reason) = start {
                    connection.refuse(&reason);
                }
                connection.write_on(&mut self.agenda)?;
            }
            connection.watch(&self.poller)
        };
        if turn().is_err() {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: u32) {
        self.connections[slot as usize] = None;
        self.free.push(slot);
    }
}

fn start(connection: &mut Connection, texts: &mut Texts, plan: Plan) -> Result<(), String> {
    match plan.shape {
        Shape::Json { body_bytes } => {
            connection.answer(plan.id, &texts.answer(body_bytes)?);
        }
        Shape::Sse {
            deltas,
            payload_bytes,
            millirate,
        } => connection.stream(Streaming {
            chunks: texts.chunks(payload_bytes)?,
            id: plan.id,
            next: 0,
            deltas,
            period_ns: SECOND_NS * 1_000 / u64::from(millirate.max(1)),
            back_to_back: millirate == 0,
            due_ns: 0,
            is_put_down: false,
        }),
    }
    Ok(())
}
