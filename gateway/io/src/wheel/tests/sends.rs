//! The deadlines of sends.

use super::{LARGE_BYTES, SECOND_TICKS, assert_met_after, on_each_engine, until};
use crate::engine::spawn;
use crate::socket::Interrupt;
use crate::wheel::TICKS_AT_ONCE_MAX;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{IoSlice, Read};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

#[test]
fn a_send_puts_back_the_deadline_that_it_found() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        let part = &mut [IoSlice::new(b"x")];
        stream.send(part, Duration::from_secs(60)).await.unwrap();
        assert_met_after(SECOND_TICKS, bench, &stream);

        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(60));
        let part = &mut [IoSlice::new(b"x")];
        stream.send(part, Duration::from_secs(1)).await.unwrap();
        assert_met_after(60 * 20 + 1, bench, &stream);

        let (stream, _peer) = bench.pair().await;
        let part = &mut [IoSlice::new(b"x")];
        stream.send(part, Duration::from_secs(1)).await.unwrap();
        bench.turn_by(100_000);
        assert_eq!(stream.interrupted(), None);
    });
}

#[test]
fn a_send_stalls_only_without_progress_and_puts_the_deadline_back_all_the_same() {
    on_each_engine(async |bench| {
        let (stream, mut peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(3600));
        let deadline_before = bench.socket().deadline_tick.get();
        let outcome = Rc::new(RefCell::new(None));
        let sent = outcome.clone();
        spawn(async move {
            let message = vec![b'x'; LARGE_BYTES];
            let stall_timeout = Duration::from_secs(1);
            let result = stream
                .send(&mut [IoSlice::new(&message)], stall_timeout)
                .await;
            sent.replace(Some((result, stream)));
        });
        let socket = bench.socket();
        until("the send begins", || {
            socket.deadline_tick.get() != deadline_before
        })
        .await;
        // Longer in all than the time-out, but never as long without a byte taken.
        let mut room = vec![0; 64 * 1024];
        for _ in 0..3 {
            bench.turn_by(SECOND_TICKS - 1);
            let deadline = socket.deadline_tick.get();
            until("the kernel takes more", || {
                let progressed = socket.deadline_tick.get() > deadline;
                if !progressed {
                    // There is always something: more was sent than is read here.
                    peer.read_exact(&mut room).unwrap();
                }
                progressed
            })
            .await;
            assert!(outcome.borrow().is_none());
        }
        bench.turn_by(SECOND_TICKS);
        until("the send ends", || outcome.borrow().is_some()).await;
        let (result, stream) = outcome.take().unwrap();
        assert!(result.is_err());
        assert_eq!(stream.interrupted(), Some(Interrupt::Deadline));
        assert_eq!(socket.deadline_tick.get(), deadline_before);
    });
}

#[test]
fn a_deadline_that_passed_during_a_send_is_met_right_after_it() {
    on_each_engine(async |bench| {
        let (stream, mut peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        let socket = bench.socket();
        let deadline_before = socket.deadline_tick.get();
        let outcome = Rc::new(RefCell::new(None));
        let sent = outcome.clone();
        spawn(async move {
            let message = vec![b'x'; LARGE_BYTES];
            let part = &mut [IoSlice::new(&message)];
            let result = stream.send(part, Duration::from_secs(3600)).await;
            sent.replace(Some((result, stream)));
        });
        until("the send begins", || {
            socket.deadline_tick.get() != deadline_before
        })
        .await;
        bench.turn_by(1000);
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; LARGE_BYTES];
            peer.read_exact(&mut received).map(|()| peer)
        });
        until("the send ends", || outcome.borrow().is_some()).await;
        let (result, stream) = outcome.take().unwrap();
        result.unwrap();
        assert_eq!(stream.interrupted(), None);
        bench.turn_by(1);
        assert_eq!(stream.interrupted(), Some(Interrupt::Deadline));
        reader.join().unwrap().unwrap();
    });
}

#[test]
fn a_send_goes_on_no_longer_than_its_limit() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        let stream = Rc::new(stream);
        let outcome = Rc::new(RefCell::new(None));
        let (sending, sent) = (stream.clone(), outcome.clone());
        let limit = stream.deadline_at(Duration::from_secs(1));
        spawn(async move {
            let message = vec![b'x'; LARGE_BYTES];
            let part = &mut [IoSlice::new(&message)];
            let hour = Duration::from_secs(3600);
            sent.replace(Some(sending.send_within(part, hour, limit).await));
        });
        until("the send begins", || bench.entries() > 0).await;
        assert_met_after(SECOND_TICKS, bench, &stream);
        until("the send ends", || outcome.borrow().is_some()).await;
        assert!(outcome.take().unwrap().is_err());
    });
}

/// What is to be sent reaches the kernel when the tasks of this turn of the loop have run, and the wheel may be one of them.
#[test]
fn a_send_whose_limit_has_passed_is_given_the_time_to_reach_the_kernel() {
    on_each_engine(async |bench| {
        for ago in [0, 1, 20] {
            let (stream, mut peer) = bench.pair().await;
            let limit = stream.deadline_at(Duration::ZERO);
            bench.turn_by(ago);
            let part = &mut [IoSlice::new(b"the last event")];
            let mut sending = pin!(stream.send_within(part, Duration::from_secs(60), limit));
            let first = poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await;
            bench.turn_by(TICKS_AT_ONCE_MAX);
            let outcome = match first {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => sending.await,
            };
            outcome.unwrap();
            assert_eq!(stream.interrupted(), None);
            let mut received = [0; 14];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"the last event");
        }
    });
}
