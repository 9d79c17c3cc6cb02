//! Calling the provider: a connection from the account's own address, the request with the account's credential, and the
//! beginning of an answer that is worth forwarding.

use super::Request;
use super::body::Interrupted;
use super::meter::Observer;
use super::refusal::Refusal;
use super::route::Candidate;
use crate::accounts::Slot;
use crate::config::policy::{Account, CredentialStyle, Upstream, UpstreamId};
use crate::headers::{Verdict, reserved};
use crate::upstreams::Connection;
use crate::worker::Worker;
use relay_io::{ConnectError, Interrupt, IoError, Lease, Received, Stream};
use relay_wire::body::{BodyParser, Piece, Sender};
use relay_wire::dialect::Dialect;
use relay_wire::encode::HeadWriter;
use relay_wire::head::{Field, Framing, FramingError, Method, ResponseHead};
use std::time::{Duration, Instant};

/// Informational answers that are skipped before the final one (RFC 9110 section 15.2); more are a storm.
const INFORMATIONAL_MAX: u32 = 8;

/// An answer whose head, and for a stream whose first bytes, have been read; nothing of it was sent to the client yet.
/// Boxed where it is handed on: it goes through many hands, and is large.
pub struct Answer {
    /// The head; its spans point into `lease`.
    pub head: ResponseHead,
    /// The head, and the part of the body that was read with it.
    pub lease: Lease,
    /// Finds the end of the body; stands behind the head.
    pub parser: BodyParser,
    /// Looks at the body as it passes.
    pub observer: Observer,
    /// The upstream it comes from.
    pub upstream: UpstreamId,
    /// Its dialect is not known, so nothing is known of how its streams end.
    pub is_opaque: bool,
    /// The connection it comes on.
    pub connection: Connection,
    /// The account's place, kept until the answer is over.
    pub slot: Slot,
    /// All of the request was sent before the answer came; otherwise the connection cannot serve another one.
    pub request_was_sent: bool,
    /// When the request had been sent.
    pub asked_at: Instant,
    /// When the answer's first bytes had come.
    pub answered_at: Instant,
}

/// Why a candidate did not work out.
#[derive(Debug)]
pub enum Failure {
    /// The account's address is missing on this host, or has no port left.
    Egress,
    /// The upstream's name has no address of the family of the account's address.
    NoDestination,
    /// The connection was refused, or the upstream cannot be reached.
    Connect,
    /// The connection broke before an answer had begun.
    Broken,
    /// Nothing came in time.
    Timeout,
    /// What came is not HTTP, or not unambiguous.
    Malformed(FramingError),
    /// More informational answers than anybody needs, a switch of protocols that nobody asked for.
    Unexpected,
    /// The provider answered, but what it says is about the account or about itself.
    Status {
        /// The status.
        status: u16,
        /// What it said about trying again.
        retry_after_seconds: Option<u32>,
    },
    /// A stream began with a report of its failure.
    FailedStream,
    /// The client's side ended it.
    Client(Refusal),
}

impl Failure {
    /// Another account may do better, and nothing was produced yet that a second attempt would repeat.
    pub fn may_be_retried(&self) -> bool {
        !matches!(
            self,
            Self::Malformed(_) | Self::Unexpected | Self::Client(_)
        )
    }

    /// It is this account's problem: the next one can be asked at once.
    pub fn blames_account(&self) -> bool {
        match self {
            Self::Egress => true,
            Self::Status { status, .. } => matches!(status, 401 | 403 | 429),
            _ => false,
        }
    }

    /// A short name for metrics, from a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::NoDestination => "no_destination",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Malformed(_) | Self::Unexpected => "malformed",
            Self::Status {
                status: 401 | 403, ..
            } => "account_refused",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status_5xx",
            Self::FailedStream => "failed_stream",
            Self::Client(_) => "client",
        }
    }

    /// What the client is told if nobody else can be asked.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Egress => Refusal::EgressUnavailable,
            Self::NoDestination | Self::Connect | Self::Broken => {
                Refusal::UpstreamError { status: None }
            }
            Self::Timeout => Refusal::UpstreamTimeout,
            Self::Malformed(_) | Self::Unexpected => Refusal::UpstreamMalformed,
            Self::Status {
                status: 401 | 403, ..
            } => Refusal::NoAccountAvailable,
            Self::Status {
                status: 429,
                retry_after_seconds,
            } => Refusal::UpstreamRateLimited {
                retry_after_seconds,
            },
            Self::Status {
                status: 503 | 529,
                retry_after_seconds,
            } => Refusal::UpstreamOverloaded {
                retry_after_seconds,
            },
            Self::Status { status, .. } => Refusal::UpstreamError {
                status: Some(status),
            },
            Self::FailedStream => Refusal::UpstreamError { status: None },
            Self::Client(refusal) => refusal,
        }
    }
}

