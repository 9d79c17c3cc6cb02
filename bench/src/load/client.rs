//! One connection of the load.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use rustls::ClientConfig;

use super::expected::{Answering, Expected};
use super::{Load, Tally};
use crate::channel::{Buffers, Channel};
use crate::clock::now_ns;
use crate::framing::hex16;
use crate::net;
use crate::plan::{Plan, Shape};
use crate::poller::{Interest, Poller, Ready};

/// Connections of one source address: more than a gateway may allow to one address would be refused.
const CONNECTIONS_PER_SOURCE: usize = 200;

/// How a turn left the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to come, or there is no exchange.
    Open,
    /// The answer is complete and right.
    Done,
}

#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    target: SocketAddrV4,
    source: Option<Ipv4Addr>,
    tls: Option<Arc<ClientConfig>>,
    fresh: bool,
    connection: Option<Connection>,
    request: RequestTemplate,
    /// Takes the place of `request` after the first exchange.
    later_request: Option<RequestTemplate>,
    exchange: Option<Exchange>,
    exchanges: u32,
    was_answered: bool,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    watched: Interest,
    connected: bool,
}

#[derive(Debug)]
struct Exchange {
    answering: Answering,
    intended_ns: u64,
    /// When something arrived last, or the exchange began.
    moved_ns: u64,
    unsent: Vec<u8>,
}

impl Client {
    pub(crate) fn new(index: usize, load: &Load) -> Self {
        let mut first = load.shape;
        if let Shape::Sse { deltas, .. } = &mut first {
            // The first streams end one after the other, so that later ones begin spread over time.
            let share = (index + 1) as u64 * u64::from(*deltas) / load.connections as u64;
            *deltas = (share as u32).max(1);
        }
        Self {
            index,
            target: load.target,
            source: net::source_for(load.target, source_number(index, load.fresh)),
            tls: load.tls.clone(),
            fresh: load.fresh,
            connection: None,
            request: RequestTemplate::new(load, first),
            later_request: (first != load.shape).then(|| RequestTemplate::new(load, load.shape)),
            exchange: None,
            exchanges: 0,
            was_answered: false,
        }
    }

    /// Has any answer begun to arrive?
    pub(crate) fn was_answered(&self) -> bool {
        self.was_answered
    }

    pub(crate) fn is_stalled(&self, now_ns: u64, longest_ns: u64) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| now_ns.saturating_sub(exchange.moved_ns) > longest_ns)
    }

    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.exchange = None;
    }

    /// Begins an exchange, on a new connection if there is none.
    pub(crate) fn begin(
        &mut self,
        intended_ns: u64,
        poller: &Poller,
        tally: &mut Tally,
    ) -> Result<(), String> {
        if self.exchanges > 0
            && let Some(request) = self.later_request.take()
        {
            self.request = request;
        }
        self.exchanges = self.exchanges.wrapping_add(1);
        let id = (self.index as u64 + 1) << 32 | u64::from(self.exchanges);
        let plan = Plan {
            id,
            shape: self.request.shape,
        };
        self.exchange = Some(Exchange {
            answering: Answering::new(plan, now_ns()),
            intended_ns,
            moved_ns: intended_ns,
            unsent: Vec::new(),
        });
        self.request.set_id(id);
        if self.connection.is_some() {
            self.send(poller)
        } else {
            if self.exchanges > 1 {
                tally.reconnect();
            }
            self.connect(poller)
                .map_err(|error| format!("connect: {error}"))
        }
    }

    fn connect(&mut self, poller: &Poller) -> std::io::Result<()> {
        let stream = net::begin_connect(self.target, self.source)?;
        let channel = Channel::to_server(stream, self.tls.as_ref())?;
        let watched = Interest::Write;
        poller.add(channel.stream(), self.index as u64, watched)?;
        self.connection = Some(Connection {
            channel,
            watched,
            connected: false,
        });
        Ok(())
    }

    fn send(&mut self, poller: &Poller) -> Result<(), String> {
        let (Some(connection), Some(exchange)) = (&mut self.connection, &mut self.exchange) else {
            return Ok(());
        };
        let fresh = exchange.unsent.is_empty();
        let bytes = match fresh {
            true => &self.request.bytes,
            false => &exchange.unsent,
        };
        let written = match connection.channel.write(&[IoSlice::new(bytes)]) {
            Ok(written) => written,
            Err(error) if net::would_block(&error) => 0,
            Err(error) => return Err(format!("send: {error}")),
        };
        exchange.unsent = match bytes.get(written..) {
            Some(unsent) if !unsent.is_empty() => unsent.to_vec(),
            _ => Vec::new(),
        };
        let waits = !exchange.unsent.is_empty() || connection.channel.wants_write();
        connection.watch(poller, self.index, Interest::of(true, waits))
    }

    /// Does what the connection is ready for.
    pub(crate) fn turn(
        &mut self,
        ready: Ready,
        buffers: &mut Buffers,
        expected: &Expected,
        poller: &Poller,
        tally: &mut Tally,
    ) -> Result<Turn, String> {
        let Some(connection) = &mut self.connection else {
            return Ok(Turn::Open);
        };
        if !connection.connected {
            if let Ok(Some(error)) | Err(error) = connection.channel.stream().take_error() {
                return Err(format!("connect: {error}"));
            }
            connection.connected = true;
            self.send(poller)?;
            return Ok(Turn::Open);
        }
        let unsent = self
            .exchange
            .as_ref()
            .is_some_and(|it| !it.unsent.is_empty());
        if ready.write && unsent {
            self.send(poller)?;
        } else if ready.write {
            connection.send_records(poller, self.index)?;
        }
        if ready.read {
            return self.receive(buffers, expected, tally);
        }
        Ok(Turn::Open)
    }

    fn receive(
        &mut self,
        buffers: &mut Buffers,
        expected: &Expected,
        tally: &mut Tally,
    ) -> Result<Turn, String> {
        let Some(connection) = &mut self.connection else {
            return Ok(Turn::Open);
        };
        let bytes = match connection.channel.read(buffers) {
            Ok(bytes) => bytes,
            Err(error) if net::would_block(&error) => return Ok(Turn::Open),
            Err(error) => return Err(format!("receive: {error}")),
        };
        let now = now_ns();
        tally.received(bytes.len());
        let Some(exchange) = &mut self.exchange else {
            if !bytes.is_empty() {
                return Err("bytes before there was a request".into());
            }
            // An idle connection may be closed at any time (RFC 9112, 9.5).
            self.connection = None;
            return Ok(Turn::Open);
        };
        let latency_ns = now.saturating_sub(exchange.intended_ns);
        if bytes.is_empty() {
            return Err("closed in the middle of an exchange".into());
        }
        exchange.moved_ns = now;
        if !exchange.answering.has_begun() {
            self.was_answered = true;
            tally.first_byte(latency_ns);
        }
        exchange.answering.feed(bytes, now, expected, tally)?;
        if !exchange.answering.is_done() {
            return Ok(Turn::Open);
        }
        tally.request(latency_ns);
        if self.fresh || exchange.answering.closes() {
            connection.channel.say_goodbye();
            self.connection = None;
        }
        self.exchange = None;
        Ok(Turn::Done)
    }
}

