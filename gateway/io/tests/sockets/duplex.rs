//! Connections that are read and written by polling.

use crate::rig::{LARGE_BYTES, LIMIT, all_of, meanwhile, on_each_engine, until};
use relay_io::{Duplex, DuplexHandle, Ending, Pool, Stream};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

fn unwatched(stream: Stream, stall_timeout: Duration) -> (Duplex, DuplexHandle) {
    Duplex::over(
        stream,
        None,
        &Pool::new(),
        stall_timeout,
        Box::new(|_| true),
    )
}

async fn ended(handle: &DuplexHandle) -> Ending {
    poll_fn(|context| handle.poll_ended(context)).await
}

#[test]
fn bytes_go_both_ways_and_the_watch_sees_them_first() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let pool = Pool::new();
        let mut begun = pool.tiny();
        assert!(begun.append(b"begun "));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let watch = {
            let seen = seen.clone();
            Box::new(move |bytes: &[u8]| {
                seen.borrow_mut().extend_from_slice(bytes);
                true
            })
        };
        let (mut duplex, handle) = Duplex::over(stream, Some(begun), &pool, LIMIT, watch);
        peer.write_all(b"by the peer").unwrap();
        let mut read = Vec::new();
        while read.len() < b"begun by the peer".len() {
            let mut piece = [0; 4];
            let count = duplex.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..count]);
            assert!(seen.borrow().starts_with(&read));
        }
        assert_eq!(read, b"begun by the peer");

        duplex.write_all(b"an answer").await.unwrap();
        let answer = meanwhile(move || {
            let mut answer = [0; 9];
            peer.read_exact(&mut answer).map(|()| (answer, peer))
        });
        let (answer, peer) = answer.await.unwrap();
        assert_eq!(&answer, b"an answer");
        drop(peer);
        assert_eq!(ended(&handle).await, Ending::Peer);
        assert_eq!(duplex.read(&mut [0; 4]).await.unwrap(), 0);
    });
}

#[test]
fn what_is_written_in_one_turn_is_read_whole_whatever_its_size() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        let sent: Vec<u8> = (0..LARGE_BYTES).map(|at| at as u8).collect();
        let reading = std::thread::spawn(move || {
            let (mut peer, mut received) = (peer, Vec::new());
            peer.read_to_end(&mut received).map(|_| received)
        });
        for piece in sent.chunks(70_001) {
            duplex.write_all(piece).await.unwrap();
        }
        duplex.shutdown().await.unwrap();
        handle.close(LIMIT).await;
        drop(duplex);
        let received = meanwhile(|| reading.join().unwrap().unwrap()).await;
        assert!(
            received == sent,
            "{} bytes of {}",
            received.len(),
            sent.len()
        );
    });
}

#[test]
fn an_unread_write_waits_and_ends_the_connection_once_it_has_waited_too_long() {
    on_each_engine(async |worker| {
        let (stream, _peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, Duration::from_millis(200));
        let piece = vec![0; 64 * 1024];
        let mut written_bytes = 0;
        let error = loop {
            match duplex.write(&piece).await {
                Ok(count) => written_bytes += count,
                Err(error) => break error,
            }
            assert!(written_bytes < LARGE_BYTES, "nobody reads it");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(ended(&handle).await, Ending::Stalled);
        let read = duplex.read(&mut [0; 4]).await;
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        handle.close(LIMIT).await;
    });
}

#[test]
fn after_the_deadline_the_last_words_are_still_sent() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        handle.set_deadline(LIMIT);
        handle.clear_deadline();
        handle.set_deadline(Duration::from_millis(100));
        assert_eq!(ended(&handle).await, Ending::Deadline);
        // To the protocol it looks as if nothing had happened: its owner tells it.
        let read = poll_fn(|context| {
            let mut room = [0; 4];
            let mut room = ReadBuf::new(&mut room);
            Poll::Ready(Pin::new(&mut duplex).poll_read(context, &mut room))
        });
        assert!(read.await.is_pending());
        duplex.write_all(b"too slow").await.unwrap();
        duplex.shutdown().await.unwrap();
        handle.close(LIMIT).await;
        drop(duplex);
        assert_eq!(all_of(peer).await, b"too slow");
    });
}

