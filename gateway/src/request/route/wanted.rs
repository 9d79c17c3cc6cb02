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
    let in_path = response_in_path(request.dialect, request.head.method, request.path());
    if let Some(id) = in_path.or_else(|| response_in_body(request)) {
        return owner(worker, tenant, upstreams, id)
            .map(Target::Owner)
            .ok_or(Refusal::ResponseNotFound {
                in_path: in_path.is_some(),
            });
    }
    let tenant_name = &worker.policy.tenant(tenant).name;
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

/// The account that has what the tenant means by this ID: the one that is known to, or the only one that can.
pub(super) fn owner(
    worker: &Worker,
    tenant: TenantId,
    upstreams: &[UpstreamId],
    response_id: &[u8],
) -> Option<AccountId> {
    let policy = &worker.policy;
    let tenant_name = &policy.tenant(tenant).name;
    match worker.accounts.affinity.owner(tenant_name, response_id) {
        Some(known) => among(policy, upstreams, known),
        None => only_account(policy, tenant, upstreams),
    }
}

/// One that these upstreams have.
fn among(policy: &Policy, upstreams: &[UpstreamId], account: AccountId) -> Option<AccountId> {
    let upstream = policy.account(account).upstream;
    upstreams.contains(&upstream).then_some(account)
}

/// The account that must have whatever this tenant has stored, because there is no other one and nobody else uses it: to the provider
/// all tenants of an account are one, so what is asked for by its ID alone could be another tenant's.
fn only_account(policy: &Policy, tenant: TenantId, upstreams: &[UpstreamId]) -> Option<AccountId> {
    let mut all = upstreams
        .iter()
        .flat_map(|id| &policy.upstream(*id).accounts);
    let (Some(&only), None) = (all.next(), all.next()) else {
        return None;
    };
    let upstream = policy.account(only).upstream;
    let others = (0..).zip(&policy.tenants);
    let mut others = others.filter(|(id, _)| TenantId(*id) != tenant);
    let is_shared = others.any(|(_, other)| other.upstreams.contains(&upstream));
    (!is_shared).then_some(only)
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

    const ALONE: TenantId = TenantId(0);
    const ONE_OF_TWO: TenantId = TenantId(1);

    fn policy() -> Policy {
        let mut text = r#"
            [[listener]]
            address = "127.0.0.1:0"
        "#
        .to_owned();
        for (number, upstream) in (0..).zip(["pair", "single", "shared"]) {
            text += &format!(
                "[[upstream]]\nname = \"{upstream}\"\nbase_url = \"http://127.0.0.1:1{number}\"\n"
            );
        }
        for (number, upstream) in (1..).zip(["pair", "pair", "single", "shared"]) {
            text += &format!("[[account]]\nname = \"a{number}\"\nupstream = \"{upstream}\"\n");
            text += &format!("credential = {{ env = \"KEY\" }}\negress = [\"127.0.7.{number}\"]\n");
        }
        let tenants = [
            ("alone", "[\"pair\", \"single\"]"),
            ("one", "[\"shared\", \"pair\"]"),
            ("two", "[\"shared\"]"),
        ];
        for (number, (name, upstreams)) in (1..).zip(tenants) {
            let hash = number.to_string().repeat(64);
            text += &format!("[[tenant]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{hash}\" }}]\n");
            text += &format!("upstreams = {upstreams}\n");
        }
        let environment = |_: &str| Some("sk-test".into());
        config::parse(&text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .policy
    }

    #[test]
    fn what_nobody_knows_is_where_it_must_be_or_nowhere() {
        let (pair, single, shared) = (UpstreamId(0), UpstreamId(1), UpstreamId(2));
        for (tenant, upstreams, found) in [
            (ALONE, &[single][..], Some(AccountId(2))),
            (ALONE, &[pair], None),
            (ALONE, &[single, pair], None),
            // The other tenant's are there too.
            (ONE_OF_TWO, &[shared], None),
        ] {
            let only = only_account(&policy(), tenant, upstreams);
            assert_eq!(only, found, "{tenant:?} {upstreams:?}");
        }
    }

    #[test]
    fn an_owner_whose_upstream_does_not_serve_the_request_is_none() {
        let (pair, single) = (UpstreamId(0), UpstreamId(1));
        let owner = AccountId(1);
        for (upstreams, found) in [
            (&[pair][..], Some(owner)),
            (&[single, pair], Some(owner)),
            (&[single], None),
        ] {
            assert_eq!(among(&policy(), upstreams, owner), found, "{upstreams:?}");
        }
    }
}
