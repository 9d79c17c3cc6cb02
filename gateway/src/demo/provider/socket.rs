//! The Responses API over a WebSocket: a message asks, the events of the answer are messages too.

use std::io;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use relay_wire::websocket::{
    Ended, FrameReader, Piece, Sender, accept_value, close_frame, code, text_frame,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ask::{Answer, Ask, Dialect};
use super::{
    BODY_BYTES_MAX, BREAK_EVENTS, EVENT_PAUSE, LONG_EVENT_PAUSE, LONG_WORDS, MODELS, SLOW_START,
    Script, add_provider_fields, responses,
};

/// Agrees, and goes on in a task of its own.
pub(super) fn open(headers: &HeaderMap, upgrade: OnUpgrade) -> Response {
    let key = headers
        .get("sec-websocket-key")
        .map_or(&b""[..], HeaderValue::as_bytes);
    let accept = accept_value(key);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // The other side may leave at any time.
            let _ = serve(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_bytes(&accept) {
        fields.insert("sec-websocket-accept", accept);
    }
    add_provider_fields(fields);
    response
}

type Socket = TokioIo<Upgraded>;

/// Answers one message after the other until the client closes.
async fn serve(mut socket: Socket) -> io::Result<()> {
    let mut reader = FrameReader::new(Sender::Client, BODY_BYTES_MAX as u64);
    let mut buffer = vec![0; 64 << 10];
    let mut message = Vec::new();
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let (bytes, mut at) = (&buffer[..count], 0);
        loop {
            match reader.next(bytes, at) {
                Ok(Some(Piece::Payload { range, mask, .. })) => {
                    at = range.end;
                    let start = message.len();
                    message.extend_from_slice(&bytes[range]);
                    if let Some(mask) = mask {
                        mask.apply(&mut message[start..]);
                    }
                }
                Ok(Some(Piece::End { at: end, what })) => {
                    at = end;
                    match what {
                        Ended::Message => {
                            answer(&mut socket, &message).await?;
                            message.clear();
                        }
                        Ended::Close(told) => {
                            let told = told.unwrap_or(code::NORMAL);
                            return socket.write_all(&close_frame(told, "", None)).await;
                        }
                        Ended::Fragment | Ended::Control => {}
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let close = close_frame(code::PROTOCOL_ERROR, "", None);
                    return socket.write_all(&close).await;
                }
            }
        }
    }
}

async fn answer(socket: &mut Socket, message: &[u8]) -> io::Result<()> {
    let said: Value = serde_json::from_slice(message).unwrap_or_default();
    if said["type"] != "response.create" {
        return Ok(());
    }
    let ask = match Ask::read(Dialect::Responses, message) {
        Ok(ask) => ask,
        Err(reason) => return refuse(socket, 400, "invalid_request", &reason).await,
    };
    let script = MODELS.iter().find(|(name, _)| *name == ask.model);
    let Some((_, script)) = script else {
        return refuse(socket, 404, "model_not_found", "The model does not exist.").await;
    };
    match script {
        Script::RateLimited => refuse(socket, 429, "rate_limit_exceeded", "Too many.").await,
        Script::Failed => refuse(socket, 500, "server_error", "An error.").await,
        Script::Unavailable => refuse(socket, 503, "server_error", "Unavailable.").await,
        Script::Answer | Script::Slow | Script::Break | Script::Long => {
            // To warm up is to be asked for a response in which nothing is said.
            let is_warm_up = said["generate"] == false;
            play(socket, *script, &ask, is_warm_up).await
        }
    }
}

async fn play(socket: &mut Socket, script: Script, ask: &Ask, is_warm_up: bool) -> io::Result<()> {
    let answer = Answer::to(ask, (script == Script::Long).then_some(LONG_WORDS));
    let mut events = responses::events(ask, &answer);
    if is_warm_up && events.len() > 1 {
        events.drain(1..events.len() - 1);
    }
    if script == Script::Slow {
        tokio::time::sleep(SLOW_START).await;
    }
    let pause = if script == Script::Long {
        LONG_EVENT_PAUSE
    } else {
        EVENT_PAUSE
    };
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(pause).await;
        }
        if script == Script::Break && index == BREAK_EVENTS {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let data = event.split_once("data: ").map_or("", |(_, data)| data);
        socket.write_all(&text_frame(data.trim_end())).await?;
    }
    Ok(())
}

async fn refuse(socket: &mut Socket, status: u16, code: &str, why: &str) -> io::Result<()> {
    let error = json!({
        "type": "error", "status": status,
        "error": {"type": "invalid_request_error", "code": code, "message": why, "param": null},
    });
    socket.write_all(&text_frame(&error.to_string())).await
}
