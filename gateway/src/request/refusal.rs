//! The one error model: who is to blame, what to do, and whether trying again may help.
//!
//! The client's answer and the operator's record are made from the same value, but they are different texts: the client
//! never learns an account's name, an address, or what the provider said about the operator's credentials.

mod exceeded;
#[cfg(test)]
mod tests;
mod upgrade;

pub use upgrade::UpgradeRefusal;

use crate::config::policy::{Limit, Scope};
use crate::limits::Exceeded;
use relay_wire::head::FramingError;

/// Why a request was not served.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// No key in any of the fields.
    KeyMissing,
    /// A key that belongs to nobody.
    KeyUnknown,
    /// A key whose time is over.
    KeyExpired,
    /// The tenant or its key has used what it may use.
    LimitExceeded(Box<Exceeded>),
    /// What it costs is limited, and nobody knows what this model costs.
    ModelNotPriced,
    /// No record of it could be kept, and the operator wants one of every request.
    AuditUnavailable,
    /// What it uses is limited, and can no longer be counted for certain.
    UsageUnavailable,
    /// The tenant, or the address that the client comes from, has as many connections as it may have.
    TenantConnectionLimit,
    /// The model is not one of the tenant's.
    ModelNotAllowed,
    /// The tenant may only use certain models, and the request does not say which one it wants.
    ModelUnknown(&'static str),
    /// A message of a WebSocket is none of those that are known to ask for a response, or for nothing.
    MessageNotSupported,
    /// A WebSocket is asked for, and there is none.
    Upgrade(UpgradeRefusal),
    /// The bytes are not a request.
    Framing(FramingError),
    /// What is asked for can be read and nothing else.
    ReadOnly,
    /// The head did not arrive in time.
    HeadTooSlow,
    /// The framing of the body is broken.
    BodyMalformed,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is larger than allowed.
    BodyTooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// No descriptor is left, or too many bodies are being held.
    Overloaded,
    /// None of the tenant's upstreams serves this model or this kind of request.
    NoUpstream,
    /// All accounts are busy, or the provider refused the last one that was left.
    NoAccountAvailable,
    /// All accounts are busy, nobody else can wait for them, and others who wait have less than its tenant.
    FairShareExceeded,
    /// The provider has blocked all accounts for a time that it stated, and the request waits no longer.
    AccountsRateLimited {
        /// Until the first of them may be asked again.
        retry_after_seconds: u32,
    },
    /// All accounts have used up what they may use.
    UpstreamQuotaExhausted {
        /// Until the first of them may be asked again, or a guess.
        retry_after_seconds: u32,
        /// The same in seconds since 1970, if the provider has said it.
        resets_at: Option<u64>,
    },
    /// The account that stores the response which the request refers to cannot be asked, and no other one has it.
    ResponseOwnerUnavailable {
        /// Until it may be asked again, or a guess.
        retry_after_seconds: Option<u32>,
    },
    /// It is not known which account stores the response that the request refers to.
    ResponseNotFound {
        /// The path names it, not the body.
        in_path: bool,
    },
    /// An account's own address is missing on this host.
    EgressUnavailable,
    /// Hardly a port is left for an account's own address and the provider.
    EgressPortsExhausted,
    /// The provider limits the rate of the accounts.
    UpstreamRateLimited {
        /// When to try again, as the provider said.
        retry_after_seconds: Option<u32>,
    },
    /// The provider did not answer in time.
    UpstreamTimeout,
    /// The provider could not be reached, or answered with an error of its own.
    UpstreamError {
        /// Its status, if there was one.
        status: Option<u16>,
    },
    /// The provider is overloaded (503, 529).
    UpstreamOverloaded {
        /// When to try again, as the provider said.
        retry_after_seconds: Option<u32>,
    },
    /// The provider's stream ended before it had produced anything.
    UpstreamStreamIncomplete,
    /// What the provider sent is not a proper answer.
    UpstreamMalformed,
    /// The gateway ends, and waits for nothing any more.
    ShuttingDown,
    /// Nobody is there any more to be answered.
    ClientGone,
}

/// Whose fault it was (`x-relay-error-source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The gateway refused: the client's request, or the gateway's own state.
    Gateway,
    /// The provider failed.
    Upstream,
}

