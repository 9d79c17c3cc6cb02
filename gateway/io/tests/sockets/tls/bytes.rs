//! Plaintext that goes through, whatever the records.

use super::peer::{Client, VERSIONS, pair};
use crate::rig::{LIMIT, meanwhile, on_each_engine, until};
use relay_io::{Pool, Received, Stream, spawn};
use rustls::version::TLS13;
use std::cell::RefCell;
use std::io::{IoSlice, Read, Write};
use std::rc::Rc;

/// More than the buffers of both sockets hold together.
const MUCH_BYTES: usize = 12 * 1024 * 1024;

fn bytes(count: usize) -> Vec<u8> {
    // A prime period: a piece that is lost, doubled or misplaced shifts all that follows.
    let period: Vec<u8> = (0..251).collect();
    let mut bytes = period.repeat(count / 251 + 1);
    bytes.truncate(count);
    bytes
}

async fn receive_exactly(stream: &Stream, pool: &Pool, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < count {
        let lease = stream.receive(pool).await.unwrap().expect("more bytes");
        assert!(!lease.is_empty());
        received.extend_from_slice(lease.filled());
    }
    received
}

#[test]
fn records_of_every_size_go_both_ways() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            let (stream, mut client) = pair(worker, versions).await;
            let pool = Pool::new();
            let boundaries = [
                1, 2, 4_000, 4_074, 4_075, 4_096, 16_362, 16_363, 16_383, 16_384,
            ];
            let sizes: Vec<usize> = boundaries
                .into_iter()
                .chain((1..16_384).step_by(199))
                .collect();
            let asked = sizes.clone();
            let echoed = std::thread::spawn(move || {
                for size in asked {
                    client.write_all(&bytes(size)).unwrap();
                    let mut echo = vec![0; size];
                    client.read_exact(&mut echo).unwrap();
                    assert!(echo == bytes(size), "{size} bytes");
                }
                client
            });
            for size in sizes {
                let received = receive_exactly(&stream, &pool, size).await;
                stream
                    .send(&mut [IoSlice::new(&received)], LIMIT)
                    .await
                    .unwrap();
            }
            meanwhile(move || echoed.join().unwrap()).await;
        }
    });
}

#[test]
fn a_read_brings_what_all_records_at_hand_hold() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        let pool = Pool::new();
        let mut message = Vec::new();
        for size in 1..100 {
            // Each write makes a record; nothing is sent before `complete_io`.
            client.conn.writer().write_all(&bytes(size)).unwrap();
            message.extend(bytes(size));
        }
        let mut records = Vec::new();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut records).unwrap();
        }
        client.sock.write_all(&records).unwrap();
        stream.readable().await.unwrap();
        let mut lease = pool.small();
        let received = stream.read_now(&mut lease).unwrap();
        assert_eq!(received, Some(Received::Bytes(message.len())));
        assert!(lease.filled() == message);
        assert_eq!(stream.read_now(&mut lease).unwrap(), None);
    });
}

#[test]
fn a_record_that_comes_in_two_pieces_is_read_once_it_is_whole() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            let (stream, mut client) = pair(worker, versions).await;
            let pool = Pool::new();
            for cut in 1..120 {
                client.conn.writer().write_all(&bytes(100)).unwrap();
                let mut record = Vec::new();
                client.conn.write_tls(&mut record).unwrap();
                let (first, second) = record.split_at(cut);
                client.sock.write_all(first).unwrap();
                stream.readable().await.unwrap();
                let mut lease = pool.tiny();
                assert!(lease.append(b"head "));
                assert_eq!(stream.read_now(&mut lease).unwrap(), None);
                assert!(!stream.is_quiet(), "a record has begun");
                client.sock.write_all(second).unwrap();
                let (received, lease) = stream.read(lease).await;
                assert_eq!(received.unwrap(), Received::Bytes(100), "cut at {cut}");
                assert_eq!(&lease.filled()[..5], b"head ");
                assert!(lease.filled()[5..] == bytes(100));
                assert!(stream.is_quiet());
            }
        }
    });
}

#[test]
fn what_finds_no_room_in_a_lease_is_readable_at_once() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        let pool = Pool::new();
        client.write_all(b"0123456789").unwrap();
        client.flush().unwrap();
        let mut lease = pool.tiny();
        assert!(lease.append(&bytes(lease.spare_bytes() - 4)));
        let (received, _) = stream.read(lease).await;
        assert_eq!(received.unwrap(), Received::Bytes(4));
        assert!(!stream.is_quiet());
        stream.readable().await.unwrap();
        let lease = stream.receive(&pool).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"456789");
        assert!(stream.is_quiet());
    });
}

#[test]
fn much_goes_both_ways_at_the_same_time() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            let (stream, client) = pair(worker, versions).await;
            let stream = Rc::new(stream);
            let exchanged = std::thread::spawn(move || exchange(client));
            let sending = stream.clone();
            let sent = Rc::new(RefCell::new(None));
            let outcome = sent.clone();
            spawn(async move {
                let message = bytes(MUCH_BYTES);
                let (first, rest) = message.split_at(11);
                let mut parts = [IoSlice::new(first), IoSlice::new(rest)];
                outcome.replace(Some(sending.send(&mut parts, LIMIT).await));
            });
            let received = receive_exactly(&stream, &Pool::new(), MUCH_BYTES).await;
            assert!(received == bytes(MUCH_BYTES));
            meanwhile(move || exchanged.join().unwrap()).await;
            // The peer may have it all before the task is told so.
            until("all is sent", || sent.borrow().is_some()).await;
            sent.take().unwrap().unwrap();
        }
    });
}

