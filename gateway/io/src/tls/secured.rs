//! A session over a socket: the operations of a connection that was secured.
//!
//! A read and a send may be under way at the same time. Each borrows the session only between its operations on the ring, and what
//! is encrypted leaves in the order in which it was encrypted: one send at a time, what the protocol itself has to say in between.

use crate::lease::{Lease, SMALL_LEASE_BYTES};
use crate::socket::Tcp;
use crate::tls::session::Session;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::pin;

/// What a peer says without data (tickets, a new key) comes in a read or two. A connection that brings more is not quiet.
const READS_TO_CATCH_UP_MAX: u32 = 4;

pub(crate) struct Tls {
    session: RefCell<Session>,
    /// Encrypted, and to be sent before anything else.
    unsent: RefCell<Option<Lease>>,
    /// How much of a message `unsent` is: what its send reports once it was sent.
    awaited_bytes: Cell<usize>,
    /// A read is under way.
    reads: Cell<bool>,
    /// Its lease holds the beginning of a record.
    reads_on: Cell<bool>,
    /// A send is under way: its lease comes before `unsent`.
    sends: Cell<bool>,
    /// The receiving side was not shut by ourselves.
    receives: Cell<bool>,
    /// The peer is told no more: it was told the end, or may have got a record in part.
    is_mute: Cell<bool>,
    /// Room that the last read left in its buffer.
    spare_bytes: Cell<usize>,
}

impl Tls {
    pub(crate) fn over(session: Session) -> Self {
        Self {
            session: RefCell::new(session),
            unsent: RefCell::new(None),
            awaited_bytes: Cell::new(0),
            reads: Cell::new(false),
            reads_on: Cell::new(false),
            sends: Cell::new(false),
            receives: Cell::new(true),
            is_mute: Cell::new(false),
            spare_bytes: Cell::new(0),
        }
    }

