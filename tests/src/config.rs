//! The configuration file, put together from typed parts: whatever a test does not set stays at its default.

mod listener;

pub use listener::ListenerTls;

use crate::pki::Authority;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The key of the default tenant.
pub const TENANT_KEY: &str = "rk-acme-2f9a61c07d0b4e518a3c6d0e9b7f1a24";

/// The provider's key of the default account.
pub const ACCOUNT_KEY: &str = "sk-provider-first-71d0c3b5a94e";

/// The address from which the default account leaves.
pub const EGRESS: &str = "127.0.7.1";

/// `[[account]]`
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    upstream: String,
    key: String,
    egress: Vec<String>,
    more: Vec<(String, String)>,
}

impl Account {
    /// An account of the upstream `openai`, with one address.
    pub fn new(name: &str, egress: &str) -> Self {
        Self {
            name: name.to_owned(),
            upstream: "openai".to_owned(),
            key: format!("sk-provider-{name}-0c2d4e6f"),
            egress: vec![egress.to_owned()],
            more: Vec::new(),
        }
    }

    /// The default account.
    pub fn first() -> Self {
        Self {
            key: ACCOUNT_KEY.to_owned(),
            ..Self::new("first", EGRESS)
        }
    }

    /// Belongs to this upstream.
    pub fn upstream(mut self, name: &str) -> Self {
        name.clone_into(&mut self.upstream);
        self
    }

    /// One more address.
    pub fn egress(mut self, address: &str) -> Self {
        self.egress.push(address.to_owned());
        self
    }

    /// Any other key, with its value in TOML.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.more.push((key.to_owned(), value.to_string()));
        self
    }

    /// With this key of the provider's.
    pub fn secret(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// The provider's key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// `[[tenant]]`
#[derive(Clone, Debug)]
pub struct Tenant {
    name: String,
    keys: Vec<String>,
    more: Vec<(String, String)>,
    upstreams: Vec<String>,
}

impl Tenant {
    /// A tenant with one key that may use the upstream `openai`.
    pub fn new(name: &str, key: &str) -> Self {
        let tenant = Self {
            name: name.to_owned(),
            keys: Vec::new(),
            more: Vec::new(),
            upstreams: vec!["openai".to_owned()],
        };
        tenant.key(key, None)
    }

    /// The default tenant.
    pub fn acme() -> Self {
        Self::new("acme", TENANT_KEY)
    }

    /// One more key, with its end in RFC 3339.
    pub fn key(mut self, key: &str, expires: Option<&str>) -> Self {
        let hash = sha256(key);
        self.keys.push(match expires {
            None => format!("{{ sha256 = {hash:?} }}"),
            Some(expires) => format!("{{ sha256 = {hash:?}, expires = {expires} }}"),
        });
        self
    }

    /// One more key with limits of its own, in TOML: `requests_per_minute = 10, shadow = []`.
    pub fn key_with_limits(mut self, key: &str, limits: &str) -> Self {
        let hash = sha256(key);
        self.keys
            .push(format!("{{ sha256 = {hash:?}, limits = {{ {limits} }} }}"));
        self
    }

    /// Limits of all of its keys together, in TOML: `requests_per_minute = 10, shadow = []`.
    pub fn limits(self, limits: &str) -> Self {
        self.set("limits", format!("{{ {limits} }}"))
    }

    /// Streams that its clients have left are read to their end.
    pub fn drains_cancelled_streams(self) -> Self {
        self.set("cancelled_streams", "\"drain\"")
    }

    /// May use these upstreams, and no others.
    pub fn upstreams(mut self, names: &[&str]) -> Self {
        self.upstreams = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// May use these models, and no others.
    pub fn models(self, patterns: &[&str]) -> Self {
        self.set("models", format!("{patterns:?}"))
    }

    /// Any other key, with its value in TOML.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.more.push((key.to_owned(), value.to_string()));
        self
    }
}

#[derive(Clone, Debug)]
struct Upstream {
    name: String,
    keys: Vec<(String, String)>,
}

/// Everything that is in the file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    listeners: Vec<Vec<(String, String)>>,
    files: BTreeMap<String, String>,
    upstreams: Vec<Upstream>,
    accounts: Vec<Account>,
    tenants: Vec<Tenant>,
    prices: Vec<String>,
}

