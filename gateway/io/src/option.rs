//! Socket options of a level that this crate knows nothing of, set as they are.

use crate::socket::Socket;
use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Weak;

/// Longest value.
const VALUE_BYTES_MAX: usize = 16;

/// A socket option and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOption {
    level: i32,
    name: i32,
    value: [u8; VALUE_BYTES_MAX],
    bytes: usize,
}

impl SocketOption {
    /// `setsockopt(level, name, value)`.
    ///
    /// # Panics
    /// If the value is longer than 16 bytes.
    pub fn new(level: i32, name: i32, value: &[u8]) -> Self {
        let mut kept = [0; VALUE_BYTES_MAX];
        kept[..value.len()].copy_from_slice(value);
        Self {
            level,
            name,
            value: kept,
            bytes: value.len(),
        }
    }

    /// Sets it on a socket.
    ///
    /// # Errors
    /// `setsockopt(2)`'s, or what a program attached to the socket's cgroup says.
    pub fn set(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = &self.value[..self.bytes];
        sys::set_option(socket.as_raw_fd(), self.level, self.name, value)
    }
}

/// Sets options of a socket without keeping it open, wherever its connection is used.
#[derive(Clone)]
pub struct OptionSetter(pub(crate) Weak<Socket>);

impl OptionSetter {
    /// Sets an option.
    ///
    /// # Errors
    /// As `Stream::set_option`; `ENOTCONN` where the socket is closed.
    pub fn set(&self, option: &SocketOption) -> io::Result<()> {
        match self.0.upgrade() {
            Some(socket) => socket.set_option(option),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