/// Asks the candidate.
///
/// # Errors
/// See `Failure`. The client has seen nothing then.
pub async fn open(
    worker: &'static Worker,
    request: &mut Request<'_>,
    candidate: Candidate,
) -> Result<Box<Answer>, Failure> {
    let account = worker.policy.account(candidate.slot.account);
    let upstream = worker.policy.upstream(candidate.upstream);
    let mut buffer = worker.head_buffer();
    write_head(&mut buffer, worker, request, &candidate, upstream);
    let head = with_credential(&buffer, upstream, account);
    let mut may_reuse = true;
    loop {
        let connection = connect(worker, request.client, &candidate, may_reuse).await?;
        let (reused, resendable) = (connection.is_reused(), request.body.can_be_sent_again());
        request.client.tie(&connection.stream);
        match ask(worker, request, &connection.stream, &head).await {
            Ok(begun) => {
                worker.keep_head_buffer(buffer);
                return judge(worker, request, begun, connection, candidate).await;
            }
            // A provider may close a connection that it has kept open just as the next request is on its way.
            Err(Failure::Broken) if reused && resendable && request.body.can_be_sent_again() => {
                may_reuse = false;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A connection of this account from this address: one that is kept, or a new one.
async fn connect(
    worker: &'static Worker,
    client: &Stream,
    candidate: &Candidate,
    may_reuse: bool,
) -> Result<Connection, Failure> {
    let slot = &candidate.slot;
    let destinations = worker.addresses_of(candidate.upstream);
    if may_reuse && let Some(kept) = worker.idle.take(slot.account, slot.source, &destinations) {
        return Ok(kept);
    }
    let destination = destinations
        .iter()
        .copied()
        .find(|destination| destination.is_ipv4() == slot.source.is_ipv4())
        .ok_or(Failure::NoDestination)?;
    let timeouts = &worker.policy.timeouts;
    let stream = Stream::connect(slot.source, destination, timeouts.upstream_connect, client)
        .await
        .map_err(|error| match error {
            ConnectError::SourceMissing | ConnectError::PortsExhausted => Failure::Egress,
            ConnectError::Interrupted(Interrupt::Deadline) => Failure::Timeout,
            ConnectError::Interrupted(_) => Failure::Client(Refusal::ClientGone),
            ConnectError::Socket(_) => Failure::Connect,
        })?;
    worker.note_connection_opened();
    let chance = worker.random_fraction();
    Ok(Connection::new(
        stream,
        slot.account,
        slot.source,
        destination,
        timeouts.pool_age,
        chance,
    ))
}

/// The request's head as the provider sees it, but for its last field. Framing is made anew; nothing hop-by-hop and nothing
/// of the tenant's credential passes.
fn write_head(
    out: &mut Vec<u8>,
    worker: &Worker,
    request: &Request<'_>,
    candidate: &Candidate,
    upstream: &Upstream,
) {
    let bytes = request.head_bytes();
    let target = request.head.target.of(bytes);
    let rules = worker.policy.headers.request(candidate.upstream);
    let mut head = HeadWriter::request(
        out,
        request.head.method.as_str(),
        &[upstream.path_prefix.as_bytes(), target],
    );
    head.known("host", &upstream.authority);
    let connection = connection_values(&request.head.fields, bytes);
    for field in &request.head.fields {
        let name = field.name.of(bytes);
        if rules.verdict(name) == Verdict::Drop
            || reserved(name).is_some()
            || names_field(&connection, name)
        {
            continue;
        }
        // The parser has refused every value that the writer would.
        let _ = head.field(name, field.value.of(bytes));
    }
    for (name, value) in &rules.set {
        head.known(name, value);
    }
    match request.body.onward_framing() {
        Framing::Length(count) => head.number("content-length", count),
        Framing::Chunked => head.known("transfer-encoding", "chunked"),
        Framing::Empty | Framing::UntilClose => {
            if matches!(
                request.head.method,
                Method::Post | Method::Put | Method::Patch
            ) {
                head.number("content-length", 0);
            }
        }
    }
}

/// The one place where an account's credential is used: the head's last field, handed to the kernel from where the secret
/// is kept and never copied. `write_head` has put the upstream's own authority above it, and `connect` goes to that
/// authority's addresses only.
fn with_credential<'h>(head: &'h [u8], upstream: &Upstream, account: &'h Account) -> [&'h [u8]; 4] {
    let name: &[u8] = match upstream.credential_style {
        CredentialStyle::Bearer => b"authorization: Bearer ",
        CredentialStyle::XApiKey => b"x-api-key: ",
        CredentialStyle::XGoogApiKey => b"x-goog-api-key: ",
        CredentialStyle::ApiKey => b"api-key: ",
    };
    [head, name, account.credential.expose(), b"\r\n\r\n"]
}

/// The values of all `Connection` fields of a head. Usually there are none.
pub fn connection_values<'b>(fields: &[Field], bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let is_connection = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(b"connection");
    fields
        .iter()
        .filter(is_connection)
        .map(|field| field.value.of(bytes))
        .collect()
}

/// Is the field named by `Connection`, and so meant for this hop alone (RFC 9110 section 7.6.1)?
pub fn names_field(connection: &[&[u8]], name: &[u8]) -> bool {
    connection
        .iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
}

/// An answer's head and what came with it.
struct Begun {
    head: ResponseHead,
    lease: Lease,
    request_was_sent: bool,
    asked_at: Instant,
}

/// Sends the request and reads the head of its answer.
async fn ask(
    worker: &'static Worker,
    request: &mut Request<'_>,
    upstream: &Stream,
    head: &[&[u8]; 4],
) -> Result<Begun, Failure> {
    let mut lease = worker.pool.small();
    let sent = request.body.send_held(worker, upstream, head).await;
    sent.map_err(|error| broken(request.client, &error))?;
    let mut informational = 0;
    loop {
        if !request.body.is_complete() {
            match request.body.pass_on(worker, upstream).await {
                // Where the upstream takes no more, it has perhaps said why.
                Ok(()) | Err(Interrupted::EarlyAnswer | Interrupted::Upstream(_)) => {}
                Err(Interrupted::Client(refusal)) => return Err(Failure::Client(refusal)),
            }
        }
        let asked_at = Instant::now();
        upstream.set_deadline(worker.policy.timeouts.response_head);
        let head = read_head(worker, request, upstream, &mut lease).await?;
        upstream.clear_deadline();
        if head.status >= 200 {
            let request_was_sent = request.body.is_complete();
            return Ok(Begun {
                head,
                lease,
                request_was_sent,
                asked_at,
            });
        }
        // 101 would hand the connection over to a protocol that nobody asked for.
        informational += 1;
        if head.status == 101 || informational > INFORMATIONAL_MAX {
            return Err(Failure::Unexpected);
        }
        lease.consume(head.head_bytes);
    }
}

async fn read_head(
    worker: &Worker,
    request: &Request<'_>,
    upstream: &Stream,
    lease: &mut Lease,
) -> Result<ResponseHead, Failure> {
    let is_head_request = request.head.method == Method::Head;
    loop {
        if !lease.is_empty() {
            match ResponseHead::parse(lease.filled(), &worker.head_limits, is_head_request) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => return Err(Failure::Malformed(error)),
            }
        }
        if lease.spare_bytes() == 0 {
            *lease = lease.take().widen();
        }
        let (received, filled) = upstream.read(lease.take()).await;
        *lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Ok(Received::End) if lease.is_empty() => return Err(Failure::Broken),
            Ok(Received::End) => return Err(Failure::Malformed(FramingError::Malformed)),
            Err(error) => return Err(broken(request.client, &error)),
        }
    }
}

