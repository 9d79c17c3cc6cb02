//! How a connection ends.

use super::peer::{VERSIONS, pair};
use crate::rig::{LIMIT, meanwhile, on_each_engine, reason};
use relay_io::{Interrupt, IoError, Pool};
use rustls::version::TLS13;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::time::Duration;

#[test]
fn an_end_that_was_told_is_an_end() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            let (stream, mut client) = pair(worker, versions).await;
            let pool = Pool::new();
            client.write_all(b"last words").unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            let lease = stream.receive(&pool).await.unwrap().unwrap();
            assert_eq!(lease.filled(), b"last words");
            assert!(stream.receive(&pool).await.unwrap().is_none());
            assert!(!stream.is_quiet());
            // The other direction is open.
            stream
                .send(&mut [IoSlice::new(b"heard")], LIMIT)
                .await
                .unwrap();
            drop(stream);
            let answer = meanwhile(move || {
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).map(|_| answer)
            });
            assert_eq!(answer.await.unwrap(), b"heard");
        }
    });
}

#[test]
fn an_end_that_was_not_told_is_an_error() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            let (stream, mut client) = pair(worker, versions).await;
            let pool = Pool::new();
            client.write_all(b"cut of").unwrap();
            client.flush().unwrap();
            client.sock.shutdown(std::net::Shutdown::Write).unwrap();
            let lease = stream.receive(&pool).await.unwrap().unwrap();
            assert_eq!(lease.filled(), b"cut of");
            for _ in 0..2 {
                match stream.receive(&pool).await.map(|lease| lease.is_some()) {
                    Err(IoError::Socket(error)) => {
                        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(!stream.is_quiet());
        }
    });
}

#[test]
fn a_changed_record_is_an_error_and_the_peer_is_told() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        client.conn.writer().write_all(b"pay 10").unwrap();
        let mut record = Vec::new();
        client.conn.write_tls(&mut record).unwrap();
        record[20] ^= 1;
        client.sock.write_all(&record).unwrap();
        match stream
            .receive(&Pool::new())
            .await
            .map(|lease| lease.is_some())
        {
            Err(IoError::Socket(error)) => assert_eq!(error.kind(), ErrorKind::InvalidData),
            other => panic!("{other:?}"),
        }
        let told = meanwhile(move || client.read(&mut [0]).unwrap_err()).await;
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    });
}

#[test]
fn a_stream_that_is_dropped_tells_the_end() {
    on_each_engine(async |worker| {
        for versions in VERSIONS {
            for at_once in [false, true] {
                let (stream, mut client) = pair(worker, versions).await;
                stream
                    .send(&mut [IoSlice::new(b"answer")], LIMIT)
                    .await
                    .unwrap();
                match at_once {
                    true => stream.close_at_once(),
                    false => drop(stream),
                }
                let answer = meanwhile(move || {
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).map(|_| answer)
                });
                assert_eq!(answer.await.unwrap(), b"answer");
            }
        }
    });
}

#[test]
fn a_close_that_is_to_be_a_reset_tells_nothing() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        stream.reset_on_close();
        drop(stream);
        let read = meanwhile(move || client.read(&mut [0])).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn after_the_last_byte_the_peer_is_still_heard() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        stream.send_without_waiting(&[IoSlice::new(b"last "), IoSlice::new(b"words")]);
        stream.finish_sending();
        let mut client = meanwhile(move || {
            let mut words = Vec::new();
            client.read_to_end(&mut words).unwrap();
            assert_eq!(words, b"last words");
            client
        })
        .await;
        client.write_all(b"understood").unwrap();
        client.flush().unwrap();
        let lease = stream.receive(&Pool::new()).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"understood");
    });
}

#[test]
fn a_peer_that_stalls_is_given_up_and_not_told_an_end() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        let message = vec![b'x'; crate::rig::LARGE_BYTES];
        let stall_timeout = Duration::from_millis(100);
        let sent = stream
            .send(&mut [IoSlice::new(&message)], stall_timeout)
            .await;
        assert_eq!(reason(sent), Interrupt::Deadline);
        drop(stream);
        let read = meanwhile(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap_err()
        });
        let error = read.await;
        let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    });
}

#[test]
fn idle_connections_that_are_ended_here_were_cut_by_nobody() {
    on_each_engine(async |worker| {
        let (stream, mut client) = pair(worker, &[&TLS13]).await;
        stream.set_deadline(LIMIT);
        stream.set_idle(true);
        worker.wheel.end_idle();
        assert!(stream.receive(&Pool::new()).await.unwrap().is_none());
        drop(stream);
        let read = meanwhile(move || client.read(&mut [0])).await;
        assert_eq!(read.unwrap(), 0);
    });
}
