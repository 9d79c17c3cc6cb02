//! A client that writes what it is told, byte for byte, and reads strictly.

use crate::http::{BodyDecoder, Head, lossy};
use crate::request::Request;
use crate::signal::DEADLINE;
use crate::wire::{Secured, Wire};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How an answer came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As its framing says: all bytes of Content-Length, or the last chunk.
    Complete,
    /// The connection ended, and so did the body: nobody can tell whether all of it came.
    WithConnection,
    /// The connection ended before the framing said so, or with a reset where its end is the body's.
    Truncated,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status line and fields.
    pub head: Head,
    /// Its body.
    pub payload: Vec<u8>,
    /// How the body ended.
    pub ending: Ending,
}

/// The members of an error in the gateway's envelope.
#[derive(Clone, Debug)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// The class of error.
    pub kind: String,
    /// The fault domain.
    pub code: String,
    /// The member of the request that is to blame.
    pub param: Option<String>,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", lossy(&self.payload)))
    }

    /// The error in the gateway's envelope, after checking everything that such an answer must have.
    ///
    /// # Panics
    /// If this is not an error in the gateway's envelope.
    pub fn gateway_error(&self) -> ErrorBody {
        let shown = format!("{:?}\n{}", self.head, lossy(&self.payload));
        assert_eq!(self.ending, Ending::Complete, "{shown}");
        let content_type = self.head.value("content-type").expect("a Content-Type");
        assert!(content_type.starts_with("application/json"), "{shown}");
        let body = self.json();
        let error = body["error"]
            .as_object()
            .unwrap_or_else(|| panic!("no envelope: {shown}"));
        assert!(error.contains_key("param"), "no param: {shown}");
        let text = |name: &str| match error.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => panic!("no {name}: {shown}"),
        };
        let id = self
            .head
            .value("x-request-id")
            .unwrap_or_else(|| panic!("no id: {shown}"));
        assert_eq!(text("request_id"), id, "{shown}");
        if matches!(self.status(), 429 | 503) {
            let after = self
                .head
                .value("retry-after")
                .unwrap_or_else(|| panic!("{shown}"));
            assert!(after.parse::<u64>().is_ok_and(|after| after > 0), "{shown}");
        }
        let code = text("code");
        let source = if code.starts_with("upstream_") {
            "upstream"
        } else {
            "gateway"
        };
        assert_eq!(
            self.head.value("x-relay-error-source"),
            Some(source),
            "{shown}"
        );
        ErrorBody {
            message: text("message"),
            kind: text("type"),
            param: error["param"].as_str().map(str::to_owned),
            retryable: error["retryable"]
                .as_bool()
                .unwrap_or_else(|| panic!("{shown}")),
            code,
        }
    }

    /// Checks status and code of an error of the gateway.
    ///
    /// # Panics
    /// If it is another one.
    pub fn assert_refused(&self, status: u16, code: &str) -> ErrorBody {
        let error = self.gateway_error();
        assert_eq!(
            (self.status(), error.code.as_str()),
            (status, code),
            "{error:?}"
        );
        error
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub struct RawClient {
    stream: Wire,
    buffer: Vec<u8>,
    body: Option<BodyDecoder>,
    payload: Vec<u8>,
    was_reset: bool,
    patience: Duration,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(Wire::connect(address))
    }

    /// Connects from this address of loopback; `None` if the connection is refused.
    ///
    /// # Panics
    /// If the address cannot be used, or the connection fails in another way.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        let source = SocketAddr::new(source, 0);
        socket.bind(&source.into()).expect("an address of loopback");
        match socket.connect_timeout(&address.into(), DEADLINE) {
            Ok(()) => Some(Self::over(Wire::over(socket.into()))),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
            Err(error) => panic!("connect from {source} to {address}: {error}"),
        }
    }

    /// Connects with a small receive buffer, so that not reading is soon felt by the other side.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect_narrow(address: SocketAddr, receive_bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket
            .set_recv_buffer_size(receive_bytes)
            .expect("a buffer size");
        // Segments as on Ethernet: with those of loopback (64 KiB) the kernel begins with a send buffer of more than
        // a megabyte for each connection.
        socket.set_tcp_mss(1448).expect("a segment size");
        let connected = socket.connect(&address.into());
        connected.unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::over(Wire::over(socket.into()))
    }

    /// Speaks over this connection.
    pub fn over(stream: Wire) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            body: None,
            payload: Vec::new(),
            was_reset: false,
            patience: DEADLINE,
        }
    }

    /// What the handshake came to; `None` without TLS.
    pub fn secured(&self) -> Option<Secured> {
        self.stream.secured()
    }

    /// Waits for so long where something takes longer than anything else is waited for.
    ///
    /// # Panics
    /// If the kernel does not allow it.
    pub fn be_patient(&mut self, patience: Duration) {
        self.stream.set_patience(patience);
        self.patience = patience;
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the gateway is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the gateway reads");
    }

    /// Sends bytes; false if the gateway does not take them any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends as much of the bytes as the gateway takes now; false if it has answered meanwhile, or is gone.
    pub fn try_send_now(&mut self, bytes: &[u8]) -> bool {
        let answered = PollFlags::IN | PollFlags::HUP;
        let wanted = answered | PollFlags::OUT;
        let socket = self.stream.socket();
        let mut fds = [PollFd::new(socket, wanted)];
        let deadline = Timespec::try_from(DEADLINE).expect("a few seconds");
        let ready = poll(&mut fds, Some(&deadline)).expect("one descriptor");
        assert!(
            ready > 0,
            "the gateway neither reads nor answers for {DEADLINE:?}"
        );
        if fds[0].revents().intersects(answered) {
            return false;
        }
        socket.set_nonblocking(true).expect("a connected socket");
        let sent = self.stream.write(bytes);
        let socket = self.stream.socket();
        socket.set_nonblocking(false).expect("a connected socket");
        sent.is_ok()
    }

    /// Sends the same bytes again and again until the gateway has not taken any for a while.
    ///
    /// # Panics
    /// If the gateway is gone.
    pub fn send_until_stalled(&mut self, bytes: &[u8]) {
        let a_while = Duration::from_millis(500);
        let give_up_after = |stream: &Wire, patience| {
            let set = stream.socket().set_write_timeout(Some(patience));
            set.expect("a connected socket");
        };
        give_up_after(&self.stream, a_while);
        loop {
            match self.stream.write(bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the gateway is gone: {error}"),
            }
        }
        give_up_after(&self.stream, DEADLINE);
    }

    /// Sends bytes, each in a write of its own.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Sends a request and reads the whole answer.
    pub fn call(&mut self, request: &Request) -> Response {
        self.send(request.bytes());
        self.read_response_to(request.is_head())
    }

    /// Reads a whole answer (not to a HEAD request).
    pub fn read_response(&mut self) -> Response {
        self.read_response_to(false)
    }

    /// Reads a whole answer.
    pub fn read_response_to(&mut self, to_head: bool) -> Response {
        let head = self.begin_response_to(to_head);
        let (payload, ending) = self.finish_response();
        Response {
            head,
            payload,
            ending,
        }
    }

    /// Reads the head of an answer; the body is read by `read_payload` and `finish_response`.
    pub fn begin_response(&mut self) -> Head {
        self.begin_response_to(false)
    }

    fn begin_response_to(&mut self, to_head: bool) -> Head {
        let head = self.try_begin_response(to_head);
        head.unwrap_or_else(|| {
            panic!(
                "the connection ended instead of an answer: {}",
                lossy(&self.buffer)
            )
        })
    }

    /// Reads the head of an answer, or `None` if the connection ends before any byte of one.
    ///
    /// # Panics
    /// If a part of a head came, or something that is not a head.
    pub fn try_begin_response(&mut self, to_head: bool) -> Option<Head> {
        let head = loop {
            match Head::parse(&self.buffer) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(error) => panic!("response head: {error}: {}", lossy(&self.buffer)),
            }
            if !self.read() {
                assert!(
                    self.buffer.is_empty(),
                    "half a head: {}",
                    lossy(&self.buffer)
                );
                return None;
            }
        };
        self.buffer.drain(..head.bytes);
        let framing = head.response_framing(to_head);
        let framing = framing.unwrap_or_else(|error| panic!("response: {error}: {head:?}"));
        self.body = Some(BodyDecoder::new(framing));
        self.payload.clear();
        Some(head)
    }

    /// Reads exactly so many bytes of the body.
    ///
    /// # Panics
    /// If the body is over before.
    pub fn read_payload(&mut self, count: usize) -> Vec<u8> {
        while self.payload.len() < count {
            assert!(
                self.decode() || self.read(),
                "the body ended after {}",
                lossy(&self.payload)
            );
        }
        self.payload.drain(..count).collect()
    }

    /// Reads the rest of the body.
    pub fn finish_response(&mut self) -> (Vec<u8>, Ending) {
        loop {
            self.decode();
            let body = self.body.as_ref().expect("begin_response was called");
            if body.is_complete() {
                return (std::mem::take(&mut self.payload), Ending::Complete);
            }
            let ends_with_connection = body.ends_with_connection();
            if !self.read() {
                let with_connection = ends_with_connection && !self.was_reset;
                let ending = if with_connection {
                    Ending::WithConnection
                } else {
                    Ending::Truncated
                };
                return (std::mem::take(&mut self.payload), ending);
            }
        }
    }

    /// Takes payload out of the buffer; true if that used any bytes.
    fn decode(&mut self) -> bool {
        let body = self.body.as_mut().expect("begin_response was called");
        let used = body.feed(&self.buffer, &mut self.payload);
        let used = used.unwrap_or_else(|error| panic!("response body: {error}"));
        self.buffer.drain(..used);
        used > 0
    }

    /// Reads everything until the connection ends.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.buffer)
    }

    /// The gateway ends the connection and sends nothing more before that.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "after the end: {}", lossy(&rest));
    }

    /// Nothing has come so far: what was buffered and what can be read without waiting.
    ///
    /// # Panics
    /// If there is something.
    pub fn assert_silent(&mut self) {
        let mut byte = [0];
        let read = self.stream.read_now(&mut byte);
        let silent = read.is_ok_and(|read| read.is_none());
        assert!(
            silent && self.buffer.is_empty(),
            "something came: {}{}",
            lossy(&self.buffer),
            lossy(&byte)
        );
    }

    /// Says that nothing more will be sent; goes on reading.
    pub fn half_close(&mut self) {
        self.stream.finish_sending().expect("a connected socket");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.reset_on_drop();
    }

    /// One read; false at the end of the connection, in order or by a reset.
    fn read(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!(
                    "nothing came within {:?}; before that: {}",
                    self.patience,
                    lossy(&self.buffer)
                )
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => {
                self.was_reset = true;
                false
            }
        }
    }
}
