//! What is kept of one request: metadata only, with names instead of numbers, so that it means the same under another configuration.

use super::Record;
use crate::config::Policy;
use crate::config::policy::{Limit, LimitSet, Money, Scope};
use crate::request::authenticate::KeyId;
use crate::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is kept of one request. Names are shared: there are few of them and many entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry {
    /// Counts from 1 without gaps, over restarts too.
    pub sequence: u64,
    /// When its head had been read, in microseconds since 1970.
    pub time_us: u64,
    pub request_id: Box<str>,
    pub tenant: Option<Arc<str>>,
    pub key: Option<KeyId>,
    /// What it spoke; `None` if it was no request at all.
    pub route: Option<Dialect>,
    pub model: Option<Arc<str>>,
    pub upstream: Option<Arc<str>>,
    pub account: Option<Arc<str>>,
    pub region: Option<Arc<str>>,
    pub egress: Option<IpAddr>,
    pub status: u16,
    pub failed_status: Option<u16>,
    pub code: Option<Arc<str>>,
    pub attempts: u32,
    pub chosen: Option<Arc<str>>,
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
    pub ended: Arc<str>,
}

impl Entry {
    /// What is kept of this record.
    pub fn of(policy: &Policy, record: &Record, sequence: u64) -> Self {
        let since_epoch = record.time.duration_since(std::time::UNIX_EPOCH);
        let account = record.account.map(|id| policy.account(id));
        let upstream = account.map(|account| policy.upstream(account.upstream));
        Self {
            sequence,
            time_us: since_epoch.unwrap_or_default().as_micros() as u64,
            request_id: record.request_id.as_str().into(),
            tenant: record
                .tenant
                .map(|id| policy.tenant(id).name.as_str().into()),
            key: record.key_id,
            route: record.route,
            model: record.model.as_deref().map(Into::into),
            upstream: upstream.map(|upstream| upstream.name.as_str().into()),
            account: account.map(|account| account.name.as_str().into()),
            region: account.map(|account| account.region.as_str().into()),
            egress: record.egress,
            status: record.status,
            failed_status: record.failed_status,
            code: record.code.map(Into::into),
            attempts: record.attempts,
            chosen: record.chosen.map(Into::into),
            queued: record.queued,
            first_byte: record.first_byte,
            duration: record.duration,
            overhead: record.overhead,
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
            ended: record.ended.into(),
        }
    }
}
