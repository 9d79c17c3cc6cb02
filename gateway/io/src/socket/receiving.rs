//! Reading from a connection.

use super::transport::Transport;
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
        let (outcome, lease) = pin!(self.fill(lease)).await;
        (self.received(outcome), lease)
    }

    /// Not an `async fn`: it would keep the lease twice, and so would all that waits for it.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    fn fill(&self, mut lease: Lease) -> impl Future<Output = (io::Result<usize>, Lease)> {
        async move {
            let (outcome, lease) = match &self.socket.transport {
                Transport::Tcp(tcp) => match tcp.tls() {
                    None => pin!(tcp.read(lease)).await,
                    Some(tls) => pin!(tls.read(tcp, lease)).await,
                },
                Transport::Memory(near) => match near.readable().await {
                    Ok(()) => (near.receive_now(&mut lease), lease),
                    Err(error) => (Err(error), lease),
                },
            };
            #[cfg(feature = "probe")]
            if let Ok(count @ 1..) = outcome {
                crate::probe::received(&lease.filled()[lease.len() - count..]);
            }
            (outcome, lease)
        }
    }

    fn received(&self, outcome: io::Result<usize>) -> Result<Received, IoError> {
        self.check()?;
        match outcome.map_err(IoError::Socket)? {
            0 => Ok(Received::End),
            count => Ok(Received::Bytes(count)),
        }
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
        self.check()?;
        let (outcome, lease) = pin!(self.fill(pace.lease(pool))).await;
        let received = self.received(outcome)?;
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
