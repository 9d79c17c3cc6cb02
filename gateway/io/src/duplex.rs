//! A connection as protocols want it that are written for tokio's `AsyncRead` and `AsyncWrite` (HTTP/2).
//!
//! Those poll: whoever polls may be dropped at any time, while an operation on the ring must not be. So two tasks pump: one
//! receives into a lease, from which is read; one sends what was written meanwhile, in one go, so that all the frames of one
//! turn of the loop leave together. While nothing is going on neither of them holds a buffer; the protocol does: `h2` keeps
//! buffers of its own for the frames that it reads and writes, 16 to 24 KiB for each connection.
//!
//! The two halves: [`Duplex`] is given to the protocol; [`DuplexHandle`] stays with the connection's owner, who sets deadlines,
//! is told how the connection ended, and closes it.

use crate::either::either;
use crate::engine::{pause, spawn};
use crate::lease::{LARGE_LEASE_BYTES, Lease, Pool, SMALL_LEASE_BYTES};
use crate::sleeper::Sleeper;
use crate::socket::{Interrupt, IoError, Stream};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a connection which is being closed still takes in and throws away: a close with unread bytes would become a
/// reset, which could overtake what was sent last.
const DISCARDED_BYTES_MAX: usize = 256 * 1024;

/// How a connection ended, or why nothing more is received on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer will send no more.
    Peer,
    /// This side has stopped receiving (`Wheel::end_idle`, `Wheel::end_all`). Sending goes on.
    Shut,
    /// The deadline passed that the owner had set. Sending goes on.
    Deadline,
    /// The watch did not let something pass. Sending goes on.
    Refused,
    /// The peer takes nothing.
    Stalled,
    /// It was interrupted from elsewhere, or its peer is gone.
    Interrupted(Interrupt),
    /// The kernel or the transport said so.
    Failed(io::ErrorKind),
    /// What receives or sends has panicked.
    Panicked,
}

impl Ending {
    /// Can what is left to say still be sent?
    pub fn sending_goes_on(self) -> bool {
        match self {
            Self::Peer | Self::Shut | Self::Deadline | Self::Refused => true,
            Self::Stalled | Self::Interrupted(_) | Self::Failed(_) | Self::Panicked => false,
        }
    }

    fn of(error: &IoError, is_sending: bool) -> Self {
        match error {
            IoError::Interrupted(Interrupt::Deadline) if is_sending => Self::Stalled,
            IoError::Interrupted(Interrupt::Deadline) => Self::Deadline,
            IoError::Interrupted(reason) => Self::Interrupted(*reason),
            IoError::Socket(error) => Self::Failed(error.kind()),
        }
    }

    fn error(self) -> io::Error {
        match self {
            Self::Failed(kind) => kind.into(),
            Self::Stalled => io::ErrorKind::TimedOut.into(),
            _ => io::ErrorKind::ConnectionAborted.into(),
        }
    }
}

/// Sees everything that is received before the protocol does, and says whether it may.
pub type Watch = Box<dyn FnMut(&[u8]) -> bool>;

/// The protocol's half.
pub struct Duplex {
    shared: Rc<Shared>,
}

/// The owner's half.
pub struct DuplexHandle {
    shared: Rc<Shared>,
}

struct Shared {
    stream: Stream,
    pool: Pool,
    stall_timeout: Duration,
    /// Received, and not read yet.
    incoming: RefCell<Option<Lease>>,
    /// So much of it may be read before the owner's next turn.
    turn_bytes_left: Cell<usize>,
    /// That was not enough, and those that the reader has woken have not all had their turn yet.
    turn_is_over: Cell<bool>,
    /// Written, and not taken by the sending task yet.
    outgoing: RefCell<Option<Lease>>,
    is_sending: Cell<bool>,
    /// What is received is not wanted any more.
    discards: Cell<bool>,
    /// Nothing more is written.
    finishes: Cell<bool>,
    ending: Cell<Option<Ending>>,
    /// A value of `Stream::deadline_at`. Kept here since a send has a deadline of its own meanwhile.
    deadline: Cell<Option<u64>>,
    pumps: Cell<u8>,
    receiver: Sleeper,
    sender: Sleeper,
    reader: Sleeper,
    writer: Sleeper,
    owner: Sleeper,
}

