//! Sockets on which nothing happens: their peers, their buffers, their heartbeats.

use super::{Bench, SECOND_TICKS, on_each_engine, until};
use crate::engine::spawn;
use crate::lease::Pool;
use crate::process::raise_descriptor_limit;
use crate::socket::{Interrupt, Received, Stream};
use crate::wheel::WATCH_TICKS;
use crate::wheel::departures::EVENTS_MAX;
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

/// Watched until the kernel tells of its peer.
async fn enlisted(bench: &Bench) -> (Stream, TcpStream) {
    let (stream, peer) = bench.pair().await;
    stream.watch_peer();
    bench.turn_by(WATCH_TICKS);
    assert!(bench.socket().is_enlisted());
    (stream, peer)
}

#[test]
fn who_is_watched_for_long_is_not_asked_any_more_and_noticed_at_once() {
    on_each_engine(async |bench| {
        let (stream, mut peer) = enlisted(bench).await;
        let socket = bench.socket();
        let now = bench.wheel.tick();
        assert!(socket.next_visit_tick.get() > now + WATCH_TICKS);
        // What it sends is no departure.
        peer.write_all(b"more").unwrap();
        stream.readable().await.unwrap();
        bench.turn_by(1);
        assert!(socket.is_enlisted());
        drop(peer);
        until("the close arrives", || socket.peer_has_left()).await;
        bench.turn_by(1);
        assert_eq!(stream.interrupted(), Some(Interrupt::PeerGone));
    });
}

#[test]
fn a_departure_that_nobody_watched_for_is_noticed_once_somebody_does() {
    on_each_engine(async |bench| {
        let (stream, peer) = enlisted(bench).await;
        stream.unwatch_peer();
        drop(peer);
        let socket = bench.socket();
        until("the close arrives", || socket.peer_has_left()).await;
        bench.turn_by(1000);
        assert_eq!(stream.interrupted(), None);
        stream.watch_peer();
        bench.turn_by(WATCH_TICKS);
        assert_eq!(stream.interrupted(), Some(Interrupt::PeerGone));
    });
}

#[test]
fn who_does_not_receive_any_more_is_watched_for_a_reset() {
    on_each_engine(async |bench| {
        let (stream, peer) = enlisted(bench).await;
        let socket = bench.socket();
        socket.end_receiving();
        bench.turn_by(2 * WATCH_TICKS);
        // The kernel tells of our own end as of the peer's.
        assert!(!socket.is_enlisted());
        assert_eq!(stream.interrupted(), None);
        let peer = socket2::Socket::from(peer);
        peer.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        until("the reset arrives", || socket.peer_has_left()).await;
        bench.turn_by(WATCH_TICKS);
        assert_eq!(stream.interrupted(), Some(Interrupt::PeerGone));
    });
}

#[test]
fn of_many_that_leave_at_once_each_is_noticed_and_nothing_is_kept_of_who_was_closed() {
    on_each_engine(async |bench| {
        const CLOSED: usize = 20;
        const LEFT: usize = EVENTS_MAX + 20;
        raise_descriptor_limit();
        let mut pairs = Vec::new();
        for _ in 0..CLOSED + LEFT {
            pairs.push(bench.pair().await);
        }
        pairs.iter().for_each(|(stream, _)| stream.watch_peer());
        bench.turn_by(WATCH_TICKS);
        let departures = &bench.wheel.inner.departures;
        assert_eq!(departures.enlisted(), CLOSED + LEFT);
        drop(pairs.split_off(LEFT));
        assert_eq!(departures.enlisted(), LEFT);
        let (streams, peers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        drop(peers);
        let sockets = bench.wheel.sockets();
        until("all closes arrive", || {
            sockets.iter().all(|socket| socket.peer_has_left())
        })
        .await;
        bench.turn_by(1);
        for stream in &streams {
            assert_eq!(stream.interrupted(), Some(Interrupt::PeerGone));
        }
        drop(streams);
        assert_eq!(departures.enlisted(), 0);
    });
}

#[test]
fn where_the_kernel_does_not_tell_it_is_asked() {
    on_each_engine(async |bench| {
        let bench = bench.without_departures();
        for ticks_before in [0, 1, WATCH_TICKS, 20 * WATCH_TICKS] {
            let (stream, peer) = bench.pair().await;
            stream.watch_peer();
            bench.turn_by(ticks_before);
            let socket = bench.socket();
            assert!(!socket.is_enlisted());
            drop(peer);
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
            bench.turn_by(SECOND_TICKS - 1);
            assert_eq!(stream.heartbeats_sent(), sent - 1);
            bench.turn_by(1);
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

#[test]
fn a_heartbeat_that_is_put_off_is_sent_at_its_new_time() {
    on_each_engine(async |bench| {
        let (stream, _peer) = enlisted(bench).await;
        for put_off_by in 1..2 * WATCH_TICKS {
            let sent = stream.heartbeats_sent();
            stream.arm_heartbeat(b": heartbeat\n\n", Duration::from_secs(1));
            bench.turn_by(put_off_by);
            stream.arm_heartbeat(b": heartbeat\n\n", Duration::from_secs(1));
            let socket = bench.socket();
            until("all is acknowledged", || socket.has_sent_all()).await;
            bench.turn_by(SECOND_TICKS - 1);
            assert_eq!(stream.heartbeats_sent(), sent);
            bench.turn_by(1);
            assert_eq!(stream.heartbeats_sent(), sent + 1, "{put_off_by}");
        }
    });
}

#[test]
fn at_the_end_who_is_in_the_middle_of_a_send_is_not_taken_for_one_who_was_told_before() {
    on_each_engine(async |bench| {
        let (stream, _peer) = enlisted(bench).await;
        // What is further ahead stays where it was put, and is put there again.
        stream.set_deadline(Duration::from_secs(2));
        stream.set_deadline(Duration::from_secs(1));
        stream.set_deadline(Duration::from_secs(2));
        bench.turn_by(SECOND_TICKS);
        assert!(bench.entries() > 1);
        let socket = bench.socket();
        socket.waits_to_write.set(true);
        bench.wheel.end_all();
        assert_eq!(stream.interrupted(), None);
        bench.wheel.end_all();
        assert_eq!(stream.interrupted(), Some(Interrupt::Shutdown));
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
