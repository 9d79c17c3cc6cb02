//! What is kept of an account on disk, and shown to the operator.

use super::Wish;
use super::latency::LatencyRecord;
use crate::health::breaker::BreakerRecord;
use crate::health::moment::Moment;
use std::net::IpAddr;

/// What the operator has said of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What is wanted.
    pub wish: Wish,
    /// Since when.
    pub since: Moment,
    /// Until when; for ever if `None`.
    pub until: Option<Moment>,
    /// Why, in the operator's own words.
    pub reason: Option<Box<str>>,
}

/// What is kept of one account on disk, and shown to the operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What the operator has said; `None`: nothing, the configuration applies.
    pub operator: Option<Override>,
    /// The account's own breaker.
    pub account: BreakerRecord,
    /// Those of its addresses, in the order of the configuration.
    pub addresses: Vec<(IpAddr, BreakerRecord)>,
    /// How long its answers take to begin.
    pub latency: Option<LatencyRecord>,
}
