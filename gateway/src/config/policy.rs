//! What the configuration means, once it is known to be meaningful: only values that can be acted on.
//!
//! A `Policy` is immutable and shared by all threads. `config::load` makes it. It holds secrets,
//! so it has no `Debug`.

mod allowance;
mod knobs;
mod tls;

pub use allowance::{Allowance, Limit, LimitSet, Money, Price, Scope, TokenPrice};
pub use knobs::{Limits, Timeouts};
pub use tls::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion, UpstreamTls};

use super::secret::Secret;
use crate::headers::HeaderRules;
use crate::health::Rules;
use crate::keys::ByHash;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Index of an upstream in `Policy::upstreams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// Index of an account in `Policy::accounts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u16);

/// Index of a tenant in `Policy::tenants`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u16);

/// Index of a tenant's key in `Policy::key_allowances`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyNumber(pub u32);

/// Everything the gateway was told.
///
/// ```compile_fail
/// fn shown<T: std::fmt::Debug>() {}
/// shown::<codex_relay::config::Policy>();
/// ```
pub struct Policy {
    /// This node.
    pub node: Node,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Where tenants connect; at least one.
    pub listeners: Vec<Listener>,
    /// Providers; at least one.
    pub upstreams: Vec<Upstream>,
    /// The operator's accounts; every upstream has at least one.
    pub accounts: Vec<Account>,
    /// Who may call.
    pub tenants: Vec<Tenant>,
    /// SHA-256 of every tenant key.
    pub keys: ByHash<TenantKey>,
    /// What each key may use, besides what its tenant may: by `TenantKey::number`.
    pub key_allowances: Vec<Allowance>,
    /// What models cost, in the order of the file.
    pub prices: Vec<Price>,
    /// What is kept of every request, and for how long.
    pub journal: Journal,
    /// How use is counted.
    pub usage: Usage,
    /// What the kernel enforces.
    pub kernel: Kernel,
    /// When an account is kept out, and for how long.
    pub health: Rules,
    /// Which header fields pass.
    pub headers: HeaderRules,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large things may be.
    pub limits: Limits,
    /// Where the log goes.
    pub log: Log,
}

impl Policy {
    /// The upstream of this index, which came from this policy.
    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[usize::from(id.0)]
    }

    /// The account of this index, which came from this policy.
    pub fn account(&self, id: AccountId) -> &Account {
        &self.accounts[usize::from(id.0)]
    }

    /// The tenant of this index, which came from this policy.
    pub fn tenant(&self, id: TenantId) -> &Tenant {
        &self.tenants[usize::from(id.0)]
    }

    /// What this model costs, if that is known.
    pub fn price(&self, model: &str) -> Option<&Price> {
        self.prices.iter().find(|price| price.covers(model))
    }
}

/// `[node]`
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in logs and metrics.
    pub name: String,
    /// Region whose accounts are preferred.
    pub region: String,
    /// Where state is kept; created at start if missing.
    pub state_dir: PathBuf,
    /// Worker threads, 1 to 256 (`auto` is resolved to the number of cores this process may run on).
    pub workers: usize,
}

/// `[[listener]]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// HTTP/2 beside HTTP/1.1: offered by ALPN (RFC 7301) with TLS, taken by prior knowledge (RFC 9113 section 3.3) without.
    pub http2: bool,
    /// `None`: plaintext.
    pub tls: Option<ListenerTls>,
}

/// `[[upstream]]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name in logs, metrics and tenants' lists.
    pub name: String,
    /// Host name or address literal (IPv6 without brackets), lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `Host` field value: host, and the port where it is not the scheme's own.
    pub authority: String,
    /// Put before every path; begins with `/` and does not end with it, or is empty.
    pub path_prefix: String,
    /// `None`: plaintext.
    pub tls: Option<UpstreamTls>,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// WebSocket is relayed to it.
    pub websocket: bool,
    /// The accounts that belong to it, in the order of the file.
    pub accounts: Vec<AccountId>,
    /// Models it serves; empty means all.
    pub models: Vec<ModelPattern>,
    /// How a credential is attached.
    pub credential_style: CredentialStyle,
    /// Requests of one conversation go to one account, for the provider's prompt cache.
    pub affinity: bool,
    /// Accounts are tried from time to time, also while nobody asks for them.
    pub probe: Option<Probe>,
    /// Where a Chat client did not ask for usage (`stream_options.include_usage`) the provider is asked for it, and the chunk that it
    /// adds for that is kept from the client.
    pub include_usage: bool,
}

/// `upstream.protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2: with TLS nothing else is offered by ALPN, in plaintext by prior knowledge.
    Http2,
    /// Whichever the upstream chooses by ALPN; in plaintext HTTP/1.1.
    Auto,
}

/// `upstream.probe`: a cheap request for each account and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked for with GET; begins with `/`, the upstream's prefix is put before it.
    pub path: String,
    /// Between two probes of one account from one address.
    pub interval: Duration,
    /// For the answer's head, once there is a connection.
    pub timeout: Duration,
    /// Probes of this upstream at most, over all accounts.
    pub per_second_max: u32,
}

/// The form in which a provider wants its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStyle {
    /// `Authorization: Bearer …` (OpenAI and compatible; the default)
    Bearer,
    /// `x-api-key: …` (Anthropic)
    XApiKey,
    /// `x-goog-api-key: …` (Gemini)
    XGoogApiKey,
    /// `api-key: …` (Azure OpenAI)
    ApiKey,
}