impl Duplex {
    /// Takes over a connection, of which `begun` has been received already. A write that makes no progress for
    /// `stall_timeout` ends it.
    pub fn over(
        stream: Stream,
        begun: Option<Lease>,
        pool: &Pool,
        stall_timeout: Duration,
        mut watch: Watch,
    ) -> (Self, DuplexHandle) {
        let is_refused = begun.as_ref().is_some_and(|lease| !watch(lease.filled()));
        let shared = Rc::new(Shared {
            stream,
            pool: pool.clone(),
            stall_timeout,
            incoming: RefCell::new(begun.filter(|lease| !is_refused && !lease.is_empty())),
            turn_bytes_left: Cell::new(usize::MAX),
            turn_is_over: Cell::new(false),
            outgoing: RefCell::default(),
            is_sending: Cell::new(false),
            discards: Cell::new(is_refused),
            finishes: Cell::new(false),
            ending: Cell::new(is_refused.then_some(Ending::Refused)),
            deadline: Cell::new(None),
            pumps: Cell::new(2),
            receiver: Sleeper::default(),
            sender: Sleeper::default(),
            reader: Sleeper::default(),
            writer: Sleeper::default(),
            owner: Sleeper::default(),
        });
        spawn(pump(shared.clone(), receive_all(shared.clone(), watch)));
        spawn(pump(shared.clone(), send_all(shared.clone())));
        (
            Self {
                shared: shared.clone(),
            },
            DuplexHandle { shared },
        )
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &self.shared;
        let mut incoming = shared.incoming.borrow_mut();
        if let Some(lease) = incoming.as_mut() {
            let turn_bytes_left = shared.turn_bytes_left.get();
            if turn_bytes_left == 0 {
                shared.reader.sleep(context);
                shared.end_turn();
                return Poll::Pending;
            }
            let count = lease.len().min(out.remaining()).min(turn_bytes_left);
            out.put_slice(&lease.filled()[..count]);
            lease.consume(count);
            shared.turn_bytes_left.set(turn_bytes_left - count);
            if lease.is_empty() {
                *incoming = None;
                shared.receiver.wake();
            }
            return Poll::Ready(Ok(()));
        }
        match shared.ending.get() {
            Some(Ending::Peer) => Poll::Ready(Ok(())),
            Some(ending) if !ending.sending_goes_on() => Poll::Ready(Err(ending.error())),
            // The owner decides what becomes of a connection on which nothing more is received.
            _ => {
                shared.reader.sleep(context);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        if let Some(ending) = shared.over() {
            return Poll::Ready(Err(ending.error()));
        }
        let written = shared.append(parts);
        if written > 0 || parts.iter().all(|part| part.is_empty()) {
            shared.sender.wake();
            return Poll::Ready(Ok(written));
        }
        shared.writer.sleep(context);
        Poll::Pending
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way without being asked for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The protocol has said all; what was written is still sent by the owner's `close`.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl DuplexHandle {
    /// The connection, for what is neither reading nor sending nor a deadline.
    pub fn stream(&self) -> &Stream {
        &self.shared.stream
    }

    /// The protocol reads so many bytes at most before this is called again, by the task that is woken then. What it makes of them may
    /// take much more memory than they do, and is to be looked at before there is more of it. Never called: as many as there are.
    ///
    /// Does nothing where the turn before was not enough and the task comes too early, having been woken by something else.
    pub fn begin_turn(&self, bytes_max: usize) {
        if !self.shared.turn_is_over.get() {
            self.shared.turn_bytes_left.set(bytes_max);
        }
    }

    /// How the connection ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.shared.ending.get()
    }

    /// Waits until the connection has ended, or nothing more is received on it.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<Ending> {
        if let Some(ending) = self.ending() {
            return Poll::Ready(ending);
        }
        self.shared.owner.sleep(context);
        Poll::Pending
    }

    /// From now on nothing is received any more once `after` has passed (`Ending::Deadline`). A send that is under way is given
    /// its own time.
    pub fn set_deadline(&self, after: Duration) {
        self.shared
            .deadline
            .set(Some(self.shared.stream.deadline_at(after)));
        self.shared.apply_deadline();
    }

    /// No deadline.
    pub fn clear_deadline(&self) {
        self.shared.deadline.set(None);
        self.shared.apply_deadline();
    }

    /// Closes the connection, in order as far as that takes no longer than `within`: what was written is sent, then the end, and
    /// what the peer still sends is read, since a close with unread bytes could take with it what was sent. The socket is
    /// closed when this returns, unless the protocol's half still exists.
    pub async fn close(self, within: Duration) {
        let shared = &self.shared;
        self.clear_deadline();
        shared.discards.set(true);
        shared.finishes.set(true);
        shared.incoming.replace(None);
        shared.receiver.wake();
        shared.sender.wake();
        if shared.pumps.get() > 0 && !within.is_zero() {
            either(shared.pumps_ended(), pause(within)).await;
        }
        if shared.pumps.get() > 0 {
            shared.cut();
            shared.pumps_ended().await;
        }
    }
}

/// Where the owner's task was ended by a panic, nobody closes: the two tasks would keep the socket open for ever.
impl Drop for DuplexHandle {
    fn drop(&mut self) {
        if self.shared.pumps.get() > 0 {
            self.shared.cut();
        }
    }
}

impl Shared {
    /// How it ended, if nothing can be sent any more.
    fn over(&self) -> Option<Ending> {
        self.ending.get().filter(|ending| !ending.sending_goes_on())
    }

