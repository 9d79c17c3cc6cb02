//! A connect through io_uring is governed like any other.

use crate::harness::scenario;
use crate::harness::socket::{errno, listen, local, stream, tag};
use io_uring::{IoUring, opcode, types};
use relay_ebpf::abi::errno::REFUSED;
use relay_ebpf::abi::option::ROUND_ROBIN;
use relay_ebpf::{AccountPlan, Plan};
use socket2::{SockAddr, Socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// Connections, enough for each address to have its turn often.
const CONNECTIONS: usize = 1_000;

/// Connects through the ring and waits for the result.
fn connect_through(ring: &mut IoUring, socket: &Socket, to: SocketAddr) -> io::Result<()> {
    let address = SockAddr::from(to);
    let descriptor = types::Fd(socket.as_raw_fd());
    let connect = opcode::Connect::new(descriptor, address.as_ptr().cast(), address.len()).build();
    // SAFETY: the address and the descriptor outlive the operation, whose end is waited for below.
    unsafe { ring.submission().push(&connect) }.expect("room for one");
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().expect("one result").result();
    match result {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(-result)),
    }
}

#[test]
fn connects_through_io_uring_are_pinned() {
    scenario("ring::connects_through_io_uring_are_pinned", |stage| {
        let own = ["127.0.7.1", "127.0.7.2", "127.0.7.3"].map(|one| one.parse().expect("one"));
        let plan = Plan {
            accounts: vec![AccountPlan {
                connections_max: None,
                egress: own.to_vec(),
            }],
            workers: 1,
            ..Plan::default()
        };
        let listener = listen("127.0.0.1:0".parse().expect("an address"));
        let to = local(&listener);
        let kernel = stage.establish(&plan);
        let mut ring = match IoUring::new(8) {
            Ok(ring) => ring,
            Err(error) => return stage.skip(&format!("no io_uring: {error}")),
        };
        let mut seen = [0; 3];
        for _ in 0..CONNECTIONS {
            let socket = stream(to);
            tag(&socket, Plan::tag(None, 0, ROUND_ROBIN)).expect("the tag");
            connect_through(&mut ring, &socket, to).expect("a connection");
            let (_, peer) = listener.accept().expect("the connection");
            let peer = peer.as_socket().expect("an address").ip();
            let number = own.iter().position(|one| *one == peer).expect("an own one");
            seen[number] += 1;
        }
        assert!(
            seen.iter().all(|count| *count >= CONNECTIONS / 3),
            "{seen:?}"
        );
        let untagged = stream(to);
        let refused = connect_through(&mut ring, &untagged, to);
        assert_eq!(errno(refused), REFUSED);
        assert_eq!(
            errno(connect_by_monoio(to)),
            REFUSED,
            "monoio's own connect"
        );
        assert_eq!(kernel.live().account(0), 0);
        stage.figure(&format!(
            "{CONNECTIONS} connects, by address {seen:?}; untagged EPERM"
        ));
    });
}

fn connect_by_monoio(to: SocketAddr) -> io::Result<()> {
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .build()
        .expect("a runtime on io_uring");
    runtime.block_on(async {
        monoio::net::TcpStream::connect_addr(to).await?;
        Ok(())
    })
}
