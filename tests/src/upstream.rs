//! A provider that does as it is told: a TCP server on threads whose answers are written by the test, and that
//! remembers every connection and every byte.

use crate::http::{BodyDecoder, Head, lossy};
use crate::signal::DEADLINE;
use crate::tls::TlsServer;
use crate::wire::{Secured, Wire};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::Instant;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Method.
    pub method: String,
    /// Target, byte for byte.
    pub target: String,
    /// Request line and fields.
    pub head: Head,
    /// Payload.
    pub body: Vec<u8>,
    /// Index of its connection.
    pub connection: usize,
    /// The gateway's address: the egress address.
    pub peer: Option<SocketAddr>,
    /// How many requests came before it, over all connections.
    pub number: usize,
    /// How many requests came before it on its connection.
    pub number_on_connection: usize,
}

/// How the gateway ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// In order.
    Fin,
    /// With a reset.
    Reset,
    /// TLS alone: without close_notify, so that nobody can tell whether that was meant (RFC 8446, section 6.1).
    Cut,
}

/// A connection as it went.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The gateway's address.
    pub peer: SocketAddr,
    /// Everything that was received.
    pub received: Vec<u8>,
    /// Heads that were received.
    pub heads: usize,
    /// How and when the gateway ended it, once that was seen.
    pub ended: Option<(Ended, Instant)>,
    /// What the handshake came to, or why it failed; `None` without TLS and until then.
    pub handshake: Option<Result<Secured, String>>,
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Record {
    /// Every connection, in the order of arrival.
    pub connections: Vec<Connection>,
    /// Every complete request, in the order of completion.
    pub requests: Vec<Received>,
    /// Complete requests, counted even where they are not recorded.
    pub completed: usize,
    violations: Vec<String>,
    heads: usize,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
    sockets: Mutex<Vec<Weak<TcpStream>>>,
    stopped: Mutex<bool>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder panics")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let result = change(&mut self.record());
        self.changed.notify_all();
        result
    }
}

/// What an upstream does besides following its script.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The script runs when the head is there, before the body was read.
    pub at_head: bool,
    /// Remember requests and bytes. Counting goes on without.
    pub record: bool,
}

