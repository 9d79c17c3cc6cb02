//! Asking a gateway that runs, at its admin address.

use super::{EX_DATAERR, EX_IOERR, EX_USAGE};
use serde_json::Value;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// How long the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer, in words for the operator.
pub(super) struct CallError {
    /// Of the answer that refuses; `None`: there was none, or none of a gateway.
    status: Option<u16>,
    why: String,
}

impl CallError {
    fn unanswered(why: String) -> Self {
        Self { status: None, why }
    }

    /// A script can tell what is not there (64) and what is refused (65) from a gateway that cannot do it now (74).
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.status {
            Some(404) => EX_USAGE.into(),
            Some(400..=499) => EX_DATAERR.into(),
            _ => EX_IOERR.into(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}

/// `GET path`, or `POST path` with a body. `silence_max`: how long nothing may come.
pub(super) fn call(
    admin: SocketAddr,
    path: &str,
    body: Option<&Value>,
    silence_max: Duration,
) -> Result<Value, CallError> {
    if admin.port() == 0 {
        let why = "admin.address has port 0, so the gateway has chosen one: name it with --admin";
        return Err(CallError::unanswered(why.to_owned()));
    }
    let answer = exchange(admin, path, body, silence_max).map_err(|error| {
        CallError::unanswered(match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
                format!("no gateway answers at the admin address {admin}: does it run?")
            }
            _ => format!("the gateway at the admin address {admin} has not answered: {error}"),
        })
    })?;
    let foreign = |why: &dyn fmt::Display| {
        CallError::unanswered(format!("what answers at {admin} is not a gateway: {why}"))
    };
    let text = String::from_utf8_lossy(&answer);
    let (head, payload) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| foreign(&"this is not HTTP"))?;
    let value: Value = serde_json::from_str(payload).map_err(|error| foreign(&error))?;
    let status = head.split_ascii_whitespace().nth(1);
    match status.and_then(|status| status.parse().ok()) {
        Some(200) => Ok(value),
        status => Err(CallError {
            status,
            why: value["error"].as_str().unwrap_or(head).to_owned(),
        }),
    }
}

/// Of HTTP/1.0 (RFC 1945): the end of the connection is the end of the answer.
fn exchange(
    admin: SocketAddr,
    path: &str,
    body: Option<&Value>,
    silence_max: Duration,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&admin, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(silence_max))?;
    let request = match body {
        None => format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n"),
        Some(body) => {
            let body = body.to_string();
            format!(
                "POST {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
    };
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
