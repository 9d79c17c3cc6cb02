//! HTTP/1.1 messages of our own making, as they come in pieces, to what HTTP/2 sends of them.

use super::fields::{is_connection_specific, is_credential};
use crate::body::{BodyError, BodyParser, Piece, Sender};
use crate::head::{Field, Framing, FramingError, HeadLimits, RequestHead, ResponseHead};
use bytes::{Buf as _, Bytes};
use http::header::{HeaderName, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use memchr::memchr_iter;

/// What was read is not a message that HTTP/2 can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The head breaks a rule of HTTP/1.1.
    Head(FramingError),
    /// The framing of the body does.
    Body(BodyError),
    /// The head has something that HTTP/2 has no form for, a 101 for one.
    Untranslatable,
}

impl From<FramingError> for Broken {
    fn from(error: FramingError) -> Self {
        Self::Head(error)
    }
}

/// What of an answer can be sent on.
#[derive(Debug)]
pub enum AnswerEvent {
    /// An informational answer (1xx).
    Informational(Response<()>),
    /// The head of the final answer.
    Head(Response<()>),
    /// Payload, never empty.
    Payload(Bytes),
    /// The answer is complete.
    End,
}

/// What of a request can be sent on.
#[derive(Debug)]
pub enum RequestEvent {
    /// The head.
    Head(Request<()>),
    /// Payload, never empty.
    Payload(Bytes),
    /// The request is complete.
    End,
}

/// Reads the one answer to a request.
///
/// However its bytes are cut, the events are the same, but that payload comes in other portions.
#[derive(Debug)]
pub struct AnswerReader {
    message: Message,
    head_request: bool,
}

impl AnswerReader {
    /// `head_request`: the request was HEAD, so there is no body, whatever is sent.
    pub fn new(head_request: bool) -> Self {
        Self {
            message: Message::default(),
            head_request,
        }
    }

    /// The next event, whose bytes are taken off the front of `input`; `None` when all of that is used up. What comes behind the
    /// end is dropped.
    ///
    /// # Errors
    /// See `Broken`. After one, there is nothing more to be had from it.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<AnswerEvent>, Broken> {
        if self.message.body.is_some() {
            return Ok(self.message.body_event(input)?.map(|event| match event {
                BodyEvent::Payload(payload) => AnswerEvent::Payload(payload),
                BodyEvent::End => AnswerEvent::End,
            }));
        }
        let Some(text) = self.message.head(input)? else {
            return Ok(None);
        };
        let head = ResponseHead::parse(&text, &LIMITS, self.head_request)?;
        let head = head.ok_or(FramingError::Malformed)?;
        // RFC 9113 section 8.6: HTTP/2 has no upgrade.
        if head.status == 101 {
            return Err(Broken::Untranslatable);
        }
        let mut response = Response::new(());
        *response.version_mut() = Version::HTTP_2;
        *response.status_mut() =
            StatusCode::from_u16(head.status).map_err(|_| Broken::Untranslatable)?;
        *response.headers_mut() = fields(&text, head.fields.iter())?;
        if response.status().is_informational() {
            return Ok(Some(AnswerEvent::Informational(response)));
        }
        self.message.begin_body(head.framing, input);
        Ok(Some(AnswerEvent::Head(response)))
    }

    /// Nothing but `End` is left: what was returned last can be sent with END_STREAM.
    pub fn is_at_end(&self) -> bool {
        self.message.is_at_end()
    }
}

/// Reads one request, as `AnswerReader` does an answer.
#[derive(Debug)]
pub struct RequestReader {
    message: Message,
    scheme: Scheme,
}

impl RequestReader {
    /// `scheme`: what the provider is spoken to with, `http` or `https`.
    pub fn new(scheme: Scheme) -> Self {
        Self {
            message: Message::default(),
            scheme,
        }
    }

    /// The next event, as `AnswerReader::next` has it.
    ///
    /// # Errors
    /// See `Broken`. After one, there is nothing more to be had from it.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<RequestEvent>, Broken> {
        if self.message.body.is_some() {
            return Ok(self.message.body_event(input)?.map(|event| match event {
                BodyEvent::Payload(payload) => RequestEvent::Payload(payload),
                BodyEvent::End => RequestEvent::End,
            }));
        }
        let Some(text) = self.message.head(input)? else {
            return Ok(None);
        };
        let head = RequestHead::parse(&text, &LIMITS)?.ok_or(FramingError::Malformed)?;
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = Method::from_bytes(head.method.as_str().as_bytes())
            .map_err(|_| Broken::Untranslatable)?;
        *request.uri_mut() = self.uri(&text, &head)?;
        let is_host = |field: &&Field| field.name.of(&text).eq_ignore_ascii_case(b"host");
        let others = head.fields.iter().filter(|field| !is_host(field));
        *request.headers_mut() = fields(&text, others)?;
        self.message.begin_body(head.framing, input);
        Ok(Some(RequestEvent::Head(request)))
    }

    /// Nothing but `End` is left: what was returned last can be sent with END_STREAM.
    pub fn is_at_end(&self) -> bool {
        self.message.is_at_end()
    }

    /// The authority goes into the URI, of which `:authority` is made, instead of into Host (RFC 9113 section 8.3.1).
    fn uri(&self, text: &Bytes, head: &RequestHead) -> Result<Uri, Broken> {
        let host = head.value(text, "host").ok_or(FramingError::InvalidHost)?;
        let authority = Authority::try_from(host).map_err(|_| FramingError::InvalidHost)?;
        let target = text.slice(head.target.range());
        let target =
            PathAndQuery::from_maybe_shared(target).map_err(|_| FramingError::InvalidTarget)?;
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(authority)
            .path_and_query(target);
        uri.build().map_err(|_| Broken::Untranslatable)
    }
}