    /// The first reason is kept, unless the connection could still be used in spite of it.
    fn end(&self, ending: Ending) {
        if self.over().is_none() && (self.ending.get().is_none() || !ending.sending_goes_on()) {
            self.ending.set(Some(ending));
        }
        if self.over().is_some() {
            self.outgoing.replace(None);
        }
        self.owner.wake();
        self.reader.wake();
        self.writer.wake();
        self.sender.wake();
        self.receiver.wake();
    }

    /// Ends the two tasks, whatever they are waiting for.
    fn cut(&self) {
        self.discards.set(true);
        self.finishes.set(true);
        self.stream.interrupter().interrupt(Interrupt::Shutdown);
        self.receiver.wake();
        self.sender.wake();
    }

    fn apply_deadline(&self) {
        if self.is_sending.get() {
            return;
        }
        match self.deadline.get() {
            Some(limit) => self.stream.set_deadline_at(limit),
            None => self.stream.clear_deadline(),
        }
    }

    /// Lets the reader go on once those have had their turn that it has woken, and those that it still wakes in this poll. A task
    /// that wakes itself comes before all others; one that another task wakes comes behind them.
    fn end_turn(self: &Rc<Self>) {
        if self.turn_is_over.replace(true) {
            return;
        }
        let shared = Rc::downgrade(self);
        spawn(async move {
            if let Some(shared) = shared.upgrade() {
                shared.turn_is_over.set(false);
                shared.reader.wake();
            }
        });
    }

    /// Copies as much of `parts` as there is room for.
    fn append(&self, parts: &[IoSlice<'_>]) -> usize {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            return 0;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let lease = match outgoing.take() {
            Some(lease) if lease.spare_bytes() < wanted => lease.widen(),
            Some(lease) => lease,
            None if wanted <= SMALL_LEASE_BYTES => self.pool.small(),
            None => self.pool.large(),
        };
        debug_assert!(lease.len() <= LARGE_LEASE_BYTES);
        let lease = outgoing.insert(lease);
        let before = lease.len();
        for part in parts {
            let count = part.len().min(lease.spare_bytes());
            let fits = lease.append(&part[..count]);
            debug_assert!(fits, "no more than there is room for");
        }
        lease.len() - before
    }