impl Source {
    /// The value of the header field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// What a refusal looks like to the client.
pub struct Shape {
    /// HTTP status.
    pub status: u16,
    /// `error.code`
    pub code: &'static str,
    /// `error.type`
    pub kind: &'static str,
    /// `error.message`
    pub message: String,
    /// `error.param`
    pub param: Option<&'static str>,
    /// `error.retryable`
    pub retryable: bool,
    /// `Retry-After`, on every 429 and 503.
    pub retry_after_seconds: Option<u32>,
    /// `error.resets_at`, in seconds since 1970, where what is used up comes back then.
    pub resets_at: Option<u64>,
    /// The limit of the tenant's that it is about: `error.limit` and `error.scope`, and the fields `x-ratelimit-*`.
    pub exceeded: Option<Exceeded>,
    /// `Allow`, where another method would do.
    pub allow: Option<&'static str>,
    /// `Upgrade`, where another protocol would do.
    pub upgrade: Option<&'static str>,
    /// `x-relay-error-source`
    pub source: Source,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const RATE_LIMIT: &str = "rate_limit_error";
const GATEWAY: &str = "gateway_error";
const UPSTREAM: &str = "upstream_error";
/// The one type that Codex takes for a used-up quota: it says so, and when that ends, instead of coming again. So it is to do
/// also where it must not come again for another reason.
const USAGE_LIMIT: &str = "usage_limit_reached";

/// `Retry-After` where nobody said better: a place is usually free again after a moment.
pub(super) const RETRY_SOON_SECONDS: u32 = 1;
/// `Retry-After` where something has to recover first.
pub(super) const RETRY_LATER_SECONDS: u32 = 5;
/// `Retry-After` is never more: clients sleep for as long as they are told, an account may be well before that, and who comes
/// back too early is answered here.
const RETRY_AFTER_SECONDS_MAX: u32 = 120;

impl Refusal {
    /// The `code` in the client's answer and in the record.
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing => "missing_api_key",
            Self::KeyUnknown => "invalid_api_key",
            Self::KeyExpired => "expired_api_key",
            Self::LimitExceeded(exceeded) => exceeded::code(exceeded.limit),
            Self::ModelNotPriced => "model_not_priced",
            Self::AuditUnavailable => "audit_unavailable",
            Self::UsageUnavailable => "usage_unavailable",
            Self::ReadOnly => "method_not_allowed",
            Self::TenantConnectionLimit => "tenant_connection_limit",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ModelUnknown(_) => "model_required",
            Self::MessageNotSupported => "message_not_supported",
            Self::Upgrade(refusal) => refusal.code(),
            Self::Framing(error) => framing_code(*error),
            Self::HeadTooSlow | Self::BodyTooSlow => "request_timeout",
            Self::BodyMalformed => "bad_request",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::Overloaded => "gateway_overloaded",
            Self::NoUpstream => "no_upstream_for_request",
            Self::NoAccountAvailable => "no_account_available",
            Self::FairShareExceeded => "tenant_fair_share_exceeded",
            Self::ResponseOwnerUnavailable { .. } => "response_owner_unavailable",
            Self::ResponseNotFound { .. } => "previous_response_not_found",
            Self::EgressUnavailable => "egress_unavailable",
            Self::EgressPortsExhausted => "egress_ports_exhausted",
            Self::UpstreamRateLimited { .. } | Self::AccountsRateLimited { .. } => {
                "upstream_rate_limited"
            }
            Self::UpstreamQuotaExhausted { .. } => "upstream_quota_exhausted",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamError { .. } | Self::UpstreamMalformed => "upstream_error",
            Self::UpstreamOverloaded { .. } => "upstream_overloaded",
            Self::UpstreamStreamIncomplete => "upstream_stream_incomplete",
            Self::ShuttingDown => "gateway_shutting_down",
            Self::ClientGone => "client_gone",
        }
    }