/// Decides whether the answer is worth forwarding.
async fn judge(
    worker: &'static Worker,
    request: &Request<'_>,
    begun: Begun,
    connection: Connection,
    candidate: Candidate,
) -> Result<Box<Answer>, Failure> {
    let Begun {
        head,
        lease,
        request_was_sent,
        asked_at,
    } = begun;
    let status = head.status;
    if matches!(status, 401 | 403 | 429 | 500..=599) {
        let retry_after_seconds = retry_after(&head, lease.filled());
        return Err(Failure::Status {
            status,
            retry_after_seconds,
        });
    }
    let limits = &worker.policy.limits;
    let content_type = head.value(lease.filled(), "content-type");
    let is_encoded = head.value(lease.filled(), "content-encoding").is_some();
    let observer = if is_encoded || status >= 300 {
        Observer::Blind
    } else {
        Observer::new(
            request.dialect,
            content_type,
            limits.event_bytes_max,
            limits.json_depth_max,
        )
    };
    let parser = BodyParser::new(head.framing, Sender::Upstream);
    let answered_at = Instant::now();
    let mut answer = Box::new(Answer {
        head,
        lease,
        parser,
        observer,
        upstream: candidate.upstream,
        is_opaque: matches!(request.dialect, Dialect::Opaque | Dialect::Gemini),
        connection,
        slot: candidate.slot,
        request_was_sent,
        asked_at,
        answered_at,
    });
    if answer.observer.is_stream() {
        await_first_bytes(worker, request, &mut answer).await?;
        answer.answered_at = Instant::now();
    }
    Ok(answer)
}

