//! What a breaker goes by, and the words it speaks in.

use crate::health::moment::Moment;
use std::time::Duration;

/// A block that the provider stated lasts at least so long: "at once" is what it does not mean.
pub const STATED_BLOCK_MIN: Duration = Duration::from_secs(1);

/// Why a breaker opened: a closed set, for logs, metrics and the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cause {
    Refused,
    RateLimited,
    QuotaExhausted,
    ServerErrors,
    Resets,
    TimeOuts,
    Malformed,
    BrokenStreams,
    Unreachable,
    TlsRefused,
    AddressMissing,
    ForeignAddress,
    PortsShort,
    Retransmits,
}

impl Cause {
    /// All of them, for tables.
    pub const ALL: [Self; 14] = [
        Self::Refused,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::ServerErrors,
        Self::Resets,
        Self::TimeOuts,
        Self::Malformed,
        Self::BrokenStreams,
        Self::Unreachable,
        Self::TlsRefused,
        Self::AddressMissing,
        Self::ForeignAddress,
        Self::PortsShort,
        Self::Retransmits,
    ];

    /// It lies in the credential: that is not taken, or may use nothing more. Another one mends it, waiting takes hours.
    pub fn is_of_credential(self) -> bool {
        matches!(self, Self::Refused | Self::QuotaExhausted)
    }

    /// Whether a probe that goes well tells that it is over. A probe costs nothing: an account answers it that is limited, has
    /// used up its quota, or fails at what tenants ask of it. Of these only tenants' requests tell.
    pub fn is_seen_by_probes(self) -> bool {
        match self {
            Self::RateLimited | Self::QuotaExhausted | Self::ServerErrors | Self::BrokenStreams => {
                false
            }
            Self::Refused
            | Self::Resets
            | Self::TimeOuts
            | Self::Malformed
            | Self::Unreachable
            | Self::TlsRefused
            | Self::AddressMissing
            | Self::ForeignAddress
            | Self::PortsShort
            | Self::Retransmits => true,
        }
    }

    /// A name for logs, metrics and what is kept on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ServerErrors => "server_errors",
            Self::Resets => "resets",
            Self::TimeOuts => "time_outs",
            Self::Malformed => "malformed",
            Self::BrokenStreams => "broken_streams",
            Self::Unreachable => "unreachable",
            Self::TlsRefused => "tls_refused",
            Self::AddressMissing => "address_missing",
            Self::ForeignAddress => "foreign_address",
            Self::PortsShort => "ports_short",
            Self::Retransmits => "retransmits",
        }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It lets everything through.
    #[default]
    Closed,
    /// It lets nothing through until its time is over.
    Open,
    /// Its time is over: it lets a few through, and what becomes of them decides.
    HalfOpen,
}

impl State {
    /// All of them, for tables.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// A name for logs, metrics and what is kept on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How often a breaker has opened without a stated time. Apart by their back-offs: after a row of resets, a first refusal is
/// the first of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// For causes that lie in the credential.
    pub of_credential: u32,
    /// For all others.
    pub others: u32,
}

impl Openings {
    /// Whatever they were for.
    pub fn all(self) -> u32 {
        self.of_credential.saturating_add(self.others)
    }

    /// Those that the back-off of this cause goes by.
    pub(super) fn of(self, cause: Cause) -> u32 {
        if cause.is_of_credential() {
            self.of_credential
        } else {
            self.others
        }
    }

    /// One more.
    pub(super) fn count(&mut self, cause: Cause) {
        let openings = if cause.is_of_credential() {
            &mut self.of_credential
        } else {
            &mut self.others
        };
        *openings = openings.saturating_add(1);
    }
}

/// `[health]`: what the state machine goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Failures in a row that open a breaker, 1 to 1,000.
    pub failures_max: u32,
    /// Share of failures that opens it, over 0 to 1, within `failure_window` from the first one.
    pub failure_rate_max: f64,
    /// Requests in that window below which the share says nothing.
    pub failure_rate_requests_min: u32,
    /// See `failure_rate_max`.
    pub failure_window: Duration,
    /// The first block, where nobody stated how long; doubles each time, with jitter.
    pub backoff_min: Duration,
    /// No block of ours is longer.
    pub backoff_max: Duration,
    /// The same for accounts whose credential is not taken, or whose quota is used up.
    pub refused_backoff_min: Duration,
    /// The same.
    pub refused_backoff_max: Duration,
    /// A block that the provider stated is cut to this.
    pub stated_block_max: Duration,
    /// Trials at one time while a breaker is half open.
    pub trials_max: u32,
    /// Trials that must succeed in a row until it closes.
    pub trial_successes: u32,
    /// From the closing on, an account's share of the load grows from a tenth to all of it in this time.
    pub slow_start: Duration,
    /// Share of a pool's accounts that may be kept out at one time, 0 to 1; more are asked when the others are full.
    pub ejection_max: f64,
}

impl Rules {
    /// A block of ours for this cause is at least and at most so long.
    pub(super) fn backoff(&self, cause: Cause) -> (Duration, Duration) {
        if cause.is_of_credential() {
            (self.refused_backoff_min, self.refused_backoff_max)
        } else {
            (self.backoff_min, self.backoff_max)
        }
    }

    /// No block lasts longer than this.
    pub(super) fn block_max(&self, cause: Cause, is_stated: bool) -> Duration {
        if is_stated {
            self.stated_block_max
        } else {
            self.backoff(cause).1
        }
    }

    /// The end that the provider stated, within what is believed.
    pub(super) fn stated_end(&self, until: Moment, now: Moment) -> Moment {
        until
            .max(now + STATED_BLOCK_MIN)
            .min(now + self.stated_block_max)
    }
}
