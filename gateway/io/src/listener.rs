//! Accepting connections.

use crate::engine::Engine;
use crate::socket::Stream;
use crate::sys::{self, Descriptor};
use crate::wheel::Wheel;
use monoio::net::TcpListener;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};

/// Connections that may wait to be accepted (the kernel caps it at `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Opens a listening socket that shares its port with the other workers' (`SO_REUSEPORT`). Works outside of a
/// worker thread, so that a busy port or a missing address is known before anything is started.
///
/// # Errors
/// What `socket`, `bind` or `listen` say.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listening socket on a worker.
pub struct Listener {
    tcp: TcpListener,
    descriptor: Descriptor,
}

impl Listener {
    /// Takes over a socket made by `bind`.
    ///
    /// # Errors
    /// The runtime could not register the socket.
    pub fn adopt(socket: StdListener, engine: Engine) -> io::Result<Self> {
        // io_uring would answer EAGAIN on a socket that must not block, epoll would block on one that may.
        socket.set_nonblocking(engine == Engine::Epoll)?;
        let tcp = TcpListener::from_std(socket)?;
        Ok(Self {
            descriptor: Descriptor::of(&tcp),
            tcp,
        })
    }

    /// The next connection and where it comes from.
    ///
    /// # Errors
    /// `accept(2)`'s; `EINVAL` once the listener was stopped.
    pub async fn accept(&self, wheel: &Wheel) -> io::Result<(Stream, SocketAddr)> {
        let (tcp, peer) = self.tcp.accept().await?;
        Ok((Stream::adopt(tcp, wheel)?, peer))
    }

    /// Has somebody connected who was not accepted yet?
    pub fn somebody_waits(&self) -> bool {
        sys::somebody_waits(self.descriptor.raw())
    }

    /// Stops listening: a pending `accept` ends with an error, connections that wait are reset by the kernel.
    pub fn stop(&self) {
        // Fails only if it was stopped before.
        let _ = SockRef::from(&self.descriptor).shutdown(Shutdown::Read);
    }
}