/// The scripted provider.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Runs `script` for each complete request.
    pub fn start(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        Self::with(
            Options {
                at_head: false,
                record: true,
            },
            script,
        )
    }

    /// Runs `script` as soon as a request's head is there.
    pub fn start_at_head(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        Self::with(
            Options {
                at_head: true,
                record: true,
            },
            script,
        )
    }

    /// Sends the same bytes to each complete request, and keeps the connection.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |exchange| {
            exchange.send(&answer);
        })
    }

    /// Runs `script` for each complete request, over TLS.
    pub fn secure(
        server: &TlsServer,
        script: impl Fn(&mut Exchange) + Send + Sync + 'static,
    ) -> Self {
        let options = Options {
            at_head: false,
            record: true,
        };
        Self::listen(options, Some(server.clone()), script)
    }

    /// Never has to answer.
    pub fn untouched() -> Self {
        Self::answering(crate::openai::plain())
    }

    /// With everything chosen.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub fn with(options: Options, script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        Self::listen(options, None, script)
    }

    fn listen(
        options: Options,
        tls: Option<TlsServer>,
        script: impl Fn(&mut Exchange) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket2::SockRef::from(&listener)
            .listen(4096)
            .expect("a listening socket");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || accept(&listener, &accepting, options, tls.as_ref(), &script));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was received so far: complete requests.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.record().requests.clone()
    }

    /// The only request that was received.
    ///
    /// # Panics
    /// If there was none, or more.
    pub fn only_request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests that reached the upstream");
        requests.remove(0)
    }

    /// All connections so far.
    pub fn connections(&self) -> Vec<Connection> {
        self.shared.record().connections.clone()
    }

    /// How many connections there were.
    pub fn connection_count(&self) -> usize {
        self.shared.record().connections.len()
    }

    /// How many complete requests there were.
    pub fn completed(&self) -> usize {
        self.shared.record().completed
    }

    /// Waits until the record says what is wanted of it.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub fn wait_for<T>(&self, what: &str, mut probe: impl FnMut(&Record) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut record = self.shared.record();
        loop {
            if let Some(found) = probe(&record) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "upstream: not within {DEADLINE:?}: {what}\n{record:#?}"
            );
            record = self
                .shared
                .changed
                .wait_timeout(record, left)
                .expect("no holder panics")
                .0;
        }
    }

    /// Waits until the gateway has ended connection `index`.
    pub fn wait_ended(&self, index: usize) -> (Ended, Instant) {
        self.wait_for(&format!("end of connection {index}"), |record| {
            record
                .connections
                .get(index)
                .and_then(|connection| connection.ended)
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        *self.shared.stopped.lock().expect("no holder panics") = true;
        // Wakes the accepting thread, which then lets go of the listener.
        drop(TcpStream::connect(self.address));
        let sockets = self.shared.sockets.lock().expect("no holder panics");
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let violations = std::mem::take(&mut self.shared.record().violations);
        if !violations.is_empty() && !thread::panicking() {
            panic!("at the upstream: {violations:#?}");
        }
    }
}

type Script = dyn Fn(&mut Exchange) + Send + Sync;

/// Stacks of connection threads: small, because the soak tests have thousands of them.
const STACK_BYTES: usize = 256 * 1024;

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    options: Options,
    tls: Option<&TlsServer>,
    script: &Arc<Script>,
) {
    while let Ok((stream, peer)) = listener.accept() {
        if *shared.stopped.lock().expect("no holder panics") {
            return;
        }
        stream.set_nodelay(true).expect("a connected socket");
        let stream = Arc::new(stream);
        {
            let mut sockets = shared.sockets.lock().expect("no holder panics");
            if sockets.len().is_power_of_two() {
                sockets.retain(|socket| socket.strong_count() > 0);
            }
            sockets.push(Arc::downgrade(&stream));
        }
        let connection = shared.change(|record| {
            let received = Vec::new();
            record.connections.push(Connection {
                peer,
                received,
                heads: 0,
                ended: None,
                handshake: None,
            });
            record.connections.len() - 1
        });
        let exchange = Exchange {
            stream: Wire::shared(stream),
            buffer: Vec::new(),
            body: None,
            shared: Arc::clone(shared),
            options,
            connection,
            over: false,
            request: Received {
                peer: Some(peer),
                connection,
                ..Received::default()
            },
        };
        let script = Arc::clone(script);
        let tls = tls.cloned();
        let spawned = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || serve(exchange, tls.as_ref(), script.as_ref()));
        spawned.expect("a thread for the connection");
    }
}

fn serve(mut exchange: Exchange, tls: Option<&TlsServer>, script: &Script) {
    let shared = Arc::clone(&exchange.shared);
    if let Some(tls) = tls {
        let connection = exchange.connection;
        let shaken = tls.shake_hands(exchange.stream);
        shared.change(|record| {
            let handshake = match &shaken {
                Ok(stream) => Ok(stream.secured().expect("TLS")),
                Err(error) => Err(error.to_string()),
            };
            record.connections[connection].handshake = Some(handshake);
        });
        match shaken {
            Ok(stream) => exchange.stream = stream,
            Err(_) => return,
        }
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while !exchange.over && exchange.next_request() {
            script(&mut exchange);
            if !exchange.over {
                exchange.read_body();
            }
        }
    }));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a script panicked".to_owned());
        shared.change(|record| record.violations.push(text));
    }
}

/// One request and the script's way to answer it.
#[derive(Debug)]
pub struct Exchange {
    /// The request; its body is empty until it was read.
    pub request: Received,
    stream: Wire,
    buffer: Vec<u8>,
    body: Option<BodyDecoder>,
    shared: Arc<Shared>,
    options: Options,
    connection: usize,
    over: bool,
}

