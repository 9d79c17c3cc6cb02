//! Many handshakes at once, beside connections that go on.

use super::peer::{Client, client};
use crate::certificates::{Authority, server_name};
use crate::rig::{LARGE_BYTES, LIMIT, Worker, meanwhile, on_each_engine, until};
use relay_io::{HandshakeGate, Interrupt, Origin, Pool, Stream, TlsError, pause, spawn};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection};
use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients that go on as slowly as they can.
const DRIBBLERS: usize = 3;

/// Clients of a flood.
const CLIENTS: usize = 64;

/// Two streams of the worker that send one byte to and fro for ever, and how often they did.
async fn play_ball(worker: &Worker) -> Rc<Cell<usize>> {
    let (listener, address) = worker.listen();
    let first = TcpStream::connect(address).unwrap();
    let (client, _) = listener.accept(&worker.wheel).await.unwrap();
    let origin = Origin::Address(address.ip());
    let one = Stream::connect(&origin, address, LIMIT, &client)
        .await
        .unwrap();
    let (other, _) = listener.accept(&worker.wheel).await.unwrap();
    drop(first);
    let throws = Rc::new(Cell::new(0));
    one.send(&mut [IoSlice::new(b"o")], LIMIT).await.unwrap();
    for player in [one, other] {
        let throws = throws.clone();
        spawn(async move {
            let pool = Pool::new();
            while let Ok(Some(ball)) = player.receive(&pool).await {
                throws.set(throws.get() + 1);
                let mut parts = [IoSlice::new(ball.filled())];
                player.send(&mut parts, LIMIT).await.unwrap();
            }
        });
    }
    throws
}

#[test]
fn between_two_steps_of_handshakes_everything_else_goes_on() {
    on_each_engine(async |worker| {
        let throws = play_ball(worker).await;
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS13]));
        // Refused at the first step, so that all steps are due at once and none waits for a client.
        let old = ClientConfig::builder_with_protocol_versions(&[&TLS12])
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let old = Arc::new(old);
        let (mut streams, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..CLIENTS {
            let (stream, mut peer) = worker.pair().await;
            let mut hello = Vec::new();
            let mut client = ClientConnection::new(old.clone(), server_name()).unwrap();
            client.write_tls(&mut hello).unwrap();
            peer.write_all(&hello).unwrap();
            stream.set_deadline(LIMIT);
            streams.push(stream);
            peers.push(peer);
        }
        until("the ball flies", || throws.get() > 10).await;
        let gate = Rc::new(HandshakeGate::new(CLIENTS));
        let steps = Rc::new(RefCell::new(Vec::new()));
        for stream in streams {
            let (gate, server) = (gate.clone(), server.clone());
            let (steps, throws) = (steps.clone(), throws.clone());
            spawn(async move {
                let accepted = stream.accept_tls(server, &gate, &Pool::new()).await;
                assert!(matches!(accepted, Err(TlsError::Rejected(_))));
                steps.borrow_mut().push(throws.get());
            });
        }
        until("all have been refused", || steps.borrow().len() == CLIENTS).await;
        // A throw takes a turn or two of the loop. Without a gate all steps are taken in the same one.
        let thrown = steps.borrow()[CLIENTS - 1] - steps.borrow()[0];
        assert!(thrown >= CLIENTS / 4, "{thrown} throws in {CLIENTS} steps");
    });
}