    /// Before each send: during one the socket has another deadline, and where one follows the other it has never the owner's.
    /// And where that one has passed already, it must not end the send.
    fn notice_deadline(&self) {
        let has_passed = self
            .deadline
            .get()
            .is_some_and(|limit| self.stream.has_passed(limit));
        if has_passed || self.stream.interrupted() == Some(Interrupt::Deadline) {
            self.deadline.set(None);
            self.stream.forgive_deadline();
            self.apply_deadline();
            self.end(Ending::Deadline);
        }
    }

    async fn room_to_receive(&self) {
        poll_fn(|context| {
            let is_free = self.incoming.borrow().is_none();
            if is_free || self.discards.get() || self.over().is_some() {
                return Poll::Ready(());
            }
            self.receiver.sleep(context);
            Poll::Pending
        })
        .await;
    }

    /// What is to be sent next; `None`: nothing ever again.
    async fn next_outgoing(&self) -> Option<Lease> {
        poll_fn(|context| {
            if self.over().is_some() {
                return Poll::Ready(None);
            }
            if let Some(lease) = self.outgoing.take() {
                return Poll::Ready(Some(lease));
            }
            if self.finishes.get() {
                return Poll::Ready(None);
            }
            self.sender.sleep(context);
            Poll::Pending
        })
        .await
    }

    async fn pumps_ended(&self) {
        poll_fn(|context| {
            if self.pumps.get() == 0 {
                return Poll::Ready(());
            }
            self.owner.sleep(context);
            Poll::Pending
        })
        .await;
    }

    fn pump_ends(&self) {
        self.pumps.set(self.pumps.get() - 1);
        self.owner.wake();
    }
}

/// Runs one of the two tasks. A panic in it, be it of the watch or of what decrypts, ends the connection and nothing else.
async fn pump(shared: Rc<Shared>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let outcome = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
    });
    if outcome.await.is_err() {
        shared.end(Ending::Panicked);
    }
    shared.pump_ends();
}

/// The task that receives.
async fn receive_all(shared: Rc<Shared>, mut watch: Watch) {
    let mut discarded_bytes = 0;
    loop {
        shared.room_to_receive().await;
        let ending = match shared.stream.receive(&shared.pool).await {
            // Behind a deadline that has passed nothing is of interest either.
            Ok(Some(lease)) if shared.discards.get() || shared.ending.get().is_some() => {
                discarded_bytes += lease.len();
                if discarded_bytes < DISCARDED_BYTES_MAX {
                    continue;
                }
                break;
            }
            Ok(Some(lease)) if watch(lease.filled()) => {
                shared.incoming.replace(Some(lease));
                shared.reader.wake();
                continue;
            }
            Ok(Some(_)) => {
                shared.discards.set(true);
                shared.end(Ending::Refused);
                continue;
            }
            Ok(None) if shared.stream.receives() => Ending::Peer,
            Ok(None) => Ending::Shut,
            Err(error) => Ending::of(&error, shared.is_sending.get()),
        };
        if ending == Ending::Deadline {
            shared.stream.forgive_deadline();
        }
        shared.end(ending);
        break;
    }
}

/// The task that sends.
async fn send_all(shared: Rc<Shared>) {
    while let Some(lease) = shared.next_outgoing().await {
        shared.notice_deadline();
        shared.is_sending.set(true);
        let mut parts = [IoSlice::new(lease.filled())];
        let sent = shared.stream.send(&mut parts, shared.stall_timeout).await;
        drop(lease);
        if let Err(error) = sent {
            shared.end(Ending::of(&error, true));
        }
        shared.is_sending.set(false);
        shared.apply_deadline();
        shared.writer.wake();
    }
    if shared.over().is_none() {
        shared.stream.finish_sending();
    }
}
