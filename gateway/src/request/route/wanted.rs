//! Whom a request is for: what it refers to, or which conversation it belongs to.

use crate::accounts::Target;
use crate::affinity::conversation_hash;
use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId, UpstreamId};
use crate::request::Request;
use crate::request::refusal::Refusal;
use crate::worker::Worker;
use relay_wire::dialect::{Dialect, RequestScan};
use relay_wire::head::Method;

/// Fields that name a conversation, in the order of preference; the second is that of older versions of the same client.
const CONVERSATION_FIELDS: [&str; 3] = ["session-id", "session_id", "conversation_id"];

/// Whom the request is for. A stored response can only be served by the account that has it: what cannot be told is refused
/// rather than sent to one that does not.
///
/// # Errors
/// Nobody knows who has what it refers to.
pub(super) fn target(
    worker: &Worker,
    tenant: TenantId,
    request: &Request<'_>,
    upstreams: &[UpstreamId],
) -> Result<Target, Refusal> {
    let tenant_name = &worker.policy.tenant(tenant).name;
    let in_path = response_in_path(request.dialect, request.head.method, request.path());
    if let Some(id) = in_path.or_else(|| response_in_body(request)) {
        let known = worker.accounts.affinity.owner(tenant_name, id);
        return owner(&worker.policy, upstreams, known)
            .map(Target::Owner)
            .ok_or(Refusal::ResponseNotFound {
                in_path: in_path.is_some(),
            });
    }
    Ok(match conversation(request) {
        Some(key) => Target::Conversation(conversation_hash(tenant_name, key)),
        None => Target::Any,
    })
}

/// ID of `/v1/responses/ID…`, where a stored response is asked for, deleted or cancelled. Other resources below
/// `/v1/responses` are posted to.
fn response_in_path(dialect: Dialect, method: Method, path: &[u8]) -> Option<&[u8]> {
    if dialect != Dialect::Responses {
        return None;
    }
    let unversioned = path.strip_prefix(b"/v1").unwrap_or(path);
    let below = unversioned.strip_prefix(b"/responses/")?;
    let end = below.iter().position(|&byte| byte == b'/');
    let (id, rest) = below.split_at(end.unwrap_or(below.len()));
    let refers = match method {
        Method::Get | Method::Head | Method::Delete => true,
        Method::Post => rest == b"/cancel",
        _ => false,
    };
    (refers && !id.is_empty()).then_some(id)
}

fn response_in_body<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
    if request.dialect != Dialect::Responses {
        return None;
    }
    let id = request.body.said()?.previous_response_id()?;
    (!id.is_empty()).then_some(id.as_bytes())
}

fn conversation<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
    let is_there = |key: &&[u8]| !key.is_empty();
    let mut fields = CONVERSATION_FIELDS.iter();
    let in_field = fields.find_map(|name| request.field(name).filter(is_there));
    let in_body = || {
        let key = request.body.said().and_then(RequestScan::prompt_cache_key);
        key.map(str::as_bytes).filter(is_there)
    };
    in_field.or_else(in_body)
}

/// The account that has it: the one that is known to, or the only one there is.
fn owner(policy: &Policy, upstreams: &[UpstreamId], known: Option<AccountId>) -> Option<AccountId> {
    if let Some(account) = known {
        return upstreams
            .contains(&policy.account(account).upstream)
            .then_some(account);
    }
    let mut all = upstreams
        .iter()
        .flat_map(|id| &policy.upstream(*id).accounts);
    match (all.next(), all.next()) {
        (Some(&only), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    #[test]
    fn a_path_refers_to_a_stored_response_where_one_is_meant() {
        use Method::{Delete, Get, Head, Post, Put};
        for (method, path, id) in [
            (Get, "/v1/responses/resp_1", Some("resp_1")),
            (Head, "/v1/responses/resp_1", Some("resp_1")),
            (Get, "/responses/resp_1", Some("resp_1")),
            (Get, "/v1/responses/resp_1/input_items", Some("resp_1")),
            (Delete, "/v1/responses/resp_1", Some("resp_1")),
            (Post, "/v1/responses/resp_1/cancel", Some("resp_1")),
            (Post, "/v1/responses/resp_1/cancel/more", None),
            (Post, "/v1/responses", None),
            (Post, "/v1/responses/compact", None),
            (Post, "/v1/responses/input_tokens", None),
            (Put, "/v1/responses/resp_1", None),
            (Get, "/v1/responses", None),
            (Get, "/v1/responses/", None),
            (Get, "/v1/responses//input_items", None),
        ] {
            let found = response_in_path(Dialect::Responses, method, path.as_bytes());
            assert_eq!(found, id.map(str::as_bytes), "{} {path}", method.as_str());
        }
        let elsewhere = response_in_path(Dialect::Opaque, Get, b"/v1/responses/resp_1");
        assert_eq!(elsewhere, None);
    }

    #[test]
    fn the_owner_is_the_one_that_is_known_or_the_only_one() {
        let text = r#"
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "pair"
            base_url = "http://127.0.0.1:1"
            [[upstream]]
            name = "single"
            base_url = "http://127.0.0.1:2"
            [[account]]
            name = "one"
            upstream = "pair"
            credential = { env = "KEY" }
            egress = ["127.0.7.1"]
            [[account]]
            name = "two"
            upstream = "pair"
            credential = { env = "KEY" }
            egress = ["127.0.7.2"]
            [[account]]
            name = "three"
            upstream = "single"
            credential = { env = "KEY" }
            egress = ["127.0.7.3"]
        "#;
        let environment = |_: &str| Some("sk-test".into());
        let policy = config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .policy;
        let (pair, single) = (UpstreamId(0), UpstreamId(1));
        let account = |number: u16| Some(AccountId(number));
        for (upstreams, known, found) in [
            (&[pair][..], account(1), account(1)),
            (&[pair, single], account(2), account(2)),
            (&[pair], None, None),
            (&[single], None, account(2)),
            (&[single, pair], None, None),
            // Its upstream does not serve this request, and the others do not have it.
            (&[pair], account(2), None),
            (&[single], account(0), None),
        ] {
            let name = format!("{upstreams:?} {known:?}");
            assert_eq!(owner(&policy, upstreams, known), found, "{name}");
        }
    }
}
