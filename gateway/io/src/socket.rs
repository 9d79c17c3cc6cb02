//! Connected sockets: reading and writing, deadlines, and being ended from outside.

mod connect;

pub use connect::{ConnectError, Origin};

use crate::engine::Engine;
use crate::lease::{Lease, Pool};
use crate::option::SocketOption;
use crate::outgoing::{InFlight, Part, Parts};
use crate::pace::Pace;
use crate::sys::{self, Descriptor};
use crate::wheel::Wheel;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use socket2::SockRef;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// Why an operation ended although the connection did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The deadline passed.
    Deadline,
    /// The peer of a watched socket has closed its side.
    PeerGone,
    /// The socket that this one is tied to was interrupted, for the reason that is to be found there.
    Tied,
    /// The process ends, or is about to and nobody waits for this any more: neither side's doing.
    Shutdown,
}

/// Why an operation failed.
#[derive(Debug)]
pub enum IoError {
    /// It was interrupted.
    Interrupted(Interrupt),
    /// The kernel said so: reset, broken pipe, time-out of the transport.
    Socket(io::Error),
}

impl std::fmt::Display for IoError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interrupted(reason) => write!(out, "interrupted: {reason:?}"),
            Self::Socket(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for IoError {}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The peer will send no more.
    End,
}

/// The state of a socket that its tasks and the wheel share.
pub(crate) struct Socket {
    /// In a cell since operations of both directions borrow it at the same time, see `operations`.
    tcp: UnsafeCell<TcpStream>,
    descriptor: Descriptor,
    pub(crate) interrupted: Cell<Option<Interrupt>>,
    pub(crate) deadline_tick: Cell<u64>,
    pub(crate) next_visit_tick: Cell<u64>,
    pub(crate) watched: Cell<bool>,
    /// The receiving side was not shut by ourselves.
    receives: Cell<bool>,
    /// A task waits for room to write, or for a connection.
    waits_to_write: Cell<bool>,
    /// Waits for a next request: may be ended without anybody losing anything.
    idle: Cell<bool>,
    tied: RefCell<Weak<Socket>>,
    /// Outlives the interrupt of the socket that it is tied to.
    tied_outlives: Cell<bool>,
    /// Nobody waits for what it brings any more.
    orphaned: Cell<bool>,
    pace: Cell<Pace>,
    heartbeat: Cell<Option<Heartbeat>>,
    heartbeats_sent: Cell<u32>,
}

#[derive(Clone, Copy)]
struct Heartbeat {
    bytes: &'static [u8],
    every_ticks: u64,
    due_tick: u64,
}

impl Socket {
    fn descriptor(&self) -> RawFd {
        self.descriptor.raw()
    }

    /// The runtime's socket, to begin an operation or a wait on it.
    #[allow(clippy::mut_from_ref, reason = "as monoio's own split halves do")]
    fn operations(&self) -> &mut TcpStream {
        // SAFETY: monoio declares that reads and writes of a `TcpStream` may run at the same time (`unsafe impl Split`), and
        // hands out mutable references in the same way: its methods copy the descriptor's handle and touch nothing else.
        unsafe { &mut *self.tcp.get() }
    }

    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.descriptor)
    }

    pub(crate) fn peer_has_left(&self) -> bool {
        sys::peer_has_left(self.descriptor(), self.receives.get())
    }

    /// Ends the connection's receiving side: what has arrived is still read and answered, then comes the end.
    pub(crate) fn end_receiving(&self) {
        self.receives.set(false);
        let _ = self.options().shutdown(Shutdown::Read);
    }

    /// Ends every wait on this socket and on the one tied to it. The first reason is kept.
    pub(crate) fn interrupt(&self, reason: Interrupt) {
        if self.interrupted.get().is_some() {
            return;
        }
        self.interrupted.set(Some(reason));
        // Where only a read was too slow, the peer can still be told so.
        let only_reading = reason == Interrupt::Deadline && !self.waits_to_write.get();
        self.receives.set(false);
        let how = if only_reading {
            Shutdown::Read
        } else {
            Shutdown::Both
        };
        // A socket that is not connected any more has nothing to shut down: its waits have ended.
        let _ = self.options().shutdown(how);
        self.tell_tied();
    }

    fn tell_tied(&self) {
        let tied = self.tied.borrow().upgrade();
        match tied {
            Some(tied) if self.tied_outlives.get() => tied.orphaned.set(true),
            Some(tied) => tied.interrupt(Interrupt::Tied),
            None => {}
        }
    }

    /// For the end of the process. What somebody waits for at this socket is let come to its end: no more is received, and what
    /// has been is answered. Where that was said before and the peer still takes nothing, nothing is waited for.
    pub(crate) fn end_watched(&self) {
        if self.receives.get() {
            self.end_receiving();
        } else if self.waits_to_write.get() {
            self.interrupt(Interrupt::Shutdown);
        }
    }

    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.get()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        self.interrupted.get().is_none()
            && sys::peek_now(self.descriptor(), &mut byte)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle.get()
    }

    /// Sends the heartbeat if the stream was silent for so long and everything sent before has left this host
    /// (so that it is never sent in part, and never ahead of something that waits).
    pub(crate) fn send_heartbeat_if_due(&self, tick: u64) {
        let Some(beat) = self.heartbeat.get() else {
            return;
        };
        if tick < beat.due_tick
            || !sys::unacknowledged_bytes(self.descriptor()).is_ok_and(|bytes| bytes == 0)
        {
            return;
        }
        if sys::send_now(self.descriptor(), &[IoSlice::new(beat.bytes)])
            .is_ok_and(|sent| sent == beat.bytes.len())
        {
            self.heartbeats_sent.set(self.heartbeats_sent.get() + 1);
        }
        self.heartbeat.set(Some(Heartbeat {
            due_tick: tick + beat.every_ticks,
            ..beat
        }));
    }
}