    /// Room that the last read left in its buffer: none, if more was there.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.spare_bytes.get()
    }

    pub(crate) async fn readable(&self, tcp: &Tcp) -> io::Result<()> {
        if self.has_news() {
            return Ok(());
        }
        tcp.readable().await
    }

    /// The next read needs nothing from the socket.
    fn has_news(&self) -> bool {
        self.session.borrow().has_news()
    }

    /// Waits for plaintext, and fills the lease's spare room; 0 at the end.
    ///
    /// Not an `async fn`: it would keep the lease twice, and so would all that waits for it.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    pub(crate) fn read(
        &self,
        tcp: &Tcp,
        mut lease: Lease,
    ) -> impl Future<Output = (io::Result<usize>, Lease)> {
        async move {
            loop {
                if let Some(outcome) = self.deliver(&mut lease) {
                    return (outcome, lease);
                }
                // Nothing large is kept waiting for the rest of a record.
                if self.session.borrow().wanted_bytes() > SMALL_LEASE_BYTES
                    && let Err(error) = tcp.readable().await
                {
                    return (Err(error), lease);
                }
                let buffer = self.room(&mut lease);
                self.reads_on.set(!buffer.is_empty());
                self.reads.set(true);
                let (outcome, buffer) = pin!(tcp.read(buffer)).await;
                self.reads.set(false);
                match outcome {
                    Ok(0) => return (self.end(), self.give_back(buffer, lease)),
                    Err(error) => return (Err(error), self.give_back(buffer, lease)),
                    Ok(_) => {}
                }
                if !lease.has_memory() {
                    lease = buffer.pool().fitting(buffer.len());
                }
                if let Some(count) = self.take_in(tcp, buffer, &mut lease) {
                    return (Ok(count), lease);
                }
            }
        }
    }

    /// Fills the lease's spare room; 0 at the end, `WouldBlock` where nothing is there, or nothing that the first bytes at hand
    /// bring: a peer that sends records without plaintext does not hold up everybody else.
    pub(crate) fn receive_now(&self, tcp: &Tcp, lease: &mut Lease) -> io::Result<usize> {
        if let Some(outcome) = self.deliver(lease) {
            return outcome;
        }
        if self.reads.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let room_bytes = lease.spare_bytes();
        let mut session = self.session.borrow_mut();
        let mut buffer = session.room(|pool| pool.fitting(room_bytes));
        match tcp.receive_now(&mut buffer) {
            Ok(1..) => {}
            other => {
                session.put_back(buffer);
                return match other {
                    Ok(_) => self.end(),
                    Err(error) => Err(error),
                };
            }
        }
        drop(session);
        match self.take_in(tcp, buffer, lease) {
            Some(count) => Ok(count),
            // The end, or a failure.
            None => self
                .deliver(lease)
                .unwrap_or_else(|| Err(ErrorKind::WouldBlock.into())),
        }
    }

    /// What can be told without the socket.
    fn deliver(&self, lease: &mut Lease) -> Option<io::Result<usize>> {
        let mut session = self.session.borrow_mut();
        if !session.has_news() {
            return None;
        }
        match session.take_opened(lease) {
            // It has no room. More is not read before: what it brought would have none either.
            0 if session.has_opened() => Some(Err(ErrorKind::WouldBlock.into())),
            0 if session.has_ended() => Some(Ok(0)),
            0 => session
                .failure()
                .map(|error| Err(io::Error::new(ErrorKind::InvalidData, error.clone()))),
            count => Some(Ok(count)),
        }
    }

    /// The lease itself, where it holds nothing: it goes on to the kernel, and plaintext is handed out in another.
    fn room(&self, lease: &mut Lease) -> Lease {
        self.session
            .borrow_mut()
            .room(|pool| match lease.is_empty() {
                true => lease.take(),
                false => pool.fitting(lease.spare_bytes()),
            })
    }

    fn give_back(&self, buffer: Lease, lease: Lease) -> Lease {
        if lease.has_memory() {
            self.session.borrow_mut().put_back(buffer);
            lease
        } else if buffer.is_empty() {
            buffer
        } else {
            let instead = buffer.pool().fitting(buffer.len());
            self.session.borrow_mut().put_back(buffer);
            instead
        }
    }

    /// Decrypts what was received; says how much plaintext the lease got, if any.
    fn take_in(&self, tcp: &Tcp, buffer: Lease, lease: &mut Lease) -> Option<usize> {
        self.spare_bytes.set(buffer.spare_bytes());
        let held_bytes = lease.len();
        // A failure is told once everything before it was read.
        let _ = self.session.borrow_mut().feed(buffer, lease);
        self.flush(tcp);
        Some(lease.len() - held_bytes).filter(|count| *count > 0)
    }

    /// The connection has ended, and not by a close_notify: somebody may have cut it (RFC 8446 section 6.1). What was shut here was
    /// cut by nobody.
    fn end(&self) -> io::Result<usize> {
        match self.receives.get() {
            true => Err(ErrorKind::UnexpectedEof.into()),
            false => Ok(0),
        }
    }

    /// Sends some of the parts, and says how much of them was sent to its end: nothing, where records are left to be sent.
    pub(crate) async fn send(&self, tcp: &Tcp, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(mut lease) = self.next_to_send(parts)? else {
            return Ok(0);
        };
        self.sends.set(true);
        let outcome = pin!(tcp.send_one(lease.filled())).await;
        self.sends.set(false);
        match outcome {
            Ok(sent) => lease.consume(sent),
            Err(error) => {
                self.is_mute.set(true);
                return Err(error);
            }
        }
        if !lease.is_empty() {
            self.unsent.replace(Some(lease));
            return Ok(0);
        }
        drop(lease);
        self.flush(tcp);
        Ok(self.awaited_bytes.take())
    }

    fn next_to_send(&self, parts: &[IoSlice<'_>]) -> io::Result<Option<Lease>> {
        if self.is_mute.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if let Some(lease) = self.unsent.take() {
            return Ok(Some(lease));
        }
        self.awaited_bytes.set(0);
        let mut session = self.session.borrow_mut();
        if let Some(lease) = session.take_outgoing() {
            return Ok(Some(lease));
        }
        let (lease, count) = session.seal(parts).map_err(io::Error::other)?;
        self.awaited_bytes.set(count);
        Ok(Some(lease).filter(|lease| !lease.is_empty()))
    }

    /// Sends the first bytes of the parts at once, as many as fit one lease. What the kernel does not take is sent before what
    /// comes next: a record cannot be taken back.
    pub(crate) fn send_now(&self, tcp: &Tcp, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_mute.get() || self.sends.get() || !self.flush(tcp) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let sealed = self.session.borrow_mut().seal(parts);
        let (lease, count) = sealed.map_err(io::Error::other)?;
        self.unsent.replace(Some(lease));
        self.flush(tcp);
        Ok(count)
    }

    /// Sends what is to be sent before anything else, as far as the kernel takes it. Was that all?
    fn flush(&self, tcp: &Tcp) -> bool {
        if self.sends.get() {
            return false;
        }
        if self.has_sent_all() {
            return true;
        }
        loop {
            let unsent = self.unsent.take();
            let Some(mut lease) = unsent.or_else(|| self.session.borrow_mut().take_outgoing())
            else {
                return true;
            };
            match tcp.send_now(&[IoSlice::new(lease.filled())]) {
                Ok(sent) => lease.consume(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.is_mute.set(true);
                    return false;
                }
            }
            if !lease.is_empty() {
                self.unsent.replace(Some(lease));
                return false;
            }
        }
    }

    /// Everything that was encrypted was given to the kernel.
    pub(crate) fn has_sent_all(&self) -> bool {
        !self.sends.get() && self.unsent.borrow().is_none() && !self.session.borrow().has_outgoing()
    }

    /// Open, and nothing to read.
    pub(crate) fn is_quiet(&self, tcp: &Tcp) -> bool {
        let has_begun =
            self.reads.get() && self.reads_on.get() || self.session.borrow().has_sealed();
        !has_begun && !self.has_news() && tcp.is_quiet()
    }

    /// Takes note of what the protocol itself has said meanwhile (new tickets, mostly). Only for who does not wait to read at the
    /// same time: plaintext that is found stays for the next read, and wakes nobody.
    pub(crate) fn catch_up(&self, tcp: &Tcp) {
        let mut nothing = self.session.borrow().pool().none();
        for _ in 0..READS_TO_CATCH_UP_MAX {
            if self.reads.get() || self.has_news() || tcp.is_quiet() {
                return;
            }
            // An end and a failure are told by the next read, too.
            let _ = self.receive_now(tcp, &mut nothing);
        }
    }

    /// For a connection that is to end in a way that cannot be taken for an orderly one.
    pub(crate) fn say_nothing(&self) {
        self.is_mute.set(true);
    }

    /// Before the socket is shut.
    pub(crate) fn shutdown(&self, tcp: &Tcp, how: Shutdown) {
        if how != Shutdown::Write {
            self.receives.set(false);
        }
        match how {
            Shutdown::Read => {}
            Shutdown::Write => self.say_goodbye(tcp),
            Shutdown::Both => self.say_nothing(),
        }
    }

    /// Tells the peer that no more comes (close_notify, RFC 8446 section 6.1), if all before it could be sent.
    pub(crate) fn say_goodbye(&self, tcp: &Tcp) {
        if self.is_mute.get() || !self.flush(tcp) {
            return;
        }
        let sealed = self.session.borrow_mut().seal_end();
        if let Ok(lease) = sealed {
            // Nobody is left to wait for room.
            let _ = tcp.send_now(&[IoSlice::new(lease.filled())]);
        }
        self.is_mute.set(true);
    }
}
