//! Non-blocking sockets on IPv4.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Listens at an address.
///
/// # Errors
/// Names the address that cannot be listened at.
pub fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts one connection, if one is waiting.
///
/// # Errors
/// As accept4(2).
pub fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if would_block(&error) || error.kind() == ErrorKind::ConnectionAborted => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Begins to connect; the socket is writable once it is connected or has failed.
///
/// # Errors
/// As socket(2), bind(2) and connect(2).
pub fn begin_connect(target: SocketAddrV4, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if let Some(source) = source {
        bind(&socket, &SocketAddr::from((source, 0)))?;
    }
    match connect(&socket, &SocketAddr::V4(target)) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The source address with this number: all of 127.0.0.0/8 is at hand on loopback.
#[must_use]
pub fn source_for(target: SocketAddrV4, number: usize) -> Option<Ipv4Addr> {
    if !target.ip().is_loopback() {
        return None;
    }
    let number = u32::try_from(number).ok()?;
    Some(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number))
}

/// Is it merely not the time for this operation?
#[must_use]
pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
