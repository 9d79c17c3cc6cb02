//! Sending, to peers that read late or never.

use crate::rig::{LARGE_BYTES, LIMIT, Worker, all_of, meanwhile, on_each_engine, reason, until};
use relay_io::{Interrupt, IoError, Pool, spawn};
use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;

#[test]
fn one_part_larger_than_the_socket_buffers_arrives_whole() {
    on_each_engine(async |worker| late_reader_gets_all(worker, &[LARGE_BYTES]).await);
}

#[test]
fn many_parts_arrive_whole_and_in_order() {
    on_each_engine(async |worker| {
        let parts = [7, 0, 100_000, 1, LARGE_BYTES - 100_009, 1, 0];
        late_reader_gets_all(worker, &parts).await;
    });
}

/// Sends a message cut into parts of these sizes to a peer that reads only once the kernel takes no more.
async fn late_reader_gets_all(worker: &Worker, part_sizes: &[usize]) {
    let (stream, peer) = worker.pair().await;
    let size = part_sizes.iter().sum();
    // A prime period: a piece that is lost, doubled or misplaced shifts all that follows.
    let message: Rc<Vec<u8>> = Rc::new((0..size).map(|index| (index % 251) as u8).collect());
    let outcome = Rc::new(RefCell::new(None));
    let (sending, sizes, sent) = (message.clone(), part_sizes.to_vec(), outcome.clone());
    spawn(async move {
        let mut rest = &sending[..];
        let mut parts = Vec::new();
        for size in sizes {
            let (part, behind) = rest.split_at(size);
            parts.push(IoSlice::new(part));
            rest = behind;
        }
        sent.replace(Some(stream.send(&mut parts, LIMIT).await));
    });
    peer.set_nonblocking(true).unwrap();
    until("the first byte arrives", || peer.peek(&mut [0]).is_ok()).await;
    peer.set_nonblocking(false).unwrap();
    assert!(outcome.borrow().is_none(), "the kernel took all at once");

    // Comes to an end, since the task closes the socket when it has sent all.
    let received = all_of(peer).await;
    outcome.take().unwrap().unwrap();
    assert!(
        received == **message,
        "{} of {size} bytes, or others",
        received.len()
    );
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let message = vec![b'x'; LARGE_BYTES];
        let stall_timeout = Duration::from_millis(100);
        let sent = stream
            .send(&mut [IoSlice::new(&message)], stall_timeout)
            .await;
        assert_eq!(reason(sent), Interrupt::Deadline);
        // Both directions are over: the peer sees the end behind what had left.
        assert!(all_of(peer).await.len() < message.len());
        let (read, _) = stream.read(Pool::new().small()).await;
        assert_eq!(reason(read), Interrupt::Deadline);
    });
}

#[test]
fn a_send_that_waits_is_ended_from_outside() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let interrupter = stream.interrupter();
        let outcome = Rc::new(RefCell::new(None));
        let sent = outcome.clone();
        spawn(async move {
            let message = vec![b'x'; LARGE_BYTES];
            sent.replace(Some(
                stream.send(&mut [IoSlice::new(&message)], LIMIT).await,
            ));
        });
        peer.set_nonblocking(true).unwrap();
        until("the first byte arrives", || peer.peek(&mut [0]).is_ok()).await;
        assert!(outcome.borrow().is_none());
        interrupter.interrupt(Interrupt::Tied);
        until("the send ends", || outcome.borrow().is_some()).await;
        assert_eq!(reason(outcome.take().unwrap()), Interrupt::Tied);
    });
}

#[test]
fn a_peer_that_reset_the_connection_is_an_error_of_the_socket() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let peer = socket2::Socket::from(peer);
        peer.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        stream.readable().await.unwrap();
        match stream.send(&mut [IoSlice::new(b"x")], LIMIT).await {
            Err(IoError::Socket(error)) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error}"
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(stream.interrupted(), None);
    });
}

#[test]
fn last_words_are_sent_at_once_but_not_on_an_interrupted_socket() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        stream.send_without_waiting(&[IoSlice::new(b"last "), IoSlice::new(b"words")]);
        stream.interrupter().interrupt(Interrupt::PeerGone);
        stream.send_without_waiting(&[IoSlice::new(b"and more")]);
        assert_eq!(all_of(peer).await, b"last words");
    });
}

#[test]
fn after_the_last_byte_the_peer_is_still_heard() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        stream.finish_sending();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        peer.write_all(b"understood").unwrap();
        let lease = stream.receive(&Pool::new()).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"understood");
    });
}

#[test]
fn a_close_can_be_a_reset() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        stream.reset_on_close();
        drop(stream);
        let read = meanwhile(move || peer.read(&mut [0])).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}
