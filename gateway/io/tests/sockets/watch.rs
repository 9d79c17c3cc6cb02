//! Looking after sockets on which nothing happens.

use crate::rig::{LARGE_BYTES, LIMIT, all_of, meanwhile, on_each_engine, reason, until};
use relay_io::{Interrupt, Pool, Received, spawn};
use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

const HEARTBEAT: &[u8] = b": heartbeat\n\n";

#[test]
fn a_peer_that_left_is_noticed_behind_unread_bytes_and_ends_the_tied_read() {
    on_each_engine(async |worker| {
        let (client, mut client_peer) = worker.pair().await;
        let (upstream, upstream_peer) = worker.pair().await;
        client.tie(&upstream);
        client.watch_peer();
        client_peer.write_all(b"the next request").unwrap();
        client.readable().await.unwrap();
        drop(client_peer);

        let (received, _) = upstream.read(Pool::new().small()).await;
        assert_eq!(reason(received), Interrupt::Tied);
        assert_eq!(client.interrupted(), Some(Interrupt::PeerGone));
        // The provider sees that nobody wants its answer any more.
        assert_eq!(all_of(upstream_peer).await, b"");
    });
}

#[test]
fn a_peer_that_only_closed_its_sending_side_counts_as_gone() {
    on_each_engine(async |worker| {
        let (client, peer) = worker.pair().await;
        let (upstream, _upstream_peer) = worker.pair().await;
        client.tie(&upstream);
        client.watch_peer();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reason(upstream.readable().await), Interrupt::Tied);
        assert_eq!(client.interrupted(), Some(Interrupt::PeerGone));
    });
}

#[test]
fn a_tie_to_a_socket_that_was_interrupted_before_ends_the_other_at_once() {
    on_each_engine(async |worker| {
        let (client, _client_peer) = worker.pair().await;
        let (upstream, _upstream_peer) = worker.pair().await;
        client.interrupter().interrupt(Interrupt::PeerGone);
        client.tie(&upstream);
        assert_eq!(upstream.interrupted(), Some(Interrupt::Tied));
    });
}

#[test]
fn what_is_not_tied_any_more_goes_on() {
    on_each_engine(async |worker| {
        let (client, _client_peer) = worker.pair().await;
        let (upstream, _upstream_peer) = worker.pair().await;
        client.tie(&upstream);
        client.untie();
        client.interrupter().interrupt(Interrupt::PeerGone);
        assert_eq!(upstream.interrupted(), None);
    });
}

#[test]
fn what_outlives_its_client_is_ended_as_an_orphan_and_nothing_else_is() {
    on_each_engine(async |worker| {
        for leaves_first in [false, true] {
            let (client, _client_peer) = worker.pair().await;
            let (upstream, _upstream_peer) = worker.pair().await;
            let (other, _other_peer) = worker.pair().await;
            for stream in [&upstream, &other] {
                stream.set_deadline(LIMIT);
            }
            let leave = || client.interrupter().interrupt(Interrupt::PeerGone);
            if leaves_first {
                leave();
            }
            client.tie_as_orphan(&upstream);
            if !leaves_first {
                worker.wheel.end_orphaned();
                assert_eq!(upstream.interrupted(), None);
                leave();
            }
            assert_eq!(upstream.interrupted(), None);
            worker.wheel.end_orphaned();
            assert_eq!(upstream.interrupted(), Some(Interrupt::Shutdown));
            assert_eq!(other.interrupted(), None);
        }
    });
}

#[test]
fn at_the_end_those_who_are_waited_for_can_still_be_told() {
    on_each_engine(async |worker| {
        let (client, mut client_peer) = worker.pair().await;
        let (upstream, upstream_peer) = worker.pair().await;
        client_peer.write_all(b"request").unwrap();
        client.watch_peer();
        client.tie(&upstream);
        upstream.set_deadline(LIMIT);
        client.readable().await.unwrap();
        for _ in 0..2 {
            worker.wheel.end_all();
        }
        assert_eq!(reason(upstream.readable().await), Interrupt::Shutdown);
        // What it had sent by then is read, and then no more.
        let (received, _) = client.read(Pool::new().small()).await;
        assert_eq!(received.unwrap(), Received::Bytes(7));
        let (received, _) = client.read(Pool::new().small()).await;
        assert_eq!(received.unwrap(), Received::End);
        let sent = client.send(&mut [IoSlice::new(b"sorry")], LIMIT).await;
        sent.unwrap();
        drop((client, upstream));
        assert_eq!(all_of(client_peer).await, b"sorry");
        assert_eq!(all_of(upstream_peer).await, b"");
    });
}

#[test]
fn at_the_end_nobody_waits_for_a_peer_that_takes_nothing() {
    on_each_engine(async |worker| {
        let (client, _client_peer) = worker.pair().await;
        client.watch_peer();
        let stuck = Rc::new(Cell::new(None));
        let (client, ended) = (Rc::new(client), stuck.clone());
        let sending = client.clone();
        spawn(async move {
            let bytes = vec![0; LARGE_BYTES];
            let sent = sending.send(&mut [IoSlice::new(&bytes)], LIMIT).await;
            ended.set(Some(reason(sent)));
        });
        until("the send ends", || {
            worker.wheel.end_all();
            stuck.get().is_some()
        })
        .await;
        assert_eq!(stuck.get(), Some(Interrupt::Shutdown));
    });
}

#[test]
fn a_tie_works_in_one_direction() {
    on_each_engine(async |worker| {
        let (client, _client_peer) = worker.pair().await;
        let (upstream, _upstream_peer) = worker.pair().await;
        client.tie(&upstream);
        upstream.interrupter().interrupt(Interrupt::Deadline);
        assert_eq!(client.interrupted(), None);
    });
}

#[test]
fn a_silent_stream_gets_heartbeats_until_they_are_disarmed() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        stream.watch_peer();
        stream.arm_heartbeat(HEARTBEAT, Duration::from_millis(50));
        let (peer, two) = meanwhile(move || {
            let mut two = vec![0; 2 * HEARTBEAT.len()];
            peer.read_exact(&mut two).unwrap();
            (peer, two)
        })
        .await;
        assert_eq!(two, HEARTBEAT.repeat(2));
        stream.disarm_heartbeat();
        let sent = stream.heartbeats_sent();
        assert!(sent >= 2);
        drop(stream);
        // All that were sent arrive whole, and nothing else.
        let rest = all_of(peer).await;
        assert_eq!(rest, HEARTBEAT.repeat(sent as usize - 2));
    });
}
