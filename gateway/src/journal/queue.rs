//! What workers report to the control thread: bounded, without locks, without waking anybody.
//!
//! Each worker has a queue of its own, which the control thread empties every few milliseconds. A full queue loses the
//! record and counts the loss; the request it was about is not held up.

use crate::config::policy::{AccountId, Limit, LimitSet, Money, Scope, TenantId};
use crate::request::authenticate::KeyId;
use crate::request::reply::RequestId;
use crate::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Reports that may wait: 20 ms of 400,000 requests per second.
pub const QUEUE_REPORTS: usize = 8192;

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
    /// A connection could not be accepted.
    AcceptFailed(String),
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
    /// How it ended, from a closed set.
    pub ended: &'static str,
}

/// The worker's end of its queue.
pub struct Writer {
    queue: RefCell<rtrb::Producer<Report>>,
    lost: &'static AtomicU64,
}

/// The control thread's end of one worker's queue.
pub struct Reader(rtrb::Consumer<Report>);

/// A queue for one worker; `lost` counts what found no room.
pub fn queue(lost: &'static AtomicU64) -> (Writer, Reader) {
    let (producer, consumer) = rtrb::RingBuffer::new(QUEUE_REPORTS);
    (
        Writer {
            queue: RefCell::new(producer),
            lost,
        },
        Reader(consumer),
    )
}

impl Writer {
    /// Reports, if there is room.
    pub fn report(&self, report: Report) {
        if self.queue.borrow_mut().push(report).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Reader {
    /// The oldest report, if there is one.
    pub fn take(&mut self) -> Option<Report> {
        self.0.pop().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let (writer, mut reader) = queue(&LOST);
        for _ in 0..QUEUE_REPORTS + 3 {
            writer.report(Report::Panicked);
        }
        assert_eq!(LOST.load(Ordering::Relaxed), 3);
        assert_eq!(std::iter::from_fn(|| reader.take()).count(), QUEUE_REPORTS);
    }
}
