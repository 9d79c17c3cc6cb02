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
            // What a read that has waited long enough ends with.
            io::ErrorKind::WouldBlock => format!(
                "{admin} has not answered to the end, and was silent for {silence_max:?}: is it the \
                 admin address of a gateway?"
            ),
            _ => format!("the gateway at the admin address {admin} has not answered: {error}"),
        })
    })?;
    let text = String::from_utf8_lossy(&answer);
    let (head, payload) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| not_admin(admin, &"its answer is not HTTP"))?;
    let first_line = head.lines().next().unwrap_or_default();
    let status = first_line.split_ascii_whitespace().nth(1);
    let status = status.and_then(|status| status.parse().ok());
    let value: Option<Value> = serde_json::from_str(payload).ok();
    match (status, value) {
        (Some(200), Some(value)) => Ok(value),
        (status, value) => match value.as_ref().and_then(|value| value["error"].as_str()) {
            Some(why) => Err(CallError {
                status,
                why: why.to_owned(),
            }),
            // Those who serve tenants explain a refusal in another form.
            None => Err(not_admin(admin, &format!("it says `{first_line}`"))),
        },
    }
}

/// Somebody answers there, but otherwise than a gateway does.
pub(super) fn not_admin(admin: SocketAddr, why: &dyn fmt::Display) -> CallError {
    CallError::unanswered(format!(
        "what answers at {admin} is not the admin address of a gateway: {why}"
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_keeps_the_connection_open_is_said_to_be_no_admin_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = call(address, "/accounts", None, Duration::from_millis(20)).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(&address.to_string()), "{said}");
        assert!(said.contains("silent for 20ms: is it the admin"), "{said}");
    }
}
