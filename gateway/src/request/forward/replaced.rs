//! An answer that does not fit a stream which was begun before it came.

use super::{Answer, Ending};
use crate::request::Request;
use crate::request::audit::Trail;
use crate::request::meter::{Transcript, is_media_type};
use crate::request::reply::{Break, Done, EARLY_STATUS, Reply, Streaming};
use crate::worker::Worker;
use relay_wire::body::Piece;
use serde::Deserialize;

/// Is the answer what the client was promised?
pub(super) fn fits(answer: &Answer) -> bool {
    let bytes = answer.lease.filled();
    let content_type = answer.head.value(bytes, "content-type");
    answer.head.status == 200
        && answer.head.value(bytes, "content-encoding").is_none()
        && content_type.is_some_and(|media| is_media_type(media, b"text/event-stream"))
}

/// Tells the client what the provider said instead, as far as an error event can, and breaks off.
pub(super) async fn replace<'c>(
    worker: &'static Worker,
    request: &Request<'c>,
    answer: &mut Answer,
    client: Reply<'c, Streaming>,
    trail: &mut Trail,
) -> (Reply<'c, Done>, Transcript) {
    let status = answer.head.status;
    trail.note_failed_status(status);
    let said = said_in(&payload_at_hand(answer));
    let message = said.message.unwrap_or_else(|| {
        format!("The provider answered with status {status}, and not with a stream.")
    });
    let why = Break {
        code: said.code.as_deref().unwrap_or("upstream_error"),
        message: &message,
        param: said.param.as_deref(),
    };
    let done = client.break_off(worker, request.dialect, &why).await;
    let transcript = Transcript {
        ending: Ending::Replaced,
        status: EARLY_STATUS,
        body_bytes: 0,
        events: 0,
        usage: None,
        is_final: false,
        estimated_output_tokens: 0,
        streamed: true,
    };
    (done, transcript)
}

/// As much of the body as came with the head: error answers are short.
fn payload_at_hand(answer: &mut Answer) -> Vec<u8> {
    let bytes = answer.lease.filled();
    let mut at = answer.head.head_bytes;
    let mut payload = Vec::new();
    while let Ok(Some(piece)) = answer.parser.next(bytes, at) {
        at = piece.end();
        match piece {
            Piece::Payload(range) => payload.extend_from_slice(&bytes[range]),
            Piece::Framing(_) | Piece::Trailer(_) => {}
            Piece::End(_) => break,
        }
    }
    payload
}

/// What an error answer says, in the form that the providers have in common.
#[derive(Debug, Default, Deserialize, PartialEq)]
struct Said {
    message: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: Said,
}

fn said_in(body: &[u8]) -> Said {
    serde_json::from_slice(body)
        .map_or_else(|_| Said::default(), |answer: ErrorAnswer| answer.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_says_is_read_if_it_has_the_usual_form() {
        let said = said_in(
            br#"{"error":{"message":"too long","type":"x","code":"context_length_exceeded","param":null}}"#,
        );
        let wanted = Said {
            message: Some("too long".into()),
            code: Some("context_length_exceeded".into()),
            param: None,
        };
        assert_eq!(said, wanted);
        for other in [
            &b""[..],
            b"{}",
            b"<html>",
            br#"{"error":"no"}"#,
            br#"{"error":{"code":5}}"#,
        ] {
            assert_eq!(said_in(other), Said::default());
        }
    }
}
