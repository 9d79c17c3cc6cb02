//! What workers report to the control thread: bounded, without locks, without waking anybody.
//!
//! Each worker has a queue of its own, which the control thread empties every few milliseconds. A full queue loses the
//! record and counts the loss; the request it was about is not held up. Where no record may be lost, a request is given a
//! place in the queue before it is served, which nothing else can take.

use super::entry::Closed;
use crate::config::policy::{AccountId, Limit, LimitSet, Money, Scope, TenantId};
use crate::request::authenticate::KeyId;
use crate::request::reply::RequestId;
use crate::tls::handshakes::Failed;
use crate::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Reports that may wait: 20 ms of 400,000 requests per second.
pub const QUEUE_REPORTS: usize = 8192;

/// Reports that are read before their places are given back.
const READ_REPORTS_MAX: usize = 64;

/// Something the control thread should know.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are the large one"
)]
pub enum Report {
    /// A request is over.
    Request(Record),
    /// A candidate did not work out.
    AttemptFailed {
        /// Its account.
        account: AccountId,
        /// What went wrong, from a closed set.
        kind: &'static str,
    },
    /// There was no agreement on TLS with a provider.
    UpstreamTlsRefused {
        /// The account that called it.
        account: AccountId,
        /// Why, for the operator.
        reason: Cow<'static, str>,
    },
    /// A connection could not be accepted.
    AcceptFailed(String),
    /// A client's TLS handshake failed.
    HandshakeFailed(Failed),
    /// Serving a connection panicked.
    Panicked,
}

/// What is known of one request: metadata only.
pub struct Record {
    /// When its head had been read.
    pub time: SystemTime,
    /// Its name.
    pub request_id: RequestId,
    /// Who asked.
    pub tenant: Option<TenantId>,
    /// With which key: the beginning of its hash.
    pub key_id: Option<KeyId>,
    /// What it spoke; `None` if it was no request at all.
    pub route: Option<Dialect>,
    /// The model it named.
    pub model: Option<Box<str>>,
    /// The account that was asked last.
    pub account: Option<AccountId>,
    /// From which address.
    pub egress: Option<IpAddr>,
    /// The status that the client saw.
    pub status: u16,
    /// The code of the refusal.
    pub code: Option<&'static str>,
    /// Accounts asked.
    pub attempts: u32,
    /// How the last one was chosen, from a closed set.
    pub chosen: Option<&'static str>,
    /// The provider's status where the client saw another one: of the last attempt that did not work out.
    pub failed_status: Option<u16>,
    /// How long it waited for an account to have a place free.
    pub queued: Option<Duration>,
    /// From the head's last byte to the answer's first ones.
    pub first_byte: Option<Duration>,
    /// From the head's last byte to the end.
    pub duration: Duration,
    /// What the gateway added before the answer's head went out.
    pub overhead: Option<Duration>,
    /// Payload received from the client.
    pub bytes_in: u64,
    /// Payload sent to the client.
    pub bytes_out: u64,
    /// Events sent to the client.
    pub events: u64,
    /// The answer was a stream.
    pub streamed: bool,
    /// It was answered by a provider, so that it was charged.
    pub charged: bool,
    /// Tokens, if it is known or was estimated how many.
    pub usage: Option<Usage>,
    /// How they are known; `None` where they are not.
    pub known: Option<Known>,
    /// What they cost by the table of prices.
    pub cost: Money,
    /// The limit that refused it.
    pub limit: Option<(Scope, Limit)>,
    /// Limits that would have refused it, had they not been shadows.
    pub shadowed: LimitSet,
    /// Who has closed it, if it was a WebSocket that somebody has.
    pub closed: Option<Closed>,
    /// How it ended, from a closed set.
    pub ended: &'static str,
}

/// The worker's end of its queue.
pub struct Writer {
    queue: RefCell<rtrb::Producer<Report>>,
    /// Places that are kept for records that are still to come.
    kept: Cell<usize>,
    lost: &'static AtomicU64,
}

