//! `[[upstream]]`

use super::base_url::BaseUrl;
use super::{Meaning, Upstreams};
use crate::config::document::KeyPath;
use crate::config::forms::Text;
use crate::config::policy::{AccountId, CredentialStyle, Upstream};
use crate::config::raw::{self, List, Protocol};

const PLAIN_HINT: &str = "`http://` upstreams work: a TLS proxy on this host can stand in between";

impl Meaning<'_> {
    pub(super) fn upstreams(
        &mut self,
        upstreams: &List<raw::Upstream>,
        accounts: &List<raw::Account>,
        names: &Upstreams,
    ) -> Option<Vec<Upstream>> {
        let made: Vec<_> = upstreams
            .iter()
            .map(|(index, upstream)| {
                let path = KeyPath::of("upstream").index(index);
                self.unsupported(upstream, &path);
                let url = self.base_url(upstream, &path);
                let accounts = self.accounts_of(upstream, accounts, names, &path);
                let (Text(name), url) = (upstream.name.clone()?, url?);
                Some(Upstream {
                    name,
                    host: url.host,
                    port: url.port,
                    authority: url.authority,
                    path_prefix: url.path_prefix,
                    accounts,
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

    fn unsupported(&mut self, upstream: &raw::Upstream, path: &KeyPath) {
        if upstream.protocol != Protocol::Http1 {
            let message = "HTTP/2 to the upstream is not built in this version";
            self.error(
                &path.key("protocol"),
                message,
                Some("\"http1\" works".to_owned()),
            );
        }
        if upstream.ca_file.is_some() {
            let message =
                "TLS to the upstream is not built in this version, so there is nothing to trust";
            self.error(&path.key("ca_file"), message, Some(PLAIN_HINT.to_owned()));
        }
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
        if url.tls {
            let message = "TLS to the upstream (`https`) is not built in this version";
            self.error(&path, message, Some(PLAIN_HINT.to_owned()));
        }
        if url.path_prefix.ends_with("/v1") {
            let message = "paths of requests begin with `/v1` already: they would go to `/v1/v1/…`";
            self.warn(&path, message, Some("leave `/v1` out".to_owned()));
        }
        Some(url)
    }

    fn accounts_of(
        &mut self,
        upstream: &raw::Upstream,
        accounts: &List<raw::Account>,
        names: &Upstreams,
        path: &KeyPath,
    ) -> Vec<AccountId> {
        let Some(Text(name)) = &upstream.name else {
            return Vec::new();
        };
        let belongs =
            |account: &raw::Account| account.upstream.as_ref().is_some_and(|own| own.0 == *name);
        let own: Vec<_> = accounts
            .iter()
            .filter(|(_, account)| belongs(account))
            .filter_map(|(index, _)| u16::try_from(index).ok().map(AccountId))
            .collect();
        // An account whose upstream is wrong or missing may be the one that is missed here.
        let known = |account: &raw::Account| {
            account
                .upstream
                .as_ref()
                .is_some_and(|own| names.ids.contains_key(&own.0))
        };
        let sure = accounts
            .0
            .iter()
            .all(|account| account.as_ref().is_some_and(known));
        if own.is_empty() && sure && !accounts.0.is_empty() {
            let hint = format!("add an [[account]] with `upstream = \"{name}\"`");
            self.error(
                &path.key("name"),
                format!("`{name}` has no account"),
                Some(hint),
            );
        }
        own
    }
}
