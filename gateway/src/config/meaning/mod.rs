//! From the form to the meaning: a `Policy`, or everything that makes no sense.
//!
//! Each part reports what it finds and returns what it could make of the rest, so that one mistake
//! does not hide another. Whether there is a policy in the end depends on the reports alone.

mod accounts;
mod allowances;
mod base_url;
mod credential;
mod headers;
mod health;
mod journal;
mod kernel;
mod knobs;
mod listeners;
mod networks;
mod tenants;
mod tls;
mod upstreams;

use super::Environment;
use super::check::{closest, did_you_mean};
use super::document::{Document, KeyPath};
use super::error::Problem;
use super::forms::{Name, Text};
use super::policy::{Policy, UpstreamId};
use super::raw::{File, List, Protocol};
use std::collections::{HashMap, HashSet};

/// What came of it.
pub(super) struct Understood {
    /// Complete only without errors.
    pub(super) policy: Option<Policy>,
    /// What makes no sense.
    pub(super) errors: Vec<Problem>,
    /// What makes sense but is probably not meant.
    pub(super) warnings: Vec<Problem>,
}

/// Makes a policy of a file that has the right form, as far as it has.
pub(super) fn understand(
    file: &File,
    document: &Document<'_>,
    refused: &[Problem],
    environment: Environment<'_>,
) -> Understood {
    let mut meaning = Meaning {
        document,
        refused,
        environment,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    let policy = meaning.policy(file);
    Understood {
        policy,
        errors: meaning.errors,
        warnings: meaning.warnings,
    }
}

struct Meaning<'d> {
    document: &'d Document<'d>,
    /// What did not have the right form. Its default holds instead, which nobody asked for.
    refused: &'d [Problem],
    environment: Environment<'d>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Meaning<'_> {
    fn policy(&mut self, file: &File) -> Option<Policy> {
        let names = Upstreams::new(&file.upstream);
        self.unique_names(
            "upstream",
            file.upstream.iter().map(|(at, one)| (at, &one.name)),
        );
        self.unique_names(
            "account",
            file.account.iter().map(|(at, one)| (at, &one.name)),
        );
        self.unique_names(
            "tenant",
            file.tenant.iter().map(|(at, one)| (at, &one.name)),
        );
        let node = self.node(&file.node);
        let listeners = self.listeners(file);
        let kernel = self.kernel(file);
        let health = self.health(&file.health);
        let headers = self.headers(&file.headers, &file.upstream);
        let timeouts = self.timeouts(&file.timeouts);
        let limits = self.limits(&file.limits);
        let accounts = self.accounts(&file.account, &names);
        let upstreams = self.upstreams(&file.upstream, &file.account, &names);
        let prices = self.prices(&file.price);
        self.priced(file, &prices);
        let (tenants, keys) = self.tenants(file, &names);
        let journal = self.journal(&file.journal, &node);
        let usage = self.usage(&file.usage, &node);
        let tenants = tenants?;
        self.quotas_are_kept(&journal, &tenants, &keys.allowances);
        self.reports_are_whole(&journal, &usage);
        Some(Policy {
            node,
            admin: file.admin.address.0,
            listeners,
            kernel,
            health,
            upstreams: upstreams?,
            accounts: accounts?,
            tenants,
            keys: keys.by_hash,
            key_allowances: keys.allowances,
            prices,
            journal,
            usage,
            headers,
            timeouts,
            limits,
            log: self.log(&file.log),
        })
    }

    fn error(&mut self, path: &KeyPath, message: impl Into<String>, hint: Option<String>) {
        let position = self.document.locate(path);
        self.errors
            .push(self.document.problem(path, position, message, hint));
    }

    fn warn(&mut self, path: &KeyPath, message: impl Into<String>, hint: Option<String>) {
        let position = self.document.locate(path);
        self.warnings
            .push(self.document.problem(path, position, message, hint));
    }

    /// Was what stands there refused already?
    fn is_refused(&self, path: &KeyPath) -> bool {
        let key = path.to_string();
        self.refused.iter().any(|one| one.key == key)
    }

    /// Over HTTP/1.1 each request has a connection of its own, and so has a WebSocket, so that a cap on
    /// connections is one on requests too.
    fn enough_connections(
        &mut self,
        path: &KeyPath,
        (connections_key, connections): (&str, Option<u32>),
        (requests_key, requests): (&str, Option<u32>),
    ) {
        let (Some(connections), Some(requests)) = (connections, requests) else {
            return;
        };
        if connections < requests {
            let message = format!(
                "`{connections_key}` ({connections}) is smaller than `{requests_key}` ({requests}), which is \
                 never reached: HTTP/1.1 takes a connection for each request in flight, and for each \
                 WebSocket"
            );
            self.warn(path, message, None);
        }
    }

    /// `account[1].name (line 20)`
    fn place(&self, path: &KeyPath) -> String {
        format!("{path} (line {})", self.document.locate(path).line)
    }

    fn unique_names<'n>(
        &mut self,
        table: &str,
        names: impl Iterator<Item = (usize, &'n Option<Text<Name>>)>,
    ) {
        let mut seen = HashMap::new();
        for (index, name) in names {
            let Some(Text(name)) = name else { continue };
            let path = KeyPath::of(table).index(index).key("name");
            if let Some(first) = seen.get(name) {
                let message = format!("the name `{name}` is taken by {}", self.place(first));
                self.error(&path, message, None);
            } else {
                seen.insert(name.clone(), path);
            }
        }
    }

    /// The upstream of this name; an unknown one is reported.
    fn upstream(&mut self, path: &KeyPath, name: &str, names: &Upstreams) -> Option<UpstreamId> {
        if let Some(id) = names.ids.get(name) {
            return Some(*id);
        }
        if names.complete {
            let known = names.ids.keys().map(String::as_str);
            let hint = closest(name, known).map(did_you_mean);
            self.error(path, format!("there is no upstream named `{name}`"), hint);
        }
        None
    }
}

/// The names that accounts and tenants may refer to.
struct Upstreams {
    ids: HashMap<String, UpstreamId>,
    /// Those that may take several requests at one time on a connection, whatever they are.
    multiplexed: HashSet<UpstreamId>,
    /// False when an upstream was refused: the name that is missing may be its own.
    complete: bool,
}

impl Upstreams {
    fn new(upstreams: &List<super::raw::Upstream>) -> Self {
        let mut ids = HashMap::new();
        let mut multiplexed = HashSet::new();
        for (index, upstream) in upstreams.iter() {
            if let (Some(Text(name)), Ok(id)) = (&upstream.name, u16::try_from(index)) {
                ids.entry(name.clone()).or_insert(UpstreamId(id));
                // Each WebSocket has a connection of its own.
                if upstream.protocol != Protocol::Http1 && !upstream.websocket {
                    multiplexed.insert(UpstreamId(id));
                }
            }
        }
        let named = upstreams
            .iter()
            .filter(|(_, upstream)| upstream.name.is_some())
            .count();
        Self {
            ids,
            multiplexed,
            complete: named > 0 && named == upstreams.0.len(),
        }
    }
}