/// A place in a queue that is kept for one record. Dropped instead of used, as where serving the request panics, it counts a
/// lost record: there will be none.
pub struct RecordPlace(&'static Writer);

/// The control thread's end of one worker's queue.
pub struct Reader(rtrb::Consumer<Report>);

/// A queue for one worker, with room for so many reports; `lost` counts what found none.
pub fn queue(reports_max: usize, lost: &'static AtomicU64) -> (Writer, Reader) {
    let (producer, consumer) = rtrb::RingBuffer::new(reports_max);
    let writer = Writer {
        queue: RefCell::new(producer),
        kept: Cell::new(0),
        lost,
    };
    (writer, Reader(consumer))
}

impl Writer {
    /// Reports, if there is room besides what is kept.
    pub fn report(&self, report: Report) {
        let mut queue = self.queue.borrow_mut();
        let kept = self.kept.get();
        let has_room = kept == 0 || queue.slots() > kept;
        if !has_room || queue.push(report).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps a place for a record that must not be lost. `None`: all are taken or kept.
    pub fn keep_place(&'static self) -> Option<RecordPlace> {
        let kept = self.kept.get();
        let is_free = self.queue.borrow().slots() > kept;
        is_free.then(|| {
            self.kept.set(kept + 1);
            RecordPlace(self)
        })
    }

    fn give_back_place(&self) {
        self.kept.set(self.kept.get() - 1);
    }
}

impl RecordPlace {
    /// Reports in the place that was kept for it.
    pub fn report(self, report: Report) {
        let writer = self.0;
        // Given back first, the place is free for what comes next, and that is this report.
        writer.give_back_place();
        std::mem::forget(self);
        if writer.queue.borrow_mut().push(report).is_err() {
            writer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RecordPlace {
    fn drop(&mut self) {
        self.0.give_back_place();
        self.0.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// Shows the oldest reports where they are, and gives their places back; how many there were. They are few each time: a
    /// report that finds no place free is lost, so that those that were read must not go on taking places for long.
    pub fn read(&mut self, show: impl FnMut(&Report)) -> usize {
        let number = self.0.slots().min(READ_REPORTS_MAX);
        let Ok(reports) = self.0.read_chunk(number) else {
            return 0;
        };
        let (oldest, others) = reports.as_slices();
        oldest.iter().chain(others).for_each(show);
        reports.commit_all();
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaked(reports_max: usize) -> (&'static Writer, Reader, &'static AtomicU64) {
        let lost: &'static AtomicU64 = Box::leak(Box::default());
        let (writer, reader) = queue(reports_max, lost);
        (Box::leak(Box::new(writer)), reader, lost)
    }

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let (writer, mut reader, lost) = leaked(5);
        for _ in 0..8 {
            writer.report(Report::Panicked);
        }
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        assert_eq!(reader.read(|_| ()), 5);
        assert_eq!(reader.read(|_| ()), 0);
    }

    #[test]
    fn a_place_that_is_kept_is_there_however_full_the_queue_is() {
        let (writer, mut reader, lost) = leaked(3);
        let place = writer.keep_place().unwrap();
        for _ in 0..5 {
            writer.report(Report::Panicked);
        }
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        assert!(writer.keep_place().is_none(), "none is left to be kept");
        place.report(Report::AcceptFailed("kept".to_owned()));
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        let mut panicked = Vec::new();
        reader.read(|report| match report {
            Report::Panicked => panicked.push(true),
            Report::AcceptFailed(error) if error == "kept" => panicked.push(false),
            _ => panic!("nobody has reported that"),
        });
        assert_eq!(panicked, [true, true, false]);
    }

    #[test]
    fn a_place_that_was_kept_for_nothing_is_given_back_and_its_record_is_lost() {
        let (writer, _reader, lost) = leaked(2);
        let kept = [writer.keep_place(), writer.keep_place()];
        assert!(kept.iter().all(Option::is_some) && writer.keep_place().is_none());
        drop(kept);
        assert_eq!(lost.load(Ordering::Relaxed), 2);
        writer.keep_place().unwrap().report(Report::Panicked);
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }
}
