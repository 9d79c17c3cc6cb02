//! The commit point of a stream: its first output. Whatever comes before it is held back, since an overload may be reported
//! behind it, and then another account can still be asked without the client having seen anything.

use super::retry_time::Told;
use super::{Answer, Failure, broken};
use crate::request::Request;
use crate::request::meter::Observer;
use crate::worker::Worker;
use relay_io::{Either, Lease, Received, either, pause};
use relay_wire::body::{BodyParser, Piece};
use relay_wire::dialect::{ErrorKind, ErrorReport, Progress};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Bytes that are held back at most. The events before the first output repeat the request's instructions and tools.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// Room that is still worth reading into.
const ROOM_BYTES_MIN: usize = 1024;

/// Reads until the stream is worth forwarding, or has failed in a way that another account may not.
///
/// # Errors
/// The client has seen nothing then.
pub(super) async fn await_commit(
    worker: &'static Worker,
    request: &Request<'_>,
    answer: &mut Answer,
    first_event_timeout: Duration,
) -> Result<(), Failure> {
    let mut ahead = LookAhead {
        parser: answer.parser.clone(),
        seen_bytes: answer.head.head_bytes,
    };
    pin!(await_first_bytes(request, answer, first_event_timeout)).await?;
    let mut outlook = ahead.take_in(&mut answer.observer, answer.lease.filled());
    if outlook == Outlook::Open && !worker.policy.timeouts.commit.is_zero() {
        outlook = pin!(hold(
            worker,
            request,
            answer,
            &mut ahead,
            first_event_timeout
        ))
        .await?;
    }
    answer.connection.stream.clear_deadline();
    match outlook {
        Outlook::Open | Outlook::Committed => Ok(()),
        Outlook::Failed(report) => Err(failed(worker, answer, &report)),
        Outlook::Cut => Err(Failure::IncompleteStream),
    }
}

/// Waits for the first bytes of the body. The head goes out together with them.
async fn await_first_bytes(
    request: &Request<'_>,
    answer: &mut Answer,
    timeout: Duration,
) -> Result<(), Failure> {
    let stream = &answer.connection.stream;
    stream.set_deadline(timeout);
    while !answer.parser.is_complete() && answer.lease.len() == answer.head.head_bytes {
        if answer.lease.spare_bytes() == 0 {
            answer.lease = answer.lease.take().widen();
        }
        let (received, filled) = pin!(stream.read(answer.lease.take())).await;
        answer.lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Ok(Received::End) if may_end_with_connection(answer) => break,
            Ok(Received::End) => return Err(Failure::IncompleteStream),
            Err(error) => return Err(cut_off(broken(request.client, &error))),
        }
    }
    Ok(())
}

/// Reads on behind events without output, in leases that are sent as they are; not longer than the operator wants it, and not
/// more than fits.
async fn hold(
    worker: &'static Worker,
    request: &Request<'_>,
    answer: &mut Answer,
    ahead: &mut LookAhead,
    first_event_timeout: Duration,
) -> Result<Outlook, Failure> {
    let timeouts = &worker.policy.timeouts;
    let commits_at = Instant::now() + timeouts.commit;
    loop {
        let read_bytes = answer.held.iter().map(Lease::len).sum::<usize>();
        let left = commits_at.saturating_duration_since(Instant::now());
        if answer.lease.len() + read_bytes >= HELD_BYTES_MAX || left.is_zero() {
            return Ok(Outlook::Open);
        }
        let last = answer.held.last().unwrap_or(&answer.lease);
        if last.spare_bytes() < ROOM_BYTES_MIN {
            let lease = worker.pool.large();
            if !answer.held_bytes.grow(lease.spare_bytes()) {
                return Ok(Outlook::Open);
            }
            answer.held.push(lease);
            ahead.seen_bytes = 0;
        }
        let stream = &answer.connection.stream;
        stream.set_deadline(if answer.observer.events() == 0 {
            first_event_timeout
        } else {
            timeouts.event_idle
        });
        match either(stream.readable(), pause(left)).await {
            Either::First(Ok(())) => {}
            Either::First(Err(error)) => return Err(cut_off(broken(request.client, &error))),
            Either::Second(()) => return Ok(Outlook::Open),
        }
        let last = answer.held.last_mut().unwrap_or(&mut answer.lease);
        match stream.read_now(last) {
            Ok(None) => continue,
            Ok(Some(Received::Bytes(_))) => {}
            Ok(Some(Received::End)) if may_end_with_connection(answer) => {
                return Ok(Outlook::Committed);
            }
            Ok(Some(Received::End)) => return Ok(Outlook::Cut),
            Err(error) => return Err(cut_off(broken(request.client, &error))),
        }
        let outlook = ahead.take_in(&mut answer.observer, last.filled());
        if outlook != Outlook::Open {
            return Ok(outlook);
        }
    }
}