#[test]
fn who_finds_no_place_waits_for_one_but_not_for_ever() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS12, &TLS13]));
        let gate = Rc::new(HandshakeGate::new(1));
        let (stalling, mut silent) = worker.pair().await;
        silent.write_all(&[0x16]).unwrap();
        stalling.set_deadline(LIMIT);
        let stalled = Rc::new(Cell::new(false));
        let interrupter = stalling.interrupter();
        let (at_gate, its_server, over) = (gate.clone(), server.clone(), stalled.clone());
        spawn(async move {
            let accepted = stalling
                .accept_tls(its_server, &at_gate, &Pool::new())
                .await;
            assert!(accepted.is_err());
            over.set(true);
        });

        let (stream, mut peer) = worker.pair().await;
        peer.write_all(&[0x16]).unwrap();
        stream.set_deadline(Duration::from_millis(100));
        let accepted = stream.accept_tls(server.clone(), &gate, &Pool::new()).await;
        let interrupted = matches!(accepted, Err(TlsError::Interrupted(Interrupt::Deadline)));
        assert!(interrupted, "{accepted:?}");

        let (stream, tcp) = worker.pair().await;
        let connecting = connect(&authority, tcp);
        interrupter.interrupt(Interrupt::Tied);
        stream.set_deadline(LIMIT);
        stream
            .accept_tls(server, &gate, &Pool::new())
            .await
            .unwrap();
        assert!(stalled.get());
        meanwhile(move || connecting.join().unwrap()).await;
    });
}

/// Sends until the kernel takes no more for a peer that does not read.
fn fill(stream: &Stream) {
    let message = vec![b'x'; LARGE_BYTES];
    for _ in 0..2 {
        stream.send_without_waiting(&[IoSlice::new(&message)]);
    }
}

#[test]
fn a_client_that_takes_nothing_holds_up_nobody_and_not_for_longer_than_its_deadline() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS12, &TLS13]));
        let gate = Rc::new(HandshakeGate::new(2));
        let (stuck, tcp) = worker.pair().await;
        fill(&stuck);
        let mut its_client = client(&Arc::new(authority.client()), tcp);
        its_client.conn.write_tls(&mut its_client.sock).unwrap();
        let interrupter = stuck.interrupter();
        let outcome = Rc::new(RefCell::new(None));
        let (at_gate, its_server, ended) = (gate.clone(), server.clone(), outcome.clone());
        spawn(async move {
            stuck.set_deadline(LIMIT * 10);
            let accepted = stuck.accept_tls(its_server, &at_gate, &Pool::new()).await;
            ended.replace(Some(accepted.unwrap_err()));
        });
        let (stream, tcp) = worker.pair().await;
        let connecting = connect(&authority, tcp);
        stream.set_deadline(LIMIT);
        let accepted = stream.accept_tls(server, &gate, &Pool::new()).await;
        accepted.unwrap();
        meanwhile(move || connecting.join().unwrap()).await;
        assert!(outcome.borrow().is_none());
        interrupter.interrupt(Interrupt::Deadline);
        until("it is given up", || outcome.borrow().is_some()).await;
        let deadline = TlsError::Interrupted(Interrupt::Deadline);
        assert_eq!(outcome.take().unwrap().to_string(), deadline.to_string());
    });
}

#[test]
fn clients_that_never_go_on_do_not_keep_others_out() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS12, &TLS13]));
        let gate = Rc::new(HandshakeGate::new(3));
        let given_up = Rc::new(RefCell::new(Vec::new()));
        let mut silent = Vec::new();
        for number in 0..3 {
            let (stalling, mut peer) = worker.pair().await;
            peer.write_all(&[0x16]).unwrap();
            silent.push(peer);
            let (gate, server, given_up) = (gate.clone(), server.clone(), given_up.clone());
            let taken = Rc::new(Cell::new(false));
            let takes = taken.clone();
            spawn(async move {
                stalling.readable().await.unwrap();
                takes.set(true);
                stalling.set_deadline(LIMIT * 10);
                let accepted = stalling.accept_tls(server, &gate, &Pool::new()).await;
                given_up.borrow_mut().push((number, accepted.unwrap_err()));
            });
            until("it comes to its place", || taken.get()).await;
        }
        let (stream, tcp) = worker.pair().await;
        let connecting = connect(&authority, tcp);
        stream.set_deadline(LIMIT);
        stream
            .accept_tls(server, &gate, &Pool::new())
            .await
            .unwrap();
        meanwhile(move || connecting.join().unwrap()).await;
        let given_up = given_up.borrow();
        let deadline = TlsError::Interrupted(Interrupt::Deadline);
        assert_eq!(given_up.len(), 1, "{given_up:?}");
        assert_eq!(given_up[0].0, 0, "the first one has let us wait longest");
        assert_eq!(given_up[0].1.to_string(), deadline.to_string());
    });
}