/// No more than the ceilings of the parser: the writer is the gateway itself, within limits of its own.
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: u16::MAX as usize,
    fields_max: 256,
    target_bytes_max: u16::MAX as usize,
};

/// The fields that HTTP/2 has too. Names become lower case (RFC 9113 section 8.2.1).
fn fields<'f>(text: &Bytes, fields: impl Iterator<Item = &'f Field>) -> Result<HeaderMap, Broken> {
    let mut map = HeaderMap::with_capacity(fields.size_hint().1.unwrap_or(0));
    for field in fields {
        let name = field.name.of(text);
        if is_connection_specific(name) || name.eq_ignore_ascii_case(TE.as_str().as_bytes()) {
            continue;
        }
        let value = text.slice(field.value.range());
        let mut value =
            HeaderValue::from_maybe_shared(value).map_err(|_| Broken::Untranslatable)?;
        value.set_sensitive(is_credential(name));
        let name = HeaderName::from_bytes(name).map_err(|_| Broken::Untranslatable)?;
        map.try_append(name, value)
            .map_err(|_| Broken::Untranslatable)?;
    }
    Ok(map)
}

/// Where a message has been read up to.
#[derive(Debug, Default)]
struct Message {
    /// The beginning of a head whose end has not come yet.
    begun: Vec<u8>,
    /// Behind the head.
    body: Option<BodyParser>,
    is_over: bool,
}

enum BodyEvent {
    Payload(Bytes),
    End,
}

impl Message {
    /// The text of a head, as soon as it is whole. In one piece it is not copied.
    fn head(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Broken> {
        let Some(end) = end_of_head(&self.begun, input) else {
            if self.begun.len() + input.len() > LIMITS.head_bytes_max {
                return Err(FramingError::HeadTooLarge.into());
            }
            self.begun.extend_from_slice(input);
            input.clear();
            return Ok(None);
        };
        let rest = input.split_to(end);
        if self.begun.is_empty() {
            return Ok(Some(rest));
        }
        let mut whole = std::mem::take(&mut self.begun);
        whole.extend_from_slice(&rest);
        Ok(Some(whole.into()))
    }

    fn begin_body(&mut self, framing: Framing, input: &mut Bytes) {
        let mut parser = BodyParser::new(framing, Sender::Upstream);
        skip_framing(&mut parser, input);
        self.body = Some(parser);
    }

    fn body_event(&mut self, input: &mut Bytes) -> Result<Option<BodyEvent>, Broken> {
        if self.is_over {
            input.clear();
        }
        let Some(parser) = &mut self.body else {
            return Ok(None);
        };
        loop {
            match parser.next(input, 0).map_err(Broken::Body)? {
                None => return Ok(None),
                Some(Piece::Framing(range) | Piece::Trailer(range)) => input.advance(range.end),
                Some(Piece::Payload(range)) => {
                    let payload = input.split_to(range.end);
                    skip_framing(parser, input);
                    return Ok(Some(BodyEvent::Payload(payload)));
                }
                Some(Piece::End(_)) => {
                    self.is_over = true;
                    return Ok(Some(BodyEvent::End));
                }
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.body.as_ref().is_some_and(BodyParser::is_complete)
    }
}

/// Goes on up to the next payload, so that it shows at once whether there is any. What is wrong is left to be found by the
/// parser itself, later.
fn skip_framing(parser: &mut BodyParser, input: &mut Bytes) {
    while !parser.is_complete() {
        let mut ahead = parser.clone();
        let Ok(Some(Piece::Framing(range) | Piece::Trailer(range))) = ahead.next(input, 0) else {
            return;
        };
        input.advance(range.end);
        *parser = ahead;
    }
}

/// How many bytes of `input` belong to the head that has begun before it.
fn end_of_head(begun: &[u8], input: &[u8]) -> Option<usize> {
    let before = |at: usize, back: usize| match at.checked_sub(back) {
        Some(at) => Some(input[at]),
        None => begun.len().checked_sub(back - at).map(|at| begun[at]),
    };
    memchr_iter(b'\n', input)
        .find(|&at| {
            before(at, 1) == Some(b'\r')
                && before(at, 2) == Some(b'\n')
                && before(at, 3) == Some(b'\r')
        })
        .map(|at| at + 1)
}
