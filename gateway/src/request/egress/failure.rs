//! Why a candidate did not work out, and what follows from it.

use crate::request::refusal::Refusal;
use relay_wire::head::FramingError;

/// Why a candidate did not work out.
#[derive(Debug)]
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
    /// The connection broke before an answer had begun.
    Broken,
    /// Nothing came in time.
    Timeout,
    /// What came is not HTTP, or not unambiguous.
    Malformed(FramingError),
    /// More informational answers than anybody needs, a switch of protocols that nobody asked for.
    Unexpected,
    /// The provider answered, but what it says is about the account or about itself.
    Status {
        /// The status.
        status: u16,
        /// What it said about trying again.
        retry_after_seconds: Option<u32>,
    },
    /// A stream began with the report that the provider is overloaded.
    OverloadedStream,
    /// No descriptor or no memory is left on this host.
    OutOfResources,
    /// The client's side ended it.
    Client(Refusal),
}

impl Failure {
    /// Another account may do better, and nothing was produced yet that a second attempt would repeat.
    pub fn may_be_retried(&self) -> bool {
        !matches!(
            self,
            Self::Malformed(_)
                | Self::Unexpected
                | Self::TenantConnectionsFull
                | Self::OutOfResources
                | Self::Client(_)
        )
    }

    /// It is this account's problem: the next one can be asked at once.
    pub fn blames_account(&self) -> bool {
        match self {
            Self::Egress
            | Self::EgressMismatch
            | Self::PortsShort
            | Self::AccountConnectionsFull => true,
            Self::Status { status, .. } => matches!(status, 401 | 403 | 429),
            _ => false,
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
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Malformed(_) | Self::Unexpected => "malformed",
            Self::Status {
                status: 401 | 403, ..
            } => "account_refused",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status_5xx",
            Self::OverloadedStream => "overloaded_stream",
            Self::OutOfResources => "out_of_resources",
            Self::Client(_) => "client",
        }
    }

    /// What the client is told if nobody else can be asked.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Egress | Self::EgressMismatch => Refusal::EgressUnavailable,
            Self::PortsShort => Refusal::EgressPortsExhausted,
            Self::TenantConnectionsFull => Refusal::TenantConnectionLimit,
            Self::AccountConnectionsFull => Refusal::NoAccountAvailable,
            Self::NoDestination | Self::Connect | Self::Broken => {
                Refusal::UpstreamError { status: None }
            }
            Self::Timeout => Refusal::UpstreamTimeout,
            Self::Malformed(_) | Self::Unexpected => Refusal::UpstreamMalformed,
            Self::Status {
                status: 401 | 403, ..
            } => Refusal::NoAccountAvailable,
            Self::Status {
                status: 429,
                retry_after_seconds,
            } => Refusal::UpstreamRateLimited {
                retry_after_seconds,
            },
            Self::Status {
                status: 503 | 529,
                retry_after_seconds,
            } => Refusal::UpstreamOverloaded {
                retry_after_seconds,
            },
            Self::Status { status, .. } => Refusal::UpstreamError {
                status: Some(status),
            },
            Self::OverloadedStream => Refusal::UpstreamOverloaded {
                retry_after_seconds: None,
            },
            Self::OutOfResources => Refusal::Overloaded,
            Self::Client(refusal) => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Failure {
        Failure::Status {
            status,
            retry_after_seconds: Some(7),
        }
    }

    #[test]
    fn what_the_client_is_told_when_nobody_else_can_be_asked() {
        for (failure, told, code) in [
            (Failure::Egress, 503, "egress_unavailable"),
            (Failure::EgressMismatch, 503, "egress_unavailable"),
            (Failure::PortsShort, 503, "egress_ports_exhausted"),
            (
                Failure::TenantConnectionsFull,
                429,
                "tenant_connection_limit",
            ),
            (Failure::AccountConnectionsFull, 503, "no_account_available"),
            (Failure::NoDestination, 502, "upstream_error"),
            (Failure::Connect, 502, "upstream_error"),
            (Failure::Broken, 502, "upstream_error"),
            (Failure::Timeout, 504, "upstream_timeout"),
            (Failure::Unexpected, 502, "upstream_error"),
            (Failure::OverloadedStream, 503, "upstream_overloaded"),
            (Failure::OutOfResources, 503, "gateway_overloaded"),
            (status(401), 503, "no_account_available"),
            (status(403), 503, "no_account_available"),
            (status(429), 429, "upstream_rate_limited"),
            (status(500), 502, "upstream_error"),
            (status(503), 503, "upstream_overloaded"),
            (status(529), 503, "upstream_overloaded"),
        ] {
            let name = format!("{failure:?}");
            let shape = failure.into_refusal().shape(1);
            assert_eq!((shape.status, shape.code), (told, code), "{name}");
        }
    }

    #[test]
    fn only_what_another_account_may_do_better_is_tried_again() {
        for failure in [
            Failure::Egress,
            Failure::EgressMismatch,
            Failure::PortsShort,
            Failure::AccountConnectionsFull,
            Failure::Connect,
            Failure::Broken,
            Failure::Timeout,
            status(500),
        ] {
            assert!(failure.may_be_retried(), "{failure:?}");
        }
        for failure in [
            Failure::Malformed(FramingError::Malformed),
            Failure::Unexpected,
            Failure::TenantConnectionsFull,
            Failure::OutOfResources,
            Failure::Client(Refusal::ClientGone),
        ] {
            assert!(!failure.may_be_retried(), "{failure:?}");
        }
    }

    #[test]
    fn an_account_is_to_blame_for_what_its_key_or_its_address_causes() {
        for failure in [
            Failure::Egress,
            Failure::EgressMismatch,
            Failure::PortsShort,
            Failure::AccountConnectionsFull,
            status(401),
            status(403),
            status(429),
        ] {
            assert!(failure.blames_account(), "{failure:?}");
        }
        for failure in [Failure::Connect, Failure::Timeout, status(500), status(503)] {
            assert!(!failure.blames_account(), "{failure:?}");
        }
    }
}
