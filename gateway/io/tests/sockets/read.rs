//! Reading, and being interrupted while reading.

use crate::rig::{LIMIT, all_of, on_each_engine, reason, until};
use relay_io::{Either, Interrupt, IoError, Pool, Received, either, pause, spawn};
use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io::{ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

/// Short, where the deadline is what is waited for.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn bytes_come_behind_what_the_lease_holds_and_then_the_end() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let mut lease = Pool::new().small();
        assert!(lease.append(b"held "));
        peer.write_all(b"bytes").unwrap();
        let (received, lease) = stream.read(lease).await;
        assert_eq!(received.unwrap(), Received::Bytes(5));
        assert_eq!(lease.filled(), b"held bytes");
        drop(peer);
        let (received, lease) = stream.read(lease).await;
        assert_eq!(received.unwrap(), Received::End);
        assert_eq!(lease.filled(), b"held bytes");
    });
}

#[test]
fn a_reset_is_an_error_and_not_an_end() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let peer = socket2::Socket::from(peer);
        peer.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        match stream.read(Pool::new().small()).await.0 {
            Err(IoError::Socket(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn reading_without_waiting() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let mut lease = Pool::new().small();
        assert_eq!(stream.read_now(&mut lease).unwrap(), None);
        peer.write_all(b"now").unwrap();
        stream.readable().await.unwrap();
        let received = stream.read_now(&mut lease).unwrap();
        assert_eq!(received, Some(Received::Bytes(3)));
        assert_eq!(lease.filled(), b"now");
        peer.shutdown(Shutdown::Write).unwrap();
        stream.readable().await.unwrap();
        let received = stream.read_now(&mut lease).unwrap();
        assert_eq!(received, Some(Received::End));
    });
}

#[test]
fn receive_brings_all_bytes_in_order_whatever_the_pace_and_then_the_end() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let pool = Pool::new();
        let message: Vec<u8> = (0..500_000u32).map(|index| (index % 251) as u8).collect();
        let sent = message.clone();
        let sender = std::thread::spawn(move || {
            // One byte, little, much: the buffers that are lent grow and shrink with it.
            let (first, rest) = sent.split_at(1);
            let (second, rest) = rest.split_at(5000);
            for part in [first, second, rest] {
                peer.write_all(part).unwrap();
            }
        });
        let mut received = Vec::new();
        while let Some(lease) = stream.receive(&pool).await.unwrap() {
            assert!(!lease.is_empty());
            received.extend_from_slice(lease.filled());
        }
        sender.join().unwrap();
        assert!(received == message, "{} bytes", received.len());
    });
}

#[test]
fn a_read_that_takes_too_long_ends_and_the_peer_can_be_told() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let mut lease = Pool::new().small();
        assert!(lease.append(b"half a head"));
        stream.set_deadline(SOON);
        let (received, lease) = stream.read(lease).await;
        assert_eq!(reason(received), Interrupt::Deadline);
        assert_eq!(lease.filled(), b"half a head");
        assert_eq!(stream.interrupted(), Some(Interrupt::Deadline));

        let unforgiven = stream.send(&mut [IoSlice::new(b"lost")], LIMIT).await;
        assert_eq!(reason(unforgiven), Interrupt::Deadline);
        stream.forgive_deadline();
        let sent = stream.send(&mut [IoSlice::new(b"too slow")], LIMIT).await;
        sent.unwrap();
        drop(stream);
        assert_eq!(all_of(peer).await, b"too slow");
    });
}

#[test]
fn only_deadlines_are_forgiven() {
    on_each_engine(async |worker| {
        let (stream, _peer) = worker.pair().await;
        stream.interrupter().interrupt(Interrupt::Tied);
        stream.forgive_deadline();
        assert_eq!(stream.interrupted(), Some(Interrupt::Tied));
    });
}

#[test]
fn the_buffer_of_an_interrupted_read_goes_back_to_its_pool() {
    on_each_engine(async |worker| {
        let (stream, _peer) = worker.pair().await;
        let pool = Pool::new();
        let lease = pool.small();
        let address = lease.filled().as_ptr();
        let interrupter = stream.interrupter();
        let outcome = Rc::new(RefCell::new(None));
        let ended = outcome.clone();
        let begun = Rc::new(Cell::new(false));
        let begins = begun.clone();
        spawn(async move {
            begins.set(true);
            let (received, lease) = stream.read(lease).await;
            assert_eq!(lease.filled().as_ptr(), address);
            drop(lease);
            ended.replace(Some(received));
        });
        until("the read begins", || begun.get()).await;
        assert!(outcome.borrow().is_none());
        interrupter.interrupt(Interrupt::Tied);
        until("the read ends", || outcome.borrow().is_some()).await;
        let received = outcome.take().unwrap();
        assert_eq!(reason(received), Interrupt::Tied);
        assert_eq!(pool.small().filled().as_ptr(), address);
    });
}

