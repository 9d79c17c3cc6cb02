//! Why a candidate did not work out, and what follows from it.

#[cfg(test)]
mod tests;

use crate::health::{Fault, Moment};
use crate::request::meter::Unpassed;
use crate::request::refusal::Refusal;
use relay_wire::dialect::ErrorKind;
use relay_wire::head::FramingError;
use std::time::Duration;

/// Why a candidate did not work out.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The account's address is missing on this host, or the kernel does not let it be used.
    Egress,
    /// The connection came about from another address than the account's, though the kernel's programs were told of it.
    EgressMismatch,
    /// Hardly a port is left for the account's address and the upstream.
    PortsShort,
    /// The tenant has as many connections to providers as it may have.
    TenantConnectionsFull,
    /// The account has as many connections as it may have.
    AccountConnectionsFull,
    /// The upstream's name has no address of the family of the account's address.
    NoDestination,
    /// The connection was refused, or the upstream cannot be reached.
    Connect,
    /// Nobody answered the attempt to connect.
    ConnectTimeout,
    /// There was no agreement on TLS, or no certificate that is trusted: nothing was sent.
    Tls,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// The connection broke before an answer had begun.
    Broken,
    /// The provider has not begun with the request, by its own word, on any connection that it was tried on.
    NotBegun,
    /// What befell several requests at one time, as the loss of a connection that they share: one of them has put it on record.
    OnRecord(Box<Self>),
    /// No answer began in time.
    Timeout,
    /// What came is not HTTP, or not unambiguous.
    Malformed(FramingError),
    /// More informational answers than anybody needs, a switch of protocols that nobody asked for.
    Unexpected,
    /// The provider answered, but what it says is about the account or about itself.
    Status {
        /// The status.
        status: u16,
        /// What its body says about the kind of failure.
        kind: ErrorKind,
        /// When to come again, as the provider said.
        resets: Option<Reset>,
    },
    /// A stream reported before any output that the provider is overloaded, or that the account has to wait.
    FailedStream {
        /// Which of these.
        kind: ErrorKind,
        /// When to come again, as the provider said.
        resets: Option<Reset>,
    },
    /// A stream ended before any output.
    IncompleteStream,
    /// No descriptor or no memory is left on this host.
    OutOfResources,
    /// The client's side ended it.
    Client(Refusal),
    /// The client left when the provider had the whole request: it works on that, as far as anybody knows.
    Abandoned(Unpassed),
    /// The gateway itself ends, in the middle of it.
    Shutdown,
}

/// When a failure is over, as the provider said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The point in time.
    pub until: Moment,
    /// The same as seen from when the provider said it.
    pub after: Duration,
}

impl Reset {
    /// For `Retry-After`: not too early.
    fn retry_after_seconds(self) -> u32 {
        self.after.as_secs_f64().ceil() as u32
    }
}

impl Failure {
    /// Another account may do better, and nothing was produced yet that a second attempt would repeat.
    pub fn may_be_retried(&self) -> bool {
        !matches!(
            self.what(),
            Self::Malformed(_)
                | Self::Unexpected
                | Self::TenantConnectionsFull
                | Self::OutOfResources
                | Self::Client(_)
                | Self::Abandoned(_)
                | Self::Shutdown
        )
    }

    /// Another request that it befell too has put it on record.
    #[must_use]
    pub fn on_record(self) -> Self {
        if self.fault().is_some() {
            Self::OnRecord(Box::new(self))
        } else {
            self
        }
    }

    /// What has happened, on record or not.
    pub fn what(&self) -> &Self {
        match self {
            Self::OnRecord(failure) => failure.what(),
            other => other,
        }
    }

    /// It came when the provider had the whole request, and so much of its answer had been seen.
    pub(super) fn when_asked(self, unpassed: Unpassed) -> Self {
        match self {
            Self::Client(Refusal::ClientGone) => Self::Abandoned(unpassed),
            other => other,
        }
    }

    /// What is to be charged for it, if the provider is at work.
    pub fn unpassed(&self) -> Option<Unpassed> {
        match self {
            Self::Abandoned(unpassed) => Some(*unpassed),
            _ => None,
        }
    }

    /// It is this account's problem: the next one can be asked at once.
    pub fn blames_account(&self) -> bool {
        match self.what() {
            Self::Egress
            | Self::EgressMismatch
            | Self::PortsShort
            | Self::AccountConnectionsFull => true,
            Self::Status { status, .. } => matches!(status, 401..=403 | 429),
            Self::FailedStream { kind, .. } => {
                matches!(kind, ErrorKind::RateLimited | ErrorKind::QuotaExhausted)
            }
            _ => false,
        }
    }

