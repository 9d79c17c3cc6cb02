//! Which failure counts against whom.

use super::breaker::Cause;
use super::moment::Moment;

/// What went wrong, as far as somebody's health is concerned. A failure that is the client's own, the tenant's or this host's
/// is nobody's fault and does not come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider does not take the account's credential, or not for this (401, 402, 403).
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
    /// There was no agreement on TLS: what is there cannot be trusted to be the provider, or refuses what is offered.
    TlsRefused,
    /// Nobody answered the attempt to connect, or to shake hands.
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

impl Fault {
    /// The provider itself has answered: whatever ails the account, the way there is good.
    pub fn is_an_answer(self) -> bool {
        match self {
            Self::Refused
            | Self::RateLimited { .. }
            | Self::QuotaExhausted { .. }
            | Self::ServerError { .. } => true,
            Self::Reset
            | Self::TimedOut
            | Self::Malformed
            | Self::BrokenOff
            | Self::Unreachable
            | Self::TlsRefused
            | Self::ConnectTimedOut
            | Self::NoDestination
            | Self::AddressMissing
            | Self::ForeignAddress
            | Self::PortsShort
            | Self::Retransmits => false,
        }
    }
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

impl Charge {
    /// Why.
    pub fn cause(self) -> Cause {
        match self {
            Self::AtOnce { cause, .. } | Self::Counted { cause, .. } => cause,
        }
    }

    /// What the provider has stated.
    pub fn until(self) -> Option<Moment> {
        match self {
            Self::AtOnce { until, .. } | Self::Counted { until, .. } => until,
        }
    }
}

/// The table.
pub fn blame(fault: Fault) -> Blame {
    match fault {
        Fault::Refused => Blame::Account(at_once(Cause::Refused, None)),
        Fault::RateLimited { until } => Blame::Account(at_once(Cause::RateLimited, until)),
        Fault::QuotaExhausted { until } => Blame::Account(at_once(Cause::QuotaExhausted, until)),
        Fault::ServerError { until } => Blame::Account(counted(Cause::ServerErrors, 1, until)),
        Fault::Reset => Blame::Account(counted(Cause::Resets, 1, None)),
        Fault::TimedOut => Blame::Account(counted(Cause::TimeOuts, 1, None)),
        Fault::Malformed => Blame::Account(counted(Cause::Malformed, 1, None)),
        // The client has seen it, and nobody else could be asked any more.
        Fault::BrokenOff => Blame::Account(counted(Cause::BrokenStreams, 2, None)),
        Fault::Unreachable | Fault::ConnectTimedOut | Fault::NoDestination => {
            Blame::Path(counted(Cause::Unreachable, 1, None))
        }
        Fault::TlsRefused => Blame::Path(counted(Cause::TlsRefused, 1, None)),
        Fault::AddressMissing => Blame::Path(at_once(Cause::AddressMissing, None)),
        Fault::ForeignAddress => Blame::Path(at_once(Cause::ForeignAddress, None)),
        Fault::PortsShort => Blame::Path(at_once(Cause::PortsShort, None)),
        Fault::Retransmits => Blame::Path(at_once(Cause::Retransmits, None)),
    }
}

fn at_once(cause: Cause, until: Option<Moment>) -> Charge {
    Charge::AtOnce { cause, until }
}

fn counted(cause: Cause, weight: u32, until: Option<Moment>) -> Charge {
    Charge::Counted {
        cause,
        weight,
        until,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a fault: whether the account is to blame, how it weighs (`None`: at once), why, until when,
    /// and whether the provider has answered.
    type Row = (Fault, bool, Option<u32>, Cause, Option<Moment>, bool);

    #[test]
    fn every_fault_has_its_row() {
        let until = Some(Moment::from_unix_ms(1_800_000_000_000));
        #[rustfmt::skip]
        let rows: [Row; 19] = [
            (Fault::Refused, true, None, Cause::Refused, None, true),
            (Fault::RateLimited { until }, true, None, Cause::RateLimited, until, true),
            (Fault::RateLimited { until: None }, true, None, Cause::RateLimited, None, true),
            (Fault::QuotaExhausted { until }, true, None, Cause::QuotaExhausted, until, true),
            (Fault::QuotaExhausted { until: None }, true, None, Cause::QuotaExhausted, None, true),
            (Fault::ServerError { until }, true, Some(1), Cause::ServerErrors, until, true),
            (Fault::ServerError { until: None }, true, Some(1), Cause::ServerErrors, None, true),
            (Fault::Reset, true, Some(1), Cause::Resets, None, false),
            (Fault::TimedOut, true, Some(1), Cause::TimeOuts, None, false),
            (Fault::Malformed, true, Some(1), Cause::Malformed, None, false),
            (Fault::BrokenOff, true, Some(2), Cause::BrokenStreams, None, false),
            (Fault::Unreachable, false, Some(1), Cause::Unreachable, None, false),
            (Fault::ConnectTimedOut, false, Some(1), Cause::Unreachable, None, false),
            (Fault::NoDestination, false, Some(1), Cause::Unreachable, None, false),
            (Fault::TlsRefused, false, Some(1), Cause::TlsRefused, None, false),
            (Fault::AddressMissing, false, None, Cause::AddressMissing, None, false),
            (Fault::ForeignAddress, false, None, Cause::ForeignAddress, None, false),
            (Fault::PortsShort, false, None, Cause::PortsShort, None, false),
            (Fault::Retransmits, false, None, Cause::Retransmits, None, false),
        ];
        for (fault, is_the_account, weight, cause, until, is_an_answer) in rows {
            let charge = match weight {
                None => Charge::AtOnce { cause, until },
                Some(weight) => Charge::Counted {
                    cause,
                    weight,
                    until,
                },
            };
            let expected = if is_the_account {
                Blame::Account(charge)
            } else {
                Blame::Path(charge)
            };
            assert_eq!(blame(fault), expected, "{fault:?}");
            assert_eq!(fault.is_an_answer(), is_an_answer, "{fault:?}");
            assert_eq!((charge.cause(), charge.until()), (cause, until));
        }
        for cause in Cause::ALL {
            assert!(
                rows.iter().any(|row| row.3 == cause),
                "nothing leads to {cause:?}"
            );
        }
    }
}