#[test]
fn bytes_that_came_in_time_are_read_and_answered_although_idle_connections_end() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let stream = Rc::new(stream);
        let outcome = Rc::new(RefCell::new(None));
        let begun = Rc::new(Cell::new(false));
        let (reading, ended, begins) = (stream.clone(), outcome.clone(), begun.clone());
        spawn(async move {
            begins.set(true);
            ended.replace(Some(reading.read(Pool::new().small()).await));
        });
        until("the read begins", || begun.get()).await;
        peer.write_all(b"request").unwrap();
        stream.set_idle(true);
        stream.set_deadline(LIMIT);
        worker.wheel.end_idle();
        until("the read ends", || outcome.borrow().is_some()).await;
        let (received, lease) = outcome.take().unwrap();
        assert_eq!(received.unwrap(), Received::Bytes(7));
        assert_eq!(lease.filled(), b"request");
        let sent = stream.send(&mut [IoSlice::new(b"answer")], LIMIT).await;
        sent.unwrap();
        drop(stream);
        assert_eq!(all_of(peer).await, b"answer");
    });
}

#[test]
fn the_first_reason_stays_and_ends_every_later_operation() {
    on_each_engine(async |worker| {
        let (stream, _peer) = worker.pair().await;
        stream.interrupter().interrupt(Interrupt::PeerGone);
        stream.interrupter().interrupt(Interrupt::Tied);
        let pool = Pool::new();
        assert_eq!(reason(stream.readable().await), Interrupt::PeerGone);
        let read = stream.read(pool.small()).await.0;
        assert_eq!(reason(read), Interrupt::PeerGone);
        let read = stream.read_now(&mut pool.small());
        assert_eq!(reason(read), Interrupt::PeerGone);
        let received = stream.receive(&pool).await.map(|_| "bytes");
        assert_eq!(reason(received), Interrupt::PeerGone);
        let sent = stream.send(&mut [IoSlice::new(b"x")], LIMIT).await;
        assert_eq!(reason(sent), Interrupt::PeerGone);
    });
}

#[test]
fn an_interrupter_outlives_its_socket() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let interrupter = stream.interrupter();
        drop(stream);
        // The descriptor was closed although the interrupter is still here.
        assert_eq!(all_of(peer).await, b"");
        interrupter.interrupt(Interrupt::Tied);
    });
}

#[test]
fn a_wait_for_bytes_may_be_dropped_without_losing_any() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let waited = either(stream.readable(), pause(Duration::from_millis(1))).await;
        assert!(matches!(waited, Either::Second(())));
        peer.write_all(b"kept").unwrap();
        let waited = either(stream.readable(), pause(LIMIT)).await;
        assert!(matches!(waited, Either::First(Ok(()))));
        let lease = stream.receive(&Pool::new()).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"kept");
    });
}

#[test]
fn the_first_of_two_that_are_over_wins() {
    on_each_engine(async |_worker| {
        let both: Either<u8, u8> = either(ready(1), ready(2)).await;
        assert_eq!(both, Either::First(1));
        let second: Either<u8, u8> = either(pending(), ready(2)).await;
        assert_eq!(second, Either::Second(2));
    });
}

#[test]
fn a_connection_is_quiet_until_something_arrives_or_ends() {
    on_each_engine(async |worker| {
        let (unsolicited, mut speaking) = worker.pair().await;
        let (ended, ending) = worker.pair().await;
        let (interrupted, _peer) = worker.pair().await;
        for stream in [&unsolicited, &ended, &interrupted] {
            assert!(stream.is_quiet());
        }
        speaking.write_all(b"x").unwrap();
        drop(ending);
        interrupted.interrupter().interrupt(Interrupt::Tied);
        until("the byte is seen", || !unsolicited.is_quiet()).await;
        until("the end is seen", || !ended.is_quiet()).await;
        assert!(!interrupted.is_quiet());
        // Looking took nothing away.
        let lease = unsolicited.receive(&Pool::new()).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"x");
    });
}
