//! Sockets on which nothing happens: their peers, their buffers, their heartbeats.

use super::{SECOND_TICKS, on_each_engine, until};
use crate::engine::spawn;
use crate::lease::Pool;
use crate::socket::{Interrupt, Received, Stream};
use crate::wheel::WATCH_TICKS;
use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn a_peer_that_left_is_noticed_within_the_ticks_of_a_watch() {
    on_each_engine(async |bench| {
        // Whenever it leaves between two visits.
        for ticks_before in 0..2 * WATCH_TICKS {
            let (stream, peer) = bench.pair().await;
            // A deadline far away does not keep the visits away.
            stream.set_deadline(Duration::from_secs(3600));
            stream.watch_peer();
            bench.turn_by(ticks_before);
            assert_eq!(stream.interrupted(), None);
            drop(peer);
            let socket = bench.socket();
            until("the close arrives", || socket.peer_has_left()).await;
            bench.turn_by(WATCH_TICKS);
            assert_eq!(stream.interrupted(), Some(Interrupt::PeerGone));
        }
    });
}

#[test]
fn a_peer_that_is_not_watched_any_more_may_leave() {
    on_each_engine(async |bench| {
        let (stream, peer) = bench.pair().await;
        stream.watch_peer();
        bench.turn_by(1);
        stream.unwatch_peer();
        drop(peer);
        let socket = bench.socket();
        until("the close arrives", || socket.peer_has_left()).await;
        bench.turn_by(1000);
        assert_eq!(stream.interrupted(), None);
    });
}

#[test]
fn a_wait_holds_a_buffer_only_where_the_one_before_was_short() {
    on_each_engine(async |bench| {
        let (stream, mut peer) = bench.pair().await;
        let pool = Pool::new();
        let addresses = [
            pool.tiny().filled().as_ptr(),
            pool.small().filled().as_ptr(),
            pool.large().filled().as_ptr(),
        ];
        let begun = Rc::new(Cell::new(0));
        let (begins, shared) = (begun.clone(), pool.clone());
        spawn(async move {
            for round in 1.. {
                begins.set(round);
                if stream.receive(&shared).await.unwrap().is_none() {
                    return begins.set(0);
                }
            }
        });
        // Of the buffers that there were, which are not out on loan?
        let are_free = || {
            let leases = [pool.tiny(), pool.small(), pool.large()];
            leases
                .each_ref()
                .map(|lease| addresses.contains(&lease.filled().as_ptr()))
        };
        until("the first wait begins", || begun.get() == 1).await;
        assert_eq!(are_free(), [true; 3], "nothing is known of this peer");
        peer.write_all(b"soon").unwrap();
        until("the second wait begins", || begun.get() == 2).await;
        assert_eq!(are_free(), [false, true, true], "a buffer that fits");
        bench.turn_by(SECOND_TICKS);
        peer.write_all(b"late").unwrap();
        until("the third wait begins", || begun.get() == 3).await;
        assert_eq!(are_free(), [true; 3], "it may take as long again");
        drop(peer);
        until("the peer's end is seen", || begun.get() == 0).await;
    });
}

#[test]
fn a_heartbeat_waits_for_its_time_and_for_what_was_sent_before() {
    const HEARTBEAT: &[u8] = b": heartbeat\n\n";
    const BEFORE: &[u8] = &[b'x'; 16 * 1024];
    on_each_engine(async |bench| {
        let (stream, mut peer) = bench.pair_with_a_small_window().await;
        stream.watch_peer();
        stream.arm_heartbeat(HEARTBEAT, Duration::from_secs(1));
        for sent in 1..=3 {
            // Due after a second, and sent at the visit after that.
            bench.turn_by(SECOND_TICKS - 1);
            assert_eq!(stream.heartbeats_sent(), sent - 1);
            bench.turn_by(WATCH_TICKS);
            assert_eq!(stream.heartbeats_sent(), sent);
            take(HEARTBEAT, &mut peer, &stream).await;
        }
        // More than the peer has room for, but not more than this host's kernel takes.
        stream.send_without_waiting(&[IoSlice::new(BEFORE)]);
        bench.turn_by(1000);
        assert_eq!(stream.heartbeats_sent(), 3);
        take(BEFORE, &mut peer, &stream).await;
        bench.turn_by(WATCH_TICKS);
        assert_eq!(stream.heartbeats_sent(), 4);
        take(HEARTBEAT, &mut peer, &stream).await;

        stream.disarm_heartbeat();
        bench.turn_by(1000);
        assert_eq!(stream.heartbeats_sent(), 4);
    });
}

/// The peer reads exactly this and answers with a byte, which acknowledges all of it.
async fn take(expected: &'static [u8], peer: &mut TcpStream, stream: &Stream) {
    let mut reading = peer.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; expected.len()];
        reading.read_exact(&mut received).unwrap();
        assert!(received == expected);
        reading.write_all(b"!").unwrap();
    });
    let (received, _) = stream.read(Pool::new().tiny()).await;
    assert_eq!(received.unwrap(), Received::Bytes(1));
    reader.join().unwrap();
}