/// Where the end of the connection is the end of the body, only the stream's own last event tells that it is whole; of an
/// unknown dialect nothing is known of that.
fn may_end_with_connection(answer: &Answer) -> bool {
    answer.is_opaque && answer.parser.may_end_here()
}

/// A connection that breaks behind the head has cut a stream off.
fn cut_off(failure: Failure) -> Failure {
    match failure {
        Failure::Broken => Failure::IncompleteStream,
        other => other,
    }
}

fn failed(worker: &Worker, answer: &Answer, report: &ErrorReport) -> Failure {
    let clock = worker.accounts.health.clock();
    let head_at = clock.at(answer.head_at);
    let told = Told::by(&answer.head, answer.lease.filled(), head_at);
    Failure::FailedStream {
        kind: report.kind,
        resets: told.reset_of_stream(report, clock.now()),
    }
}

/// What can be said of a stream by what has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// Nothing yet: it has not produced anything.
    Open,
    /// It is forwarded as it is: it has begun its output, or it ended as the provider meant it to, or what it reports is the
    /// request's own failure.
    Committed,
    /// It failed before any output, as it may not have with another account.
    Failed(ErrorReport),
    /// It ended before any output without a word.
    Cut,
}

/// Looks at a body before it is forwarded.
struct LookAhead {
    /// Runs ahead of the answer's own one.
    parser: BodyParser,
    /// Of the last lease.
    seen_bytes: usize,
}

