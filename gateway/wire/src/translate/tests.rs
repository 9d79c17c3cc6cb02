mod bodies;
mod readers;
mod requests;
mod responses;

use super::*;
use crate::head::{Framing, FramingError, HeadLimits, RequestHead, ResponseHead};
use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, request, response};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    fields_max: 8,
    target_bytes_max: 64,
};

/// The parts of a request to `uri` with these fields.
fn asked(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(uri);
    for &(name, value) in fields {
        builder = builder.header(name, value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn answered(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut builder = Response::builder().status(status);
    for &(name, value) in fields {
        builder = builder.header(name, value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn request_text(
    parts: &request::Parts,
    end_stream: bool,
) -> Result<(String, Framing), RequestError> {
    let mut out = b"left over".to_vec();
    let framing = request_head(parts, end_stream, &LIMITS, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), framing))
}

fn response_text(
    parts: &response::Parts,
    end_stream: bool,
    head_request: bool,
) -> Result<(String, Framing), ResponseError> {
    let mut out = b"left over".to_vec();
    let framing = response_head(parts, end_stream, head_request, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), framing))
}
