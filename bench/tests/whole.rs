//! The programs together, each on a thread, over loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say so")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use relay_bench::flood::Handshakes;
use relay_bench::floor::Floor;
use relay_bench::load::{Load, Pace, Tally};
use relay_bench::plan::Shape;
use relay_bench::tls::{self, CA_FILE, Resumption};
use relay_bench::upstream::Upstream;
use rustls::{ClientConfig, ServerConfig};

const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
const JSON: Shape = Shape::Json { body_bytes: 1_024 };
const BIG: Shape = Shape::Json {
    body_bytes: 1 << 20,
};
/// Not paced: how many events arrive in a time is then no matter of right or wrong.
const SSE: Shape = Shape::Sse {
    deltas: 50,
    payload_bytes: 200,
    millirate: 0,
};
const PACED: Shape = Shape::Sse {
    deltas: 20,
    payload_bytes: 200,
    millirate: 1_000_000,
};

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address}"),
    }
}

/// The programs are of one thread each and cannot be handed to another: they are made where they serve.
fn upstream() -> SocketAddrV4 {
    upstream_with(None)
}

fn upstream_with(tls: Option<Arc<ServerConfig>>) -> SocketAddrV4 {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let upstream = Upstream::new(ANY, tls).unwrap();
        tell.send(upstream.address().unwrap()).unwrap();
        upstream.serve()
    });
    v4(told.recv().unwrap())
}

fn floor(upstream: SocketAddrV4) -> SocketAddrV4 {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let floor = Floor::new(ANY, upstream).unwrap();
        tell.send(floor.address().unwrap()).unwrap();
        floor.serve()
    });
    v4(told.recv().unwrap())
}

/// A relay that changes one bit of each answer.
fn liar(upstream: SocketAddrV4, wrong_at: usize) -> SocketAddrV4 {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = v4(listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let upstream = TcpStream::connect(upstream).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || lie(&upstream, &client, wrong_at));
        }
    });
    address
}

fn lie(mut from: &TcpStream, mut to: &TcpStream, wrong_at: usize) -> std::io::Result<()> {
    let mut relayed = 0;
    let mut buffer = [0; 4_096];
    loop {
        let bytes = match from.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => bytes,
        };
        if (relayed..relayed + bytes).contains(&wrong_at) {
            buffer[wrong_at - relayed] ^= 1;
        }
        relayed += bytes;
        to.write_all(&buffer[..bytes])?;
    }
}

fn run(target: SocketAddrV4, shape: Shape, pace: Pace) -> Result<Tally, String> {
    load(target, shape, pace).run(|| (), |_| (), || false)
}

fn load(target: SocketAddrV4, shape: Shape, pace: Pace) -> Load {
    Load {
        target,
        key: Some("key".into()),
        tls: None,
        connections: 4,
        fresh: false,
        shape,
        pace,
        warmup_ns: 1_000_000,
        window_ns: 20_000_000,
    }
}

#[test]
fn right_answers_pass_with_and_without_a_relay() {
    let upstream = upstream();
    let floor = floor(upstream);
    for target in [upstream, floor] {
        for shape in [JSON, BIG, SSE] {
            let tally = run(target, shape, Pace::Saturated).unwrap();
            assert_eq!(tally.first_error(), None, "{shape:?}");
        }
        let tally = run(target, JSON, Pace::Open { rate: 1_000.0 }).unwrap();
        assert_eq!(tally.first_error(), None);
    }
}

/// An upstream that speaks TLS, and a client that trusts it.
fn upstream_with_tls(resumption: Resumption) -> (SocketAddrV4, Arc<ClientConfig>) {
    let dir = tempfile::tempdir().unwrap();
    let server = tls::make_server(dir.path()).unwrap();
    let client = tls::client(&dir.path().join(CA_FILE), &[], resumption).unwrap();
    (upstream_with(Some(server)), client)
}

#[test]
fn right_answers_pass_over_tls() {
    let (upstream, client) = upstream_with_tls(Resumption::Used);
    for target in [upstream, floor(upstream)] {
        for (shape, fresh) in [(JSON, false), (JSON, true), (BIG, false), (SSE, false)] {
            let load = Load {
                tls: Some(Arc::clone(&client)),
                fresh,
                ..load(target, shape, Pace::Saturated)
            };
            let tally = load.run(|| (), |_| (), || false).unwrap();
            assert_eq!(tally.first_error(), None, "{shape:?}");
        }
    }
}

#[test]
fn a_server_of_another_authority_fails_the_run() {
    let (upstream, _) = upstream_with_tls(Resumption::Used);
    let (_, stranger) = upstream_with_tls(Resumption::Used);
    let load = Load {
        tls: Some(stranger),
        ..load(upstream, JSON, Pace::Saturated)
    };
    let error = load.run(|| (), |_| (), || false).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn handshakes_are_done_whole_and_replayed() {
    let (upstream, client) = upstream_with_tls(Resumption::Never);
    for replayed in [false, true] {
        let flood = Handshakes {
            target: upstream,
            tls: Arc::clone(&client),
            connections: 4,
            rate: None,
            replayed,
        };
        let mut tally = Tally::default();
        tally.start(0);
        let go_on = |tally: &mut Tally| tally.requests() < 50 && tally.errors() == 0;
        flood.run(&mut tally, go_on).unwrap();
        assert_eq!(tally.first_error(), None);
    }
}

#[test]
fn a_wrong_byte_of_an_answer_fails_the_run() {
    let upstream = upstream();
    let target = liar(upstream, 700);
    for shape in [JSON, SSE, PACED] {
        let error = run(target, shape, Pace::Saturated).unwrap_err();
        assert!(error.contains("wrong byte"), "{shape:?}: {error}");
    }
}

#[test]
fn every_request_has_a_connection_of_its_own_where_that_is_asked_for() {
    let upstream = upstream();
    let fresh = Load {
        fresh: true,
        ..load(floor(upstream), JSON, Pace::Saturated)
    };
    let tally = fresh.run(|| (), |_| (), || false).unwrap();
    assert_eq!(tally.first_error(), None);
    let result = tally.to_json();
    let (requests, reconnects) = (result["requests"].as_u64(), result["reconnects"].as_u64());
    let (requests, reconnects) = (requests.unwrap(), reconnects.unwrap());
    assert!(requests > 0, "{result}");
    // Exchanges that were open at the beginning or at the end are counted once.
    assert!(requests.abs_diff(reconnects) <= 4, "{result}");
}

#[test]
fn an_upstream_that_is_not_there_fails_the_run() {
    let nobody = v4(TcpListener::bind(ANY).unwrap().local_addr().unwrap());
    let error = run(nobody, JSON, Pace::Saturated).unwrap_err();
    assert!(error.contains("connect"), "{error}");
}

#[test]
fn a_request_that_was_changed_is_refused_by_the_upstream() {
    let mut stream = TcpStream::connect(upstream()).unwrap();
    let request = "POST /v1/responses HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}