impl LookAhead {
    /// Observes what is new in the last lease.
    fn take_in(&mut self, observer: &mut Observer, bytes: &[u8]) -> Outlook {
        let (mut is_over, mut is_broken) = (self.parser.is_complete(), false);
        while !is_over && !is_broken {
            match self.parser.next(bytes, self.seen_bytes) {
                Ok(Some(Piece::End(_))) => is_over = true,
                Ok(Some(piece)) => {
                    self.seen_bytes = piece.end();
                    if let Piece::Payload(range) = piece {
                        observer.observe(&bytes[range]);
                    }
                }
                Ok(None) => break,
                Err(_) => is_broken = true,
            }
        }
        if observer.progress() == Progress::Output {
            return Outlook::Committed;
        }
        match observer.failure() {
            Some(report) if report.kind != ErrorKind::Other => Outlook::Failed(report),
            Some(_) => Outlook::Committed,
            // An answer without any event is none of a stream's: whoever forwards it knows what to make of it.
            None if is_over && observer.progress() == Progress::Preamble => Outlook::Cut,
            None if is_over || is_broken => Outlook::Committed,
            None => Outlook::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_wire::body::Sender;
    use relay_wire::dialect::Dialect;
    use relay_wire::head::Framing;

    const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
    const DELTA: &str =
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\n";

    fn failed(code: &str) -> String {
        format!(
            "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"error\":{{\"code\":\"{code}\"}}}}}}\n\n"
        )
    }

    fn reported(kind: ErrorKind) -> Outlook {
        Outlook::Failed(ErrorReport {
            kind,
            ..ErrorReport::default()
        })
    }

    /// What is said of a body after each of its leases.
    fn outlooks(dialect: Dialect, framing: Framing, leases: &[String]) -> Vec<Outlook> {
        let mut observer = Observer::new(dialect, Some(b"text/event-stream"), 1 << 20, 64);
        let mut ahead = LookAhead {
            parser: BodyParser::new(framing, Sender::Upstream),
            seen_bytes: 0,
        };
        leases
            .iter()
            .map(|lease| {
                ahead.seen_bytes = 0;
                ahead.take_in(&mut observer, lease.as_bytes())
            })
            .collect()
    }

    fn of(dialect: Dialect, text: &str) -> Outlook {
        outlooks(dialect, Framing::UntilClose, &[text.to_owned()])[0]
    }

    #[test]
    fn what_a_stream_is_worth_by_how_it_begins() {
        use ErrorKind::{Overloaded, QuotaExhausted, RateLimited};
        let messages_start = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
        let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
        for (dialect, text, wanted) in [
            (Dialect::Responses, "", Outlook::Open),
            (Dialect::Responses, ": comment\n\n", Outlook::Open),
            (Dialect::Responses, &CREATED[..40], Outlook::Open),
            (Dialect::Responses, CREATED, Outlook::Open),
            (Dialect::Responses, DELTA, Outlook::Committed),
            (
                Dialect::Responses,
                &[CREATED, DELTA].concat(),
                Outlook::Committed,
            ),
            (
                Dialect::Responses,
                &failed("server_error"),
                reported(Overloaded),
            ),
            (
                Dialect::Responses,
                &[CREATED, &failed("rate_limit_exceeded")].concat(),
                reported(RateLimited),
            ),
            (
                Dialect::Responses,
                &[CREATED, &failed("insufficient_quota")].concat(),
                reported(QuotaExhausted),
            ),
            (
                Dialect::Responses,
                &[CREATED, &failed("context_length_exceeded")].concat(),
                Outlook::Committed,
            ),
            (
                Dialect::Responses,
                &[CREATED, DELTA, &failed("server_error")].concat(),
                Outlook::Committed,
            ),
            (
                Dialect::Responses,
                "event: response.incomplete\ndata: {\"type\":\"response.incomplete\"}\n\n",
                Outlook::Committed,
            ),
            (Dialect::Messages, messages_start, Outlook::Open),
            (
                Dialect::Messages,
                &[messages_start, overloaded].concat(),
                reported(Overloaded),
            ),
            (
                Dialect::ChatCompletions,
                "data: {\"choices\":[]}\n\n",
                Outlook::Committed,
            ),
            (
                Dialect::ChatCompletions,
                "data: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n",
                reported(RateLimited),
            ),
            (
                Dialect::Gemini,
                "data: {\"error\":{\"code\":503}}\n\n",
                reported(Overloaded),
            ),
            (Dialect::Opaque, "data: anything\n\n", Outlook::Committed),
        ] {
            assert_eq!(of(dialect, text), wanted, "{dialect:?} {text}");
        }
    }

    #[test]
    fn leases_are_looked_at_one_after_the_other() {
        let chunked = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let failure = chunked(&failed("slow_down"));
        let (before, after) = failure.split_at(70);
        let leases = [chunked(CREATED), before.to_owned(), after.to_owned()];
        let wanted = [
            Outlook::Open,
            Outlook::Open,
            reported(ErrorKind::Overloaded),
        ];
        assert_eq!(
            outlooks(Dialect::Responses, Framing::Chunked, &leases),
            wanted
        );
        // What has been seen already is not looked at again.
        let mut observer =
            Observer::new(Dialect::Responses, Some(b"text/event-stream"), 1 << 20, 64);
        let mut ahead = LookAhead {
            parser: BodyParser::new(Framing::Chunked, Sender::Upstream),
            seen_bytes: 0,
        };
        let lease = [chunked(CREATED), chunked(CREATED)].concat();
        for bytes in 1..=lease.len() {
            let outlook = ahead.take_in(&mut observer, &lease.as_bytes()[..bytes]);
            assert_eq!(outlook, Outlook::Open);
        }
        assert_eq!(observer.events(), 2);
    }

    #[test]
    fn a_stream_that_ends_before_any_output() {
        let chunked = |text: &str| format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        for (framing, text, wanted) in [
            (Framing::Chunked, chunked(CREATED), Outlook::Cut),
            (Framing::Chunked, chunked(DELTA), Outlook::Committed),
            (Framing::Chunked, "0\r\n\r\n".to_owned(), Outlook::Committed),
            (Framing::Empty, String::new(), Outlook::Committed),
            (Framing::Length(2), ":\n".to_owned(), Outlook::Committed),
            (
                Framing::Chunked,
                format!("{}x", chunked(CREATED)),
                Outlook::Cut,
            ),
            (Framing::Chunked, "x\r\n".to_owned(), Outlook::Committed),
        ] {
            let outlook = outlooks(Dialect::Responses, framing, std::slice::from_ref(&text));
            assert_eq!(outlook, [wanted], "{framing:?} {text}");
        }
    }
}
