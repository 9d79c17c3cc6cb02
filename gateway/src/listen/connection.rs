//! The life of one client connection: requests one after the other, each answered before the next one is read.

use super::http2;
use crate::connections::Inbound;
use crate::request::body::RequestBody;
use crate::request::reply::{Reply, RequestId};
use crate::request::{self, Request};
use crate::worker::protocols::Protocol;
use crate::worker::unwind::CatchUnwind;
use crate::worker::{ClientPlace, Worker};
use relay_io::{IoError, LARGE_LEASE_BYTES, Lease, Received, Stream};
use relay_wire::dialect::Dialect;
use relay_wire::head::{FramingError, RequestHead};
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Instant;

const _: () = assert!(
    LARGE_LEASE_BYTES <= 65_536,
    "spans of a head are 16 bits wide"
);

/// Serves the connection until either side ends it. A panic ends this connection and nothing else. Where `http2_allowed`, a client
/// may begin with the preface of HTTP/2 (prior knowledge, RFC 9113 section 3.3).
pub async fn run(
    worker: &'static Worker,
    client: Stream,
    inbound: Inbound,
    place: ClientPlace,
    http2_allowed: bool,
) {
    let served = CatchUnwind::new(serve_all(worker, &client, &inbound, http2_allowed));
    match served.await {
        Ok(Left::Over) => {}
        Ok(Left::Http2(begun)) => {
            worker.spawn(http2::run(worker, client, Some(begun), inbound, place));
        }
        Err(_) => {
            worker.note_panic();
            client.reset_on_close();
        }
    }
}

/// What is left to do when nothing more is served.
enum Left {
    Over,
    /// It begins as HTTP/2 does, with what was read of it.
    Http2(Lease),
}

async fn serve_all(
    worker: &'static Worker,
    client: &Stream,
    inbound: &Inbound,
    http2_allowed: bool,
) -> Left {
    let mut next = None;
    let mut is_first = true;
    loop {
        let heard = pin!(read_head(worker, client, next.take())).await;
        if std::mem::take(&mut is_first) {
            match heard {
                Heard::Garbage(_, lease) if http2_allowed && http2::begins_with(lease.filled()) => {
                    return Left::Http2(lease);
                }
                _ => worker.note_protocol(Protocol::Http1, client.is_secured()),
            }
        }
        let served = match heard {
            Heard::Request(head, lease) => {
                pin!(serve_one(worker, client, inbound, head, lease)).await
            }
            Heard::Nothing => return Left::Over,
            Heard::Garbage(error, lease) => {
                drop(lease);
                Box::pin(Reply::refuse_framing(worker, client, error)).await;
                return Left::Over;
            }
            Heard::TooSlow => {
                Box::pin(Reply::refuse_slow_head(worker, client)).await;
                return Left::Over;
            }
        };
        match served {
            ControlFlow::Continue(begun) => next = begun,
            ControlFlow::Break(()) => return Left::Over,
        }
    }
}

/// Serves the one request of a connection in memory, whose head is all that was read so far; or refuses it.
pub async fn run_one(
    worker: &'static Worker,
    client: &Stream,
    inbound: &Inbound,
    head: Result<Lease, FramingError>,
) {
    let parsed = head.and_then(|lease| {
        let head = RequestHead::parse(lease.filled(), &worker.head_limits)?;
        Ok((head.ok_or(FramingError::Malformed)?, lease))
    });
    match parsed {
        Ok((head, lease)) => drop(serve_one(worker, client, inbound, head, lease).await),
        Err(error) => Reply::refuse_framing(worker, client, error).await,
    }
}

/// Serves one request. The connection goes on with what was read behind it, or is closed.
async fn serve_one(
    worker: &'static Worker,
    client: &Stream,
    inbound: &Inbound,
    head: RequestHead,
    lease: Lease,
) -> ControlFlow<(), Option<Lease>> {
    let mut request = begin(worker, client, inbound, head, lease);
    let reply = Reply::new(&request);
    let done = pin!(request::serve(worker, &mut request, reply)).await;
    if !done.connection_goes_on() {
        Box::pin(done.close(worker, request)).await;
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(request.body.take_next())
}

fn begin<'c>(
    worker: &'static Worker,
    client: &'c Stream,
    inbound: &'c Inbound,
    head: RequestHead,
    lease: Lease,
) -> Request<'c> {
    client.clear_deadline();
    let bytes = &lease.filled()[..head.head_bytes];
    let dialect = Dialect::of_path(head.path.of(bytes));
    let id = RequestId::of(head.value(bytes, "x-request-id"), worker);
    let body = RequestBody::new(worker, client, &head, lease);
    let received_at = Instant::now();
    Request {
        client,
        inbound,
        head,
        dialect,
        id,
        received_at,
        held_at: received_at,
        body,
        websocket: None,
    }
}

enum Heard {
    Request(RequestHead, Lease),
    /// The client left, or the connection was idle for too long.
    Nothing,
    Garbage(FramingError, Lease),
    TooSlow,
}

/// Reads until a head is complete. On an idle connection this waits without a buffer (`Stream::receive`).
async fn read_head(worker: &'static Worker, client: &Stream, begun: Option<Lease>) -> Heard {
    let limits = &worker.head_limits;
    let timeouts = &worker.policy.timeouts;
    let mut lease = match begun {
        Some(lease) => lease,
        None => {
            if worker.is_draining() {
                return Heard::Nothing;
            }
            client.set_deadline(timeouts.keep_alive_idle);
            client.set_idle(true);
            let received = pin!(client.receive(&worker.pool)).await;
            client.set_idle(false);
            match received {
                Ok(Some(lease)) => lease,
                Ok(None) | Err(_) => return Heard::Nothing,
            }
        }
    };
    let mut is_first_try = true;
    loop {
        match RequestHead::parse(lease.filled(), limits) {
            Ok(Some(head)) => return Heard::Request(head, lease),
            Ok(None) => {}
            Err(error) => return Heard::Garbage(error, lease),
        }
        if is_first_try {
            client.set_deadline(timeouts.request_head);
            is_first_try = false;
        }
        if lease.spare_bytes() == 0 {
            lease = lease.widen();
        }
        let (received, filled) = pin!(client.read(lease)).await;
        lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Err(IoError::Interrupted(relay_io::Interrupt::Deadline)) => return Heard::TooSlow,
            Ok(Received::End) | Err(_) => return Heard::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F>(
        _: fn(&'static Worker, &'static Stream, &'static Inbound, bool) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// An idle connection costs as much memory as the largest of what may come of it.
    #[test]
    fn what_a_connection_needs_while_it_is_idle_is_bounded() {
        let bytes = future_bytes(serve_all);
        assert!(bytes <= 4_640, "{bytes}");
    }
}
