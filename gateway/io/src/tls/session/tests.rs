//! Two sessions, and the bytes between them.

use super::*;
use crate::lease::{SMALL_LEASE_BYTES, TINY_LEASE_BYTES};
use certificates::{Authority, server_name};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

#[path = "../../../tests/sockets/certificates.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod certificates;

const BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// A client and a server after their handshake, with a pool each.
fn established(versions: &[&'static SupportedProtocolVersion]) -> (Session, Session) {
    let authority = Authority::new();
    let server_config = Arc::new(authority.server(versions));
    let client_config = Arc::new(authority.client());
    let mut client = Session::client(client_config, server_name(), &Pool::new()).unwrap();
    let mut server = Session::server(server_config, &Pool::new()).unwrap();
    client.begin().unwrap();
    while !client.is_established() || !server.is_established() || client.has_outgoing() {
        carry_over(&mut client, &mut server);
        carry_over(&mut server, &mut client);
    }
    carry_over(&mut server, &mut client);
    (client, server)
}

fn carry_over(from: &mut Session, to: &mut Session) {
    while let Some(flight) = from.take_outgoing() {
        assert_eq!(receive(to, flight.filled()).unwrap(), b"");
    }
}

/// Gives these bytes to a session as one read, and returns the plaintext.
fn receive(session: &mut Session, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut lease = session.room(Pool::large);
    assert!(lease.append(bytes));
    let mut plaintext = session.pool().none();
    session.feed(lease, &mut plaintext)?;
    let mut opened = Vec::new();
    loop {
        let mut lease = session.pool().tiny();
        if session.take_opened(&mut lease) == 0 {
            return Ok(opened);
        }
        opened.extend_from_slice(lease.filled());
    }
}

fn sealed(session: &mut Session, message: &[u8]) -> Vec<u8> {
    let (lease, count) = session.seal(&[IoSlice::new(message)]).unwrap();
    assert_eq!(count, message.len());
    lease.filled().to_vec()
}

fn bytes(count: usize) -> Vec<u8> {
    // A prime period: a piece that is lost, doubled or misplaced shifts all that follows.
    let period: Vec<u8> = (0..251).collect();
    let mut bytes = period.repeat(count / 251 + 1);
    bytes.truncate(count);
    bytes
}

/// Leases that were lent and not given back: nobody but the session holds the pool otherwise.
fn lent(session: &Session) -> usize {
    session.pool().holders()
}

#[test]
fn messages_of_every_size_arrive_and_nothing_is_kept() {
    for versions in BOTH {
        let (mut client, mut server) = established(versions);
        let boundaries = [
            1, 2, 255, 256, 4096, 16_127, 16_128, 16_383, 16_384, 16_385, 40_000, 65_000,
        ];
        for size in boundaries.into_iter().chain((1..17_000).step_by(97)) {
            let message = bytes(size);
            let records = sealed(&mut client, &message);
            assert!(
                receive(&mut server, &records).unwrap() == message,
                "{size} bytes"
            );
            assert_eq!((lent(&client), lent(&server)), (0, 0), "{size} bytes");
        }
    }
}

#[test]
fn a_record_that_comes_in_two_pieces_is_kept_only_until_it_is_whole() {
    for versions in BOTH {
        let (mut client, mut server) = established(versions);
        let message = bytes(300);
        for cut in 1..300 {
            let records = sealed(&mut client, &message);
            let (first, second) = records.split_at(cut);
            assert_eq!(receive(&mut server, first).unwrap(), b"");
            assert!(server.has_sealed());
            assert_eq!(lent(&server), 1);
            assert_eq!(
                receive(&mut server, second).unwrap(),
                message,
                "cut at {cut}"
            );
            assert_eq!(lent(&server), 0);
        }
    }
}

#[test]
fn the_beginning_of_a_record_waits_in_the_smallest_lease_and_goes_on_in_one_with_room_for_all_of_it()
 {
    let (mut client, mut server) = established(&[&TLS13]);
    let records = sealed(&mut client, &bytes(16_384));
    assert!(records.len() > SMALL_LEASE_BYTES);
    assert_eq!(receive(&mut server, &records[..10]).unwrap(), b"");
    assert_eq!(
        server.sealed.as_ref().unwrap().spare_bytes(),
        TINY_LEASE_BYTES - 10
    );
    let lease = server.room(Pool::tiny);
    assert_eq!(lease.filled(), &records[..10]);
    assert!(lease.spare_bytes() >= records.len() - 10);
    server.put_back(lease);
    assert!(receive(&mut server, &records[10..]).unwrap() == bytes(16_384));
}

#[test]
fn many_records_at_once_make_one_stretch_of_plaintext() {
    let (mut client, mut server) = established(&[&TLS13]);
    let mut records = Vec::new();
    let mut messages = Vec::new();
    for size in 1..200 {
        records.extend(sealed(&mut client, &bytes(size)));
        messages.extend(bytes(size));
    }
    let mut lease = server.room(Pool::large);
    assert!(lease.append(&records));
    let mut plaintext = server.pool().large();
    assert!(plaintext.append(b"before"));
    server.feed(lease, &mut plaintext).unwrap();
    assert_eq!(&plaintext.filled()[..6], b"before");
    assert!(plaintext.filled()[6..] == messages);
}

#[test]
fn plaintext_that_finds_no_room_is_kept_in_order() {
    let (mut client, mut server) = established(&[&TLS13]);
    let mut records = sealed(&mut client, b"0123456789");
    records.extend(sealed(&mut client, b"abcdef"));
    let mut lease = server.room(Pool::small);
    assert!(lease.append(&records));
    let mut plaintext = server.pool().small();
    assert!(plaintext.append(&bytes(SMALL_LEASE_BYTES - 4)));
    server.feed(lease, &mut plaintext).unwrap();
    assert_eq!(&plaintext.filled()[SMALL_LEASE_BYTES - 4..], b"0123");
    let mut rest = server.pool().tiny();
    assert_eq!(server.take_opened(&mut rest), 12);
    assert_eq!(rest.filled(), b"456789abcdef");
    assert!(!server.has_opened());
}

#[test]
fn small_parts_are_gathered_to_one_record_and_large_ones_are_cut_into_whole_ones() {
    let (mut client, mut server) = established(&[&TLS13]);
    let large = bytes(16_384 * 3 + 100);
    let all_sizes: [&[usize]; 6] = [
        &[5, 0, 200, 2],
        &[0, 0, 7],
        &[6, 16_384, 2],
        &[32_768, 6, 100],
        &[1, 16_383, 16_385, 1],
        &[0],
    ];
    for sizes in all_sizes {
        let parts: Vec<_> = sizes
            .iter()
            .map(|size| IoSlice::new(&large[..*size]))
            .collect();
        let (lease, count) = client.seal(&parts).unwrap();
        let message: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        assert_eq!(count, message.len());
        let records = lease.len() - count;
        assert_eq!(records, count.div_ceil(16_384) * 22, "{sizes:?}");
        assert!(
            receive(&mut server, lease.filled()).unwrap() == message,
            "{sizes:?}"
        );
    }
}

#[test]
fn a_message_that_does_not_fit_one_lease_is_sealed_piece_by_piece() {
    for versions in BOTH {
        let (mut client, mut server) = established(versions);
        let message = bytes(1_000_000);
        let (first, others) = message.split_at(70_000);
        let (mut parts, mut received) = (
            &mut [IoSlice::new(first), IoSlice::new(others)][..],
            Vec::new(),
        );
        while !parts.is_empty() {
            let (lease, count) = client.seal(parts).unwrap();
            assert!(count >= 16_384.min(1_000_000 - received.len()));
            received.extend(receive(&mut server, lease.filled()).unwrap());
            IoSlice::advance_slices(&mut parts, count);
        }
        assert!(received == message);
    }
}

#[test]
fn the_end_is_told_once_and_nothing_is_read_behind_it() {
    for versions in BOTH {
        let (mut client, mut server) = established(versions);
        let mut records = sealed(&mut client, b"last words");
        records.extend(client.seal_end().unwrap().filled());
        records.extend(b"anything");
        assert_eq!(receive(&mut server, &records).unwrap(), b"last words");
        assert!(server.has_ended());
        // The other direction stays open.
        let answer = sealed(&mut server, b"understood");
        assert_eq!(receive(&mut client, &answer).unwrap(), b"understood");
        assert_eq!(lent(&server), 0);
    }
}

#[test]
fn a_changed_record_is_a_failure_and_the_peer_is_told() {
    for versions in BOTH {
        let (mut client, mut server) = established(versions);
        let mut records = sealed(&mut client, b"pay 10");
        let last = records.len() - 1;
        records[last] ^= 1;
        assert_eq!(receive(&mut server, &records), Err(Error::DecryptError));
        assert_eq!(server.failure(), Some(&Error::DecryptError));
        let alert = server.take_outgoing().unwrap();
        let told = receive(&mut client, alert.filled());
        let reason = rustls::AlertDescription::BadRecordMac;
        assert_eq!(told, Err(Error::AlertReceived(reason)));
    }
}

#[test]
fn messages_of_the_protocol_may_come_in_pieces_while_data_is_sent() {
    let authority = Authority::new();
    let mut server_config = authority.server(&[&TLS13]);
    // Every message of a handshake, and the tickets behind it, come as several records.
    server_config.max_fragment_size = Some(64);
    let client_config = Arc::new(authority.client());
    let mut client = Session::client(client_config.clone(), server_name(), &Pool::new()).unwrap();
    let mut server = Session::server(Arc::new(server_config), &Pool::new()).unwrap();
    client.begin().unwrap();
    carry_over(&mut client, &mut server);
    let flight = server.take_outgoing().unwrap();
    for byte in flight.filled() {
        assert_eq!(receive(&mut client, &[*byte]).unwrap(), b"");
    }
    carry_over(&mut client, &mut server);
    let tickets = server.take_outgoing().unwrap();
    assert!(tickets.len() > 200);
    let mut pieced = 0;
    for byte in tickets.filled() {
        assert_eq!(receive(&mut client, &[*byte]).unwrap(), b"");
        pieced += usize::from(client.is_pieced);
        let records = sealed(&mut client, b"in between");
        assert_eq!(receive(&mut server, &records).unwrap(), b"in between");
    }
    assert!(pieced > 100, "{pieced} sends beside pieces of a message");
    assert_eq!((lent(&client), client.is_pieced), (0, false));
    let records = sealed(&mut server, &bytes(1000));
    assert!(receive(&mut client, &records).unwrap() == bytes(1000));
    let mut second = Session::client(client_config, server_name(), &Pool::new()).unwrap();
    second.begin().unwrap();
    let hello = second.take_outgoing().unwrap();
    let offers_ticket = hello.filled().windows(2).any(|at| at == [0, 41]);
    assert!(offers_ticket, "pre_shared_key (RFC 8446 section 4.2)");
}
