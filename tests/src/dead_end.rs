//! Addresses at which nobody answers.

use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// An address that refuses every connection: the port is taken, but nobody listens.
#[derive(Debug)]
pub struct Refusing(Socket);

/// An address that does not answer: the queue of its listener is full, so that the kernel drops what else comes.
#[derive(Debug)]
pub struct Unresponsive {
    listener: TcpListener,
    _queued: TcpStream,
}

impl Refusing {
    /// Takes a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        Self(bound())
    }

    /// Where it is.
    ///
    /// # Panics
    /// Never: the socket is bound.
    pub fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("a bound socket");
        address.as_socket().expect("an IP address")
    }
}

impl Unresponsive {
    /// Takes a free port and fills the queue.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        let socket = bound();
        socket.listen(0).expect("a bound socket");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("a bound socket");
        let queued = TcpStream::connect(address).expect("room for one connection");
        Self {
            listener,
            _queued: queued,
        }
    }

    /// Where it is.
    ///
    /// # Panics
    /// Never: the socket is bound.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket")
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&address.into()).expect("a free port");
    socket
}
