//! Requests out of the bytes of a connection.

use crate::framing::{BodyLength, ChunkDecoder, Fields};
use crate::plan::Plan;

/// A head longer than this is no head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request that was received whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What it asks for, or what is wrong with its body.
    pub(crate) plan: Result<Plan, String>,
    /// No other request follows.
    pub(crate) closes: bool,
    /// How many bytes of the input it took.
    pub(crate) bytes: usize,
}

/// Looks for a whole request at the start of `input`; `None` while there is more to come.
///
/// # Errors
/// The bytes are no request; nothing more can be understood on this connection.
pub(crate) fn take(input: &[u8]) -> Result<Option<Request>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head is too long".into()),
        Err(error) => return Err(format!("the head cannot be read: {error}")),
    };
    let fields = Fields::read(head.headers)?;
    let rest = &input[head_bytes..];
    let mut decoded = Vec::new();
    let (body, body_bytes) = match fields.length {
        BodyLength::Known(length) => match rest.get(..length) {
            Some(body) => (body, length),
            None => return Ok(None),
        },
        BodyLength::Chunked => {
            let mut decoder = ChunkDecoder::default();
            let used = decoder.decode(rest, |data| {
                decoded.extend_from_slice(data);
                Ok(())
            })?;
            if !decoder.is_done() {
                return Ok(None);
            }
            (decoded.as_slice(), used)
        }
    };
    Ok(Some(Request {
        plan: Plan::from_request_body(body),
        closes: fields.closes,
        bytes: head_bytes + body_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;

    const PLAN: Plan = Plan {
        id: 5,
        shape: Shape::Json { body_bytes: 1_024 },
    };

    fn known() -> Vec<u8> {
        let body = PLAN.request_body();
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    fn chunked() -> Vec<u8> {
        let mut request =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
        for piece in PLAN.request_body().chunks(100) {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    }

    #[test]
    fn both_framings_are_read_and_what_follows_is_left() {
        for (request, closes) in [(known(), false), (chunked(), true)] {
            for end in 0..request.len() {
                assert_eq!(take(&request[..end]), Ok(None), "after {end} bytes");
            }
            let twice = [&request[..], &request].concat();
            let expected = Request {
                plan: Ok(PLAN),
                closes,
                bytes: request.len(),
            };
            assert_eq!(take(&twice), Ok(Some(expected)));
        }
    }

    #[test]
    fn changed_body_is_reported_and_the_connection_can_go_on() {
        let mut request = known();
        let last = request.len() - 1;
        request[last] = b' ';
        let taken = take(&request).unwrap().unwrap();
        assert!(taken.plan.is_err());
        assert_eq!(taken.bytes, request.len());
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        assert!(take(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").is_err());
        assert!(take(b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n").is_err());
    }
}