    /// The whole answer. `attempts`: accounts that were tried.
    pub fn shape(&self, attempts: u32) -> Shape {
        let code = self.code();
        let refused = |status, kind, message: &str| Shape {
            status,
            code,
            kind,
            message: message.to_owned(),
            param: None,
            retryable: false,
            retry_after_seconds: None,
            resets_at: None,
            exceeded: None,
            allow: None,
            upgrade: None,
            source: Source::Gateway,
        };
        let passing = |status, kind, after: u32, message: &str| Shape {
            retryable: true,
            retry_after_seconds: Some(after),
            ..refused(status, kind, message)
        };
        let upstream = |status, after: Option<u32>, message: &str| Shape {
            source: Source::Upstream,
            retryable: true,
            retry_after_seconds: after,
            message: format!("{message} ({})", accounts_tried(attempts)),
            ..refused(status, UPSTREAM, "")
        };
        match self {
            Self::KeyMissing => refused(
                401,
                AUTHENTICATION,
                "No API key: send it as X-API-Key or as Authorization: Bearer.",
            ),
            Self::KeyUnknown => refused(401, AUTHENTICATION, "The API key is not known here."),
            Self::KeyExpired => refused(401, AUTHENTICATION, "The API key has expired."),
            Self::LimitExceeded(exceeded) => exceeded::shape(code, exceeded),
            Self::ModelNotPriced => Shape {
                param: Some("model"),
                ..refused(
                    403,
                    PERMISSION,
                    "This API key has a budget, and nobody knows what this model costs.",
                )
            },
            Self::AuditUnavailable => passing(
                503,
                GATEWAY,
                RETRY_LATER_SECONDS,
                "The gateway cannot keep its record of requests at the moment.",
            ),
            Self::UsageUnavailable => passing(
                503,
                GATEWAY,
                RETRY_LATER_SECONDS,
                "The gateway cannot keep count of what is used at the moment.",
            ),
            Self::ReadOnly => Shape {
                allow: Some("GET, HEAD"),
                ..refused(405, INVALID_REQUEST, "This can be read, and nothing else.")
            },
            Self::TenantConnectionLimit => passing(
                429,
                RATE_LIMIT,
                RETRY_SOON_SECONDS,
                "Too many connections: close one, or send the next request on one that is open.",
            ),
            Self::ModelNotAllowed => Shape {
                param: Some("model"),
                ..refused(403, PERMISSION, "This API key may not use this model.")
            },
            Self::ModelUnknown(why) => Shape {
                param: Some("model"),
                ..refused(400, INVALID_REQUEST, why)
            },
            Self::MessageNotSupported => Shape {
                param: Some("type"),
                ..refused(
                    400,
                    INVALID_REQUEST,
                    "Messages of this type are not passed on.",
                )
            },
            Self::Upgrade(refusal) => refusal.shape(refused),
            Self::Framing(error) => Shape {
                allow: (error.status() == 405)
                    .then_some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                ..refused(error.status(), INVALID_REQUEST, error.message())
            },
            Self::HeadTooSlow => refused(408, INVALID_REQUEST, "The request head took too long."),
            Self::BodyTooSlow => refused(408, INVALID_REQUEST, "The request body took too long."),
            Self::BodyMalformed => refused(
                400,
                INVALID_REQUEST,
                "The framing of the request body is not valid.",
            ),
            Self::BodyTooLarge { bytes_max } => refused(
                413,
                INVALID_REQUEST,
                &format!("The request body is larger than {bytes_max} bytes."),
            ),
            Self::Overloaded => passing(
                503,
                GATEWAY,
                RETRY_SOON_SECONDS,
                "The gateway has no room for another request.",
            ),
            Self::NoUpstream => refused(
                404,
                INVALID_REQUEST,
                "No provider that this API key may use serves this model or this kind of request.",
            ),
            Self::NoAccountAvailable => passing(
                503,
                GATEWAY,
                if attempts == 0 {
                    RETRY_SOON_SECONDS
                } else {
                    RETRY_LATER_SECONDS
                },
                "No account of the provider is available at the moment.",
            ),
            Self::FairShareExceeded => passing(
                429,
                RATE_LIMIT,
                RETRY_SOON_SECONDS,
                "All accounts of the provider are busy, and others who wait have fewer requests in flight.",
            ),
            Self::AccountsRateLimited {
                retry_after_seconds,
            } => Shape {
                source: Source::Upstream,
                ..passing(
                    429,
                    RATE_LIMIT,
                    within_bounds(*retry_after_seconds),
                    "The provider limits the rate of requests: no account may be asked for now.",
                )
            },
            Self::UpstreamQuotaExhausted {
                retry_after_seconds,
                resets_at,
            } => Shape {
                source: Source::Upstream,
                // Nobody is to hold on to a request for hours.
                retryable: *retry_after_seconds <= RETRY_AFTER_SECONDS_MAX,
                resets_at: *resets_at,
                ..passing(
                    429,
                    USAGE_LIMIT,
                    within_bounds(*retry_after_seconds),
                    "What the accounts of the provider may use is used up.",
                )
            },
            Self::ResponseOwnerUnavailable {
                retry_after_seconds,
            } => passing(
                503,
                GATEWAY,
                within_bounds(retry_after_seconds.unwrap_or(RETRY_LATER_SECONDS)),
                "The account that stores this response is not available at the moment, and no other one has it.",
            ),
            Self::ResponseNotFound { in_path: false } => Shape {
                param: Some("previous_response_id"),
                ..refused(
                    400,
                    INVALID_REQUEST,
                    "It is not known here where the previous response is stored: send the whole conversation.",
                )
            },
            Self::ResponseNotFound { in_path: true } => refused(
                404,
                INVALID_REQUEST,
                "It is not known here where this response is stored.",
            ),
            Self::EgressUnavailable => passing(
                503,
                GATEWAY,
                RETRY_LATER_SECONDS,
                "The address from which the provider is called is not available.",
            ),
            Self::EgressPortsExhausted => passing(
                503,
                GATEWAY,
                RETRY_LATER_SECONDS,
                "The address from which the provider is called has no port left.",
            ),
            Self::UpstreamRateLimited {
                retry_after_seconds,
            } => Shape {
                kind: RATE_LIMIT,
                ..upstream(
                    429,
                    Some(within_bounds(
                        retry_after_seconds.unwrap_or(RETRY_LATER_SECONDS),
                    )),
                    "The provider limits the rate of requests.",
                )
            },
            Self::UpstreamTimeout => upstream(504, None, "The provider did not answer in time."),
            Self::UpstreamError {
                status: Some(status),
            } => upstream(
                502,
                None,
                &format!("The provider answered with status {status}."),
            ),
            Self::UpstreamError { status: None } => upstream(
                502,
                None,
                "The provider could not be reached, or broke off.",
            ),
            Self::UpstreamOverloaded {
                retry_after_seconds,
            } => upstream(
                503,
                Some(within_bounds(
                    retry_after_seconds.unwrap_or(RETRY_LATER_SECONDS),
                )),
                "The provider is busy.",
            ),
            Self::UpstreamStreamIncomplete => upstream(
                502,
                None,
                "The provider's stream ended before it was complete.",
            ),
            Self::UpstreamMalformed => Shape {
                retryable: false,
                ..upstream(502, None, "The provider's answer is not valid HTTP.")
            },
            Self::ShuttingDown => passing(
                503,
                GATEWAY,
                RETRY_SOON_SECONDS,
                "The gateway is being stopped: send the request again.",
            ),
            Self::ClientGone => refused(499, INVALID_REQUEST, "The client closed the connection."),
        }
    }