/// `[[account]]`
pub struct Account {
    /// Name in logs and metrics; never shown to tenants.
    pub name: String,
    /// The upstream it belongs to.
    pub upstream: UpstreamId,
    /// The provider's key, ready to be written as a header value (checked: visible ASCII).
    pub credential: Secret,
    /// Its addresses on this host; at least one; no other account has any of them.
    pub egress: Vec<IpAddr>,
    /// Region of the account.
    pub region: String,
    /// Requests in flight at most, over all workers.
    pub max_concurrent: u32,
    /// Connections to the provider at most, over all workers.
    pub max_connections: Option<u32>,
    /// Share of the load against other accounts, 1 to 1,000.
    pub weight: u32,
    /// It is asked, unless the operator has said otherwise since (`codex-relay accounts`).
    pub enabled: bool,
}

/// `[[tenant]]`
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Name in logs and metrics.
    pub name: String,
    /// Upstreams it may use, in order of preference; at least one.
    pub upstreams: Vec<UpstreamId>,
    /// Region whose accounts are preferred; `None`: the node's.
    pub region: Option<String>,
    /// Models it may use; empty means all.
    pub models: Vec<ModelPattern>,
    /// `limits`: what all of its keys together may use.
    pub allowance: Allowance,
    /// What becomes of a stream that its client has left.
    pub cancelled_streams: CancelledStreams,
    /// Connections at most, over all workers: from its clients, and to providers on its behalf, each for itself.
    pub connections: Option<u32>,
    /// Networks from which only this tenant connects; no other tenant has any of them. It says nothing
    /// about where its keys may be used.
    pub sources: Vec<Network>,
}

/// `tenant.cancelled_streams`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CancelledStreams {
    /// The provider is left as soon as the client has left; what it counted by then is estimated where it has not said it.
    #[default]
    Close,
    /// The provider's answer is read to its end, for the usage that stands there.
    Drain,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address: the bits behind the prefix are zero. Never an IPv4 address in IPv6 form.
    pub address: IpAddr,
    /// Bits that all of its addresses share, 0 to 32 or to 128.
    pub prefix_bits: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix_bits)
    }
}

/// A key of a tenant, found by its SHA-256.
#[derive(Clone, Debug)]
pub struct TenantKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// `t-N` style identifier for logs: the first 8 hexadecimal digits of the hash.
    pub id: String,
    /// Where its own limits stand (`Policy::key_allowances`).
    pub number: KeyNumber,
    /// When it stops being valid.
    pub expires: Option<SystemTime>,
}

/// A model name in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern(pub String);

impl ModelPattern {
    /// Does the pattern cover this model? Takes time linear in both lengths: between the first and the
    /// last part, the leftmost place of each part is as good as any other, so nothing is tried twice.
    pub fn covers(&self, model: &str) -> bool {
        // Byte by byte: patterns are short, and a search that is made for long texts takes longer to begin than this to end.
        let is_star = |byte| byte == b'*';
        let Some(first_star) = self.0.bytes().position(is_star) else {
            return self.0 == model;
        };
        let (first, rest) = (&self.0[..first_star], &self.0[first_star + 1..]);
        let Some(model) = model.strip_prefix(first) else {
            return false;
        };
        let Some(last_star) = rest.bytes().rposition(is_star) else {
            return model.ends_with(rest);
        };
        let (middle, last) = (&rest[..last_star], &rest[last_star + 1..]);
        let Some(mut left) = model.strip_suffix(last) else {
            return false;
        };
        if middle.is_empty() {
            return true;
        }
        middle.split('*').all(|part| match left.find(part) {
            Some(at) => {
                left = &left[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// `[kernel]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Whether it is used.
    pub mode: KernelMode,
    /// The gateway's own cgroup (v2), absolute; `None`: one below that of the process.
    pub cgroup: Option<PathBuf>,
    /// Where programs and maps are pinned: a directory on a bpffs, absolute.
    pub bpffs: PathBuf,
}

/// Whether the kernel enforces egress addresses and caps on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMode {
    /// The gateway does not start without it.
    Required,
    /// As far as it can be had; user space does the rest.
    Auto,
    /// The kernel is left alone.
    Off,
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Whether it is kept, and what it means that it cannot be.
    pub mode: JournalMode,
    /// Its directory.
    pub directory: PathBuf,
    /// A segment whose last record is older is dropped.
    pub retention: Duration,
    /// A segment that has so many bytes is the last one's predecessor.
    pub segment_bytes_max: u64,
}

/// `journal.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalMode {
    /// Nothing is kept: quotas begin anew with every start, and there is nothing to query.
    Off,
    /// While it cannot be written, requests are served; those of metered tenants for a minute.
    BestEffort,
    /// While it cannot be written, requests are refused.
    Strict,
}

/// `[usage]`
#[derive(Clone, Debug)]
pub struct Usage {
    /// Whose midnight ends a day and a month.
    pub time_zone: jiff::tz::TimeZone,
    /// Where a file for each tenant and day is written; `None`: nowhere.
    pub report_directory: Option<PathBuf>,
    /// Tokens of output that are set aside for a request that does not say how many it wants at most.
    pub output_tokens_assumed: u64,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// Where it goes.
    pub output: LogOutput,
    /// One line per request.
    pub requests: bool,
}

/// Where log lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, model, covered) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gpt-*", "gpt-5", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "o3", false),
            ("*", "", true),
            ("*", "anything", true),
            ("**", "anything", true),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-2", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("g*5*mini", "gpt-5-mini", true),
            ("g*6*mini", "gpt-5-mini", false),
            ("a*b*a", "aba", true),
            ("a*b*b", "ab", false),
            ("", "", true),
            ("", "x", false),
            ("é*", "était", true),
        ] {
            assert_eq!(
                ModelPattern(pattern.into()).covers(model),
                covered,
                "{pattern} {model}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let pattern = ModelPattern("a*".repeat(50) + "b");
        let model = "a".repeat(100_000);
        // An algorithm that backtracks never gets past this line.
        assert!(!pattern.covers(&model));
    }
}
