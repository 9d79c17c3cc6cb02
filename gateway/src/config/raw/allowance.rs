//! `limits` of tenants and of keys, and `[[price]]`.

use super::super::forms::{Model, Text};
use super::super::policy::Limit;
use super::super::units::Decimal;
use super::List;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

const UNITS_MAX: u64 = 1_000_000_000;

/// What a tenant, or one of its keys, may use at most, over all workers; what is left out is not limited.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Allowance {
    /// Requests in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) requests_per_second: Option<u32>,
    /// Requests that may come at once while that average is kept; without it, as many as in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) burst: Option<u32>,
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60_000_000))]
    pub(in crate::config) requests_per_minute: Option<u32>,
    /// Tokens, read and written, in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) tokens_per_minute: Option<u64>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) concurrent_requests: Option<u32>,
    /// Requests in a day of the calendar, in `usage.time_zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub(in crate::config) requests_per_day: Option<u64>,
    /// Tokens, read and written, in a day of the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub(in crate::config) tokens_per_day: Option<u64>,
    /// Requests in a month of the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub(in crate::config) requests_per_month: Option<u64>,
    /// Tokens, read and written, in a month of the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub(in crate::config) tokens_per_month: Option<u64>,
    /// Money in a month of the calendar, by `[[price]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) budget_per_month: Option<Budget>,
    /// Of these limits, those that are counted and reported but refuse nothing.
    #[schemars(length(max = 9))]
    pub(in crate::config) shadow: List<LimitName>,
}

/// Money, in billionths.
pub(in crate::config) type Budget = Decimal<9, 1, UNITS_MAX>;

/// What a million tokens cost, in millionths.
pub(in crate::config) type MillionPrice = Decimal<6, 0, UNITS_MAX>;

/// A limit, by its name.
pub(in crate::config) struct LimitName(pub(in crate::config) Limit);

impl Serialize for LimitName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for LimitName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let found = Limit::ALL.into_iter().find(|limit| limit.as_str() == name);
        found
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a limit"))
    }
}

impl JsonSchema for LimitName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LimitName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Limit::ALL.map(Limit::as_str) })
    }
}

/// What models cost, in the operator's currency.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["models", "input", "output"]))]
pub(in crate::config) struct Price {
    /// The models; `*` stands for any characters. The first entry that covers a model decides.
    #[schemars(length(min = 1, max = 100))]
    pub(in crate::config) models: List<Text<Model>>,
    /// A million tokens read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) input: Option<MillionPrice>,
    /// A million tokens read from the provider's prompt cache; without it, as `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) cached_input: Option<MillionPrice>,
    /// A million tokens written, reasoning included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) output: Option<MillionPrice>,
}