#[test]
fn a_deadline_passes_although_something_is_always_being_sent() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        let reading = std::thread::spawn(move || {
            let (mut peer, mut piece) = (peer, vec![0; 64 * 1024]);
            while peer.read(&mut piece).unwrap() > 0 {}
        });
        let piece = vec![0; 64 * 1024];
        handle.set_deadline(Duration::from_millis(100));
        let began = std::time::Instant::now();
        while handle.ending().is_none() {
            assert!(began.elapsed() < LIMIT, "the deadline never passes");
            duplex.write_all(&piece).await.unwrap();
        }
        assert_eq!(handle.ending(), Some(Ending::Deadline));
        duplex.write_all(b"too slow").await.unwrap();
        handle.close(LIMIT).await;
        drop(duplex);
        meanwhile(|| reading.join().unwrap()).await;
    });
}

#[test]
fn what_the_watch_refuses_is_not_read() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let pool = Pool::new();
        let watch = Box::new(|bytes: &[u8]| !bytes.contains(&b'!'));
        let (mut duplex, handle) = Duplex::over(stream, None, &pool, LIMIT, watch);
        peer.write_all(b"!").unwrap();
        assert_eq!(ended(&handle).await, Ending::Refused);
        duplex.write_all(b"enough").await.unwrap();
        // As much as it likes: none of it is read, and the answer arrives all the same.
        peer.write_all(&[b'.'; 100_000]).unwrap();
        drop(duplex);
        let closing = handle.close(LIMIT);
        let reading = all_of(peer);
        let (received, ()) = both(reading, closing).await;
        assert_eq!(received, b"enough");
    });
}

#[test]
fn a_watch_that_panics_ends_its_connection_alone() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let watch = Box::new(|bytes: &[u8]| {
            assert!(!bytes.contains(&b'!'), "on purpose");
            true
        });
        let (mut duplex, handle) = Duplex::over(stream, None, &Pool::new(), LIMIT, watch);
        peer.write_all(b"!").unwrap();
        assert_eq!(ended(&handle).await, Ending::Panicked);
        assert!(duplex.read(&mut [0; 4]).await.is_err());
        drop(duplex);
        handle.close(LIMIT).await;
        assert_eq!(all_of(peer).await, b"");
    });
}

#[test]
fn a_connection_that_nobody_closes_is_closed_when_it_is_dropped() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        drop(unwatched(stream, LIMIT));
        assert_eq!(all_of(peer).await, b"");
        // While something is being sent of which nobody takes anything, too.
        let (stream, mut peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        let piece = vec![0; 64 * 1024];
        while poll_fn(|context| {
            Poll::Ready(Pin::new(&mut duplex).poll_write(context, &piece).is_ready())
        })
        .await
        {
            relay_io::pause(Duration::from_millis(1)).await;
        }
        drop((duplex, handle));
        meanwhile(move || {
            let mut piece = piece;
            // Until the end or a reset; `LIMIT` would be neither.
            loop {
                match peer.read(&mut piece) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                        break;
                    }
                }
            }
        })
        .await;
    });
}

#[test]
fn an_idle_connection_that_is_ended_does_not_look_like_one_whose_peer_left() {
    on_each_engine(async |worker| {
        let (stream, peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        handle.set_deadline(LIMIT);
        worker.wheel.end_idle();
        assert_eq!(handle.ending(), None);
        handle.stream().set_idle(true);
        worker.wheel.end_idle();
        assert_eq!(ended(&handle).await, Ending::Shut);
        duplex.write_all(b"goodbye").await.unwrap();
        handle.close(LIMIT).await;
        drop(duplex);
        assert_eq!(all_of(peer).await, b"goodbye");
    });
}

#[test]
fn what_is_read_in_a_turn_is_bounded_and_others_come_before_the_next() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let (duplex, handle) = unwatched(stream, LIMIT);
        let sent: Vec<u8> = (0..40).collect();
        peer.write_all(&sent).unwrap();
        let read = Rc::new(RefCell::new(Vec::new()));
        relay_io::spawn(read_in_turns(duplex, handle, read.clone()));
        until("all is read", || *read.borrow() == sent).await;
    });
}

