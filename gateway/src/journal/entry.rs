//! What is kept of one request: metadata only, with names instead of numbers, so that it means the same under another
//! configuration.

use super::Record;
use crate::config::Policy;
use crate::config::policy::{Limit, LimitSet, Money, Scope};
use crate::request::authenticate::KeyId;
use crate::request::reply::RequestId;
use crate::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What is kept of one request. `N` is what its names are: borrowed (`&str`) from a record or from what was read, or
/// shared, since there are few of them and may be many entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry<N = Arc<str>> {
    /// Counts from 1 without gaps, over restarts too. 0: the journal has not given it one yet.
    pub sequence: u64,
    /// When its head had been read, in microseconds since 1970.
    pub time_us: u64,
    pub request_id: RequestName,
    pub tenant: Option<N>,
    pub key: Option<KeyId>,
    /// What it spoke; `None` if it was no request at all.
    pub route: Option<Dialect>,
    pub model: Option<N>,
    pub upstream: Option<N>,
    pub account: Option<N>,
    pub region: Option<N>,
    pub egress: Option<IpAddr>,
    pub status: u16,
    pub failed_status: Option<u16>,
    pub code: Option<N>,
    pub attempts: u32,
    pub chosen: Option<N>,
    /// Durations are whole microseconds.
    pub queued: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub duration: Duration,
    pub overhead: Option<Duration>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub events: u64,
    pub streamed: bool,
    pub charged: bool,
    pub usage: Option<Usage>,
    pub known: Option<Known>,
    pub cost: Money,
    pub limit: Option<(Scope, Limit)>,
    pub shadowed: LimitSet,
    pub closed: Option<Closed>,
    pub ended: N,
}

/// With which code a WebSocket was closed, and by whom: the side that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The side.
    pub by: ClosedBy,
    /// The code; 1005 where it named none (RFC 6455 section 7.1.5).
    pub code: u16,
}

/// Who closes a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum ClosedBy {
    Client = 1,
    Provider = 2,
    Gateway = 3,
}

impl ClosedBy {
    /// All of them, for tables.
    pub const ALL: [Self; 3] = [Self::Client, Self::Provider, Self::Gateway];

    /// A name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
        }
    }
}

impl<'a> Entry<&'a str> {
    /// What is kept of this record. Nothing is copied that could be borrowed.
    pub fn of(policy: &'a Policy, record: &'a Record) -> Self {
        let since_epoch = record.time.duration_since(UNIX_EPOCH);
        let account = record.account.map(|id| policy.account(id));
        let upstream = account.map(|account| policy.upstream(account.upstream));
        Self {
            sequence: 0,
            time_us: since_epoch.unwrap_or_default().as_micros() as u64,
            request_id: RequestName::of(&record.request_id),
            tenant: record.tenant.map(|id| policy.tenant(id).name.as_str()),
            key: record.key_id,
            route: record.route,
            model: record.model.as_deref(),
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            account: account.map(|account| account.name.as_str()),
            region: account.map(|account| account.region.as_str()),
            egress: record.egress,
            status: record.status,
            failed_status: record.failed_status,
            code: record.code,
            attempts: record.attempts,
            chosen: record.chosen,
            queued: record.queued.map(in_whole_microseconds),
            first_byte: record.first_byte.map(in_whole_microseconds),
            duration: in_whole_microseconds(record.duration),
            overhead: record.overhead.map(in_whole_microseconds),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            events: record.events,
            streamed: record.streamed,
            charged: record.charged,
            usage: record.usage,
            known: record.known,
            cost: record.cost,
            limit: record.limit,
            shadowed: record.shadowed,
            closed: record.closed,
            ended: record.ended,
        }
    }
}

impl<N> Entry<N> {
    /// The same with other names: `entry.named(|name| Arc::from(*name))` outlives what was borrowed.
    pub fn named<'e, M>(&'e self, mut name: impl FnMut(&'e N) -> M) -> Entry<M> {
        Entry {
            sequence: self.sequence,
            time_us: self.time_us,
            request_id: self.request_id,
            tenant: self.tenant.as_ref().map(&mut name),
            key: self.key,
            route: self.route,
            model: self.model.as_ref().map(&mut name),
            upstream: self.upstream.as_ref().map(&mut name),
            account: self.account.as_ref().map(&mut name),
            region: self.region.as_ref().map(&mut name),
            egress: self.egress,
            status: self.status,
            failed_status: self.failed_status,
            code: self.code.as_ref().map(&mut name),
            attempts: self.attempts,
            chosen: self.chosen.as_ref().map(&mut name),
            queued: self.queued,
            first_byte: self.first_byte,
            duration: self.duration,
            overhead: self.overhead,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            events: self.events,
            streamed: self.streamed,
            charged: self.charged,
            usage: self.usage,
            known: self.known,
            cost: self.cost,
            limit: self.limit,
            shadowed: self.shadowed,
            closed: self.closed,
            ended: name(&self.ended),
        }
    }
}

fn in_whole_microseconds(duration: Duration) -> Duration {
    Duration::from_micros(duration.as_micros() as u64)
}

/// Bytes of a request's name that are kept.
pub(super) const REQUEST_NAME_BYTES_MAX: usize = 64;

/// A request's name, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestName {
    bytes: [u8; REQUEST_NAME_BYTES_MAX],
    length: u8,
}

impl RequestName {
    /// Of a request that was served here: harmless characters, of which each is a byte.
    fn of(id: &RequestId) -> Self {
        let kept = id.as_bytes();
        let kept = &kept[..kept.len().min(REQUEST_NAME_BYTES_MAX)];
        let mut bytes = [0; REQUEST_NAME_BYTES_MAX];
        bytes[..kept.len()].copy_from_slice(kept);
        Self {
            bytes,
            length: kept.len() as u8,
        }
    }

    /// As it is stored: without a look whether it is text.
    pub(super) fn stored(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl From<&str> for RequestName {
    /// A longer one is cut.
    fn from(name: &str) -> Self {
        let kept = match name.len() {
            ..=REQUEST_NAME_BYTES_MAX => name,
            _ => &name[..name.floor_char_boundary(REQUEST_NAME_BYTES_MAX)],
        };
        let mut bytes = [0; REQUEST_NAME_BYTES_MAX];
        bytes[..kept.len()].copy_from_slice(kept.as_bytes());
        Self {
            bytes,
            length: kept.len() as u8,
        }
    }
}

impl Deref for RequestName {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(self.stored()).unwrap_or_default()
    }
}

impl fmt::Display for RequestName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self)
    }
}

impl fmt::Debug for RequestName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_name_is_cut_between_characters() {
        assert_eq!(&*RequestName::from("req_1"), "req_1");
        assert_eq!(format!("{:<7}|", RequestName::from("req_1")), "req_1  |");
        let served = RequestId::from("req:1");
        assert_eq!(RequestName::of(&served), RequestName::from("req:1"));
        let long = format!("{}é", "x".repeat(REQUEST_NAME_BYTES_MAX - 1));
        let kept = RequestName::from(long.as_str());
        assert_eq!(kept.len(), REQUEST_NAME_BYTES_MAX - 1);
    }
}
