//! What is said to a client that asks for a WebSocket and does not get one.

use super::{GATEWAY, INVALID_REQUEST, Shape};

/// Why a request for a WebSocket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeRefusal {
    /// None of the tenant's upstreams takes one, or not for what is asked for.
    NotOffered,
    /// The tenant has as many as it may have.
    TooMany,
    /// It is another version's.
    Version,
    /// It is not what it should be, and how.
    Malformed(&'static str),
}

impl UpgradeRefusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotOffered => "websocket_not_offered",
            Self::TooMany => "tenant_websocket_limit",
            Self::Version => "websocket_version_not_supported",
            Self::Malformed(_) => "bad_request",
        }
    }

    /// The protocol that `Upgrade` has to name (RFC 9110 section 15.5.22). Where there is no WebSocket, the same is to be had by
    /// requests of the protocol that is spoken already: Codex goes on with them at once when it sees 426, and with no other status.
    pub(super) fn shape(self, refused: impl Fn(u16, &'static str, &str) -> Shape) -> Shape {
        match self {
            Self::NotOffered => Shape {
                upgrade: Some("HTTP/1.1"),
                ..refused(
                    426,
                    INVALID_REQUEST,
                    "There is no WebSocket here: send the request as POST.",
                )
            },
            Self::TooMany => Shape {
                upgrade: Some("HTTP/1.1"),
                ..refused(
                    426,
                    GATEWAY,
                    "Too many WebSockets are open: close one, or send the request as POST.",
                )
            },
            Self::Version => Shape {
                upgrade: Some("websocket"),
                ..refused(
                    426,
                    INVALID_REQUEST,
                    "Only version 13 of the WebSocket protocol is spoken here.",
                )
            },
            Self::Malformed(how) => refused(400, INVALID_REQUEST, how),
        }
    }
}
