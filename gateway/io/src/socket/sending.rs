//! Sending on a connection.

use super::transport::Transport;
use super::{IoError, NEVER, Stream};
use crate::lease::Lease;
use crate::wheel::TICKS_AT_ONCE_MAX;
use std::io::IoSlice;
use std::pin::pin;
use std::time::Duration;

impl Stream {
    /// Sends all of `parts`, but never waits longer than `stall_timeout` without progress. A deadline that the socket had
    /// is put back afterwards. The future must be awaited to its end: dropped before, it ends the process.
    ///
    /// # Errors
    /// `sendmsg(2)`'s, and `Interrupted` (by `Deadline` where the peer stalled).
    pub async fn send(
        &self,
        parts: &mut [IoSlice<'_>],
        stall_timeout: Duration,
    ) -> Result<(), IoError> {
        pin!(self.send_within(parts, stall_timeout, NEVER)).await
    }

    /// The same, but no longer than until `limit`, a value of `deadline_at`. Where that is now or was before, what the kernel takes at
    /// once is sent all the same.
    ///
    /// # Errors
    /// As for `send`.
    pub async fn send_within(
        &self,
        mut parts: &mut [IoSlice<'_>],
        stall_timeout: Duration,
        limit: u64,
    ) -> Result<(), IoError> {
        self.check()?;
        let deadline_before = self.socket.deadline_tick.get();
        self.socket.waits_to_write.set(true);
        // It reaches the kernel when the tasks of this turn of the loop have run, of which the wheel may be one.
        let limit = limit.max(self.wheel.tick() + TICKS_AT_ONCE_MAX + 1);
        let outcome = loop {
            self.set_deadline_within(stall_timeout, limit);
            let sent = match &self.socket.transport {
                Transport::Tcp(tcp) => match tcp.tls() {
                    None => pin!(tcp.send(parts)).await,
                    Some(tls) => pin!(tls.send(tcp, parts)).await,
                },
                Transport::Memory(near) => near.send(parts).await,
            };
            match sent {
                Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
                Err(error) => break self.check().and(Err(IoError::Socket(error))),
            }
            if parts.is_empty() {
                break self.check();
            }
        };
        self.socket.waits_to_write.set(false);
        self.socket.deadline_tick.set(deadline_before);
        if deadline_before != NEVER {
            self.wheel.schedule(&self.socket);
        }
        outcome
    }

    /// Sends all that a lease holds, beneath any session. The deadline that is set bounds it.
    pub(crate) async fn send_beneath(&self, flight: &mut Lease) -> Result<(), IoError> {
        let tcp = self.tcp().map_err(IoError::Socket)?;
        while !flight.is_empty() {
            self.check()?;
            // Else the deadline would end only what is received.
            self.socket.waits_to_write.set(true);
            let sent = tcp.send_one(flight.filled()).await;
            self.socket.waits_to_write.set(false);
            self.check()?;
            flight.consume(sent.map_err(IoError::Socket)?);
        }
        Ok(())
    }

    /// Sends what the kernel takes of `parts` at once; for last words that nothing waits for.
    pub fn send_without_waiting(&self, parts: &[IoSlice<'_>]) {
        if self.check().is_ok() {
            // What is not taken now is not sent at all.
            let _ = self.socket.transport.send_now(parts);
        }
    }
}
