//! `[headers]` and the exceptions of the upstreams, merged and compiled.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::forms::Text;
use crate::config::raw::headers::{AllowList, Headers, Names, Rules as RawRules};
use crate::config::raw::{self, List};
use crate::headers::{HeaderRules, NameSet, Reserved, Rules, reserved};

/// Fields that tell who or where the client is. They stop unless they are allowed by name, so that
/// no short prefix (`x-*`) lets them through.
const REQUEST_GUARDED: &[&str] = &[
    "forwarded",
    "via",
    "from",
    "origin",
    "referer",
    "client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "x-forwarded-*",
    "x-original-forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-*",
    "x-envoy-external-address",
    "x-azure-clientip",
    "x-appengine-*",
    "x-geo-*",
    "x-country-code",
    "x-vercel-*",
    "cf-*",
    "cdn-loop",
    "cloudfront-*",
];

/// Fields that tell tenants whose account they are served from.
const RESPONSE_GUARDED: &[&str] = &["openai-organization", "openai-project"];

impl Meaning<'_> {
    pub(super) fn headers(
        &mut self,
        headers: &Headers,
        upstreams: &List<raw::Upstream>,
    ) -> HeaderRules {
        let base = KeyPath::of("headers");
        let request = Lists::guarded(REQUEST_GUARDED);
        let request = self.merge(request, &headers.request, &base.key("request"));
        let response = Lists::guarded(RESPONSE_GUARDED);
        let response = self.merge(response, &headers.response, &base.key("response"));
        let mut rules = HeaderRules::default();
        for (index, upstream) in upstreams.iter() {
            let path = KeyPath::of("upstream").index(index).key("headers");
            let own = &upstream.headers;
            let merged = self.merge(request.clone(), &own.request, &path.key("request"));
            rules.request.push(merged.compile());
            let merged = self.merge(response.clone(), &own.response, &path.key("response"));
            rules.response.push(merged.compile());
        }
        rules
    }

    /// Checks the rules of one place of the file and lays them over those that hold without it.
    fn merge<A: AllowList>(
        &mut self,
        mut lists: Lists,
        rules: &RawRules<A>,
        path: &KeyPath,
    ) -> Lists {
        if let Some(allow) = rules.allow.names() {
            lists.allow.clear();
            self.allow(&mut lists, allow, &path.key("allow"));
        }
        self.allow(&mut lists, &rules.allow_also, &path.key("allow_also"));
        // The default list is no decision of the operator's: taking an entry of it away is fine.
        let written = self.document.holds(&path.key("allow"));
        let own = [
            rules.allow.names().filter(|_| written),
            Some(&rules.allow_also),
        ];
        for (index, Text(name)) in rules.remove.iter() {
            let mut own = own.iter().flatten().flat_map(|names| names.iter());
            if own.any(|(_, Text(allowed))| allowed == name) {
                let message = format!("`{name}` is both allowed and removed in the same place");
                self.error(&path.key("remove").index(index), message, None);
            }
            lists.remove.push(name.clone());
        }
        for (name, Text(value)) in &rules.set {
            let path = path.key("set").key(name);
            let name = name.to_ascii_lowercase();
            if let Some(reason) = reserved(name.as_bytes()) {
                self.error(
                    &path,
                    format!("`{name}` cannot be set: {}", explain(reason)),
                    None,
                );
                continue;
            }
            let twice = rules
                .set
                .keys()
                .filter(|key| key.eq_ignore_ascii_case(&name))
                .count()
                > 1;
            if twice {
                self.error(&path, format!("`{name}` is set more than once"), None);
            }
            lists.set.retain(|(known, _)| *known != name);
            lists.set.push((name, value.clone()));
        }
        lists
    }

    fn allow(&mut self, lists: &mut Lists, names: &Names, path: &KeyPath) {
        for (index, Text(name)) in names.iter() {
            let prefix = name.trim_end_matches('*').trim_end_matches('-');
            if let Some(reason) = reserved(name.as_bytes()).or_else(|| reserved(prefix.as_bytes()))
            {
                let message = format!("`{name}` never passes: {}", explain(reason));
                self.error(&path.index(index), message, None);
                continue;
            }
            // Named here, it is wanted: this lifts what was removed by the same name further out.
            lists.remove.retain(|removed| removed != name);
            lists.allow.push(name.clone());
        }
    }
}

/// Rules while they are merged.
#[derive(Clone, Default)]
struct Lists {
    allow: Vec<String>,
    remove: Vec<String>,
    set: Vec<(String, String)>,
}

impl Lists {
    fn guarded(names: &[&str]) -> Self {
        let remove = names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            remove,
            ..Self::default()
        }
    }

    fn compile(self) -> Rules {
        let names = |list: &[String]| NameSet::new(list.iter().map(String::as_str));
        Rules::new(names(&self.allow), names(&self.remove), self.set)
    }
}

fn explain(reason: Reserved) -> &'static str {
    match reason {
        Reserved::Credential => "it carries a credential, and the gateway attaches the account's",
        Reserved::Cookie => "cookies stop at the gateway",
        Reserved::HopByHop => "it belongs to one connection",
        Reserved::Framing => "it belongs to the framing, which the gateway writes anew",
        Reserved::Own => "fields of this name are the gateway's own",
    }
}
