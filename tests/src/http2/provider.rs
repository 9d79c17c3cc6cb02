//! A provider that speaks HTTP/2, from the first byte or by ALPN.

use super::hpack::Fields;
use super::peer::Peer;
use super::received::value;
use crate::signal::DEADLINE;
use crate::tls::TlsServer;
use crate::wire::{Secured, Wire};
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedStream {
    /// Its stream.
    pub stream: u32,
    /// Index of its connection.
    pub connection: usize,
    /// The head, with its pseudo-headers.
    pub fields: Fields,
    /// The payload, as far as it has come.
    pub body: Vec<u8>,
}

impl ReceivedStream {
    /// The value of a field or pseudo-header that may be there once.
    ///
    /// # Panics
    /// If it is there twice or is not UTF-8.
    pub fn value(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }
}

/// A connection as it went.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The gateway's address.
    pub peer: SocketAddr,
    /// What the handshake came to, or why it failed; `None` without TLS and until then.
    pub handshake: Option<Result<Secured, String>>,
    /// The gateway has left, or the script has.
    pub is_over: bool,
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Record {
    /// Every connection, in the order of arrival.
    pub connections: Vec<Connection>,
    /// Every request that the script was shown.
    pub requests: Vec<ReceivedStream>,
    violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
    sockets: Mutex<Vec<Weak<TcpStream>>>,
    is_stopped: Mutex<bool>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder panics")
    }

    fn change(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record());
        self.changed.notify_all();
    }
}

/// How a provider speaks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Over TLS; it has to offer `h2`.
    pub tls: Option<TlsServer>,
    /// What it sets.
    pub settings: Vec<(u16, u32)>,
    /// The script runs when the head is there, before the body has come.
    pub at_head: bool,
    /// What each connection holds unread, about; the kernel's choice grows by itself.
    pub receive_buffer_bytes: Option<usize>,
}

/// The scripted provider.
#[derive(Debug)]
pub struct Http2Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&mut Peer, &ReceivedStream) + Send + Sync;

impl Http2Upstream {
    /// Runs `script` for each complete request of a connection in plain text, one after the other. It need not answer at once, nor
    /// those that it was called for.
    pub fn start(script: impl Fn(&mut Peer, &ReceivedStream) + Send + Sync + 'static) -> Self {
        Self::with(Options::default(), script)
    }

    /// Answers each complete request like this, in plain text.
    pub fn answering(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::start(move |peer, request| {
            peer.answer(
                request.stream,
                200,
                &[("content-type", content_type)],
                &body,
            );
        })
    }

    /// With everything chosen.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub fn with(
        options: Options,
        script: impl Fn(&mut Peer, &ReceivedStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        if let Some(bytes) = options.receive_buffer_bytes {
            // Those that it accepts inherit it.
            let bounded = SockRef::from(&listener).set_recv_buffer_size(bytes);
            bounded.expect("a listening socket");
        }
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || accept(&listener, &accepting, &options, &script));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<ReceivedStream> {
        self.shared.record().requests.clone()
    }

    /// All connections so far.
    pub fn connections(&self) -> Vec<Connection> {
        self.shared.record().connections.clone()
    }

    /// Waits until the record says what is wanted of it.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub fn wait_for<T>(&self, what: &str, mut probe: impl FnMut(&Record) -> Option<T>) -> T {
        let mut found = None;
        let record = self.shared.record();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(record, DEADLINE, |record| {
                found = probe(record);
                found.is_none()
            });
        let record = waited.expect("no holder panics").0;
        found.unwrap_or_else(|| panic!("not within {DEADLINE:?}: {what}\n{record:#?}"))
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        *self.shared.is_stopped.lock().expect("no holder panics") = true;
        // Wakes the accepting thread, which then lets go of the listener.
        drop(TcpStream::connect(self.address));
        let sockets = self.shared.sockets.lock().expect("no holder panics");
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let violations = std::mem::take(&mut self.shared.record().violations);
        if !violations.is_empty() && !thread::panicking() {
            panic!("at the provider: {violations:#?}");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, options: &Options, script: &Arc<Script>) {
    while let Ok((stream, peer)) = listener.accept() {
        if *shared.is_stopped.lock().expect("no holder panics") {
            return;
        }
        stream.set_nodelay(true).expect("a connected socket");
        let stream = Arc::new(stream);
        let mut sockets = shared.sockets.lock().expect("no holder panics");
        sockets.push(Arc::downgrade(&stream));
        drop(sockets);
        shared.change(|record| {
            record.connections.push(Connection {
                peer,
                handshake: None,
                is_over: false,
            });
        });
        let connection = shared.record().connections.len() - 1;
        let (shared, options) = (Arc::clone(shared), options.clone());
        let script = Arc::clone(script);
        thread::spawn(move || {
            let wire = Wire::shared(stream);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                serve(wire, connection, &shared, &options, script.as_ref());
            }));
            let why = outcome.err().map(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                text.unwrap_or_else(|| "a script panicked".to_owned())
            });
            shared.change(|record| {
                record.connections[connection].is_over = true;
                record.violations.extend(why);
            });
        });
    }
}

fn serve(mut wire: Wire, connection: usize, shared: &Shared, options: &Options, script: &Script) {
    if let Some(tls) = &options.tls {
        let shaken = tls.shake_hands(wire);
        let handshake = match &shaken {
            Ok(wire) => Ok(wire.secured().expect("TLS")),
            Err(error) => Err(error.to_string()),
        };
        shared.change(|record| record.connections[connection].handshake = Some(handshake));
        match shaken {
            Ok(secured) => wire = secured,
            Err(_) => return,
        }
    }
    let Some(mut peer) = Peer::server(wire, &options.settings) else {
        return;
    };
    while let Some(stream) = peer.next_request(options.at_head) {
        let incoming = peer.incoming(stream);
        let request = ReceivedStream {
            stream,
            connection,
            fields: incoming.heads[0].clone(),
            body: incoming.body.clone(),
        };
        shared.change(|record| record.requests.push(request.clone()));
        script(&mut peer, &request);
    }
}
