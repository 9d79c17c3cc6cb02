//! WebSockets: clients that open one through the gateway, and providers that agree.

use crate::http::Head;
use crate::upstream::Exchange;
use crate::{Request, Wire};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use tungstenite::handshake::derive_accept_key;
pub use tungstenite::protocol::Role;
use tungstenite::protocol::WebSocketConfig;
pub use tungstenite::protocol::frame::coding::CloseCode;
pub use tungstenite::protocol::{CloseFrame, Message, WebSocket};
pub use tungstenite::{Bytes, Error};

/// The key of every request here, and what belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A client's end of a WebSocket.
pub type ClientSocket = WebSocket<Wire>;

/// A provider's end of a WebSocket.
pub type ProviderSocket<'e> = WebSocket<&'e mut Exchange>;

/// A request for a WebSocket of the Responses API.
pub fn upgrade() -> Request {
    Request::get("/v1/responses")
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", KEY)
}

/// Opens a WebSocket, which must be agreed to.
///
/// # Panics
/// If it is not.
pub fn open(address: SocketAddr, request: &Request) -> (Head, ClientSocket) {
    over(Wire::connect(address), &request.bytes())
}

/// Opens a WebSocket on a connection by these bytes, which may have more behind the request.
///
/// # Panics
/// If it is not agreed to.
pub fn over(wire: Wire, bytes: &[u8]) -> (Head, ClientSocket) {
    let (head, wire, rest) = switch(wire, bytes);
    let socket = WebSocket::from_partially_read(wire, rest, Role::Client, Some(config()));
    (head, socket)
}

/// The same, to go on with byte by byte: what has come behind the head is the beginning of what is heard.
///
/// # Panics
/// If it is not agreed to.
pub fn switch(mut wire: Wire, bytes: &[u8]) -> (Head, Wire, Vec<u8>) {
    wire.write_all(bytes).expect("a gateway that reads");
    let mut buffer = Vec::new();
    let head = loop {
        if let Some(head) = Head::parse(&buffer).expect("a head") {
            break head;
        }
        let mut piece = [0; 4096];
        let count = wire.read(&mut piece).expect("an answer");
        assert!(count > 0, "the gateway has closed: {buffer:?}");
        buffer.extend_from_slice(&piece[..count]);
    };
    assert_eq!(head.status(), 101, "{}", String::from_utf8_lossy(&buffer));
    let accept = derive_accept_key(KEY.as_bytes());
    assert_eq!(head.value("sec-websocket-accept"), Some(accept.as_str()));
    assert_eq!(head.value("upgrade"), Some("websocket"));
    assert_eq!(head.value("connection"), Some("Upgrade"));
    let rest = buffer.split_off(head.bytes);
    (head, wire, rest)
}

/// No limits of their own: what passes is the gateway's to say.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
}

impl Exchange {
    /// Agrees to a WebSocket, with these fields besides those that it takes, and does with it what `talk` says. The connection is
    /// closed afterwards.
    pub fn websocket(
        &mut self,
        fields: &[(&str, &str)],
        talk: impl FnOnce(&mut ProviderSocket<'_>),
    ) {
        self.websocket_with(&switching(self, fields), talk);
    }

    /// The same with a head that the test has written, and perhaps more behind it.
    pub fn websocket_with(&mut self, head: &[u8], talk: impl FnOnce(&mut ProviderSocket<'_>)) {
        self.send(head);
        let mut socket = WebSocket::from_raw_socket(&mut *self, Role::Server, Some(config()));
        talk(&mut socket);
        drop(socket);
        self.finish();
    }
}

/// The head with which a provider agrees.
pub fn switching(exchange: &Exchange, fields: &[(&str, &str)]) -> Vec<u8> {
    let key = exchange.request.head.value("sec-websocket-key");
    let accept = derive_accept_key(key.expect("a key").as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n"
    );
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// What a connection carries once its requests are over.
impl Read for Exchange {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.read_on(room)
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_on(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says of a provider's end: a response of so many tokens for each message that asks for one, until the client closes.
pub fn respond(socket: &mut ProviderSocket<'_>) {
    let mut number = 0;
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else {
            continue;
        };
        if text.contains("response.create") {
            number += 1;
            for event in response(&format!("resp_{number}"), 7) {
                let _ = socket.send(Message::text(event));
            }
        }
    }
}

/// The events of a response that has written so many tokens.
pub fn response(id: &str, output_tokens: u64) -> [String; 3] {
    [
        created(id),
        r#"{"type":"response.output_text.delta","delta":"hi"}"#.to_owned(),
        completed(id, output_tokens),
    ]
}

/// `response.created`
pub fn created(id: &str) -> String {
    format!(r#"{{"type":"response.created","response":{{"id":"{id}","status":"in_progress"}}}}"#)
}

/// `response.completed`
pub fn completed(id: &str, output_tokens: u64) -> String {
    format!(
        r#"{{"type":"response.completed","response":{{"id":"{id}","status":"completed","usage":{{"input_tokens":11,"input_tokens_details":{{"cached_tokens":3}},"output_tokens":{output_tokens},"output_tokens_details":{{"reasoning_tokens":2}}}}}}}}"#
    )
}

/// A message that asks for a response of this model.
pub fn create(model: &str) -> Message {
    Message::text(format!(
        r#"{{"type":"response.create","model":"{model}","store":false,"input":"say hi"}}"#
    ))
}

/// The next message that is one: neither a ping nor a pong.
///
/// # Panics
/// If the connection is closed, or broken.
pub fn next(socket: &mut WebSocket<impl Read + Write>) -> Message {
    loop {
        match socket.read() {
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(frame)) => panic!("closed: {frame:?}"),
            Ok(message) => return message,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads until the other side closes, and says with which code and reason. `None`: without any.
///
/// # Panics
/// If the connection ends without a close.
pub fn closed(socket: &mut WebSocket<impl Read + Write>) -> Option<(u16, String)> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => {
                // What is answered goes out now.
                let _ = socket.flush();
                return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
            }
            Ok(_) => {}
            Err(error) => panic!("no close: {error}"),
        }
    }
}

/// Reads until the connection has ended.
pub fn ended(socket: &mut WebSocket<impl Read + Write>) {
    while socket.read().is_ok() {}
}
