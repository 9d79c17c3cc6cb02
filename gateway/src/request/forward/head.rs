//! The answer's head on its way to the client.

use super::Form;
use crate::request::Request;
use crate::request::egress::{Answer, connection_values, names_field};
use crate::request::limit::fields::Standings;
use crate::request::reply::{Reply, Unsent};
use crate::worker::Worker;
use relay_wire::encode::HeadWriter;
use relay_wire::head::{Framing, KnownName};
use std::time::Duration;

/// What the gateway has to say itself.
pub(in crate::request) struct OwnFields {
    pub attempts: u32,
    /// What it has taken, before the provider and after it.
    pub overhead: Duration,
    /// How the tenant's limits stand.
    pub standings: Standings,
}

/// The head as the client sees it: what the rules let pass, framing of our own, and what the gateway adds.
pub(super) fn for_client(
    worker: &Worker,
    request: &Request<'_>,
    answer: &Answer,
    form: Form,
    client: &Reply<'_, Unsent>,
    own: &OwnFields,
) -> Vec<u8> {
    let mut out = worker.head_buffer();
    let bytes = answer.lease.filled();
    let rules = worker.policy.headers.response(answer.upstream);
    let mut head = HeadWriter::response(&mut out, answer.head.status);
    let connection = connection_values(&answer.head.fields, bytes);
    let mut upstream_request_id = None;
    for field in &answer.head.fields {
        let name = field.name.of(bytes);
        if !rules.pass(bytes, field)
            || own.standings.replace(name)
            || names_field(&connection, name)
        {
            continue;
        }
        if field.known == Some(KnownName::XRequestId) {
            upstream_request_id.get_or_insert(field.value.of(bytes));
            continue;
        }
        head.received(bytes, field);
    }
    for (name, value) in rules.set() {
        head.known(name, value);
    }
    match (answer.head.framing, form) {
        (Framing::Length(count), Form::AsIs) => head.number("content-length", count),
        (Framing::Chunked, Form::AsIs) | (_, Form::Rechunked) => {
            head.known("transfer-encoding", "chunked");
        }
        (Framing::Empty, _) => {
            // HEAD and 304 tell how long the body would be; 101 and 204 have none (RFC 9110 section 8.6).
            let told = answer
                .head
                .value(bytes, "content-length")
                .and_then(parse_number);
            if let Some(count) = told.filter(|_| !matches!(answer.head.status, 101 | 204)) {
                head.number("content-length", count);
            }
        }
        _ => {}
    }
    write_request_ids(&mut head, request, upstream_request_id);
    if answer.head.status >= 400 {
        head.known("x-relay-error-source", "upstream");
    }
    own.standings.write(&mut head);
    head.number("x-relay-attempts", u64::from(own.attempts));
    head.number("x-relay-overhead-us", own.overhead.as_micros() as u64);
    match &request.websocket {
        Some(handshake) if answer.head.status == 101 => {
            handshake.write_answer(&mut head, &answer.head, bytes);
        }
        _ => client.connection_field(&mut head),
    }
    head.finish();
    out
}

/// A client that named its request gets that name back, and the provider's beside it; any other gets the provider's,
/// which is the one that the provider's support asks for.
fn write_request_ids(head: &mut HeadWriter<'_>, request: &Request<'_>, upstream: Option<&[u8]>) {
    let own = request.id.as_bytes();
    match upstream {
        Some(theirs) if request.id.is_given_by_client() => {
            head.known("x-request-id", own);
            let _ = head.field(b"x-upstream-request-id", theirs);
        }
        Some(theirs) => {
            let _ = head.field(b"x-request-id", theirs);
        }
        None => head.known("x-request-id", own),
    }
    head.known("x-relay-request-id", own);
}

fn parse_number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