/// A connected socket of this worker. Closed when dropped.
pub struct Stream {
    socket: Rc<Socket>,
    wheel: Wheel,
}

impl Stream {
    pub(crate) fn adopt(tcp: TcpStream, wheel: &Wheel) -> io::Result<Self> {
        // Events are small and must leave at once.
        tcp.set_nodelay(true)?;
        Ok(Self::over(tcp, wheel))
    }

    fn over(tcp: TcpStream, wheel: &Wheel) -> Self {
        let socket = Rc::new(Socket {
            descriptor: Descriptor::of(&tcp),
            tcp: UnsafeCell::new(tcp),
            interrupted: Cell::new(None),
            deadline_tick: Cell::new(NEVER),
            next_visit_tick: Cell::new(NEVER),
            watched: Cell::new(false),
            receives: Cell::new(true),
            waits_to_write: Cell::new(false),
            idle: Cell::new(false),
            tied: RefCell::new(Weak::new()),
            tied_outlives: Cell::new(false),
            orphaned: Cell::new(false),
            pace: Cell::new(Pace::UNKNOWN),
            heartbeat: Cell::new(None),
            heartbeats_sent: Cell::new(0),
        });
        Self {
            socket,
            wheel: wheel.clone(),
        }
    }

    /// Sets an option of a level that this crate knows nothing of.
    ///
    /// # Errors
    /// `setsockopt(2)`'s, or what a program attached to the socket's cgroup says.
    pub fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        option.set(self.socket.descriptor.as_fd())
    }

    /// The local address.
    ///
    /// # Errors
    /// `getsockname(2)`'s.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.operations().local_addr()
    }

    /// Waits until there is something to read, or the peer has closed, or the wait was interrupted. Owns no buffer, and
    /// may be dropped at any time.
    ///
    /// # Errors
    /// `Interrupted`, or the runtime's.
    pub async fn readable(&self) -> Result<(), IoError> {
        self.check()?;
        let waited = self.socket.operations().readable(false).await;
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
        match sys::receive_now(self.socket.descriptor(), lease.spare_mut()) {
            Ok(0) => Ok(Some(Received::End)),
            Ok(count) => {
                lease.grow(count);
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
        let (outcome, lease) = self.socket.operations().read(lease).await;
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
            self.readable().await?;
        }
        let (outcome, lease) = self.read(pace.lease(pool)).await;
        let received = outcome?;
        let waited_ticks = self.wheel.tick() - began_tick;
        pace.note(waited_ticks, lease.len(), lease.spare_bytes());
        self.socket.pace.set(pace);
        Ok(match received {
            Received::Bytes(_) => Some(lease),
            Received::End => None,
        })
    }

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
        self.send_within(parts, stall_timeout, NEVER).await
    }

    /// The same, but no longer than until `limit`, a value of `deadline_at`.
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
        let outcome = loop {
            self.set_deadline_within(stall_timeout, limit);
            match self.send_some(parts).await {
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

    /// One operation on the ring. All sends of a loop iteration reach the kernel together, in one system call.
    async fn send_some(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(feature = "probe")]
        parts.iter().for_each(|part| crate::probe::sent(part));
        let in_flight = InFlight;
        let outcome = match parts {
            [only] => self.socket.operations().write(Part::of(only)).await.0,
            several => self.socket.operations().writev(Parts::of(several)).await.0,
        };
        in_flight.ended();
        outcome
    }

    /// Sends what the kernel takes of `parts` at once; for last words that nothing waits for.
    pub fn send_without_waiting(&self, parts: &[IoSlice<'_>]) {
        if self.check().is_ok() {
            // What is not taken now is not sent at all.
            let _ = sys::send_now(self.socket.descriptor(), parts);
        }
    }

    /// From now on operations are interrupted once `after` has passed. Costs a store where the deadline moves away.
    pub fn set_deadline(&self, after: Duration) {
        self.socket.deadline_tick.set(self.wheel.tick_after(after));
        self.wheel.schedule(&self.socket);
    }

    /// The earlier of two deadlines: `after` from now, and `limit`, a value of `deadline_at`.
    pub fn set_deadline_within(&self, after: Duration, limit: u64) {
        self.socket
            .deadline_tick
            .set(self.wheel.tick_after(after).min(limit));
        self.wheel.schedule(&self.socket);
    }

    /// From now on operations are interrupted at `limit`, a value of `deadline_at`.
    pub fn set_deadline_at(&self, limit: u64) {
        self.socket.deadline_tick.set(limit);
        self.wheel.schedule(&self.socket);
    }

    /// The point in time `after` from now, for `set_deadline_within` and `set_deadline_at`.
    pub fn deadline_at(&self, after: Duration) -> u64 {
        self.wheel.tick_after(after)
    }

    /// Is this point in time, a value of `deadline_at`, in the past? As coarse as deadlines are, and as cheap.
    pub fn has_passed(&self, limit: u64) -> bool {
        self.wheel.tick() >= limit
    }

    /// No deadline.
    pub fn clear_deadline(&self) {
        self.socket.deadline_tick.set(NEVER);
    }

    /// From now on the wheel looks whether the peer has left, and interrupts this socket and the tied one if so.
    /// A client that only closes its sending side counts as gone: it cannot be told from one that has left.
    pub fn watch_peer(&self) {
        self.socket.watched.set(true);
        self.wheel.schedule(&self.socket);
    }

    /// Ends `watch_peer`.
    pub fn unwatch_peer(&self) {
        self.socket.watched.set(false);
    }

    /// From now on, whatever interrupts this socket interrupts `other` too.
    pub fn tie(&self, other: &Stream) {
        self.tie_so(other, false);
    }

    /// From now on, once this socket is interrupted, `other` goes on as an orphan: see `set_orphaned`.
    pub fn tie_as_orphan(&self, other: &Stream) {
        self.tie_so(other, true);
    }

    fn tie_so(&self, other: &Stream, outlives: bool) {
        self.socket.tied.replace(Rc::downgrade(&other.socket));
        self.socket.tied_outlives.set(outlives);
        if self.socket.interrupted.get().is_some() {
            self.socket.tell_tied();
        }
    }

    /// Nobody waits for what this socket brings: it may be ended before others (see `Wheel::end_orphaned`).
    pub fn set_orphaned(&self, orphaned: bool) {
        self.socket.orphaned.set(orphaned);
    }

    /// Ends `tie` and `tie_as_orphan`.
    pub fn untie(&self) {
        self.socket.tied.replace(Weak::new());
    }

    /// Why this socket was interrupted, if it was.
    pub fn interrupted(&self) -> Option<Interrupt> {
        self.socket.interrupted.get()
    }

    /// Something to interrupt this socket with from another task of the thread.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Rc::downgrade(&self.socket))
    }

    /// While armed, `bytes` are sent after every `every` of silence. Arm it only where something may be put between what
    /// was sent and what comes next, and disarm it before sending. Only for a socket whose peer is watched: others are not
    /// visited in between.
    pub fn arm_heartbeat(&self, bytes: &'static [u8], every: Duration) {
        let due_tick = self.wheel.tick_after(every);
        let every_ticks = due_tick - self.wheel.tick();
        self.socket.heartbeat.set(Some(Heartbeat {
            bytes,
            every_ticks,
            due_tick,
        }));
    }

    /// Ends `arm_heartbeat`.
    pub fn disarm_heartbeat(&self) {
        self.socket.heartbeat.set(None);
    }

    /// Heartbeats sent so far.
    pub fn heartbeats_sent(&self) -> u32 {
        self.socket.heartbeats_sent.get()
    }

    /// Nothing is going on: the connection may be ended at any time (see `Wheel::end_idle`).
    pub fn set_idle(&self, idle: bool) {
        self.socket.idle.set(idle);
    }

    /// Makes the close that follows a reset instead of an orderly end, so that what was sent cannot be taken for all.
    pub fn reset_on_close(&self) {
        let _ = self.socket.options().set_linger(Some(Duration::ZERO));
    }

    /// Closes the socket before this returns. One that is dropped is closed by the ring, at its next turn: until then
    /// it counts with those who count sockets.
    pub fn close_at_once(self) {
        if self.wheel.engine() != Engine::Epoll {
            // Where no descriptor is left to do it with, the ring does it.
            let _ = sys::close_beneath(self.socket.descriptor());
        }
    }

    /// Tells the peer that no more will be sent; reading goes on.
    pub fn finish_sending(&self) {
        let _ = self.socket.options().shutdown(Shutdown::Write);
    }

    /// Is the connection still as it was left: open, and nothing to read? What arrives on an idle upstream connection is
    /// its end, or an answer that nobody asked for.
    pub fn is_quiet(&self) -> bool {
        self.socket.is_quiet()
    }

    fn check(&self) -> Result<(), IoError> {
        match self.socket.interrupted.get() {
            Some(reason) => Err(IoError::Interrupted(reason)),
            None => Ok(()),
        }
    }
}

/// Interrupts a socket without keeping it open.
#[derive(Clone)]
pub struct Interrupter(Weak<Socket>);

impl Interrupter {
    /// Ends every wait on the socket, if it is still open.
    pub fn interrupt(&self, reason: Interrupt) {
        if let Some(socket) = self.0.upgrade() {
            socket.interrupt(reason);
        }
    }
}
