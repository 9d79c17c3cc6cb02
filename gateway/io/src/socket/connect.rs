//! Opening connections.

use super::{Interrupt, Stream};
use crate::engine::Engine;
use crate::option::SocketOption;
use crate::sys;
use monoio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// Who chooses the address that a connection comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// We: the socket is bound to this address of the host.
    Address(IpAddr),
    /// The kernel's programs, by an option that is set on the socket before it connects. Nothing is bound here.
    Option {
        /// Tells them whose the socket is.
        option: SocketOption,
        /// The address that it asks for.
        source: IpAddr,
    },
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub enum ConnectError {
    /// The source address is not one of this host's (EADDRNOTAVAIL from `bind`).
    SourceMissing,
    /// No port is left for this source address and destination (EADDRNOTAVAIL from `connect`).
    PortsExhausted,
    /// The option that should decide on the origin was refused: no connection was tried.
    OptionRefused(io::Error),
    /// The connection came about from another address than the one that the option asks for; it was closed.
    SourceDiffers,
    /// Interrupted, by the connect deadline or because the client left.
    Interrupted(Interrupt),
    /// Refused, unreachable, no descriptors left …; or what the kernel's programs answer to `connect`.
    Socket(io::Error),
}

impl Stream {
    /// Opens a connection from `origin` to `destination`, within `timeout`. While it is being opened it is tied to `client`:
    /// if that one leaves, the attempt ends.
    ///
    /// # Errors
    /// See `ConnectError`.
    pub async fn connect(
        origin: &Origin,
        destination: SocketAddr,
        timeout: Duration,
        client: &Self,
    ) -> Result<Self, ConnectError> {
        let raw = Socket::new(
            Domain::for_address(destination),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .map_err(ConnectError::Socket)?;
        raw.set_nonblocking(true).map_err(ConnectError::Socket)?;
        raw.set_tcp_nodelay(true).map_err(ConnectError::Socket)?;
        match origin {
            Origin::Address(source) => bind(&raw, *source)?,
            Origin::Option { option, .. } => option
                .set(raw.as_fd())
                .map_err(ConnectError::OptionRefused)?,
        }
        match raw.connect(&destination.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(refused_connect(error)),
        }
        // As for accepted sockets: see `Listener::adopt`.
        raw.set_nonblocking(client.wheel.engine() == Engine::Epoll)
            .map_err(ConnectError::Socket)?;
        let tcp = TcpStream::from_std(raw.into()).map_err(ConnectError::Socket)?;
        let stream = Self::over(tcp, &client.wheel);
        stream.set_deadline(timeout);
        client.tie(&stream);
        // An interrupt or a failure completes the wait too; both are told apart below.
        stream.socket.waits_to_write.set(true);
        let opening = stream
            .socket
            .transport
            .tcp()
            .map_err(ConnectError::Socket)?;
        let waited = opening.operations().writable(false).await;
        stream.socket.waits_to_write.set(false);
        client.untie();
        if let Some(reason) = stream.socket.interrupted.get() {
            return Err(ConnectError::Interrupted(reason));
        }
        if let Some(error) = opening
            .options()
            .take_error()
            .map_err(ConnectError::Socket)?
        {
            return Err(refused_connect(error));
        }
        waited.map_err(ConnectError::Socket)?;
        if let Origin::Option { source, .. } = origin
            && !stream.comes_from(*source)?
        {
            return Err(ConnectError::SourceDiffers);
        }
        stream.clear_deadline();
        Ok(stream)
    }

    /// Whoever was to choose the address may be gone, though the option was still taken: then the kernel has chosen any
    /// address of the host. Looked at before a byte is sent, so that no account is seen at another one's address.
    fn comes_from(&self, source: IpAddr) -> Result<bool, ConnectError> {
        let address = self.local_address().map_err(ConnectError::Socket)?;
        Ok(address.ip() == source)
    }
}

/// The port is chosen at connect (`IP_BIND_ADDRESS_NO_PORT`, ip(7)), so that a source address can hold about 28,000
/// connections to each destination instead of as many in all.
fn bind(socket: &Socket, source: IpAddr) -> Result<(), ConnectError> {
    sys::bind_address_no_port(socket).map_err(ConnectError::Socket)?;
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => ConnectError::SourceMissing,
            _ => ConnectError::Socket(error),
        })
}

fn refused_connect(error: io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => ConnectError::PortsExhausted,
        _ => ConnectError::Socket(error),
    }
}
