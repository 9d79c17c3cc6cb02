//! Connections in memory.

use crate::rig::on_each_engine;
use relay_io::{Far, Interrupt, IoError, Pool, Received, Stream, pipe, spawn};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

async fn take(far: &Far, bytes_max: usize) -> Option<Vec<u8>> {
    poll_fn(|context| far.poll_take(context, bytes_max))
        .await
        .map(|piece| piece.to_vec())
}

/// What the near end receives until its end, a lease at a time.
async fn receive_all(near: &Stream, pool: &Pool) -> Vec<u8> {
    let mut received = Vec::new();
    while let Some(lease) = near.receive(pool).await.unwrap() {
        received.extend_from_slice(lease.filled());
    }
    received
}

#[test]
fn what_is_pushed_is_received_in_order_and_reported_as_consumed() {
    on_each_engine(async |worker| {
        let (near, far) = pipe(&worker.wheel);
        let pool = Pool::new();
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        for piece in sent.chunks(7_777) {
            far.push(piece.to_vec().into());
        }
        far.push(bytes::Bytes::new());
        far.end();
        assert_eq!(far.unread_bytes(), sent.len());
        assert_eq!(receive_all(&near, &pool).await, sent);
        assert_eq!(far.unread_bytes(), 0);
        let consumed = poll_fn(|context| far.poll_consumed(context)).await;
        assert_eq!(consumed, sent.len());
        // Behind the end nothing is received, and nobody waits for it.
        far.push(b"late"[..].into());
        assert_eq!(poll_fn(|context| far.poll_consumed(context)).await, 4);
        assert!(near.receive(&pool).await.unwrap().is_none());
    });
}

#[test]
fn a_reader_waits_without_holding_anything() {
    on_each_engine(async |worker| {
        let (near, far) = pipe(&worker.wheel);
        let pool = Pool::new();
        let mut lease = pool.tiny();
        assert!(near.read_now(&mut lease).unwrap().is_none());
        assert!(near.is_quiet());
        let pushing = async {
            far.push(b"hello"[..].into());
            far
        };
        let far = Rc::new(RefCell::new(None));
        let kept = far.clone();
        spawn(async move { drop(kept.replace(Some(pushing.await))) });
        near.readable().await.unwrap();
        assert!(!near.is_quiet());
        let (received, lease) = near.read(lease).await;
        assert_eq!(received.unwrap(), Received::Bytes(5));
        assert_eq!(lease.filled(), b"hello");
    });
}

#[test]
fn a_send_waits_until_all_of_it_was_taken() {
    on_each_engine(async |worker| {
        let (near, far) = pipe(&worker.wheel);
        let sent: Vec<u8> = (0..200_000_u32).map(|number| (number * 7) as u8).collect();
        let wanted = sent.clone();
        let finished = Rc::new(RefCell::new(false));
        let sender_finished = finished.clone();
        spawn(async move {
            let (one, two) = sent.split_at(12_345);
            let mut parts = [IoSlice::new(one), IoSlice::new(b""), IoSlice::new(two)];
            near.send(&mut parts, LONG).await.unwrap();
            sender_finished.replace(true);
        });
        let mut taken = Vec::new();
        let mut piece_bytes = 1;
        while taken.len() < wanted.len() {
            assert!(!*finished.borrow());
            let piece = take(&far, piece_bytes).await.unwrap();
            assert!(!piece.is_empty() && piece.len() <= piece_bytes);
            taken.extend_from_slice(&piece);
            piece_bytes = (piece_bytes * 2).min(30_000);
        }
        assert_eq!(taken, wanted);
        // The near end was dropped behind it.
        assert_eq!(take(&far, 10).await, None);
        assert!(*finished.borrow());
        poll_fn(|context| far.poll_closed(context)).await;
    });
}

#[test]
fn what_is_sent_without_waiting_comes_before_what_is_awaited() {
    on_each_engine(async |worker| {
        let (near, far) = pipe(&worker.wheel);
        near.send_without_waiting(&[IoSlice::new(b"beat "), IoSlice::new(b"one ")]);
        spawn(async move {
            near.send(&mut [IoSlice::new(b"awaited ")], LONG)
                .await
                .unwrap();
            near.send_without_waiting(&[IoSlice::new(b"last")]);
            near.finish_sending();
            assert!(near.send(&mut [IoSlice::new(b"no")], LONG).await.is_err());
        });
        let mut taken = Vec::new();
        while let Some(piece) = take(&far, 3).await {
            taken.extend_from_slice(&piece);
        }
        assert_eq!(taken, b"beat one awaited last");
    });
}

#[test]
fn a_peer_that_fails_ends_what_waits_and_interrupts_who_is_watched() {
    on_each_engine(async |worker| {
        let pool = Pool::new();
        for is_watched in [false, true] {
            let (near, far) = pipe(&worker.wheel);
            let (tied, _far_of_tied) = pipe(&worker.wheel);
            near.tie(&tied);
            if is_watched {
                near.watch_peer();
            }
            far.push(b"never read"[..].into());
            spawn(async move { far.fail() });
            let sent = near.send(&mut [IoSlice::new(b"x")], LONG).await;
            match (is_watched, sent) {
                (false, Err(IoError::Socket(_))) => assert!(tied.interrupted().is_none()),
                (true, Err(IoError::Interrupted(Interrupt::PeerGone))) => {
                    assert_eq!(tied.interrupted(), Some(Interrupt::Tied));
                }
                (_, other) => panic!("{is_watched}: {other:?}"),
            }
            assert!(near.receive(&pool).await.is_err());
        }
    });
}

#[test]
fn a_deadline_ends_a_wait_and_can_be_forgiven_where_only_a_read_was_late() {
    on_each_engine(async |worker| {
        let (near, far) = pipe(&worker.wheel);
        let pool = Pool::new();
        near.set_deadline(Duration::from_millis(100));
        let late = near.receive(&pool).await;
        assert!(matches!(
            late,
            Err(IoError::Interrupted(Interrupt::Deadline))
        ));
        near.forgive_deadline();
        near.send_without_waiting(&[IoSlice::new(b"too slow")]);
        assert_eq!(take(&far, 100).await.unwrap(), b"too slow");
        // Nobody takes this one.
        let stalled = near
            .send(&mut [IoSlice::new(b"y")], Duration::from_millis(100))
            .await;
        assert!(matches!(
            stalled,
            Err(IoError::Interrupted(Interrupt::Deadline))
        ));
        assert_eq!(take(&far, 100).await, None);
        poll_fn(|context| far.poll_closed(context)).await;
    });
}

#[test]
fn it_has_no_socket_whose_options_could_be_set() {
    on_each_engine(async |worker| {
        let (near, _far) = pipe(&worker.wheel);
        assert!(near.local_address().is_err());
        near.reset_on_close();
        near.close_at_once();
    });
}
