//! Which failure counts against whom.

use super::breaker::Cause;
use super::moment::Moment;

/// What went wrong, as far as somebody's health is concerned. A failure that is the client's own, the tenant's or this host's
/// is nobody's fault and does not come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider does not take the account's credential, or not for this (401, 403).
    Refused,
    /// The provider limits the account's rate (429, or an event that says so).
    RateLimited {
        /// Until when, as the provider said.
        until: Option<Moment>,
    },
    /// What the account may use is used up (429 with `insufficient_quota` or `usage_limit_reached`).
    QuotaExhausted {
        /// Until when, as the provider said.
        until: Option<Moment>,
    },
    /// The provider failed or is overloaded (5xx, 529, an event that says so before any output).
    ServerError {
        /// When to come again, as the provider said.
        until: Option<Moment>,
    },
    /// The connection broke before an answer had begun.
    Reset,
    /// No answer began in time, or it took longer than it may.
    TimedOut,
    /// What came is not HTTP.
    Malformed,
    /// The answer broke off after the client had seen some of it.
    BrokenOff,
    /// The connection was refused, or there is no way to the provider.
    Unreachable,
    /// Nobody answered the connection attempt.
    ConnectTimedOut,
    /// The provider's name has no address of this family.
    NoDestination,
    /// The account's address is missing on this host, or may not be used.
    AddressMissing,
    /// A connection came about from another address.
    ForeignAddress,
    /// Hardly a port is left for this address.
    PortsShort,
    /// Far too much had to be sent again.
    Retransmits,
}

/// Who has to answer for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The account, whichever address it was called from.
    Account(Charge),
    /// The way from this address to the provider, not the account.
    Path(Charge),
}

/// How heavily it weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It is enough: blocked at once.
    AtOnce {
        /// Why.
        cause: Cause,
        /// Until when, if the provider has stated it; else the back-off of this cause.
        until: Option<Moment>,
    },
    /// One of several: blocked when there are too many in a row, or too many of all.
    Counted {
        /// Why.
        cause: Cause,
        /// So many of those in a row that are allowed.
        weight: u32,
        /// If it comes to a block: not before this.
        until: Option<Moment>,
    },
}
