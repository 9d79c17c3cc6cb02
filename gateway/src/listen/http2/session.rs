//! What the streams of one HTTP/2 connection share.

use crate::connections::Inbound;
use crate::request::reply::Reply;
use crate::worker::{ClientPlace, Worker};
use relay_io::Watch;
use relay_wire::http2::{Flood, FrameWatch, Unfinished};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

/// What is decoded of header blocks before their streams are looked at: there a field may take a byte, and decoded a hundred until
/// somebody has looked at it.
const TURN_BYTES: usize = 16 * 1024;

/// What the streams of one connection share. Outlives the connection where a request is still being ended.
pub(super) struct Session {
    pub(super) worker: &'static Worker,
    /// The connection as it is counted.
    pub(super) inbound: Inbound,
    _place: ClientPlace,
    began_at: Instant,
    frames: RefCell<FrameWatch>,
    flood: Cell<Option<Flood>>,
    /// Of what was received last, which is read before anything else is received.
    has_many_blocks: Cell<bool>,
    /// Streams that are open.
    streams: Cell<usize>,
    /// Requests that are being served, or wound up after their stream has gone.
    requests: Cell<usize>,
    /// The connection's own task.
    sleeper: Cell<Option<Waker>>,
}

/// One of the things that a session counts, as long as it lives.
pub(super) struct Counted {
    session: Rc<Session>,
    count: fn(&Session) -> &Cell<usize>,
}

impl Session {
    pub(super) fn new(worker: &'static Worker, inbound: Inbound, place: ClientPlace) -> Rc<Self> {
        Rc::new(Self {
            worker,
            inbound,
            _place: place,
            began_at: Instant::now(),
            frames: RefCell::new(FrameWatch::new(0)),
            flood: Cell::new(None),
            has_many_blocks: Cell::new(false),
            streams: Cell::new(0),
            requests: Cell::new(0),
            sleeper: Cell::new(None),
        })
    }

    /// Looks at everything that is received. What is too much is still let through: it is not looked at any more, but the preface
    /// may be part of it, without which nothing can be answered.
    pub(super) fn watch(self: &Rc<Self>) -> Watch {
        let session = self.clone();
        Box::new(move |bytes| {
            let now_ms = session.began_at.elapsed().as_millis() as u64;
            let mut frames = session.frames.borrow_mut();
            let before = frames.block_bytes();
            let seen = frames.saw(bytes, now_ms);
            let has_many_blocks = frames.block_bytes() - before > TURN_BYTES as u64;
            drop(frames);
            session.has_many_blocks.set(has_many_blocks);
            session.judge(seen);
            seen != Err(Flood::NotHttp2)
        })
    }

    fn judge(&self, seen: Result<(), Flood>) {
        if let Err(flood) = seen {
            self.flood.set(self.flood.get().or(Some(flood)));
            self.wake();
        }
    }

    /// How much may be decoded before its streams are looked at.
    pub(super) fn turn_bytes(&self) -> usize {
        if self.has_many_blocks.get() {
            TURN_BYTES
        } else {
            usize::MAX
        }
    }

    /// What there was too much of.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// When the block of header fields (or the preface) began that is not complete, if there is one.
    pub(super) fn unfinished_head_since(&self) -> Option<u64> {
        match self.frames.borrow().unfinished() {
            Some(Unfinished::Head { since_ms }) => Some(since_ms),
            Some(Unfinished::Frame { .. }) | None => None,
        }
    }

    /// So much payload is on its way to the client.
    pub(super) fn note_sent(&self, bytes: usize) {
        self.frames.borrow_mut().note_sent(bytes);
    }

    /// The answer to a request has begun.
    pub(super) fn note_answered(&self) {
        self.frames.borrow_mut().note_answered();
    }

    /// A request was reset since it is malformed.
    pub(super) fn note_malformed(&self) {
        let seen = self.frames.borrow_mut().note_malformed();
        self.judge(seen);
    }

    /// A head was not complete in time.
    pub(super) fn note_slow_head(&self) {
        Reply::record_slow_head(self.worker);
    }

    /// Are streams open?
    pub(super) fn has_streams(&self) -> bool {
        self.streams.get() > 0
    }

    /// Counts a stream.
    pub(super) fn count_stream(self: &Rc<Self>) -> Counted {
        self.count(|session| &session.streams)
    }

    /// Counts a request.
    pub(super) fn count_request(self: &Rc<Self>) -> Counted {
        self.count(|session| &session.requests)
    }

    /// So many requests are under way that no more are begun. A client that resets its streams as fast as it opens them never has
    /// many open, but what was begun for them takes its time to be ended.
    pub(super) fn is_full(&self) -> bool {
        let streams_max = self.worker.policy.limits.http2_streams_max as usize;
        self.requests.get() >= 2 * streams_max
    }

    fn count(self: &Rc<Self>, count: fn(&Self) -> &Cell<usize>) -> Counted {
        count(self).set(count(self).get() + 1);
        Counted {
            session: self.clone(),
            count,
        }
    }

    /// To be woken whenever one of these answers changes.
    pub(super) fn sleep(&self, context: &Context<'_>) {
        self.sleeper.set(Some(context.waker().clone()));
    }

    fn wake(&self) {
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }
}

impl Deref for Counted {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = (self.count)(&self.session);
        count.set(count.get() - 1);
        self.session.wake();
    }
}
