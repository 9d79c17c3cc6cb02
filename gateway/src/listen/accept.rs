//! Accepting connections on one listener of one worker.

use super::connection;
use crate::connections::Inbound;
use crate::request::reply::Reply;
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

/// Accepts until the listener is stopped. `tls`: what it shakes hands with, if it does.
pub async fn run(worker: &'static Worker, listener: Rc<Listener>, tls: Option<View>) {
    while !worker.is_draining() {
        if worker.clients.is_full() {
            // Those who wait in the kernel's queue are served as soon as somebody leaves; if nobody does, connections on
            // which nothing is going on make room.
            pause(OVERLOAD_PAUSE).await;
            if worker.clients.is_full() {
                worker.wheel.end_idle();
            }
            continue;
        }
        match listener.accept(&worker.wheel).await {
            Ok((stream, peer)) => enter(worker, stream, peer.ip(), tls.as_ref()),
            Err(_) if worker.is_draining() => break,
            Err(error) => {
                worker.note_accept_error(&error);
                pause(OVERLOAD_PAUSE).await;
            }
        }
    }
}

fn enter(worker: &'static Worker, client: Stream, source: IpAddr, tls: Option<&View>) {
    let place = worker.clients.enter();
    let inbound = worker.connections.enter(worker.number, &client, source);
    match (inbound, tls) {
        (Some(inbound), None) => spawn(connection::run(worker, client, inbound, place)),
        (Some(inbound), Some(tls)) => {
            worker.spawn(secure(worker, client, source, inbound, place, tls.config()));
        }
        (None, None) => Reply::refuse_connection(worker, &client),
        // Nothing can be said before the handshake, which would cost more than who has too much is due.
        (None, Some(_)) => client.reset_on_close(),
    }
}

/// Shakes hands, and goes on with what both sides have agreed on.
async fn secure(
    worker: &'static Worker,
    client: Stream,
    source: IpAddr,
    inbound: Inbound,
    place: ClientPlace,
    config: Arc<ServerConfig>,
) {
    client.set_deadline(worker.policy.timeouts.tls_handshake);
    let (gate, pool) = (&worker.handshakes, &worker.pool);
    let secured = client.accept_tls(config, gate, pool).await;
    client.clear_deadline();
    worker.note_handshake(source, &secured);
    // Where it failed the client was told by an alert, and there is nothing more to say.
    let Ok(secured) = secured else { return };
    match secured.alpn {
        Alpn::Http1 | Alpn::None => connection::run(worker, client, inbound, place).await,
        Alpn::Http2 => {}
    }
}