#[test]
fn clients_that_go_on_byte_by_byte_do_not_keep_others_out() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS12, &TLS13]));
        let gate = Rc::new(HandshakeGate::new(DRIBBLERS));
        let given_up = Rc::new(Cell::new(0));
        let mut peers = Vec::new();
        for _ in 0..DRIBBLERS {
            let (stream, mut peer) = worker.pair().await;
            // A record of 16 KiB begins.
            peer.write_all(&[0x16, 3, 1, 0x40, 0]).unwrap();
            peers.push(peer);
            let (gate, server, given_up) = (gate.clone(), server.clone(), given_up.clone());
            let taken = Rc::new(Cell::new(false));
            let takes = taken.clone();
            spawn(async move {
                stream.readable().await.unwrap();
                takes.set(true);
                stream.set_deadline(LIMIT * 10);
                let accepted = stream.accept_tls(server, &gate, &Pool::new()).await;
                let interrupted = TlsError::Interrupted(Interrupt::Deadline);
                assert_eq!(accepted.unwrap_err().to_string(), interrupted.to_string());
                given_up.set(given_up.get() + 1);
            });
            until("it comes to its place", || taken.get()).await;
        }
        spawn(async move {
            loop {
                for peer in &mut peers {
                    // It may be gone.
                    let _ = peer.write_all(&[0]);
                }
                pause(Duration::from_millis(20)).await;
            }
        });
        let (stream, tcp) = worker.pair().await;
        let connecting = connect(&authority, tcp);
        stream.set_deadline(LIMIT);
        let accepted = stream.accept_tls(server, &gate, &Pool::new()).await;
        accepted.unwrap();
        meanwhile(move || connecting.join().unwrap()).await;
        assert!(given_up.get() > 0);
    });
}

#[test]
fn handshakes_that_are_wanted_here_do_not_wait_behind_those_of_clients() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS13]));
        let clients = Rc::new(HandshakeGate::new(1));
        let (stalling, mut silent) = worker.pair().await;
        silent.write_all(&[0x16]).unwrap();
        let (at_gate, its_server) = (clients.clone(), server.clone());
        let interrupter = stalling.interrupter();
        spawn(async move {
            let accepted = stalling
                .accept_tls(its_server, &at_gate, &Pool::new())
                .await;
            assert!(accepted.is_err());
        });
        connect_through(worker, &authority, &clients).await;
        interrupter.interrupt(Interrupt::Tied);
    });
}

/// A client that shakes hands on a thread.
fn connect(authority: &Authority, tcp: TcpStream) -> JoinHandle<Client> {
    let mut client = client(&Arc::new(authority.client()), tcp);
    std::thread::spawn(move || {
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        client
    })
}

/// Connects through the gate to a server on a thread.
async fn connect_through(worker: &Worker, authority: &Authority, gate: &HandshakeGate) {
    let (stream, mut tcp) = worker.pair().await;
    let config = Arc::new(authority.server(&[&TLS13]));
    let serving = std::thread::spawn(move || {
        let mut server = rustls::ServerConnection::new(config).unwrap();
        while server.is_handshaking() {
            server.complete_io(&mut tcp).unwrap();
        }
        tcp
    });
    stream.set_deadline(LIMIT);
    let config = Arc::new(authority.client());
    let secured = stream
        .connect_tls(config, server_name(), gate, &Pool::new())
        .await;
    secured.unwrap();
    meanwhile(move || serving.join().unwrap()).await;
}
