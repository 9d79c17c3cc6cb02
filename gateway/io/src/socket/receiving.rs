//! Reading from a connection.

use super::{Interrupt, IoError, Received, Stream};
use crate::lease::{Lease, Pool};
use std::io;
use std::pin::pin;

impl Stream {
    /// Waits until there is something to read, or the peer has closed, or the wait was interrupted. Owns no buffer, and
    /// may be dropped at any time.
    ///
    /// # Errors
    /// `Interrupted`, or the runtime's.
    pub async fn readable(&self) -> Result<(), IoError> {
        self.check()?;
        let waited = pin!(self.socket.transport.readable()).await;
        self.check()?;
        waited.map_err(IoError::Socket)
    }

    /// After a read came too late: only sending goes on, so that the peer can be told. Does nothing for any other
    /// reason to be interrupted.
    pub fn forgive_deadline(&self) {
        if self.socket.interrupted.get() == Some(Interrupt::Deadline) {
            self.socket.interrupted.set(None);
            self.clear_deadline();
        }
    }

    /// Reads what is there into the lease's spare room, without waiting; `None` if nothing is.
    ///
    /// # Errors
    /// `recv(2)`'s, and `Interrupted`.
    pub fn read_now(&self, lease: &mut Lease) -> Result<Option<Received>, IoError> {
        self.check()?;
        match self.socket.transport.receive_now(lease) {
            Ok(0) => Ok(Some(Received::End)),
            Ok(count) => {
                #[cfg(feature = "probe")]
                crate::probe::received(&lease.filled()[lease.len() - count..]);
                Ok(Some(Received::Bytes(count)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(IoError::Socket(error)),
        }
    }

    /// Waits for bytes and reads them into the lease's spare room, which must not be empty. The lease is lent to the kernel
    /// meanwhile, so it is given and comes back.
    ///
    /// # Errors
    /// `recv(2)`'s, and `Interrupted`; the lease comes back all the same.
    pub async fn read(&self, lease: Lease) -> (Result<Received, IoError>, Lease) {
        debug_assert!(lease.spare_bytes() > 0, "an empty read looks like the end");
        if let Err(error) = self.check() {
            return (Err(error), lease);
        }
        let (outcome, lease) = pin!(self.socket.transport.read(lease)).await;
        let received = match (self.check(), outcome) {
            (Err(error), _) => Err(error),
            (Ok(()), Err(error)) => Err(IoError::Socket(error)),
            (Ok(()), Ok(0)) => Ok(Received::End),
            (Ok(()), Ok(count)) => {
                #[cfg(feature = "probe")]
                crate::probe::received(&lease.filled()[lease.len() - count..]);
                Ok(Received::Bytes(count))
            }
        };
        (received, lease)
    }

    /// Waits for bytes, in a buffer that fits what came before. `None`: the peer will send no more.
    ///
    /// Where bytes came soon the last time, the read waits in the kernel with its buffer (4 KiB for events, 16 KiB at most),
    /// which is the cheapest way. Where they did not, and on a new connection, it waits without one: an idle connection
    /// costs none, but for the first wait after it was busy.
    ///
    /// # Errors
    /// `recv(2)`'s, and `Interrupted`.
    pub async fn receive(&self, pool: &Pool) -> Result<Option<Lease>, IoError> {
        let mut pace = self.socket.pace.get();
        let began_tick = self.wheel.tick();
        if pace.waits_without_buffer() {
            pin!(self.readable()).await?;
        }
        let (outcome, lease) = pin!(self.read(pace.lease(pool))).await;
        let received = outcome?;
        let waited_ticks = self.wheel.tick() - began_tick;
        let spare_bytes = self.socket.transport.spare_bytes(&lease);
        pace.note(waited_ticks, lease.len(), spare_bytes);
        self.socket.pace.set(pace);
        Ok(match received {
            Received::Bytes(_) => Some(lease),
            Received::End => None,
        })
    }
}
