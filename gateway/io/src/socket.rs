//! Connected sockets: reading and writing, deadlines, and being ended from outside.

mod connect;
mod receiving;
mod sending;
mod transport;

pub use connect::{ConnectError, Origin};

use crate::engine::Engine;
use crate::option::{OptionSetter, SocketOption};
use crate::pace::Pace;
use crate::pipe::Near;
use crate::sys;
use crate::wheel::Wheel;
use monoio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;
pub(crate) use transport::Tcp;
use transport::Transport;

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
    transport: Transport,
    pub(crate) interrupted: Cell<Option<Interrupt>>,
    pub(crate) deadline_tick: Cell<u64>,
    pub(crate) next_visit_tick: Cell<u64>,
    pub(crate) watched: Cell<bool>,
    /// Its number with those whose peers' departures the kernel tells.
    pub(crate) enlisted: Cell<Option<u64>>,
    /// The kernel has told that one side has ended, whoever it was.
    pub(crate) has_ended: Cell<bool>,
    /// The receiving side was not shut by ourselves.
    receives: Cell<bool>,
    /// A task waits for room to write, or for a connection.
    pub(crate) waits_to_write: Cell<bool>,
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
    /// The kernel will tell when its peer leaves, and has not yet.
    pub(crate) fn is_enlisted(&self) -> bool {
        self.enlisted.get().is_some() && !self.has_ended.get()
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.transport.tcp().ok()?.descriptor.as_fd())
    }

    /// Everything that was sent has left for good.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.transport.has_sent_all()
    }

    /// When the next heartbeat is due.
    pub(crate) fn heartbeat_tick(&self) -> u64 {
        self.heartbeat.get().map_or(NEVER, |beat| beat.due_tick)
    }

    pub(crate) fn peer_has_left(&self) -> bool {
        self.transport.peer_has_left(self.receives.get())
    }

    /// Ends the connection's receiving side: what has arrived is still read and answered, then comes the end.
    pub(crate) fn end_receiving(&self) {
        self.receives.set(false);
        self.transport.shutdown(Shutdown::Read);
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
        self.transport.shutdown(how);
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

    pub(crate) fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        option.set(self.transport.tcp()?.descriptor.as_fd())
    }

    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.get()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.interrupted.get().is_none() && self.transport.is_quiet()
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
        if tick < beat.due_tick || !self.has_sent_all() {
            return;
        }
        let sent = self.transport.send_now(&[IoSlice::new(beat.bytes)]);
        if sent.is_ok_and(|sent| sent == beat.bytes.len()) {
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
        Self::over_transport(Transport::Tcp(Tcp::of(tcp)), wheel)
    }

    pub(crate) fn over_memory(near: Near, wheel: &Wheel) -> Self {
        Self::over_transport(Transport::Memory(near), wheel)
    }

    fn over_transport(transport: Transport, wheel: &Wheel) -> Self {
        let socket = Rc::new(Socket {
            transport,
            interrupted: Cell::new(None),
            deadline_tick: Cell::new(NEVER),
            next_visit_tick: Cell::new(NEVER),
            watched: Cell::new(false),
            enlisted: Cell::new(None),
            has_ended: Cell::new(false),
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

    pub(crate) fn downgrade(&self) -> Weak<Socket> {
        Rc::downgrade(&self.socket)
    }

    /// Sets an option of a level that this crate knows nothing of.
    ///
    /// # Errors
    /// `setsockopt(2)`'s, or what a program attached to the socket's cgroup says; `ENOTSOCK` where there is none (`pipe`).
    pub fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        self.socket.set_option(option)
    }

    /// The same later, from wherever it is known what to set.
    pub fn option_setter(&self) -> OptionSetter {
        OptionSetter(self.downgrade())
    }

    /// The local address.
    ///
    /// # Errors
    /// `getsockname(2)`'s; `ENOTSOCK` where there is none (`pipe`).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp()?.operations().local_addr()
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

    /// From now on the wheel notices when the peer leaves, and interrupts this socket and the tied one then.
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

    /// This side has not stopped receiving: an end that is read is the peer's.
    pub fn receives(&self) -> bool {
        self.socket.receives.get()
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
        self.wheel.schedule(&self.socket);
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
        if let Ok(tcp) = self.tcp() {
            if let Some(tls) = tcp.tls() {
                tls.say_nothing();
            }
            let _ = tcp.options().set_linger(Some(Duration::ZERO));
        }
    }

    /// Closes the socket before this returns. One that is dropped is closed by the ring, at its next turn: until then
    /// it counts with those who count sockets.
    pub fn close_at_once(self) {
        if self.wheel.engine() != Engine::Epoll
            && let Ok(tcp) = self.tcp()
        {
            if let Some(tls) = tcp.tls() {
                tls.say_goodbye(tcp);
            }
            // Where no descriptor is left to do it with, the ring does it.
            let _ = sys::close_beneath(tcp.descriptor.raw());
        }
    }

    /// Tells the peer that no more will be sent; reading goes on.
    pub fn finish_sending(&self) {
        self.socket.transport.shutdown(Shutdown::Write);
    }

    /// Is the connection still as it was left: open, and nothing to read? What arrives on an idle upstream connection is
    /// its end, or an answer that nobody asked for. Not while somebody waits to read from it.
    pub fn is_quiet(&self) -> bool {
        self.socket.transport.catch_up();
        self.socket.is_quiet()
    }

    /// The socket beneath; `ENOTSOCK` where there is none.
    pub(crate) fn tcp(&self) -> io::Result<&Tcp> {
        self.socket.transport.tcp()
    }

    pub(crate) fn engine(&self) -> Engine {
        self.wheel.engine()
    }

    pub(crate) fn check(&self) -> Result<(), IoError> {
        match self.socket.interrupted.get() {
            Some(reason) => Err(IoError::Interrupted(reason)),
            None => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wheel.strike_off(&self.socket);
    }
}

/// Interrupts a socket, and sees whether its peer takes what is sent, without keeping it open.
#[derive(Clone)]
pub struct Interrupter(Weak<Socket>);

impl Interrupter {
    /// Ends every wait on the socket, if it is still open.
    pub fn interrupt(&self, reason: Interrupt) {
        if let Some(socket) = self.0.upgrade() {
            socket.interrupt(reason);
        }
    }

    /// What is sent waits for the peer to take it, or has waited for too long.
    pub fn is_held_up(&self) -> bool {
        self.0.upgrade().is_some_and(|socket| {
            socket.waits_to_write.get() || socket.interrupted.get() == Some(Interrupt::Deadline)
        })
    }
}
