//! Accepting connections on one listener of one worker.

use super::{connection, http2};
use crate::connections::Inbound;
use crate::request::reply::Reply;
use crate::tls::handshakes::Arrived;
use crate::tls::server::View;
use crate::worker::ClientPlace;
use crate::worker::Worker;
use relay_io::{Alpn, Listener, Stream, pause, spawn};
use rustls::ServerConfig;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long nothing is accepted after that failed (no descriptors are left, mostly), or a worker has enough connections.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(50);

/// How a connection on a listener begins.
pub enum Beginning {
    /// As the client likes; with HTTP/2 too, where that is allowed.
    Plaintext {
        /// It is.
        http2_allowed: bool,
    },
    /// With a handshake.
    Tls(View),
}

/// Accepts until the listener is stopped.
pub async fn run(worker: &'static Worker, listener: Rc<Listener>, beginning: Beginning) {
    while !worker.is_draining() {
        if worker.clients.is_full() {
            // Those who wait in the kernel's queue are served as soon as somebody leaves; if nobody does, connections on
            // which nothing is going on make room. Where nobody waits they are kept: their clients may still want them.
            pause(OVERLOAD_PAUSE).await;
            if worker.clients.is_full() && listener.somebody_waits() {
                worker.wheel.end_idle();
            }
            continue;
        }
        match listener.accept(&worker.wheel).await {
            Ok((stream, peer)) => enter(worker, stream, peer.ip(), &beginning),
            Err(_) if worker.is_draining() => break,
            Err(error) => {
                worker.note_accept_error(&error);
                pause(OVERLOAD_PAUSE).await;
            }
        }
    }
}

fn enter(worker: &'static Worker, client: Stream, source: IpAddr, beginning: &Beginning) {
    let place = worker.clients.enter();
    let inbound = worker.connections.enter(worker.number, &client, source);
    match (inbound, beginning) {
        (Some(inbound), &Beginning::Plaintext { http2_allowed }) => {
            let served = connection::run(worker, client, inbound, place, http2_allowed);
            spawn(served);
        }
        (Some(inbound), Beginning::Tls(tls)) => {
            let arrived = Arrived {
                listener: tls.listener(),
                source,
            };
            worker.spawn(secure(
                worker,
                client,
                arrived,
                inbound,
                place,
                tls.config(),
            ));
        }
        (None, Beginning::Plaintext { .. }) => Reply::refuse_connection(worker, &client),
        // Nothing can be said before the handshake, which would cost more than who has too much is due.
        (None, Beginning::Tls(_)) => client.reset_on_close(),
    }
}

/// Shakes hands, and goes on with what both sides have agreed on.
async fn secure(
    worker: &'static Worker,
    client: Stream,
    arrived: Arrived,
    inbound: Inbound,
    place: ClientPlace,
    config: Arc<ServerConfig>,
) {
    client.set_deadline(worker.policy.timeouts.tls_handshake);
    let (gate, pool) = (&worker.handshakes, &worker.pool);
    let secured = client.accept_tls(config, gate, pool).await;
    client.clear_deadline();
    worker.note_handshake(arrived, &secured);
    let Ok(secured) = secured else {
        // The client was told why by an alert. What has come behind would turn the close into a reset, which could overtake it.
        client.finish_sending();
        let _ = client.read_now(&mut pool.small());
        return;
    };
    // Tasks of their own: this one would stay as large as the larger of them.
    match secured.alpn {
        Alpn::Http1 | Alpn::None => spawn(connection::run(worker, client, inbound, place, false)),
        Alpn::Http2 => worker.spawn(http2::run(worker, client, None, inbound, place)),
    }
}
