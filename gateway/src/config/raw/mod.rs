//! The form of the file, and nothing but its form: these types make the JSON Schema, the schema
//! checks the file (`check`), and what passes is read back into them (`meaning`).
//!
//! Serde asks for nothing, so that one thing missing does not hide what is wrong elsewhere; what is
//! required stands in the schema.

pub(super) mod allowance;
pub(super) mod headers;
pub(super) mod health;
pub(super) mod journal;
pub(super) mod knobs;
pub(super) mod tls;

use super::forms::{Cidr, FilePath, Ip, Model, Moment, Name, Sha256, Socket, Text, TlsName};
use super::units::Auto;
use allowance::{Allowance, Price};
use headers::{HeaderExceptions, Headers};
use health::{Health, Probe};
use journal::{Journal, Usage};
use knobs::{Kernel, Limits, Log, Timeouts};
use relay_ebpf::abi;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tls::ListenerTls;

/// A list in which an entry that was refused keeps its place, so that the others keep their index.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::config) struct List<T>(pub(in crate::config) Vec<Option<T>>);

impl<T> List<T> {
    pub(in crate::config) fn of(entries: impl IntoIterator<Item = T>) -> Self {
        Self(entries.into_iter().map(Some).collect())
    }

    /// The entries that passed, each with its index in the file.
    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

const LISTENERS_MAX: u32 = 64;
const ACCOUNTS_MAX: u32 = 10_000;
const TENANTS_MAX: u32 = 60_000;
pub(in crate::config) const WORKERS_MAX: usize = 256;

// What passes the form has a place in the kernel's tables.
const _: () = assert!(
    LISTENERS_MAX <= abi::LISTENERS_MAX
        && ACCOUNTS_MAX <= abi::ACCOUNTS_MAX
        && TENANTS_MAX <= abi::TENANTS_MAX
        && WORKERS_MAX <= abi::WORKERS_MAX as usize
);

/// The configuration file of codex-relay.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "codex-relay.toml", extend("required" = ["listener", "upstream", "account"]))]
pub(in crate::config) struct File {
    /// This node.
    pub(in crate::config) node: Node,
    /// The admin API.
    pub(in crate::config) admin: Admin,
    /// Where tenants connect.
    #[schemars(length(min = 1, max = LISTENERS_MAX))]
    pub(in crate::config) listener: List<Listener>,
    /// Providers.
    #[schemars(length(min = 1, max = 1_000))]
    pub(in crate::config) upstream: List<Upstream>,
    /// The operator's accounts with the providers.
    #[schemars(length(min = 1, max = ACCOUNTS_MAX))]
    pub(in crate::config) account: List<Account>,
    /// Who may call.
    #[schemars(length(max = TENANTS_MAX))]
    pub(in crate::config) tenant: List<Tenant>,
    /// What models cost.
    #[schemars(length(max = 1_000))]
    pub(in crate::config) price: List<Price>,
    /// What is kept of every request, and for how long.
    pub(in crate::config) journal: Journal,
    /// How use is counted.
    pub(in crate::config) usage: Usage,
    /// What the kernel enforces.
    pub(in crate::config) kernel: Kernel,
    /// When an account is kept out, and for how long.
    pub(in crate::config) health: Health,
    /// Which header fields pass.
    pub(in crate::config) headers: Headers,
    /// How long things may take.
    pub(in crate::config) timeouts: Timeouts,
    /// How large things may be.
    pub(in crate::config) limits: Limits,
    /// Where the log goes.
    pub(in crate::config) log: Log,
}

/// This node.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    /// Name in logs and metrics; without it, the name of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) name: Option<Text<Name>>,
    /// Region whose accounts are preferred.
    pub(in crate::config) region: Text<Name>,
    /// Where state is kept; created at start if it is missing.
    pub(in crate::config) state_dir: Text<FilePath>,
    /// Worker threads, each on its own core; `auto`: as many as there are cores for this process.
    pub(in crate::config) workers: Auto<1, WORKERS_MAX>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            region: Text("default".to_owned()),
            state_dir: Text("/var/lib/codex-relay".into()),
            workers: Auto::default(),
        }
    }
}

