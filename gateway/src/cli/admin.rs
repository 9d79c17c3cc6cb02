//! Asking a gateway that runs, at its admin address.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nothing may come: longer than any check of a thousand addresses.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// `GET path`, or `POST path` with a body.
///
/// # Errors
/// In words for the operator.
pub(super) fn call(admin: SocketAddr, path: &str, body: Option<&Value>) -> Result<Value, String> {
    if admin.port() == 0 {
        return Err(
            "admin.address has port 0, so the gateway has chosen one: name it with --admin"
                .to_owned(),
        );
    }
    let answer = exchange(admin, path, body).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
            format!("no gateway answers at the admin address {admin}: does it run?")
        }
        _ => format!("the gateway at the admin address {admin} has not answered: {error}"),
    })?;
    let text = String::from_utf8_lossy(&answer);
    let (head, payload) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("what answers at {admin} is not a gateway"))?;
    let value: Value = serde_json::from_str(payload)
        .map_err(|error| format!("what answers at {admin} is not a gateway: {error}"))?;
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(value),
        _ => Err(value["error"].as_str().unwrap_or(head).to_owned()),
    }
}

/// Of HTTP/1.0 (RFC 1945): the end of the connection is the end of the answer.
fn exchange(admin: SocketAddr, path: &str, body: Option<&Value>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&admin, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
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
