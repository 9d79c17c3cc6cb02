//! Opening connections.

use crate::rig::{ANY_PORT, LIMIT, Worker, all_of, on_each_engine};
use relay_io::{ConnectError, Interrupt, Origin, Pool, Received, SocketOption, Stream};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 7, 9));
const ORIGIN: Origin = Origin::Address(SOURCE);

/// TEST-NET-1 (RFC 5737): no host has it.
const MISSING: Origin = Origin::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

/// Short, where the deadline is what is waited for.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn the_peer_sees_the_source_address_and_bytes_pass_both_ways() {
    on_each_engine(async |worker| {
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        speaks_from(worker, SOURCE, &destination).await;
    });
}

#[test]
fn a_source_address_of_ipv6() {
    on_each_engine(async |worker| {
        let source = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let Ok(destination) = TcpListener::bind((source, 0)) else {
            eprintln!("not shown: this host has no IPv6");
            return;
        };
        speaks_from(worker, source, &destination).await;
    });
}

async fn speaks_from(worker: &Worker, source: IpAddr, destination: &TcpListener) {
    let (client, _peer) = worker.pair().await;
    let address = destination.local_addr().unwrap();
    let stream = Stream::connect(&Origin::Address(source), address, LIMIT, &client)
        .await
        .unwrap();
    let (mut provider, from) = destination.accept().unwrap();
    assert_eq!(from.ip(), source);
    assert_eq!(from, stream.local_address().unwrap());

    let sent = stream.send(&mut [IoSlice::new(b"ping")], LIMIT).await;
    sent.unwrap();
    let mut bytes = [0; 4];
    provider.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");

    provider.write_all(b"pong").unwrap();
    let (received, lease) = stream.read(Pool::new().small()).await;
    assert_eq!(received.unwrap(), Received::Bytes(4));
    assert_eq!(lease.filled(), b"pong");
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        // Bound, so that nobody else gets the port meanwhile, but not listening.
        let nobody = bound();
        let address = nobody.local_addr().unwrap().as_socket().unwrap();
        match Stream::connect(&ORIGIN, address, LIMIT, &client).await {
            Err(ConnectError::Socket(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
            other => panic!("{:?}", other.map(|_| "connected")),
        }
        assert_eq!(client.interrupted(), None);
    });
}

#[test]
fn an_address_that_this_host_does_not_have_is_told_apart() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        let address = destination.local_addr().unwrap();
        let outcome = Stream::connect(&MISSING, address, LIMIT, &client).await;
        assert!(matches!(outcome, Err(ConnectError::SourceMissing)));
    });
}

#[test]
fn an_option_is_set_before_the_connection_is_tried() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        let address = destination.local_addr().unwrap();
        // The largest segment can be asked for before the handshake only (tcp(7)), and the peer is told of it there.
        let segment_bytes = 1000i32.to_ne_bytes();
        let option = SocketOption::new(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &segment_bytes);
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let origin = Origin::Option { option, source };
        let stream = Stream::connect(&origin, address, LIMIT, &client).await;
        let (accepted, _) = destination.accept().unwrap();
        assert!(stream.is_ok());
        let told = socket2::SockRef::from(&accepted).tcp_mss().unwrap();
        assert!(told <= 1000, "the peer sends {told} bytes at once");
    });
}

#[test]
fn without_its_option_no_connection_is_tried() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        destination.set_nonblocking(true).unwrap();
        let address = destination.local_addr().unwrap();
        let option = SocketOption::new(0x7fff_0000, 1, &[0; 4]);
        let source = SOURCE;
        let origin = Origin::Option { option, source };
        match Stream::connect(&origin, address, LIMIT, &client).await {
            Err(ConnectError::OptionRefused(error)) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
            }
            other => panic!("{:?}", other.map(|_| "connected")),
        }
        let none = destination.accept().unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_connection_from_another_address_than_the_option_asks_for_is_closed_before_a_byte_is_sent() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        let address = destination.local_addr().unwrap();
        // The kernel takes it, and nobody chooses the address for it.
        let option = SocketOption::new(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes());
        let source = SOURCE;
        let origin = Origin::Option { option, source };
        let outcome = Stream::connect(&origin, address, LIMIT, &client).await;
        assert!(matches!(outcome, Err(ConnectError::SourceDiffers)));
        let (accepted, from) = destination.accept().unwrap();
        assert_ne!(from.ip(), SOURCE);
        accepted.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(all_of(accepted).await, b"");
        assert_eq!(client.interrupted(), None);
    });
}

