//! Sockets as the gateway makes them, and those of the far side.

use super::until;
use relay_ebpf::abi::option::{self, Tag};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// The longest queue that the kernel grants.
const BACKLOG: i32 = 4_096;

/// Sets an option of the programs' own level.
///
/// # Errors
/// What the program says.
pub(crate) fn set(socket: &impl AsFd, name: i32, value: &[u8]) -> io::Result<()> {
    set_raw(socket, option::LEVEL, name, value)
}

/// Sets an option that no library knows.
///
/// # Errors
/// What the kernel or a program says.
pub(crate) fn set_raw(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).expect("a short value");
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes from `value`, which is as long and outlives the call.
    let result =
        unsafe { libc::setsockopt(descriptor, level, name, value.as_ptr().cast(), length) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says whose a socket is.
///
/// # Errors
/// What the program says.
pub(crate) fn tag(socket: &impl AsFd, tag: Tag) -> io::Result<()> {
    set(socket, option::TAG, &tag.bytes())
}

/// Claims an accepted connection for a tenant.
///
/// # Errors
/// What the program says.
pub(crate) fn claim(socket: &impl AsFd, tenant: u32) -> io::Result<()> {
    set(socket, option::CLAIM, &tenant.to_ne_bytes())
}

/// Says which worker serves an accepted connection.
///
/// # Errors
/// What the program says.
pub(crate) fn enter(socket: &impl AsFd, worker: u32) -> io::Result<()> {
    set(socket, option::ENTER, &worker.to_ne_bytes())
}

/// A TCP socket of the address's family.
pub(crate) fn stream(family_of: SocketAddr) -> Socket {
    let tcp = Some(Protocol::TCP);
    Socket::new(Domain::for_address(family_of), Type::STREAM, tcp).expect("a socket")
}

/// A tagged socket, connected.
///
/// # Errors
/// What the programs or the kernel say to the tag or to the connect.
pub(crate) fn connect(as_whom: Tag, to: SocketAddr) -> io::Result<Socket> {
    let socket = stream(to);
    tag(&socket, as_whom)?;
    socket.connect(&to.into())?;
    Ok(socket)
}

/// An untagged socket, connected.
///
/// # Errors
/// What the programs or the kernel say.
pub(crate) fn connect_untagged(to: SocketAddr) -> io::Result<Socket> {
    let socket = stream(to);
    socket.connect(&to.into())?;
    Ok(socket)
}

/// A listener.
pub(crate) fn listen(on: SocketAddr) -> Socket {
    let socket = stream(on);
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    if on.is_ipv6() {
        socket.set_only_v6(true).expect("IPV6_V6ONLY");
    }
    socket.bind(&on.into()).expect("the address");
    socket.listen(BACKLOG).expect("a listener");
    socket
}

/// A worker's listener; further ones may listen on the same address.
pub(crate) fn listen_for(worker: u32, on: SocketAddr) -> Socket {
    let socket = stream(on);
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    set(&socket, option::WORKER, &worker.to_ne_bytes()).expect("the worker's number");
    socket.bind(&on.into()).expect("the address");
    socket.listen(BACKLOG).expect("a listener");
    socket
}

/// The address that a socket has here.
pub(crate) fn local(socket: &Socket) -> SocketAddr {
    let address = socket.local_addr().expect("a name");
    address.as_socket().expect("an IP address")
}

/// Ends a connection by a reset: neither side keeps its port.
pub(crate) fn reset(socket: Socket) {
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(socket);
}

/// Waits until the far side has ended the connection, in whatever way.
pub(crate) fn wait_for_end(mut socket: &Socket) {
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("the end of the connection, not {other:?}"),
    }
}

/// Accepts a connection that is in the queue, or will be in a moment: another processor may still be at the handshake's last
/// segment.
pub(crate) fn accept(listener: &Socket) -> Socket {
    let mut accepted = None;
    until("a connection in the queue", || {
        accepted = accept_waiting(listener);
        accepted.is_some()
    });
    accepted.expect("a connection")
}

/// Accepts what waits in the queue, without waiting itself.
pub(crate) fn accept_waiting(listener: &Socket) -> Option<Socket> {
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(false).expect("O_NONBLOCK");
            Some(socket)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("accept: {error}"),
    }
}

/// The number that an error of the kernel or of a program has.
pub(crate) fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().expect("an error of the kernel's"),
    }
}