impl Config {
    /// One worker, a listener and the admin API on free ports; no upstream, account or tenant. The kernel
    /// is left alone, and any number of connections may come from one address, as all clients of a test do.
    pub fn bare() -> Self {
        Self::default()
            .set("node", "name", "\"test\"")
            .set("node", "region", "\"here\"")
            .set("node", "workers", 1)
            .set("admin", "address", "\"127.0.0.1:0\"")
            .set("[listener]", "address", "\"127.0.0.1:0\"")
            .set("kernel", "mode", "\"off\"")
            .limit("connections_per_source", 0)
    }

    /// The upstream `openai` at this address, for the default tenant; accounts are still to come.
    pub fn for_upstream(address: SocketAddr) -> Self {
        Self::bare()
            .upstream("openai", &format!("http://{address}"))
            .tenant(Tenant::acme())
    }

    /// The upstream `openai` at this address, with the default account and the default tenant.
    pub fn simple(address: SocketAddr) -> Self {
        Self::for_upstream(address).account(Account::first())
    }

    /// The same over TLS, trusted by this authority.
    pub fn simple_secure(address: SocketAddr, authority: &Authority) -> Self {
        Self::bare()
            .upstream("openai", &format!("https://{address}"))
            .trust("openai", authority)
            .tenant(Tenant::acme())
            .account(Account::first())
    }

    /// Any key of any section (`"[listener]"` for the first listener), with its value in TOML.
    pub fn set(mut self, section: &str, key: &str, value: impl Display) -> Self {
        let section = self.sections.entry(section.to_owned()).or_default();
        section.insert(key.to_owned(), value.to_string());
        self
    }

    /// A time-out, such as `"300ms"`.
    pub fn timeout(self, key: &str, value: &str) -> Self {
        self.set("timeouts", key, format!("{value:?}"))
    }

    /// A limit.
    pub fn limit(self, key: &str, value: u64) -> Self {
        self.set("limits", key, value)
    }

    /// One more listener.
    pub fn listener(mut self, address: &str) -> Self {
        self.listeners
            .push(vec![("address".to_owned(), quoted(address))]);
        self
    }

    /// The last listener speaks TLS.
    pub fn tls(mut self, tls: ListenerTls) -> Self {
        let table = tls.table();
        self.files.extend(tls.files);
        self.listener_key("tls", &table)
    }

    /// The last listener takes HTTP/2, or does not.
    pub fn http2(self, taken: bool) -> Self {
        self.listener_key("http2", taken)
    }

    fn listener_key(mut self, key: &str, value: impl Display) -> Self {
        match self.listeners.last_mut() {
            None => self.set("[listener]", key, value),
            Some(listener) => {
                listener.push((key.to_owned(), value.to_string()));
                self
            }
        }
    }