/// The admin API: health, readiness, metrics, version, orders to accounts.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// Where it listens. It asks for no credential and takes orders: keep it on loopback and away from untrusted local users.
    pub(in crate::config) address: Text<Socket>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: Text(([127, 0, 0, 1], 9901).into()),
        }
    }
}

/// Where tenants connect.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(in crate::config) struct Listener {
    /// Address and port; port 0 takes a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) address: Option<Text<Socket>>,
    /// HTTP/2 beside HTTP/1.1. With `tls` it is offered by ALPN, and true is the default; without, clients begin with it by
    /// prior knowledge, and false is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) http2: Option<bool>,
    /// TLS; without this table, plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) tls: Option<ListenerTls>,
}

/// A provider.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "base_url"]))]
pub(in crate::config) struct Upstream {
    /// Name in logs, metrics, accounts and tenants' lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) name: Option<Text<Name>>,
    /// Scheme, host, perhaps a port, perhaps a prefix for every path; the path of a request
    /// (`/v1/responses`) is put behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^[Hh][Tt][Tt][Pp][Ss]?://[^@?#]+$"))]
    pub(in crate::config) base_url: Option<String>,
    /// Protocol spoken to it.
    pub(in crate::config) protocol: Protocol,
    /// Authorities (PEM) to trust instead of the system's, for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) ca_file: Option<Text<FilePath>>,
    /// The name that it is asked for (SNI) and that its certificate must have, for `https`; without it, the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) server_name: Option<Text<TlsName>>,
    /// WebSocket is relayed to it, over HTTP/1.1 connections of its own.
    pub(in crate::config) websocket: bool,
    /// How the account's credential is attached.
    pub(in crate::config) credential_style: CredentialStyle,
    /// Models that it serves; `*` stands for any characters. A request for another one goes to the tenant's next upstream.
    #[schemars(length(min = 1, max = 1_000))]
    pub(in crate::config) models: List<Text<Model>>,
    /// Requests of one conversation go to one account, for the provider's prompt cache.
    pub(in crate::config) affinity: bool,
    /// A cheap request for each account and address, from time to time; without this table, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) probe: Option<Probe>,
    /// Where a Chat client did not ask for usage, the provider is asked for it, and what it adds for that is kept from the client.
    pub(in crate::config) include_usage: bool,
    /// Exceptions from `[headers]` for this upstream.
    pub(in crate::config) headers: HeaderExceptions,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: None,
            base_url: None,
            protocol: Protocol::default(),
            ca_file: None,
            server_name: None,
            websocket: false,
            credential_style: CredentialStyle::default(),
            models: List::of([Text("*".to_owned())]),
            affinity: true,
            probe: None,
            include_usage: false,
            headers: HeaderExceptions::default(),
        }
    }
}

/// A protocol between the gateway and a provider.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Protocol {
    /// HTTP/1.1
    #[default]
    Http1,
    /// HTTP/2; without TLS by prior knowledge
    Http2,
    /// HTTP/2 where the provider chooses it by ALPN, else HTTP/1.1
    Auto,
}

/// The form in which a provider wants its credential.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum CredentialStyle {
    /// `Authorization: Bearer …` (OpenAI and compatible)
    #[default]
    Bearer,
    /// `x-api-key: …` (Anthropic)
    XApiKey,
    /// `x-goog-api-key: …` (Gemini)
    XGoogApiKey,
    /// `api-key: …` (Azure OpenAI)
    ApiKey,
}