/// Number of the address that the connection with this index comes from. An address that opens one after the other would run out
/// of ports, since those of closed connections wait (RFC 9293, 3.6.1), so that each has its own.
fn source_number(index: usize, fresh: bool) -> usize {
    match fresh {
        true => index,
        false => index / CONNECTIONS_PER_SOURCE,
    }
}

impl Connection {
    /// Sends what a handshake or an earlier write has left.
    fn send_records(&mut self, poller: &Poller, index: usize) -> Result<(), String> {
        self.channel
            .flush()
            .map_err(|error| format!("send: {error}"))?;
        self.watch(
            poller,
            index,
            Interest::of(true, self.channel.wants_write()),
        )
    }

    fn watch(&mut self, poller: &Poller, index: usize, wanted: Interest) -> Result<(), String> {
        if wanted != self.watched {
            poller
                .modify(self.channel.stream(), index as u64, wanted)
                .map_err(|error| format!("epoll: {error}"))?;
            self.watched = wanted;
        }
        Ok(())
    }
}

/// A request in which only the identity is exchanged.
#[derive(Debug)]
struct RequestTemplate {
    bytes: Vec<u8>,
    shape: Shape,
    ids_at: Vec<usize>,
}

impl RequestTemplate {
    fn new(load: &Load, shape: Shape) -> Self {
        /// Found nowhere else in a request.
        const PLACE: u64 = 0xfedc_ba98_7654_3210;
        let body = Plan { id: PLACE, shape }.request_body();
        let accept = match shape {
            Shape::Json { .. } => "application/json",
            Shape::Sse { .. } => "text/event-stream",
        };
        let mut head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {}\r\nuser-agent: relay-bench/{}\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nsession-id: {PLACE:016x}\r\n",
            load.target,
            env!("CARGO_PKG_VERSION"),
            body.len()
        );
        if let Some(key) = &load.key {
            let _ = write!(head, "x-api-key: {key}\r\n");
        }
        if load.fresh {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        let bytes = [head.as_bytes(), &body].concat();
        let ids_at = memchr::memmem::find_iter(&bytes, &hex16(PLACE)).collect();
        Self {
            bytes,
            shape,
            ids_at,
        }
    }

    fn set_id(&mut self, id: u64) {
        let digits = hex16(id);
        for at in &self.ids_at {
            self.bytes[*at..at + digits.len()].copy_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Pace;

    fn load(shape: Shape) -> Load {
        Load {
            target: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_080),
            key: Some("key-of-the-tenant".into()),
            tls: None,
            connections: 10,
            fresh: false,
            shape,
            pace: Pace::Saturated,
            warmup_ns: 0,
            window_ns: 0,
        }
    }

    #[test]
    fn each_request_carries_its_own_identity() {
        let shape = Shape::Json { body_bytes: 1_024 };
        let mut template = RequestTemplate::new(&load(shape), shape);
        template.set_id(0x42);
        let text = String::from_utf8(template.bytes.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nsession-id: 0000000000000042\r\n"));
        assert!(head.ends_with("\r\nx-api-key: key-of-the-tenant"));
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
        let plan = Plan { id: 0x42, shape };
        assert_eq!(Plan::from_request_body(body.as_bytes()), Ok(plan));
    }

    #[test]
    fn a_fresh_connection_says_that_it_ends_and_has_an_address_of_its_own() {
        let shape = Shape::Json { body_bytes: 1_024 };
        let load = Load {
            fresh: true,
            ..load(shape)
        };
        let (first, second) = (Client::new(0, &load), Client::new(1, &load));
        let text = String::from_utf8(first.request.bytes).unwrap();
        assert!(text.contains("\r\nconnection: close\r\n\r\n"), "{text}");
        assert_ne!(first.source, second.source);
    }

    #[test]
    fn first_streams_are_of_all_lengths() {
        let shape = Shape::Sse {
            deltas: 100,
            payload_bytes: 200,
            millirate: 30_000,
        };
        let load = load(shape);
        let deltas = |index| match Client::new(index, &load).request.shape {
            Shape::Sse { deltas, .. } => deltas,
            Shape::Json { .. } => 0,
        };
        assert_eq!((deltas(0), deltas(4), deltas(9)), (10, 50, 100));
    }
}