/// Waits for the first bytes of a stream: until then the client has seen nothing, so that another account can still be
/// asked, also where the first thing that the provider sends is the report of a failure.
async fn await_first_bytes(
    worker: &Worker,
    request: &Request<'_>,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let stream = &answer.connection.stream;
    stream.set_deadline(worker.policy.timeouts.first_event);
    while answer.lease.len() == answer.head.head_bytes {
        if answer.lease.spare_bytes() == 0 {
            answer.lease = answer.lease.take().widen();
        }
        let (received, filled) = stream.read(answer.lease.take()).await;
        answer.lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Ok(Received::End) if answer.parser.may_end_here() => break,
            Ok(Received::End) => return Err(Failure::Broken),
            Err(error) => return Err(broken(request.client, &error)),
        }
    }
    stream.clear_deadline();
    if begins_with_failure(worker, request, answer) {
        return Err(Failure::FailedStream);
    }
    Ok(())
}

/// Does what has come so far already say that the stream failed? Looks with an observer of its own, since the answer's
/// own one reads the same bytes when they are forwarded.
fn begins_with_failure(worker: &Worker, request: &Request<'_>, answer: &Answer) -> bool {
    let limits = &worker.policy.limits;
    let content_type = answer.head.value(answer.lease.filled(), "content-type");
    let mut observer = Observer::new(
        request.dialect,
        content_type,
        limits.event_bytes_max,
        limits.json_depth_max,
    );
    let mut parser = BodyParser::new(answer.head.framing, Sender::Upstream);
    let bytes = answer.lease.filled();
    let mut at = answer.head.head_bytes;
    while let Ok(Some(piece)) = parser.next(bytes, at) {
        at = piece.end();
        match piece {
            Piece::Payload(range) => observer.observe(&bytes[range]),
            Piece::End(_) => break,
            Piece::Framing(_) | Piece::Trailer(_) => {}
        }
    }
    observer.failed_before_output()
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3; dates are not sent by the providers), or its more precise sibling.
fn retry_after(head: &ResponseHead, bytes: &[u8]) -> Option<u32> {
    let number = |name: &str| {
        std::str::from_utf8(head.value(bytes, name)?)
            .ok()?
            .trim()
            .parse::<f64>()
            .ok()
    };
    let seconds = number("retry-after").or_else(|| Some(number("retry-after-ms")? / 1000.0))?;
    let day = Duration::from_secs(86_400).as_secs_f64();
    seconds
        .is_finite()
        .then(|| seconds.clamp(0.0, day).ceil() as u32)
}

/// What an error on the upstream's connection means: its own time-out, its end, or that the client has left.
fn broken(client: &Stream, error: &IoError) -> Failure {
    match error {
        IoError::Interrupted(Interrupt::Deadline) => Failure::Timeout,
        IoError::Interrupted(Interrupt::Tied) => match client.interrupted() {
            Some(Interrupt::Deadline) => Failure::Client(Refusal::BodyTooSlow),
            _ => Failure::Client(Refusal::ClientGone),
        },
        _ => Failure::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::names_field;

    #[test]
    fn fields_named_by_connection() {
        assert!(names_field(&[b"close, X-Secret"], b"x-secret"));
        assert!(names_field(&[b"close", b"x-secret"], b"X-SECRET"));
        assert!(!names_field(&[], b"x-secret"));
        assert!(!names_field(&[b"x-secret-too,,"], b"x-secret"));
    }
}
