//! Accepting connections on one listener of one worker.

use super::connection;
use crate::request::reply::Reply;
use crate::worker::Worker;
use relay_io::{Listener, Stream, pause, spawn};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long nothing is accepted after that failed (no descriptors are left, mostly), or a worker has enough connections.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the listener is stopped.
pub async fn run(worker: &'static Worker, listener: Rc<Listener>) {
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
            Ok((stream, peer)) => enter(worker, stream, peer.ip()),
            Err(_) if worker.is_draining() => break,
            Err(error) => {
                worker.note_accept_error(&error);
                pause(OVERLOAD_PAUSE).await;
            }
        }
    }
}

fn enter(worker: &'static Worker, client: Stream, source: IpAddr) {
    let place = worker.clients.enter();
    match worker.connections.enter(worker.number, &client, source) {
        Some(inbound) => spawn(connection::run(worker, client, inbound, place)),
        None => Reply::refuse_connection(worker, &client),
    }
}
