//! An answer that is an error of the account's or the provider's: what it says is read here and goes no further.

use super::failure::Reset;
use super::retry_time::Told;
use super::{Begun, Failure};
use crate::health::Moment;
use crate::request::Request;
use crate::upstreams::Connection;
use crate::worker::Worker;
use relay_io::{Received, Stream};
use relay_wire::body::{BodyParser, Piece, Sender};
use relay_wire::dialect::{ErrorKind, ErrorReport, ErrorScan};
use relay_wire::head::ResponseHead;
use std::time::Duration;

/// How much of it is read, and for how long: whoever waits for another account does not wait for this.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_millis(500);

/// Is what this status says about the account, or about the provider? Anything else is the request's own, and so is a method or
/// a version that the provider does not know (RFC 9110 sections 15.6.2 and 15.6.6): no account would get another answer.
pub(crate) fn is_error_status(status: u16) -> bool {
    matches!(status, 401..=403 | 429 | 500..=599) && !matches!(status, 501 | 505)
}

/// Reads what the answer says, and keeps the connection if it can be read to its end.
pub(super) async fn read(
    worker: &'static Worker,
    request: &Request<'_>,
    mut begun: Begun,
    connection: Connection,
) -> Failure {
    let clock = worker.accounts.health.clock();
    let status = begun.head.status;
    let told = Told::by(&begun.head, begun.lease.filled(), clock.now());
    let (report, is_whole) = read_body(worker, &connection.stream, &mut begun).await;
    // From here on the client's leaving is nothing to this connection.
    request.client.untie();
    if is_whole && begun.head.keep_alive && begun.request_was_sent {
        worker.idle.keep(connection, &worker.policy.timeouts);
    }
    Failure::Status {
        status,
        kind: report.kind,
        resets: resets(status, &told, &report, clock.now()),
    }
}

/// What an error answer means of which `bytes` have come, beginning with its head; true if nothing of it is left to come.
pub(crate) fn judge(
    head: &ResponseHead,
    bytes: &[u8],
    json_depth_max: usize,
    now: Moment,
) -> (Failure, bool) {
    let mut scan = ErrorScan::new(json_depth_max);
    let mut parser = BodyParser::new(head.framing, Sender::Upstream);
    let outcome = take_in(&mut parser, &mut scan, &bytes[head.head_bytes..]);
    let report = scan.report();
    let failure = Failure::Status {
        status: head.status,
        kind: report.kind,
        resets: resets(head.status, &Told::by(head, bytes, now), &report, now),
    };
    (failure, outcome.is_some())
}

/// A time is meant only where the account has to wait for something.
fn resets(status: u16, told: &Told, report: &ErrorReport, now: Moment) -> Option<Reset> {
    let must_wait =
        matches!(status, 402 | 429 | 503 | 529) || report.kind == ErrorKind::QuotaExhausted;
    must_wait.then(|| told.reset(report, now)).flatten()
}

/// Reads the body behind the head. True if it came to its end and nothing followed.
async fn read_body(
    worker: &'static Worker,
    upstream: &Stream,
    begun: &mut Begun,
) -> (ErrorReport, bool) {
    let mut scan = ErrorScan::new(worker.policy.limits.json_depth_max);
    let mut parser = BodyParser::new(begun.head.framing, Sender::Upstream);
    let mut lease = begun.lease.take();
    lease.consume(begun.head.head_bytes);
    let mut read_bytes = 0;
    upstream.set_deadline(BODY_TIMEOUT);
    let is_whole = loop {
        if let Some(is_whole) = take_in(&mut parser, &mut scan, lease.filled()) {
            break is_whole;
        }
        read_bytes += lease.len();
        if read_bytes >= BODY_BYTES_MAX {
            break false;
        }
        drop(lease);
        let received;
        (received, lease) = upstream.read(worker.pool.small()).await;
        if !matches!(received, Ok(Received::Bytes(_))) {
            break false;
        }
    };
    (scan.report(), is_whole)
}

/// Whether the body is over, and if so, whether as it should.
fn take_in(parser: &mut BodyParser, scan: &mut ErrorScan, bytes: &[u8]) -> Option<bool> {
    let mut at = 0;
    loop {
        match parser.next(bytes, at) {
            Ok(Some(Piece::End(end))) => return Some(end == bytes.len()),
            Ok(Some(piece)) => {
                at = piece.end();
                if let Piece::Payload(range) = piece {
                    scan.observe(&bytes[range]);
                }
            }
            Ok(None) => return None,
            Err(_) => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Fault;
    use relay_wire::head::Framing;

    #[test]
    fn only_a_body_that_is_over_leaves_the_connection_usable() {
        for (framing, pieces, wanted) in [
            (Framing::Length(2), &["{", "}"][..], Some(true)),
            (Framing::Length(2), &["{", "}H"], Some(false)),
            (Framing::Length(3), &["{}"], None),
            (Framing::Chunked, &["2\r\n{}\r\n0\r", "\n\r\n"], Some(true)),
            (Framing::Chunked, &["2\r\n{}\r\n0\r\n\r\nHTTP"], Some(false)),
            (Framing::Chunked, &["2\r\n{}xx"], Some(false)),
            (Framing::UntilClose, &["{}"], None),
            (Framing::Empty, &[""], Some(true)),
        ] {
            let mut parser = BodyParser::new(framing, Sender::Upstream);
            let mut scan = ErrorScan::new(8);
            let outcome = pieces
                .iter()
                .map(|piece| take_in(&mut parser, &mut scan, piece.as_bytes()))
                .find(Option::is_some);
            assert_eq!(outcome.flatten(), wanted, "{framing:?} {pieces:?}");
        }
    }

    #[test]
    fn statuses_that_another_account_may_not_get() {
        let errors: Vec<u16> = (100..600)
            .filter(|&status| is_error_status(status))
            .collect();
        let mut wanted = vec![401, 402, 403, 429];
        wanted.extend((500..600).filter(|status| ![501, 505].contains(status)));
        assert_eq!(errors, wanted);
    }

    #[test]
    fn what_has_come_of_an_error_answer_is_judged() {
        let now = Moment::from_unix_ms(1_800_000_000_000);
        let limits = relay_wire::head::HeadLimits {
            head_bytes_max: 1024,
            fields_max: 10,
            target_bytes_max: 0,
        };
        let body = r#"{"error":{"code":"insufficient_quota"}}"#;
        let text = format!(
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let head = ResponseHead::parse(text.as_bytes(), &limits, false);
        let head = head.unwrap().unwrap();
        for (length, fault, is_over) in [
            (
                head.head_bytes,
                Fault::RateLimited {
                    until: Some(now + Duration::from_secs(7)),
                },
                false,
            ),
            (
                text.len(),
                Fault::QuotaExhausted {
                    until: Some(now + Duration::from_secs(7)),
                },
                true,
            ),
        ] {
            let (failure, over) = judge(&head, &text.as_bytes()[..length], 8, now);
            assert_eq!((failure.fault(), over), (Some(fault), is_over), "{length}");
        }
    }
}