#[test]
fn a_connection_closed_at_once_does_not_wait_for_the_ring() {
    on_each_engine(async |worker| {
        let (stream, mut peer) = worker.pair().await;
        stream.close_at_once();
        // This blocks the worker, so that nothing else closes it meanwhile.
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        drop(peer);
        // The descriptor was the runtime's: it serves again.
        let (again, mut peer) = worker.pair().await;
        peer.write_all(b"ping").unwrap();
        let (received, _) = again.read(Pool::new().small()).await;
        assert_eq!(received.unwrap(), Received::Bytes(4));
    });
}

#[test]
fn an_option_of_a_connection_that_is_open() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let off = 0i32.to_ne_bytes();
        let delay = SocketOption::new(libc::IPPROTO_TCP, libc::TCP_NODELAY, &off);
        assert!(client.set_option(&delay).is_ok());
        let unknown = SocketOption::new(0x7fff_0000, 1, &off);
        let error = client.set_option(&unknown).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    });
}

#[test]
fn a_destination_that_never_answers_costs_the_deadline_and_not_the_client() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let dead_end = DeadEnd::new();
        let outcome = Stream::connect(&ORIGIN, dead_end.address, SOON, &client).await;
        assert_eq!(reason(outcome), Interrupt::Deadline);
        assert_eq!(client.interrupted(), None);
    });
}

#[test]
fn a_client_that_leaves_ends_the_attempt() {
    on_each_engine(async |worker| {
        let (client, peer) = worker.pair().await;
        let dead_end = DeadEnd::new();
        client.watch_peer();
        drop(peer);
        let outcome = Stream::connect(&ORIGIN, dead_end.address, LIMIT, &client).await;
        assert_eq!(reason(outcome), Interrupt::Tied);
        assert_eq!(client.interrupted(), Some(Interrupt::PeerGone));
    });
}

#[test]
fn nothing_is_tried_for_a_client_that_has_left() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        client.interrupter().interrupt(Interrupt::PeerGone);
        let dead_end = DeadEnd::new();
        let outcome = Stream::connect(&ORIGIN, dead_end.address, LIMIT, &client).await;
        assert_eq!(reason(outcome), Interrupt::Tied);
    });
}

#[test]
fn an_open_connection_is_bound_neither_to_the_connect_deadline_nor_to_the_client() {
    on_each_engine(async |worker| {
        let (client, _peer) = worker.pair().await;
        let destination = TcpListener::bind(ANY_PORT).unwrap();
        let address = destination.local_addr().unwrap();
        let stream = Stream::connect(&ORIGIN, address, SOON, &client)
            .await
            .unwrap();
        client.interrupter().interrupt(Interrupt::PeerGone);
        // A later deadline on another socket is met only after the earlier one would have been.
        let (other, _other_peer) = worker.pair().await;
        other.set_deadline(SOON * 2);
        assert!(other.readable().await.is_err());
        assert_eq!(stream.interrupted(), None);
    });
}

fn reason(outcome: Result<Stream, ConnectError>) -> Interrupt {
    match outcome {
        Err(ConnectError::Interrupted(reason)) => reason,
        other => panic!("not interrupted: {:?}", other.map(|_| "connected")),
    }
}

/// A listener whose queue is full: the kernel drops what else comes, so that a connection attempt gets no answer.
struct DeadEnd {
    address: SocketAddr,
    _listening: Socket,
    _queued: TcpStream,
}

impl DeadEnd {
    fn new() -> Self {
        let listening = bound();
        listening.listen(0).unwrap();
        let address = listening.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _queued: TcpStream::connect(address).unwrap(),
            _listening: listening,
        }
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&ANY_PORT.into()).unwrap();
    socket
}
