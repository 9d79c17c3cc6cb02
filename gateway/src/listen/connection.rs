//! The life of one client connection: requests one after the other, each answered before the next one is read.

use crate::connections::Inbound;
use crate::request::body::RequestBody;
use crate::request::reply::{Reply, RequestId};
use crate::request::{self, Request};
use crate::worker::unwind::CatchUnwind;
use crate::worker::{ClientPlace, Worker};
use relay_io::{IoError, LARGE_LEASE_BYTES, Lease, Received, Stream};
use relay_wire::dialect::Dialect;
use relay_wire::head::{FramingError, RequestHead};
use std::time::Instant;

const _: () = assert!(
    LARGE_LEASE_BYTES <= 65_536,
    "spans of a head are 16 bits wide"
);

/// Serves the connection until either side ends it. A panic ends this connection and nothing else.
pub async fn run(worker: &'static Worker, client: Stream, inbound: Inbound, _place: ClientPlace) {
    let served = CatchUnwind::new(serve_all(worker, &client, &inbound));
    if served.await.is_err() {
        worker.note_panic();
        client.reset_on_close();
    }
}

async fn serve_all(worker: &'static Worker, client: &Stream, inbound: &Inbound) {
    let mut next = None;
    loop {
        let (head, lease) = match read_head(worker, client, next.take()).await {
            Heard::Request(head, lease) => (head, lease),
            Heard::Nothing => return,
            Heard::Garbage(error) => return Reply::refuse_framing(worker, client, error).await,
            Heard::TooSlow => return Reply::refuse_slow_head(worker, client).await,
        };
        let mut request = begin(worker, client, inbound, head, lease);
        let reply = Reply::new(&request);
        let done = request::serve(worker, &mut request, reply).await;
        if !done.connection_goes_on() {
            return done.close(worker, request).await;
        }
        next = request.into_next();
    }
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
    Garbage(FramingError),
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
            let received = client.receive(&worker.pool).await;
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
            Err(error) => return Heard::Garbage(error),
        }
        if is_first_try {
            client.set_deadline(timeouts.request_head);
            is_first_try = false;
        }
        if lease.spare_bytes() == 0 {
            lease = lease.widen();
        }
        let (received, filled) = client.read(lease).await;
        lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Err(IoError::Interrupted(relay_io::Interrupt::Deadline)) => return Heard::TooSlow,
            Ok(Received::End) | Err(_) => return Heard::Nothing,
        }
    }
}