/// Reads 16 bytes each time when it is woken, and wakes somebody else and itself each time.
async fn read_in_turns(mut duplex: Duplex, handle: DuplexHandle, read: Rc<RefCell<Vec<u8>>>) {
    const TURN_BYTES: usize = 16;
    let others = Rc::new(Cell::new(0));
    let mut turns = 0;
    poll_fn(|context| {
        handle.begin_turn(TURN_BYTES);
        let mut turn_bytes = 0;
        let mut room = [0; 10];
        let mut out = ReadBuf::new(&mut room);
        while let Poll::Ready(outcome) = Pin::new(&mut duplex).poll_read(context, &mut out) {
            outcome.unwrap();
            turn_bytes += out.filled().len();
            read.borrow_mut().extend_from_slice(out.filled());
            out.clear();
        }
        assert!(turn_bytes <= TURN_BYTES);
        if turn_bytes > 0 {
            assert_eq!(others.get(), turns, "those that were woken have come first");
            turns += 1;
            let other = others.clone();
            relay_io::spawn(async move { other.set(other.get() + 1) });
            context.waker().wake_by_ref();
        }
        Poll::<()>::Pending
    })
    .await;
}

#[test]
fn whoever_asks_again_when_its_turn_is_over_is_woken_once() {
    struct Wakes(AtomicU32);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        peer.write_all(b"more than a turn").unwrap();
        handle.begin_turn(4);
        duplex.read_exact(&mut [0; 4]).await.unwrap();
        let wakes = Arc::new(Wakes(AtomicU32::new(0)));
        let waker = wakes.clone().into();
        let mut context = Context::from_waker(&waker);
        for _ in 0..3 {
            let mut room = [0; 4];
            let mut out = ReadBuf::new(&mut room);
            let polled = Pin::new(&mut duplex).poll_read(&mut context, &mut out);
            assert!(polled.is_pending());
        }
        // Comes behind whatever the three have asked for.
        let has_passed = Rc::new(Cell::new(false));
        let passed = has_passed.clone();
        relay_io::spawn(async move { passed.set(true) });
        until("the others have had their turn", || has_passed.get()).await;
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        handle.begin_turn(usize::MAX);
        let mut rest = [0; 12];
        duplex.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b" than a turn");
    });
}

#[test]
fn closing_ends_by_itself_whatever_the_peer_does() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let (mut duplex, handle) = unwatched(stream, LIMIT);
        // More than the sockets take, and nobody reads it.
        let mut piece = vec![0; 64 * 1024];
        let mut full = false;
        while !full {
            let written =
                poll_fn(|context| Poll::Ready(Pin::new(&mut duplex).poll_write(context, &piece)));
            full = written.await.is_pending();
            relay_io::pause(Duration::from_millis(1)).await;
        }
        handle.close(Duration::from_millis(50)).await;
        drop(duplex);
        let end = meanwhile(move || {
            // Until the end or a reset.
            while peer.read(&mut piece).is_ok_and(|count| count > 0) {}
        });
        end.await;
    });
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        let pool = Pool::new();
        let mut mark = pool.small();
        assert!(mark.append(b"mark"));
        let address = mark.filled().as_ptr().addr();
        drop(mark);
        let (mut duplex, handle) = Duplex::over(stream, None, &pool, LIMIT, Box::new(|_| true));
        peer.write_all(b"ping").unwrap();
        let mut read = [0; 4];
        duplex.read_exact(&mut read).await.unwrap();
        duplex.write_all(b"pong").await.unwrap();
        duplex.shutdown().await.unwrap();
        // The only buffer that there ever was is free again.
        let is_free = || {
            let mut lease = pool.small();
            assert!(lease.append(b"mark"));
            lease.filled().as_ptr().addr() == address
        };
        until("the buffer is given back", is_free).await;
        handle.close(Duration::ZERO).await;
    });
}

async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    let (mut one, mut two) = (None, None);
    poll_fn(|context| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            one = Some(output);
        }
        if two.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            two = Some(output);
        }
        match (one.take(), two.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (one, two) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}