    /// The limit of the tenant's that has refused it.
    pub fn limit(&self) -> Option<(Scope, Limit)> {
        match self {
            Self::LimitExceeded(exceeded) => Some((exceeded.scope, exceeded.limit)),
            _ => None,
        }
    }

    /// What was received cannot be told apart from a next request, or the connection is one too many: nothing more may be read
    /// from it. Nor when we end.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Framing(_)
                | Self::HeadTooSlow
                | Self::TenantConnectionLimit
                | Self::BodyMalformed
                | Self::BodyTooSlow
                | Self::ShuttingDown
                | Self::ClientGone
        )
    }
}

/// "At once" is no answer to a client that has just been refused: some of them would come back without a pause, for ever.
fn within_bounds(seconds: u32) -> u32 {
    seconds.clamp(1, RETRY_AFTER_SECONDS_MAX)
}

fn accounts_tried(attempts: u32) -> String {
    match attempts {
        1 => "1 account tried".to_owned(),
        more => format!("{more} accounts tried"),
    }
}

fn framing_code(error: FramingError) -> &'static str {
    match error.status() {
        405 => "method_not_allowed",
        414 => "target_too_long",
        417 => "expectation_failed",
        431 => "header_fields_too_large",
        505 => "http_version_not_supported",
        _ => "bad_request",
    }
}

impl Shape {
    /// The body: OpenAI's error envelope, with two members of our own.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let mut error = serde_json::json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "param": self.param,
            "request_id": request_id,
            "retryable": self.retryable,
        });
        if let Some(seconds) = self.resets_at {
            error["resets_at"] = seconds.into();
        }
        if let Some(exceeded) = &self.exceeded {
            error["limit"] = exceeded.limit.as_str().into();
            error["scope"] = exceeded.scope.as_str().into();
            if self.resets_at.is_some() {
                error["resets_in_seconds"] =
                    exceeded::seconds_rounded_up(exceeded.retry_after).into();
            }
        }
        serde_json::json!({ "error": error })
            .to_string()
            .into_bytes()
    }
}
