//! `/accounts`: how the operator's accounts are, and what the operator wants of them. Times are RFC 3339 in UTC.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What may be expected of an account, or of one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It is asked.
    Usable,
    /// It is asked again, with less than its usual share at first.
    Recovering,
    /// Its block is over: the next requests are trials.
    Due,
    /// It is not asked while others can be.
    Blocked,
    /// By the operator's order it takes nothing new.
    Draining,
    /// By the operator's order it is not asked.
    Disabled,
}

impl Condition {
    /// All of them, for tables.
    pub const ALL: [Self; 6] = [
        Self::Usable,
        Self::Recovering,
        Self::Due,
        Self::Blocked,
        Self::Draining,
        Self::Disabled,
    ];

    /// For metrics: 0 (usable), 1 (recovering), 2 (due) or 3 (blocked); more if the operator has ordered it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// A name for metrics and the operator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Recovering => "recovering",
            Self::Due => "due",
            Self::Blocked => "blocked",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// The answer to `GET /accounts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// All of them, in the order of the configuration.
    pub accounts: Vec<Account>,
    /// Upstreams of which no account is well, so that those that are blocked are asked all the same.
    pub panic: Vec<String>,
}

/// The answer to `GET /accounts/{name}`, and to `POST /accounts/{name}/{verb}`: how it is from then on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its name in the configuration.
    pub name: String,
    /// The upstream that it belongs to.
    pub upstream: String,
    /// Its region.
    pub region: String,
    /// What may be expected of it.
    pub state: Condition,
    /// Why it is not usable: a cause such as `rate_limited`, or the operator's own words.
    pub reason: Option<String>,
    /// When that ends by itself.
    pub until: Option<String>,
    /// Since when it has been so; unknown if nothing has ever been amiss.
    pub since: Option<String>,
    /// The provider itself said until when.
    pub stated: bool,
    /// What the operator wants.
    pub wish: Wish,
    /// What would be expected of it without that.
    pub health: Measured,
    /// How often in a row it was blocked itself without having recovered for good: the next block is the longer for it. Those
    /// of which the provider stated the end do not count.
    pub openings: u32,
    /// Requests that it is working on.
    pub in_flight: u32,
    /// So many at most.
    pub max_concurrent: u32,
    /// What is spoken on its connections, by the one that was opened last and is not a WebSocket's: `http1` or `http2`; unknown before
    /// there was one.
    pub protocol: Option<String>,
    /// How long answers take to begin, on average, if it is known.
    pub latency_ms: Option<u64>,
    /// The part of its usual load that it is given, 0 to 1.
    pub share: f64,
    /// The addresses that it is called from.
    pub addresses: Vec<Address>,
    /// State and wish are on disk as they are shown here: they outlive the process.
    pub saved: bool,
    /// Why they are not.
    pub unsaved_reason: Option<String>,
}

/// What was measured of an account, which an order of the operator covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// What may be expected of it.
    pub state: Condition,
    /// Why it is not usable.
    pub reason: Option<String>,
    /// When that ends by itself.
    pub until: Option<String>,
    /// The provider itself said until when.
    pub stated: bool,
}

/// One address of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// What may be expected of it.
    pub state: Condition,
    /// Why it is not usable.
    pub reason: Option<String>,
    /// When that ends by itself.
    pub until: Option<String>,
}

/// What the operator wants of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// In one word.
    pub word: Word,
    /// Since when; the configuration says so if there is nothing.
    pub since: Option<String>,
    /// When it ends by itself; never if there is nothing.
    pub until: Option<String>,
    /// Why, in the operator's own words.
    pub reason: Option<String>,
}

/// See [`Wish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// What its health allows.
    Enabled,
    /// Nothing new.
    Drained,
    /// Nothing at all.
    Disabled,
}

/// An order of the operator: the last part of `POST /accounts/{name}/{verb}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It takes nothing new.
    Drain,
    /// It is asked, as far as its health allows.
    Enable,
    /// It is not asked.
    Disable,
    /// Its failures are forgotten.
    Reset,
}

impl Verb {
    /// All of them, for tables.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Enable, Self::Disable, Self::Reset];

    /// As it stands in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reset => "reset",
        }
    }
}

/// The body of `POST /accounts/{name}/{verb}`. At most one of the two says when the order ends; `reset` takes neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// It ends after so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// It ends then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, in the operator's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
