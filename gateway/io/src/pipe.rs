//! Connections in memory: a [`Stream`] like any other whose peer is a task of the same thread.
//!
//! The task holds the far end. It stands between the stream and a protocol that carries many exchanges over one socket: what it
//! pushes is what the near end receives, and what the near end sends it takes piece by piece. A send of the near end waits until
//! all of it was taken, so a peer that takes nothing stops whoever sends to it, as over a socket. Whoever pushes bounds how much
//! waits to be read: by the windows of its protocol.

use crate::lease::Lease;
use crate::sleeper::Sleeper;
use crate::socket::{Interrupt, Socket, Stream};
use crate::wheel::Wheel;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

/// Bytes of one send that wait to be taken at most: what is to be sent is copied, so that whoever takes it can keep it.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Opens a connection in memory: its near end, and the end of the task that is its peer.
pub fn pipe(wheel: &Wheel) -> (Stream, Far) {
    let between = Rc::new(Between::default());
    let stream = Stream::over_memory(Near(between.clone()), wheel);
    let far = Far {
        near: stream.downgrade(),
        between,
    };
    (stream, far)
}

/// What both ends share.
#[derive(Default)]
struct Between {
    inbound: RefCell<Inbound>,
    outbound: RefCell<Outbound>,
    /// The peer is gone.
    failed: Cell<bool>,
    /// The near end is gone.
    closed: Cell<bool>,
    closed_waker: Sleeper,
}

/// Towards the near end.
#[derive(Default)]
struct Inbound {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Nothing comes behind the pieces.
    ended: bool,
    /// What the near end has consumed and the far end was not told of.
    consumed_bytes: usize,
    reader: Sleeper,
    consumed_waker: Sleeper,
}

/// From the near end.
#[derive(Default)]
struct Outbound {
    pieces: VecDeque<Bytes>,
    /// Of what waits: what somebody waits for to be taken. It is the last.
    awaited_bytes: usize,
    /// Of what waits: what comes before that.
    ahead_bytes: usize,
    /// Nothing comes behind the pieces.
    finished: bool,
    sender: Sleeper,
    taker: Sleeper,
}

impl Inbound {
    fn end(&mut self) {
        self.ended = true;
        self.reader.wake();
    }

    fn is_readable(&self) -> bool {
        self.bytes > 0 || self.ended
    }

    fn fill(&mut self, lease: &mut Lease) -> usize {
        let mut filled_bytes = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let fitting = piece.len().min(lease.spare_bytes());
            let appended = lease.append(&piece[..fitting]);
            debug_assert!(appended, "it fits");
            piece.advance(fitting);
            filled_bytes += fitting;
            if !piece.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        self.bytes -= filled_bytes;
        self.note_consumed(filled_bytes);
        filled_bytes
    }

    fn note_consumed(&mut self, bytes: usize) {
        self.consumed_bytes += bytes;
        if bytes > 0 {
            self.consumed_waker.wake();
        }
    }
}

impl Outbound {
    fn waiting_bytes(&self) -> usize {
        self.ahead_bytes + self.awaited_bytes
    }

    /// A copy of as much of the parts as may wait.
    fn queue(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let all_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let taken_bytes = all_bytes.min(WAITING_BYTES_MAX);
        let mut piece = BytesMut::with_capacity(taken_bytes);
        for part in parts {
            let room = taken_bytes - piece.len();
            piece.extend_from_slice(&part[..part.len().min(room)]);
        }
        if !piece.is_empty() {
            self.pieces.push_back(piece.freeze());
            self.taker.wake();
        }
        taken_bytes
    }

    fn take(&mut self, bytes_max: usize) -> Option<Bytes> {
        let piece = self.pieces.front_mut()?;
        let taken = if piece.len() <= bytes_max {
            self.pieces.pop_front()?
        } else {
            piece.split_to(bytes_max)
        };
        let ahead = taken.len().min(self.ahead_bytes);
        self.ahead_bytes -= ahead;
        self.awaited_bytes -= taken.len() - ahead;
        self.sender.wake();
        Some(taken)
    }

    fn forget(&mut self) {
        self.pieces.clear();
        (self.ahead_bytes, self.awaited_bytes) = (0, 0);
    }
}

/// What a stream over memory reads from and sends to.
pub(crate) struct Near(Rc<Between>);