/// Writes and reads alternately, so that neither side waits for the other for ever.
fn exchange(mut client: Client) {
    let message = bytes(MUCH_BYTES);
    let mut received = vec![0; MUCH_BYTES];
    for (piece, room) in message.chunks(100_000).zip(received.chunks_mut(100_000)) {
        client.write_all(piece).unwrap();
        client.read_exact(room).unwrap();
    }
    assert!(received == message);
}

#[test]
fn keys_that_the_peer_renews_and_asks_to_be_renewed() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        let pool = Pool::new();
        for round in 0..10 {
            client.conn.refresh_traffic_keys().unwrap();
            client.write_all(b"asked with new keys").unwrap();
            client.flush().unwrap();
            let lease = stream.receive(&pool).await.unwrap().unwrap();
            assert_eq!(lease.filled(), b"asked with new keys", "round {round}");
            stream
                .send(&mut [IoSlice::new(b"answered")], LIMIT)
                .await
                .unwrap();
            client = meanwhile(move || {
                let mut answer = [0; 8];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"answered");
                client
            })
            .await;
        }
    });
}

#[test]
fn a_heartbeat_is_a_record_of_its_own() {
    on_each_engine(async |worker| {
        let (stream, client) = pair(worker, &[&TLS13]).await;
        stream.watch_peer();
        stream.arm_heartbeat(b": alive\n", std::time::Duration::from_millis(50));
        let mut client = meanwhile(move || {
            let mut client = client;
            let mut beat = [0; 8];
            client.read_exact(&mut beat).unwrap();
            assert_eq!(&beat, b": alive\n");
            client
        })
        .await;
        stream.disarm_heartbeat();
        assert!(stream.heartbeats_sent() >= 1);
        let beats = stream.heartbeats_sent() as usize - 1;
        stream
            .send(&mut [IoSlice::new(b"event")], LIMIT)
            .await
            .unwrap();
        stream.finish_sending();
        let rest = meanwhile(move || {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            rest
        })
        .await;
        assert_eq!(
            rest,
            [b": alive\n".repeat(beats), b"event".to_vec()].concat()
        );
    });
}

#[test]
fn what_arrives_while_somebody_looks_whether_the_connection_is_quiet_is_received() {
    on_each_engine(async |worker| {
        // The first one waits with a buffer in the kernel, the others without: for its first byte, or the rest of a large record.
        for (size, cut) in [(100, 50), (100, 0), (16_384, 10_000)] {
            let (stream, mut client) = pair(worker, &[&TLS13]).await;
            client.sock.set_nodelay(true).unwrap();
            client.conn.writer().write_all(&bytes(size)).unwrap();
            let mut record = Vec::new();
            client.conn.write_tls(&mut record).unwrap();
            let (first, second) = record.split_at(cut);
            client.sock.write_all(first).unwrap();
            let received = Rc::new(RefCell::new(None));
            stream.set_deadline(LIMIT);
            stream.set_idle(true);
            let stream = Rc::new(stream);
            let (reading, outcome) = (stream.clone(), received.clone());
            spawn(async move {
                let lease = receive_exactly(&reading, &Pool::new(), size).await;
                outcome.replace(Some(lease));
            });
            // Several turns of the loop, in which the task comes to its wait.
            for _ in 0..10 {
                relay_io::pause(std::time::Duration::from_millis(1)).await;
            }
            if cut > 0 {
                // A record has begun.
                worker.wheel.end_idle();
            }
            client.sock.write_all(second).unwrap();
            worker.wheel.end_idle();
            until("all is received", || received.borrow().is_some()).await;
            assert!(received.take().unwrap() == bytes(size));
        }
    });
}

const PARTS: usize = 10;

/// More than a tiny lease holds, and whole in one record.
const RECORD_BYTES: usize = 16_000;

/// More than fits what one look at the connection reads, all together.
const PART_BYTES: usize = 10_000;

#[test]
fn data_that_nobody_reads_is_not_lost_however_often_somebody_looks() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        for part in bytes(PARTS * PART_BYTES).chunks(PART_BYTES) {
            client.write_all(part).unwrap();
            client.flush().unwrap();
            stream.readable().await.unwrap();
            assert!(!stream.is_quiet());
        }
        stream.set_deadline(LIMIT);
        let received = receive_exactly(&stream, &Pool::new(), PARTS * PART_BYTES).await;
        assert!(received == bytes(PARTS * PART_BYTES));
    });
}

#[test]
fn a_look_takes_in_what_one_read_brings_and_the_next_one_goes_on() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        client.write_all(&bytes(RECORD_BYTES)).unwrap();
        client.flush().unwrap();
        stream.set_deadline(LIMIT);
        let mut lease = Pool::new().tiny();
        stream.readable().await.unwrap();
        // The beginning of a record.
        let first = stream.read_now(&mut lease).unwrap();
        assert!(first.is_none(), "{first:?}");
        while stream.read_now(&mut lease).unwrap().is_none() {
            stream.readable().await.unwrap();
        }
        let held = lease.filled();
        assert!(held == &bytes(RECORD_BYTES)[..held.len()]);
    });
}