/// An account of the operator with a provider.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "upstream", "credential", "egress"]))]
pub(in crate::config) struct Account {
    /// Name in logs and metrics; tenants never see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) name: Option<Text<Name>>,
    /// The upstream that it is an account of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) upstream: Option<Text<Name>>,
    /// Where the provider's key is found.
    #[serde(skip_serializing)]
    pub(in crate::config) credential: Option<Credential>,
    /// Its own addresses on this host: connections for it leave from one of them and from no other.
    #[schemars(length(min = 1, max = 256))]
    pub(in crate::config) egress: List<Text<Ip>>,
    /// Region of the account.
    pub(in crate::config) region: Text<Name>,
    /// Requests in flight at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_concurrent: u32,
    /// Connections to the provider at most, idle ones too; without it, any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_connections: Option<u32>,
    /// Share of the load against other accounts.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) weight: u32,
    /// It is asked; `false`: not until `codex-relay accounts enable` says otherwise.
    pub(in crate::config) enabled: bool,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            name: None,
            upstream: None,
            credential: None,
            egress: List::default(),
            region: Text("default".to_owned()),
            max_concurrent: 64,
            max_connections: None,
            weight: 1,
            enabled: true,
        }
    }
}

/// Where a secret is found. The secret itself never stands in this file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    inline,
    extend(
        "minProperties" = 1,
        "maxProperties" = 1,
        "x-hint" = "a credential never stands in this file: write `{ env = \"NAME\" }` or `{ file = \"/path\" }`"
    )
)]
pub(in crate::config) struct Credential {
    /// Name of the environment variable that holds it.
    pub(in crate::config) env: Option<String>,
    /// Path of the file that holds it and nothing else.
    pub(in crate::config) file: Option<Text<FilePath>>,
}

/// Who may call.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "keys", "upstreams"]))]
pub(in crate::config) struct Tenant {
    /// Name in logs and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) name: Option<Text<Name>>,
    /// Its keys; several, so that one can be replaced while the other is still in use.
    #[serde(skip_serializing)]
    #[schemars(length(min = 1, max = 100))]
    pub(in crate::config) keys: List<Key>,
    /// Upstreams that it may use, in order of preference.
    #[schemars(length(min = 1, max = 1_000))]
    pub(in crate::config) upstreams: List<Text<Name>>,
    /// Region whose accounts are preferred; without it, that of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) region: Option<Text<Name>>,
    /// Models that it may use; `*` stands for any characters.
    #[schemars(length(min = 1, max = 1_000))]
    pub(super) models: List<Text<Model>>,
    /// What all of its keys together may use at most.
    pub(in crate::config) limits: Allowance,
    /// What becomes of a stream that its client has left.
    pub(in crate::config) cancelled_streams: CancelledStreams,
    /// Connections at most: from its clients, and to providers on its behalf, each for itself;
    /// without it, any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) connections: Option<u32>,
    /// Networks from which only this tenant connects: while it has all the connections that it may
    /// have, more from there are refused before the handshake. They do not restrict where its keys
    /// may be used.
    #[schemars(length(min = 1, max = 10_000))]
    pub(in crate::config) sources: List<Text<Cidr>>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            name: None,
            keys: List::default(),
            upstreams: List::default(),
            region: None,
            models: List::of([Text("*".to_owned())]),
            limits: Allowance::default(),
            cancelled_streams: CancelledStreams::default(),
            connections: None,
            sources: List::default(),
        }
    }
}

/// A tenant's key, of which only the hash is known.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend(
    "required" = ["sha256"],
    "x-hint" = "write `{ sha256 = \"…\" }` with the hash that `codex-relay keys hash` prints"
))]
pub(in crate::config) struct Key {
    /// SHA-256 of the key, 64 hexadecimal digits; `codex-relay keys new` and `keys hash` print it.
    pub(in crate::config) sha256: Option<Text<Sha256>>,
    /// When it stops being valid; without it, never.
    pub(in crate::config) expires: Option<Text<Moment>>,
    /// What this key may use at most, besides what its tenant may.
    pub(in crate::config) limits: Allowance,
}

/// What becomes of a stream that its client has left.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum CancelledStreams {
    /// The provider is left as well; what it has not counted by then is estimated.
    #[default]
    Close,
    /// The provider's answer is read to its end, for the usage that stands there.
    Drain,
}
