//! The calls that neither the runtime nor a library makes for us, each on one descriptor.

use socket2::{Domain, Socket, Type};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The descriptor of a socket that the runtime owns, for calls that the runtime does not make.
/// Stands beside its owner in the same struct, so that it is never used after the close.
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    pub(crate) fn of(owner: &impl AsRawFd) -> Self {
        Self(owner.as_raw_fd())
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the owner stands beside `self` and keeps the descriptor open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Has the peer closed its side, or was the connection reset? Data that was not read yet does not hide it. Where the
/// receiving side was shut here (not `receives`), the kernel reports it as closed by the peer: then only a reset counts.
pub(crate) fn peer_has_left(descriptor: RawFd, receives: bool) -> bool {
    let closed = if receives {
        libc::POLLRDHUP | libc::POLLHUP
    } else {
        0
    };
    poll_now(descriptor, libc::POLLRDHUP) & (closed | libc::POLLERR) != 0
}

/// Is there a connection in this listening socket's queue?
pub(crate) fn somebody_waits(descriptor: RawFd) -> bool {
    poll_now(descriptor, libc::POLLIN) & libc::POLLIN != 0
}

/// Which of these events, errors and ends there are; none if the kernel does not say.
fn poll_now(descriptor: RawFd, events: libc::c_short) -> libc::c_short {
    let mut entry = libc::pollfd {
        fd: descriptor,
        events,
        revents: 0,
    };
    // SAFETY: one valid pollfd, ours alone.
    let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
    if ready > 0 { entry.revents } else { 0 }
}

/// Bytes that were sent but not yet acknowledged by the peer's kernel.
pub(crate) fn unacknowledged_bytes(descriptor: RawFd) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ, tcp(7)) writes one int to the valid pointer given.
    let answer = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut bytes) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(bytes)
    }
}

/// Closes the socket of a descriptor that belongs to the runtime, which goes on to own it and closes it in its own time: an
/// unconnected socket takes the other's place. An operation in flight keeps the old one open until it ends.
pub(crate) fn close_beneath(descriptor: RawFd) -> io::Result<()> {
    let nothing = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: both descriptors are open; no memory is passed, and the one that is replaced stays open and its owner's.
    let answer = unsafe { libc::dup3(nothing.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

pub(crate) fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let name = libc::IP_BIND_ADDRESS_NO_PORT;
    // The level is IPPROTO_IP for both families.
    set_option(
        socket.as_raw_fd(),
        libc::IPPROTO_IP,
        name,
        &on.to_ne_bytes(),
    )
}

pub(crate) fn set_option(
    descriptor: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: the kernel reads at most `value.len()` bytes from the valid pointer given; a wrong descriptor is an error.
    let answer = unsafe {
        libc::setsockopt(
            descriptor,
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

pub(crate) fn receive_now(descriptor: RawFd, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `room.len()` bytes to `room`, which is ours alone.
    let count = unsafe {
        libc::recv(
            descriptor,
            room.as_mut_ptr().cast(),
            room.len(),
            libc::MSG_DONTWAIT,
        )
    };
    if count < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(count.unsigned_abs())
    }
}

pub(crate) fn peek_now(descriptor: RawFd, room: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    // SAFETY: the kernel writes at most `room.len()` bytes to `room`, which is ours alone.
    let count = unsafe { libc::recv(descriptor, room.as_mut_ptr().cast(), room.len(), flags) };
    if count < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(count.unsigned_abs())
    }
}

pub(crate) fn send_now(descriptor: RawFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let count = if let [only] = parts {
        // SAFETY: the kernel reads at most `only.len()` bytes of `only`, which is borrowed for the call.
        unsafe { libc::send(descriptor, only.as_ptr().cast(), only.len(), flags) }
    } else {
        // SAFETY: all zeroes is a valid msghdr: no name, no parts, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len();
        // SAFETY: `IoSlice` has the layout of iovec; the kernel only reads the parts, which are borrowed for the call.
        unsafe { libc::sendmsg(descriptor, &raw const message, flags) }
    };
    if count < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(count.unsigned_abs())
    }
}
