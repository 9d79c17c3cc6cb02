//! A blind TCP relay: one connection to the upstream for each from a client, one thread, one shared buffer.
//!
//! It looks at no byte, so its cost is what the kernel takes for moving them: the floor under every proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use crate::net;
use crate::poller::{Interest, Poller, Ready};

const LISTENER: u64 = u64::MAX;

/// A listening relay.
pub struct Floor {
    poller: Poller,
    listener: TcpListener,
    upstream: SocketAddrV4,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// A client's connection and the one to the upstream, in this order.
#[derive(Debug)]
struct Pair {
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    stream: TcpStream,
    watched: Interest,
    /// Bytes that this side had no room for.
    unsent: Vec<u8>,
    connected: bool,
    /// This side has sent its last byte.
    ended: bool,
}

impl Side {
    fn new(stream: TcpStream, watched: Interest, connected: bool) -> Self {
        Self {
            stream,
            watched,
            unsent: Vec::new(),
            connected,
            ended: false,
        }
    }

    /// Sends what is waiting; returns whether there is room for more.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let written = write_some(&self.stream, &self.unsent)?;
            if written == 0 {
                return Ok(false);
            }
            self.unsent.drain(..written);
        }
        Ok(true)
    }
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if net::would_block(&error) => Ok(0),
        written => written,
    }
}

impl Floor {
    /// Listens; port 0 takes any.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn new(address: SocketAddrV4, upstream: SocketAddrV4) -> io::Result<Self> {
        let listener = net::listen(address)?;
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self {
            poller,
            listener,
            upstream,
            pairs: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Relays until the process is ended.
    ///
    /// # Errors
    /// The listener or epoll failed; what happens to a single connection is no error.
    pub fn serve(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poller.wait(None, &mut ready)?;
            for event in &ready {
                if event.token == LISTENER {
                    self.accept()?;
                } else {
                    self.turn(*event);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(client) = net::accept(&self.listener)? {
            let Ok(upstream) = net::begin_connect(self.upstream, None) else {
                continue;
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            self.poller.add(&client, token(index, 0), Interest::None)?;
            self.poller
                .add(&upstream, token(index, 1), Interest::Write)?;
            self.pairs[index] = Some(Pair {
                sides: [
                    Side::new(client, Interest::None, true),
                    Side::new(upstream, Interest::Write, false),
                ],
            });
        }
        Ok(())
    }

    fn turn(&mut self, ready: Ready) {
        let index = (ready.token >> 1) as usize;
        let side = (ready.token & 1) as usize;
        // Closed earlier in the same round of events.
        let Some(pair) = self.pairs[index].as_mut() else {
            return;
        };
        let alive = pair
            .turn(side, ready, &mut self.buffer)
            .and_then(|()| pair.watch(index, &self.poller));
        if alive.is_err() {
            self.pairs[index] = None;
            self.free.push(index);
        }
    }
}

fn token(index: usize, side: u64) -> u64 {
    (index as u64) << 1 | side
}

impl Pair {
    fn turn(&mut self, side: usize, ready: Ready, buffer: &mut [u8]) -> io::Result<()> {
        if ready.write && !self.sides[side].connected {
            if let Some(error) = self.sides[side].stream.take_error()? {
                return Err(error);
            }
            self.sides[side].connected = true;
            return Ok(());
        }
        if ready.write {
            let drained = self.sides[side].flush()?;
            if drained && self.sides[1 - side].ended {
                self.sides[side].stream.shutdown(Shutdown::Write)?;
            }
        }
        // A level-triggered event may be older than the decision to stop reading.
        if ready.read && !self.sides[side].ended && self.sides[1 - side].unsent.is_empty() {
            self.relay(side, buffer)?;
        }
        if self
            .sides
            .iter()
            .all(|side| side.ended && side.unsent.is_empty())
        {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn relay(&mut self, side: usize, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = match self.sides[side].stream.read(buffer) {
            Ok(0) => {
                self.sides[side].ended = true;
                return self.sides[1 - side].stream.shutdown(Shutdown::Write);
            }
            Ok(bytes) => &buffer[..bytes],
            Err(error) if net::would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let other = &mut self.sides[1 - side];
        let written = write_some(&other.stream, bytes)?;
        other.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// A side is read while the other has room for what it says.
    fn watch(&mut self, index: usize, poller: &Poller) -> io::Result<()> {
        for side in 0..2 {
            let connected = self.sides[1].connected;
            let read =
                connected && !self.sides[side].ended && self.sides[1 - side].unsent.is_empty();
            let write = !self.sides[side].connected || !self.sides[side].unsent.is_empty();
            let wanted = Interest::of(read, write);
            let side_state = &mut self.sides[side];
            if wanted != side_state.watched {
                poller.modify(&side_state.stream, token(index, side as u64), wanted)?;
                side_state.watched = wanted;
            }
        }
        Ok(())
    }
}
