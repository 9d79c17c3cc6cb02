//! `[[tenant]]`

use super::networks::Owners;
use super::{Meaning, Upstreams};
use crate::config::check::{closest, did_you_mean};
use crate::config::document::KeyPath;
use crate::config::forms::{Model, Name, Text};
use crate::config::policy::{
    Allowance, CancelledStreams, KeyNumber, ModelPattern, Tenant, TenantId, TenantKey, UpstreamId,
};
use crate::config::raw::{self, File, List};
use crate::keys::{self, ByHash};
use std::collections::HashMap;

/// The keys of all tenants.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) by_hash: ByHash<TenantKey>,
    /// What each may use, by its number.
    pub(super) allowances: Vec<Allowance>,
}

/// Where keys stand in the file.
#[derive(Default)]
struct KeyPlaces {
    by_hash: HashMap<[u8; 32], KeyPath>,
    /// By what they are called in logs and reports, where two of them must not become one.
    by_id: HashMap<String, KeyPath>,
}

impl Meaning<'_> {
    pub(super) fn tenants(
        &mut self,
        file: &File,
        names: &Upstreams,
    ) -> (Option<Vec<Tenant>>, Keys) {
        let tenants = &file.tenant;
        if tenants.0.is_empty() {
            let message = "there is no tenant: every request will be refused";
            self.warn(&KeyPath::of("tenant"), message, None);
        }
        let mut keys = Keys::default();
        let mut places = KeyPlaces::default();
        let mut networks = Owners::default();
        let mut listeners = file.listener.iter().map(|(_, listener)| listener);
        let clients_multiplex =
            listeners.any(|listener| listener.http2.unwrap_or(listener.tls.is_some()));
        let made: Vec<_> = tenants
            .iter()
            .map(|(index, tenant)| {
                let path = KeyPath::of("tenant").index(index);
                self.keys(&tenant.keys, index, &mut keys, &mut places);
                let upstreams = self.upstreams_of(&tenant.upstreams, &path.key("upstreams"), names);
                let sources = self.sources(&tenant.sources, index, &mut networks);
                let alone = |id| !names.multiplexed.contains(id);
                if !clients_multiplex || upstreams.iter().any(alone) {
                    self.enough_connections(
                        &path.key("connections"),
                        ("connections", tenant.connections),
                        ("concurrent_requests", tenant.limits.concurrent_requests),
                    );
                }
                let allowance = self.allowance(&tenant.limits, &path.key("limits"));
                let region = tenant.region.as_ref().map(|Text(region)| region.clone());
                if let Some(region) = &region {
                    self.region(region, &path.key("region"), &file.account);
                }
                if !tenant.sources.0.is_empty() && tenant.connections.is_none() {
                    let message = "without `connections` nothing is refused from these networks";
                    self.warn(&path.key("sources"), message, None);
                }
                let Text(name) = tenant.name.clone()?;
                Some(Tenant {
                    name,
                    upstreams,
                    region,
                    models: models(&tenant.models),
                    allowance,
                    cancelled_streams: match tenant.cancelled_streams {
                        raw::CancelledStreams::Close => CancelledStreams::Close,
                        raw::CancelledStreams::Drain => CancelledStreams::Drain,
                    },
                    connections: tenant.connections,
                    sources,
                })
            })
            .collect();
        (made.into_iter().collect(), keys)
    }

    fn region(&mut self, region: &str, path: &KeyPath, accounts: &List<raw::Account>) {
        let known = || {
            accounts
                .iter()
                .map(|(_, account)| account.region.0.as_str())
        };
        if known().all(|known| known != region) {
            let message = format!("no account is in the region `{region}`: nothing is preferred");
            let hint = closest(region, known()).map(did_you_mean);
            self.warn(path, message, hint);
        }
    }

    fn keys(
        &mut self,
        list: &List<raw::Key>,
        tenant: usize,
        keys: &mut Keys,
        places: &mut KeyPlaces,
    ) {
        for (index, key) in list.iter() {
            let (Some(Text(hash)), Ok(id)) = (&key.sha256, u16::try_from(tenant)) else {
                continue;
            };
            let entry = KeyPath::of("tenant").index(tenant).key("keys").index(index);
            let path = entry.key("sha256");
            if let Some(first) = places.by_hash.get(hash) {
                let message = format!("this key is already at {}", self.place(first));
                let hint = "a key tells one tenant from another: `codex-relay keys new` makes one";
                self.error(&path, message, Some(hint.to_owned()));
                continue;
            }
            let key_id = keys::id(hash);
            if let Some(first) = places.by_id.get(&key_id) {
                let message = format!(
                    "the first 8 digits, by which logs and reports know a key, are those of {}",
                    self.place(first)
                );
                let hint = "replace one of them: `codex-relay keys new` makes a key";
                self.error(&path, message, Some(hint.to_owned()));
            }
            if *hash == keys::hash(b"") {
                self.error(&path, "this is the hash of an empty key", None);
            }
            places.by_id.insert(key_id.clone(), path.clone());
            places.by_hash.insert(*hash, path);
            let number = KeyNumber(keys.allowances.len() as u32);
            let allowance = self.allowance(&key.limits, &entry.key("limits"));
            keys.allowances.push(allowance);
            let key = TenantKey {
                tenant: TenantId(id),
                id: key_id,
                number,
                expires: key.expires.as_ref().map(|Text(moment)| *moment),
            };
            keys.by_hash.insert(*hash, key);
        }
    }

    fn upstreams_of(
        &mut self,
        list: &List<Text<Name>>,
        path: &KeyPath,
        names: &Upstreams,
    ) -> Vec<UpstreamId> {
        let mut upstreams = Vec::new();
        for (index, Text(name)) in list.iter() {
            let path = path.index(index);
            match self.upstream(&path, name, names) {
                Some(id) if upstreams.contains(&id) => {
                    self.error(&path, format!("`{name}` is named twice"), None);
                }
                Some(id) => upstreams.push(id),
                None => {}
            }
        }
        upstreams
    }
}

/// A list that covers everything is the empty list, which is the quickest to look up.
pub(super) fn models(models: &List<Text<Model>>) -> Vec<ModelPattern> {
    if models.iter().any(|(_, Text(model))| model == "*") {
        return Vec::new();
    }
    models
        .iter()
        .map(|(_, Text(model))| ModelPattern(model.clone()))
        .collect()
}
