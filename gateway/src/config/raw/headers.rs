//! `[headers]`, and the exceptions from it in `[[upstream]]`.

use super::super::forms::{FieldPattern, FieldValue, Text};
use super::List;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a provider needs to know of a request: its form, which client it is, which session, since
/// the provider's prompt cache depends on it.
const REQUEST_ALLOW: [&str; 14] = [
    "content-type",
    "content-encoding",
    "accept",
    "user-agent",
    "originator",
    "version",
    "session-id",
    "session_id",
    "thread-id",
    "x-client-request-id",
    "x-codex-*",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
];

const RESPONSE_ALLOW: [&str; 9] = [
    "content-type",
    "content-encoding",
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-ratelimit-*",
    "openai-*",
    "x-codex-*",
];

/// Which header fields pass. An entry is a name, or the beginning of one and a `*`; the entry that
/// describes a field most closely decides, and between equals `remove` wins.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Headers {
    /// From the client to the upstream.
    pub(in crate::config) request: Rules<RequestAllow>,
    /// From the upstream to the client.
    pub(in crate::config) response: Rules<ResponseAllow>,
}

/// Exceptions from `[headers]`, in the same form, merged over it.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct HeaderExceptions {
    /// From the client to the upstream.
    pub(in crate::config) request: Rules<Inherited>,
    /// From the upstream to the client.
    pub(in crate::config) response: Rules<Inherited>,
}

/// Rules of one direction.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "{A}Rules")]
pub(in crate::config) struct Rules<A: AllowList> {
    /// Fields that pass; written out, it replaces the list that would hold otherwise.
    #[serde(skip_serializing_if = "is_inherited")]
    pub(in crate::config) allow: A,
    /// Fields that pass besides those of `allow`.
    #[schemars(length(max = 1_000))]
    pub(in crate::config) allow_also: Names,
    /// Fields that stop although they are allowed.
    #[schemars(length(max = 1_000))]
    pub(in crate::config) remove: Names,
    /// Fields added at the end, in place of those received under the same name.
    #[schemars(extend("propertyNames" = { "format": "field-name" }, "maxProperties" = 100))]
    pub(in crate::config) set: BTreeMap<String, Text<FieldValue>>,
}

/// Names of header fields.
pub(in crate::config) type Names = List<Text<FieldPattern>>;

fn is_inherited<A: AllowList>(allow: &A) -> bool {
    allow.names().is_none()
}

/// The list of fields that pass, as one place of the file may give it.
pub(in crate::config) trait AllowList: Default + Serialize {
    /// `None`: the list is inherited.
    fn names(&self) -> Option<&Names>;
}

/// The list for requests.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(in crate::config) struct RequestAllow(#[schemars(length(max = 1_000))] Names);

/// The list for responses.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(in crate::config) struct ResponseAllow(#[schemars(length(max = 1_000))] Names);

/// The list of an exception.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(in crate::config) struct Inherited(Option<Names>);

fn named(names: &[&str]) -> Names {
    List::of(names.iter().map(|name| Text((*name).to_owned())))
}

impl Default for RequestAllow {
    fn default() -> Self {
        Self(named(&REQUEST_ALLOW))
    }
}

impl Default for ResponseAllow {
    fn default() -> Self {
        Self(named(&RESPONSE_ALLOW))
    }
}

impl AllowList for RequestAllow {
    fn names(&self) -> Option<&Names> {
        Some(&self.0)
    }
}

impl AllowList for ResponseAllow {
    fn names(&self) -> Option<&Names> {
        Some(&self.0)
    }
}

impl AllowList for Inherited {
    fn names(&self) -> Option<&Names> {
        self.0.as_ref()
    }
}
