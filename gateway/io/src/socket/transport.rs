//! What carries the bytes of a connection: a TCP socket, or memory.

use crate::lease::Lease;
use crate::outgoing::{InFlight, Part, Parts};
use crate::pipe::Near;
use crate::sys::{self, Descriptor};
use crate::tls::Tls;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use socket2::SockRef;
use std::cell::{OnceCell, UnsafeCell};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::pin::pin;

pub(crate) enum Transport {
    Tcp(Tcp),
    Memory(Near),
}

/// A socket that the runtime drives.
pub(crate) struct Tcp {
    /// In a cell since operations of both directions borrow it at the same time, see `operations`.
    stream: UnsafeCell<TcpStream>,
    pub(crate) descriptor: Descriptor,
    /// Set once the connection was secured: what is read and sent passes through it.
    tls: OnceCell<Box<Tls>>,
}

impl Tcp {
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self {
            descriptor: Descriptor::of(&stream),
            stream: UnsafeCell::new(stream),
            tls: OnceCell::new(),
        }
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.get().map(Box::as_ref)
    }

    /// From now on what is read and sent is plaintext, and what is received and leaves is not.
    pub(crate) fn secure(&self, tls: Tls) {
        let first = self.tls.set(Box::new(tls));
        debug_assert!(first.is_ok(), "a connection is secured once");
    }

    /// The runtime's socket, to begin an operation or a wait on it.
    #[allow(clippy::mut_from_ref, reason = "as monoio's own split halves do")]
    pub(crate) fn operations(&self) -> &mut TcpStream {
        // SAFETY: monoio declares that reads and writes of a `TcpStream` may run at the same time (`unsafe impl Split`), and
        // hands out mutable references in the same way: its methods copy the descriptor's handle and touch nothing else.
        unsafe { &mut *self.stream.get() }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.descriptor)
    }

    fn raw(&self) -> RawFd {
        self.descriptor.raw()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.peek_now()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// How many bytes there are to read, at most one; 0 at the end.
    pub(crate) fn peek_now(&self) -> io::Result<usize> {
        sys::peek_now(self.raw(), &mut [0])
    }

    pub(crate) fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::send_now(self.raw(), parts)
    }

    pub(crate) fn receive_now(&self, lease: &mut Lease) -> io::Result<usize> {
        let count = sys::receive_now(self.raw(), lease.spare_mut())?;
        lease.grow(count);
        Ok(count)
    }

    pub(crate) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.operations().readable(false)
    }

    pub(crate) fn read(&self, lease: Lease) -> impl Future<Output = (io::Result<usize>, Lease)> {
        self.operations().read(lease)
    }

    /// One operation on the ring. All sends of a loop iteration reach the kernel together, in one system call.
    pub(crate) async fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [only] = parts {
            return pin!(self.send_one(only)).await;
        }
        #[cfg(feature = "probe")]
        parts.iter().for_each(|part| crate::probe::sent(part));
        let in_flight = InFlight;
        let (outcome, _) = pin!(self.operations().writev(Parts::of(parts))).await;
        in_flight.ended();
        outcome
    }

    /// The same for a single part.
    pub(crate) async fn send_one(&self, part: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "probe")]
        crate::probe::sent(part);
        let in_flight = InFlight;
        let (outcome, _) = pin!(self.operations().write(Part::of(part))).await;
        in_flight.ended();
        outcome
    }
}

impl Transport {
    /// The socket beneath, where there is one.
    pub(crate) fn tcp(&self) -> io::Result<&Tcp> {
        match self {
            Self::Tcp(tcp) => Ok(tcp),
            Self::Memory(_) => Err(io::Error::from_raw_os_error(libc::ENOTSOCK)),
        }
    }

    /// Room that a read has left in the buffer that the kernel filled, which was handed on in `lease`.
    pub(crate) fn spare_bytes(&self, lease: &Lease) -> usize {
        match self {
            Self::Tcp(tcp) => tcp.tls().map_or(lease.spare_bytes(), Tls::spare_bytes),
            Self::Memory(_) => lease.spare_bytes(),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            // A socket that is not connected any more has nothing to shut down: its waits have ended.
            Self::Tcp(tcp) => {
                if let Some(tls) = tcp.tls() {
                    tls.shutdown(tcp, how);
                }
                drop(tcp.options().shutdown(how));
            }
            Self::Memory(near) => near.shutdown(how),
        }
    }

    /// `receives`: the receiving side was not shut by ourselves.
    pub(crate) fn peer_has_left(&self, receives: bool) -> bool {
        match self {
            Self::Tcp(tcp) => sys::peer_has_left(tcp.raw(), receives),
            Self::Memory(near) => near.peer_has_left(),
        }
    }

    /// Takes note of what is nothing to read. Not while somebody waits to read.
    pub(crate) fn catch_up(&self) {
        if let Self::Tcp(tcp) = self
            && let Some(tls) = tcp.tls()
        {
            tls.catch_up(tcp);
        }
    }

    /// Open, and nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(tcp) => match tcp.tls() {
                None => tcp.is_quiet(),
                Some(tls) => tls.is_quiet(tcp),
            },
            Self::Memory(near) => near.is_quiet(),
        }
    }

    /// Everything that was sent has left for good.
    pub(crate) fn has_sent_all(&self) -> bool {
        match self {
            Self::Tcp(tcp) => {
                tcp.tls().is_none_or(Tls::has_sent_all)
                    && sys::unacknowledged_bytes(tcp.raw()).is_ok_and(|bytes| bytes == 0)
            }
            Self::Memory(near) => near.has_sent_all(),
        }
    }

    pub(crate) fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => match tcp.tls() {
                None => tcp.send_now(parts),
                Some(tls) => tls.send_now(tcp, parts),
            },
            Self::Memory(near) => near.send_now(parts),
        }
    }

    /// Fills the lease's spare room; 0 at the end, `WouldBlock` where nothing is there.
    pub(crate) fn receive_now(&self, lease: &mut Lease) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => match tcp.tls() {
                None => tcp.receive_now(lease),
                Some(tls) => tls.receive_now(tcp, lease),
            },
            Self::Memory(near) => near.receive_now(lease),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => match tcp.tls() {
                None => pin!(tcp.readable()).await,
                Some(tls) => pin!(tls.readable(tcp)).await,
            },
            Self::Memory(near) => near.readable().await,
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        if let Some(tls) = self.tls() {
            tls.say_goodbye(self);
        }
    }
}
