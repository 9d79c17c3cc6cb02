//! `[[upstream]]`

use super::base_url::BaseUrl;
use super::{Meaning, Upstreams};
use crate::config::document::KeyPath;
use crate::config::forms::Text;
use crate::config::policy::{AccountId, CredentialStyle, Upstream};
use crate::config::raw::{self, List};
use std::collections::HashMap;

impl Meaning<'_> {
    pub(super) fn upstreams(
        &mut self,
        upstreams: &List<raw::Upstream>,
        accounts: &List<raw::Account>,
        names: &Upstreams,
    ) -> Option<Vec<Upstream>> {
        let owned = Owned::new(accounts, names);
        let made: Vec<_> = upstreams
            .iter()
            .map(|(index, upstream)| {
                let path = KeyPath::of("upstream").index(index);
                let url = self.base_url(upstream, &path);
                let tls = url.as_ref();
                let tls = tls.and_then(|url| self.upstream_tls(upstream, url, &path));
                let Text(name) = upstream.name.clone()?;
                let own = owned.accounts.get(name.as_str()).cloned();
                let own = own.unwrap_or_default();
                if own.is_empty() && owned.complete {
                    let hint = format!("add an [[account]] with `upstream = \"{name}\"`");
                    self.error(
                        &path.key("name"),
                        format!("`{name}` has no account"),
                        Some(hint),
                    );
                }
                let members = own
                    .iter()
                    .filter_map(|id| accounts.0[usize::from(id.0)].as_ref());
                if !own.is_empty() && members.clone().all(|account| !account.enabled) {
                    let message = format!("every account of `{name}` has `enabled = false`");
                    self.warn(&path.key("name"), message, None);
                }
                let addresses = members.map(|account| account.egress.0.len()).sum();
                let probe = upstream.probe.as_ref();
                let probe = probe.map(|probe| self.probe(probe, &path, addresses));
                let url = url?;
                Some(Upstream {
                    name,
                    host: url.host,
                    port: url.port,
                    authority: url.authority,
                    path_prefix: url.path_prefix,
                    tls,
                    protocol: super::tls::protocol(upstream.protocol),
                    websocket: upstream.websocket,
                    accounts: own,
                    models: super::tenants::models(&upstream.models),
                    affinity: upstream.affinity,
                    probe,
                    include_usage: upstream.include_usage,
                    credential_style: match upstream.credential_style {
                        raw::CredentialStyle::Bearer => CredentialStyle::Bearer,
                        raw::CredentialStyle::XApiKey => CredentialStyle::XApiKey,
                        raw::CredentialStyle::XGoogApiKey => CredentialStyle::XGoogApiKey,
                        raw::CredentialStyle::ApiKey => CredentialStyle::ApiKey,
                    },
                })
            })
            .collect();
        made.into_iter().collect()
    }

    fn base_url(&mut self, upstream: &raw::Upstream, path: &KeyPath) -> Option<BaseUrl> {
        let path = path.key("base_url");
        let url = match BaseUrl::parse(upstream.base_url.as_ref()?) {
            Ok(url) => url,
            Err(message) => {
                self.error(&path, message, None);
                return None;
            }
        };
        if url.path_prefix.ends_with("/v1") {
            let message = "paths of requests begin with `/v1` already: they would go to `/v1/v1/…`";
            self.warn(&path, message, Some("leave `/v1` out".to_owned()));
        }
        Some(url)
    }
}

/// The accounts of each upstream, by its name.
struct Owned<'a> {
    accounts: HashMap<&'a str, Vec<AccountId>>,
    /// False when an account has no upstream that exists: it may be the one that is missed elsewhere.
    complete: bool,
}

impl<'a> Owned<'a> {
    fn new(accounts: &'a List<raw::Account>, names: &Upstreams) -> Self {
        let mut owned: HashMap<&str, Vec<AccountId>> = HashMap::new();
        let mut placed = 0;
        for (index, account) in accounts.iter() {
            let name = account.upstream.as_ref().map(|Text(name)| name.as_str());
            let name = name.filter(|name| names.ids.contains_key(*name));
            if let (Some(name), Ok(id)) = (name, u16::try_from(index)) {
                owned.entry(name).or_default().push(AccountId(id));
                placed += 1;
            }
        }
        Self {
            accounts: owned,
            complete: placed > 0 && placed == accounts.0.len(),
        }
    }
}
