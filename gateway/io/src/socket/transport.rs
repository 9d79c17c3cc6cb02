//! What carries the bytes of a connection: a TCP socket, or memory.

use crate::lease::Lease;
use crate::outgoing::{InFlight, Part, Parts};
use crate::pipe::Near;
use crate::sys::{self, Descriptor};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use socket2::SockRef;
use std::cell::UnsafeCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::RawFd;

pub(crate) enum Transport {
    Tcp(Tcp),
    Memory(Near),
}

/// A socket that the runtime drives.
pub(crate) struct Tcp {
    /// In a cell since operations of both directions borrow it at the same time, see `operations`.
    stream: UnsafeCell<TcpStream>,
    pub(crate) descriptor: Descriptor,
}

impl Tcp {
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self {
            descriptor: Descriptor::of(&stream),
            stream: UnsafeCell::new(stream),
        }
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

    /// One operation on the ring. All sends of a loop iteration reach the kernel together, in one system call.
    async fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(feature = "probe")]
        parts.iter().for_each(|part| crate::probe::sent(part));
        let in_flight = InFlight;
        let outcome = match parts {
            [only] => self.operations().write(Part::of(only)).await.0,
            several => self.operations().writev(Parts::of(several)).await.0,
        };
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

    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            // A socket that is not connected any more has nothing to shut down: its waits have ended.
            Self::Tcp(tcp) => drop(tcp.options().shutdown(how)),
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

    /// Open, and nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(tcp) => sys::peek_now(tcp.raw(), &mut [0])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            Self::Memory(near) => near.is_quiet(),
        }
    }

    /// Everything that was sent has left for good.
    pub(crate) fn has_sent_all(&self) -> bool {
        match self {
            Self::Tcp(tcp) => sys::unacknowledged_bytes(tcp.raw()).is_ok_and(|bytes| bytes == 0),
            Self::Memory(near) => near.has_sent_all(),
        }
    }

    pub(crate) fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => sys::send_now(tcp.raw(), parts),
            Self::Memory(near) => near.send_now(parts),
        }
    }

    /// Fills the lease's spare room; 0 at the end, `WouldBlock` where nothing is there.
    pub(crate) fn receive_now(&self, lease: &mut Lease) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => {
                let count = sys::receive_now(tcp.raw(), lease.spare_mut())?;
                lease.grow(count);
                Ok(count)
            }
            Self::Memory(near) => near.receive_now(lease),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.operations().readable(false).await,
            Self::Memory(near) => near.readable().await,
        }
    }

    /// Waits for bytes, and fills the lease's spare room; 0 at the end.
    pub(crate) async fn read(&self, mut lease: Lease) -> (io::Result<usize>, Lease) {
        match self {
            Self::Tcp(tcp) => tcp.operations().read(lease).await,
            Self::Memory(near) => {
                if let Err(error) = near.readable().await {
                    return (Err(error), lease);
                }
                (near.receive_now(&mut lease), lease)
            }
        }
    }

    /// Sends some of the parts, and says how much. What was not is to be sent next.
    pub(crate) async fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.send(parts).await,
            Self::Memory(near) => near.send(parts).await,
        }
    }
}