impl Near {
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let between = &self.0;
        if how != Shutdown::Write {
            between.inbound.borrow_mut().end();
        }
        if how != Shutdown::Read {
            let mut outbound = between.outbound.borrow_mut();
            outbound.finished = true;
            outbound.taker.wake();
        }
        if how == Shutdown::Both {
            between.outbound.borrow().sender.wake();
            between.close();
        }
    }

    pub(crate) fn peer_has_left(&self) -> bool {
        self.0.failed.get()
    }

    /// Nothing has come that was not read, not even an end.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.0.failed.get() && !self.0.inbound.borrow().is_readable()
    }

    /// All that was sent has been taken.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.0.outbound.borrow().waiting_bytes() == 0
    }

    pub(crate) fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check()?;
        let mut outbound = self.0.outbound.borrow_mut();
        let queued_bytes = outbound.queue(parts);
        outbound.ahead_bytes += queued_bytes;
        Ok(queued_bytes)
    }

    /// Waits until some of the parts was taken, and says how much. To be called again with what was not.
    pub(crate) async fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check()?;
        let before = {
            let mut outbound = self.0.outbound.borrow_mut();
            if outbound.awaited_bytes == 0 {
                outbound.awaited_bytes = outbound.queue(parts);
            }
            outbound.awaited_bytes
        };
        poll_fn(|context| {
            let mut outbound = self.0.outbound.borrow_mut();
            let taken_bytes = before - outbound.awaited_bytes;
            if taken_bytes > 0 || before == 0 {
                return Poll::Ready(Ok(taken_bytes));
            }
            if self.0.failed.get() || outbound.finished {
                outbound.forget();
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            outbound.sender.sleep(context);
            Poll::Pending
        })
        .await
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let inbound = self.0.inbound.borrow();
            if inbound.is_readable() || self.0.failed.get() {
                return Poll::Ready(Ok(()));
            }
            inbound.reader.sleep(context);
            Poll::Pending
        })
        .await
    }

    pub(crate) fn receive_now(&self, lease: &mut Lease) -> io::Result<usize> {
        let mut inbound = self.0.inbound.borrow_mut();
        if self.0.failed.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !inbound.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(inbound.fill(lease))
    }

    fn check(&self) -> io::Result<()> {
        if self.0.failed.get() || self.0.outbound.borrow().finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}

impl Between {
    fn close(&self) {
        self.closed.set(true);
        self.closed_waker.wake();
        self.inbound.borrow().consumed_waker.wake();
    }
}

/// The far end of a connection in memory; belongs to one task at a time. Where it is dropped its peer is gone, as after `fail`.
pub struct Far {
    between: Rc<Between>,
    near: Weak<Socket>,
}

impl Far {
    /// Sends these bytes to the near end, which finds them behind those before. Nothing happens where it takes no more.
    pub fn push(&self, bytes: Bytes) {
        let mut inbound = self.between.inbound.borrow_mut();
        if inbound.ended {
            return inbound.note_consumed(bytes.len());
        }
        if !bytes.is_empty() {
            inbound.bytes += bytes.len();
            inbound.pieces.push_back(bytes);
            inbound.reader.wake();
        }
    }

    /// Nothing more comes: behind what was pushed the near end reads the end.
    pub fn end(&self) {
        self.between.inbound.borrow_mut().end();
    }

    /// The peer is gone: the near end's operations fail from now on, and where its peer is watched it is interrupted.
    pub fn fail(&self) {
        if self.between.failed.replace(true) {
            return;
        }
        self.between.inbound.borrow().reader.wake();
        self.between.outbound.borrow().sender.wake();
        if let Some(near) = self.near.upgrade()
            && near.watched.get()
        {
            near.interrupt(Interrupt::PeerGone);
        }
    }

    /// Pushed, and not read by the near end.
    pub fn unread_bytes(&self) -> usize {
        self.between.inbound.borrow().bytes
    }

    /// How much the near end has consumed since this was asked last, once that is more than nothing. Of one that is gone: 0.
    pub fn poll_consumed(&self, context: &Context<'_>) -> Poll<usize> {
        let mut inbound = self.between.inbound.borrow_mut();
        let consumed_bytes = std::mem::take(&mut inbound.consumed_bytes);
        if consumed_bytes > 0 || self.between.closed.get() {
            return Poll::Ready(consumed_bytes);
        }
        inbound.consumed_waker.sleep(context);
        Poll::Pending
    }

    /// The next piece of what the near end sends, of so many bytes at most (not 0). `None`: it sends no more, since it has
    /// finished, was interrupted or is gone.
    pub fn poll_take(&self, context: &Context<'_>, bytes_max: usize) -> Poll<Option<Bytes>> {
        let mut outbound = self.between.outbound.borrow_mut();
        if let Some(piece) = outbound.take(bytes_max) {
            return Poll::Ready(Some(piece));
        }
        if outbound.finished {
            return Poll::Ready(None);
        }
        outbound.taker.sleep(context);
        Poll::Pending
    }

    /// The same without taking it: what the near end sends next, as far as it is in one piece. It is taken bit by bit with `take`,
    /// and the near end waits for what was not.
    pub fn poll_front(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let outbound = self.between.outbound.borrow();
        if let Some(piece) = outbound.pieces.front() {
            return Poll::Ready(Some(piece.clone()));
        }
        if outbound.finished {
            return Poll::Ready(None);
        }
        outbound.taker.sleep(context);
        Poll::Pending
    }

    /// Takes so many bytes of what `poll_front` has shown.
    pub fn take(&self, bytes: usize) {
        if bytes > 0 {
            // Of a near end that is gone there may be nothing left.
            let _ = self.between.outbound.borrow_mut().take(bytes);
        }
    }

    /// Waits until the near end is gone.
    pub fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        if self.between.closed.get() {
            return Poll::Ready(());
        }
        self.between.closed_waker.sleep(context);
        Poll::Pending
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.fail();
    }
}