    /// A file beside the configuration file. Paths in the latter are relative to the directory of both.
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.insert(name.to_owned(), text.into());
        self
    }

    /// One more upstream.
    pub fn upstream(mut self, name: &str, base_url: &str) -> Self {
        let keys = vec![("base_url".to_owned(), quoted(base_url))];
        self.upstreams.push(Upstream {
            name: name.to_owned(),
            keys,
        });
        self.upstream_key(name, "protocol", "\"http1\"")
    }

    /// This upstream alone, at this URL; accounts are still to come.
    pub fn only_upstream(mut self, name: &str, base_url: &str) -> Self {
        self.upstreams.clear();
        self.accounts.clear();
        self.upstream(name, base_url)
    }

    /// Any other key of an upstream, with its value in TOML.
    ///
    /// # Panics
    /// If there is no such upstream.
    pub fn upstream_key(mut self, name: &str, key: &str, value: &str) -> Self {
        let upstream = self
            .upstreams
            .iter_mut()
            .find(|upstream| upstream.name == name);
        let upstream = upstream.expect("an upstream of this name");
        upstream.keys.retain(|other| other.0 != key);
        upstream.keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// This upstream shows certificates of this authority, which is in `NAME-ca.pem`.
    ///
    /// # Panics
    /// If there is no such upstream.
    pub fn trust(self, name: &str, authority: &Authority) -> Self {
        let file = format!("{name}-ca.pem");
        self.upstream_key(name, "ca_file", &quoted(&file))
            .file(&file, authority.pem())
    }

    /// This upstream is spoken to in this protocol: `"http1"` (unless a test says otherwise), `"http2"` or `"auto"`.
    ///
    /// # Panics
    /// If there is no such upstream.
    pub fn protocol(self, name: &str, protocol: &str) -> Self {
        self.upstream_key(name, "protocol", &quoted(protocol))
    }

    /// WebSocket is relayed to the upstream `openai`.
    pub fn websocket(self) -> Self {
        self.upstream_key("openai", "websocket", "true")
    }

    /// This upstream is asked for the usage that a Chat client did not ask for.
    ///
    /// # Panics
    /// If there is no such upstream.
    pub fn include_usage(self, name: &str) -> Self {
        self.upstream_key(name, "include_usage", "true")
    }

    /// What a million tokens of these models cost, in TOML: `input = 1.25, output = 10`. The first price that covers a model
    /// decides.
    pub fn price(mut self, models: &[&str], amounts: &str) -> Self {
        self.prices
            .push(format!("{{ models = {models:?}, {amounts} }}"));
        self
    }

    /// A key of the journal, with its value in TOML. Unless it is set, it is kept in `state/journal` of the gateway's directory.
    pub fn journal(self, key: &str, value: impl Display) -> Self {
        self.set("journal", key, value)
    }

    /// A key of how use is counted, with its value in TOML.
    pub fn usage(self, key: &str, value: impl Display) -> Self {
        self.set("usage", key, value)
    }

    /// One more account.
    pub fn account(mut self, account: Account) -> Self {
        self.accounts.push(account);
        self
    }

    /// One more tenant; the first call of a test that wants its own takes the default one out.
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenants.retain(|other| other.name != tenant.name);
        self.tenants.push(tenant);
        self
    }

    /// Writes the file and those it names into a directory.
    ///
    /// # Panics
    /// If the directory cannot be written.
    pub(crate) fn write(&self, directory: &Path) {
        for account in &self.accounts {
            let file = format!("{}.key", account.name);
            write_secret(&directory.join(file), &format!("{}\n", account.key));
        }
        for (name, text) in &self.files {
            write_secret(&directory.join(name), text);
        }
        let file = directory.join("codex-relay.toml");
        std::fs::write(file, self.text(directory)).expect("a writable directory");
    }

    fn text(&self, directory: &Path) -> String {
        let mut text = String::new();
        let mut sections = self.sections.clone();
        let state = format!("{:?}", directory.join("state"));
        sections
            .entry("node".to_owned())
            .or_default()
            .entry("state_dir".to_owned())
            .or_insert(state);
        if !self.prices.is_empty() {
            let _ = writeln!(text, "price = [{}]\n", self.prices.join(", "));
        }
        for (name, keys) in &sections {
            section(
                &mut text,
                name,
                keys.iter()
                    .map(|(key, value)| (key.as_str(), value.clone())),
            );
        }
        for listener in &self.listeners {
            let keys = listener
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()));
            section(&mut text, "[listener]", keys);
        }
        for upstream in &self.upstreams {
            let name = [("name", quoted(&upstream.name))];
            let keys = upstream
                .keys
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()));
            section(&mut text, "[upstream]", name.into_iter().chain(keys));
        }
        for account in &self.accounts {
            let file = directory.join(format!("{}.key", account.name));
            let keys = [
                ("name", quoted(&account.name)),
                ("upstream", quoted(&account.upstream)),
                ("egress", format!("{:?}", account.egress)),
                ("credential", format!("{{ file = {file:?} }}")),
            ];
            let overridden = |key: &str| account.more.iter().any(|more| more.0 == key);
            let keys = keys.into_iter().filter(|(key, _)| !overridden(key));
            let more = account
                .more
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()));
            section(&mut text, "[account]", keys.chain(more));
        }
        for tenant in &self.tenants {
            let keys = [
                ("name", quoted(&tenant.name)),
                ("keys", format!("[{}]", tenant.keys.join(", "))),
                ("upstreams", format!("{:?}", tenant.upstreams)),
            ];
            let more = tenant
                .more
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()));
            section(&mut text, "[tenant]", keys.into_iter().chain(more));
        }
        text
    }
}

/// Writes a file that only its owner may read, as keys have to be.
fn write_secret(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("a writable directory");
}

fn sha256(key: &str) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(key.as_bytes()) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn section<'a>(text: &mut String, name: &str, keys: impl Iterator<Item = (&'a str, String)>) {
    let _ = writeln!(text, "[{name}]");
    for (key, value) in keys {
        let _ = writeln!(text, "{key} = {value}");
    }
    text.push('\n');
}