    /// What it means for the health of the account or of its address. `None`: it is the client's, the tenant's or this host's
    /// own, a cap of ours, or our own end; or it is on record.
    pub fn fault(&self) -> Option<Fault> {
        let until = |resets: &Option<Reset>| resets.map(|reset| reset.until);
        Some(match self {
            Self::Egress => Fault::AddressMissing,
            Self::EgressMismatch => Fault::ForeignAddress,
            Self::PortsShort => Fault::PortsShort,
            Self::NoDestination => Fault::NoDestination,
            Self::Connect => Fault::Unreachable,
            Self::Tls => Fault::TlsRefused,
            Self::ConnectTimeout | Self::TlsTimeout => Fault::ConnectTimedOut,
            Self::Broken | Self::IncompleteStream => Fault::Reset,
            Self::Timeout => Fault::TimedOut,
            Self::Malformed(_) | Self::Unexpected => Fault::Malformed,
            Self::Status {
                status: 401..=403 | 429,
                kind: ErrorKind::QuotaExhausted,
                resets,
            }
            | Self::FailedStream {
                kind: ErrorKind::QuotaExhausted,
                resets,
            } => Fault::QuotaExhausted {
                until: until(resets),
            },
            Self::Status {
                status: 401..=403, ..
            } => Fault::Refused,
            Self::Status {
                status: 429,
                resets,
                ..
            }
            | Self::FailedStream {
                kind: ErrorKind::RateLimited,
                resets,
            } => Fault::RateLimited {
                until: until(resets),
            },
            Self::Status { resets, .. } | Self::FailedStream { resets, .. } => Fault::ServerError {
                until: until(resets),
            },
            Self::NotBegun
            | Self::OnRecord(_)
            | Self::TenantConnectionsFull
            | Self::AccountConnectionsFull
            | Self::OutOfResources
            | Self::Client(_)
            | Self::Abandoned(_)
            | Self::Shutdown => return None,
        })
    }

    /// The provider's status, if that is what failed.
    pub fn status(&self) -> Option<u16> {
        match self.what() {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// A short name for metrics, from a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::EgressMismatch => "egress_mismatch",
            Self::PortsShort => "ports_short",
            Self::TenantConnectionsFull => "tenant_connections_full",
            Self::AccountConnectionsFull => "account_connections_full",
            Self::NoDestination => "no_destination",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls | Self::TlsTimeout => "tls",
            Self::Broken | Self::NotBegun => "broken",
            Self::OnRecord(failure) => failure.kind(),
            Self::Timeout => "timeout",
            Self::Malformed(_) | Self::Unexpected => "malformed",
            Self::Status { .. } | Self::FailedStream { .. } => match self.fault() {
                Some(Fault::QuotaExhausted { .. }) => "quota_exhausted",
                Some(Fault::Refused) => "account_refused",
                Some(Fault::RateLimited { .. }) => "rate_limited",
                _ if self.status().is_some() => "status_5xx",
                _ => "overloaded_stream",
            },
            Self::IncompleteStream => "incomplete_stream",
            Self::OutOfResources => "out_of_resources",
            Self::Client(_) | Self::Abandoned(_) => "client",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the client is told if nobody else can be asked.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Egress | Self::EgressMismatch => Refusal::EgressUnavailable,
            Self::PortsShort => Refusal::EgressPortsExhausted,
            Self::TenantConnectionsFull => Refusal::TenantConnectionLimit,
            Self::AccountConnectionsFull => Refusal::NoAccountAvailable,
            Self::NoDestination | Self::Connect | Self::Tls | Self::Broken | Self::NotBegun => {
                Refusal::UpstreamError { status: None }
            }
            Self::OnRecord(failure) => failure.into_refusal(),
            Self::ConnectTimeout | Self::TlsTimeout | Self::Timeout => Refusal::UpstreamTimeout,
            Self::Malformed(_) | Self::Unexpected => Refusal::UpstreamMalformed,
            Self::Status {
                status: 401..=403, ..
            } => Refusal::NoAccountAvailable,
            Self::Status {
                status: 429,
                resets,
                ..
            }
            | Self::FailedStream {
                kind: ErrorKind::RateLimited | ErrorKind::QuotaExhausted,
                resets,
            } => Refusal::UpstreamRateLimited {
                retry_after_seconds: resets.map(Reset::retry_after_seconds),
            },
            Self::Status {
                status: 503 | 529,
                resets,
                ..
            }
            | Self::FailedStream { resets, .. } => Refusal::UpstreamOverloaded {
                retry_after_seconds: resets.map(Reset::retry_after_seconds),
            },
            Self::Status { status, .. } => Refusal::UpstreamError {
                status: Some(status),
            },
            Self::IncompleteStream => Refusal::UpstreamStreamIncomplete,
            Self::OutOfResources => Refusal::Overloaded,
            Self::Client(refusal) => refusal,
            Self::Abandoned(_) => Refusal::ClientGone,
            Self::Shutdown => Refusal::ShuttingDown,
        }
    }
}
