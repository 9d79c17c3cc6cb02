//! The demo's own client: one request on a connection of its own.

use relay_wire::body::{BodyParser, Piece, Sender};
use relay_wire::head::{HeadLimits, ResponseHead};
use serde_json::Value;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any answer of the script named `demo`.
const SILENCE_MAX: Duration = Duration::from_secs(20);

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 32 << 10,
    fields_max: 100,
    target_bytes_max: 4 << 10,
};

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// From sending the request to the end of the first event.
    pub(super) first_event: Option<Duration>,
    /// From sending the request to the end of the answer.
    pub(super) whole: Duration,
    pub(super) payload: Vec<u8>,
}

/// Sends `POST /v1/responses` and reads the answer to its end.
pub(super) fn call(
    address: SocketAddr,
    key: &[u8],
    body: &Value,
) -> Result<Answer, Box<dyn Error>> {
    let body = body.to_string();
    let mut request = format!(
        "POST /v1/responses HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\nAuthorization: Bearer ",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(key);
    request.extend_from_slice(b"\r\n\r\n");
    request.extend_from_slice(body.as_bytes());

    let mut stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let sent = Instant::now();
    stream.write_all(&request)?;
    let mut received = Vec::new();
    let head = loop {
        read_more(&mut stream, &mut received)?;
        let head = ResponseHead::parse(&received, &LIMITS, false);
        if let Some(head) = head.map_err(|error| format!("head of the answer: {error:?}"))? {
            break head;
        }
    };
    let mut parser = BodyParser::new(head.framing, Sender::Upstream);
    let mut answer = Answer {
        status: head.status,
        first_event: None,
        whole: Duration::ZERO,
        payload: Vec::new(),
    };
    let mut at = head.head_bytes;
    loop {
        let next = parser.next(&received, at);
        let Some(piece) = next.map_err(|error| format!("body of the answer: {error:?}"))? else {
            read_more(&mut stream, &mut received)?;
            continue;
        };
        at = piece.end();
        match piece {
            Piece::Payload(bytes) => {
                answer.payload.extend_from_slice(&received[bytes]);
                if answer.first_event.is_none() && answer.text().contains("\n\n") {
                    answer.first_event = Some(sent.elapsed());
                }
            }
            Piece::Framing(_) | Piece::Trailer(_) => {}
            Piece::End(_) => {
                answer.whole = sent.elapsed();
                return Ok(answer);
            }
        }
    }
}

fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let mut piece = [0; 16 << 10];
    let count = loop {
        match stream.read(&mut piece) {
            // Work that the kernel does for a ring of this process interrupts like a signal (socket(7), SO_RCVTIMEO).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if count == 0 {
        return Err("the answer broke off".into());
    }
    received.extend_from_slice(&piece[..count]);
    Ok(())
}

impl Answer {
    /// The payload as text.
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }

    /// The tokens that were counted: in the object, or in the last event of a stream.
    pub(super) fn usage(&self) -> Option<Value> {
        let text = self.text();
        let last_event = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("data: "));
        let mut last: Value = serde_json::from_str(last_event.unwrap_or(&text)).ok()?;
        let response = if last_event.is_some() {
            &mut last["response"]
        } else {
            &mut last
        };
        Some(response["usage"].take()).filter(Value::is_object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;
    use std::thread;

    /// Answers one connection with these bytes and closes it.
    fn answered(answer: &'static str) -> Result<Answer, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend_from_slice(&byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let answer = call(address, b"key", &json!({"a": 1}));
        let request = String::from_utf8(server.join().unwrap()).unwrap();
        assert!(
            request.contains("\r\nAuthorization: Bearer key\r\n"),
            "{request}"
        );
        answer
    }

    #[test]
    fn usage_is_found_in_an_object() {
        let answer = answered(
            "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{\"usage\":{\"tokens\": 12}} and more",
        )
        .unwrap();
        assert_eq!((answer.status, answer.first_event), (200, None));
        assert_eq!(answer.usage(), Some(json!({"tokens": 12})));
    }

    #[test]
    fn usage_is_found_in_the_last_event() {
        let answer = answered(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             15\r\ndata: {\"usage\":null}\n\r\n2c\r\n\ndata: {\"response\":{\"usage\":{\"tokens\":3}}}\n\n\r\n0\r\n\r\n",
        )
        .unwrap();
        assert!(answer.first_event.is_some());
        assert_eq!(answer.usage(), Some(json!({"tokens": 3})));
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for broken in [
            "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{\"usage\":{\"tokens\"",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\ndata: {\"usage\":null}\n\r\n",
            "HTTP/1.1 200",
        ] {
            assert!(answered(broken).is_err(), "{broken}");
        }
    }
}