impl Exchange {
    /// Sends bytes. False if the gateway is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        !self.over && self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends bytes, each in a write of its own.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        bytes.as_ref().iter().all(|byte| self.send([*byte]))
    }

    /// Reads the rest of the request's body. False if it never came.
    pub fn read_body(&mut self) -> bool {
        let Some(mut decoder) = self.body.take() else {
            return true;
        };
        loop {
            match decoder.feed(&self.buffer, &mut self.request.body) {
                Ok(used) => drop(self.buffer.drain(..used)),
                Err(error) => panic!("request body: {error}"),
            }
            if decoder.is_complete() {
                break;
            }
            if !self.read() {
                return false;
            }
        }
        let request = self.options.record.then(|| self.request.clone());
        self.shared.change(|record| {
            record.completed += 1;
            record.requests.extend(request);
        });
        true
    }

    /// Ends the connection in order.
    pub fn close(&mut self) {
        self.over = true;
        let _ = self.stream.finish_sending();
    }

    /// Ends the connection with a reset.
    pub fn reset(&mut self) {
        self.over = true;
        self.stream.reset_on_drop();
    }

    /// Lets little be on its way to the gateway at a time.
    ///
    /// # Panics
    /// If the kernel does not allow it.
    pub fn narrow(&mut self, send_bytes: usize) {
        let socket = socket2::SockRef::from(self.stream.socket());
        socket
            .set_send_buffer_size(send_bytes)
            .expect("a connected socket");
    }

    /// Waits until the gateway ends the connection; whatever it sends until then is recorded.
    ///
    /// # Panics
    /// If that does not happen within [`DEADLINE`].
    pub fn wait_closed(&mut self) -> (Ended, Instant) {
        self.stream.set_patience(DEADLINE);
        while self.read() {}
        self.over = true;
        let ended = self.shared.record().connections[self.connection].ended;
        ended.unwrap_or_else(|| panic!("the gateway kept its connection for {DEADLINE:?}"))
    }

    fn next_request(&mut self) -> bool {
        let head = loop {
            match Head::parse(&self.buffer) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(error) => panic!("request head: {error}: {}", lossy(&self.buffer)),
            }
            if !self.read() {
                return false;
            }
        };
        self.buffer.drain(..head.bytes);
        let framing = head
            .request_framing()
            .unwrap_or_else(|error| panic!("request: {error}"));
        let parts: Vec<&str> = head.start_line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts.as_slice() else {
            panic!("not a request line: {:?}", head.start_line);
        };
        let (number, number_on_connection) = self.shared.change(|record| {
            let connection = &mut record.connections[self.connection];
            connection.heads += 1;
            record.heads += 1;
            (record.heads - 1, connection.heads - 1)
        });
        self.request = Received {
            method: (*method).to_owned(),
            target: (*target).to_owned(),
            body: Vec::new(),
            connection: self.connection,
            peer: self.request.peer,
            number,
            number_on_connection,
            head,
        };
        self.body = Some(BodyDecoder::new(framing));
        self.options.at_head || self.read_body()
    }

    /// Says that nothing more will be sent, and waits for the gateway to end the connection.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.finish_sending();
        self.stream.set_patience(DEADLINE);
        while self.read() {}
        self.over = true;
    }

    /// What goes out behind the last answer, as far as it is taken.
    pub(crate) fn write_on(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    /// Waits for so long when it writes.
    ///
    /// # Panics
    /// If the kernel does not allow it.
    pub fn set_write_patience(&self, patience: Option<std::time::Duration>) {
        let set = self.stream.socket().set_write_timeout(patience);
        set.expect("a connected socket");
    }

    /// What has come behind the last request and was not taken yet; waits for it.
    pub(crate) fn read_on(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        while self.buffer.is_empty() {
            if self.over {
                return Ok(0);
            }
            // A time-out is no end.
            self.read();
        }
        let taken = room.len().min(self.buffer.len());
        room[..taken].copy_from_slice(&self.buffer[..taken]);
        self.buffer.drain(..taken);
        Ok(taken)
    }

    /// One read. False at the end, which is recorded, and at a time-out, which is not.
    fn read(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let ended = match self.stream.read(&mut piece) {
            Ok(0) => Ended::Fin,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                if self.options.record {
                    self.shared.change(|record| {
                        let connection = &mut record.connections[self.connection];
                        connection.received.extend_from_slice(&piece[..count]);
                    });
                }
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ended::Cut,
            Err(_) => Ended::Reset,
        };
        self.over = true;
        self.shared.change(|record| {
            record.connections[self.connection].ended = Some((ended, Instant::now()));
        });
        false
    }
}
