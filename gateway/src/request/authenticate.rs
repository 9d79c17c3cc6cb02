//! Who asks: the tenant's key, from the field that the client's SDK puts it into.

use super::Request;
use super::limit::has_budget;
use super::refusal::Refusal;
use crate::config::policy::{Allowance, KeyNumber, TenantId, UpstreamId};
use crate::keys;
use crate::worker::Worker;
use std::time::SystemTime;

/// A checked fact: this request carried a valid key of this tenant. Only `authenticate` makes one.
/// ```
/// # use codex_relay::request::{Request, authenticate::{Caller, authenticate}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn caller(worker: &Worker, request: &Request<'_>) -> Result<Caller, Refusal> {
///     let checked = authenticate(worker, request)?;
///     Ok(checked)
/// }
/// ```
///
/// Whoever knows all that a caller tells still cannot make one:
///
/// ```compile_fail,E0451
/// # use codex_relay::request::{Request, authenticate::{Caller, authenticate}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn caller(worker: &Worker, request: &Request<'_>) -> Result<Caller, Refusal> {
///     let checked = authenticate(worker, request)?;
///     Ok(Caller { tenant: checked.tenant(), key: checked.key(), key_id: checked.key_id(), expires: None })
/// }
/// ```
pub struct Caller {
    tenant: TenantId,
    key: KeyNumber,
    key_id: KeyId,
    expires: Option<SystemTime>,
}

/// A key's identifier for logs: the first four bytes of its hash.
pub type KeyId = [u8; 4];

impl Caller {
    /// Whose key it was.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which of the keys it was.
    pub fn key(&self) -> KeyNumber {
        self.key
    }

    /// The key's identifier for logs.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The key still is valid: what follows on a connection may come much later than the key.
    ///
    /// # Errors
    /// It has expired.
    pub fn check_expiry(&self) -> Result<(), Refusal> {
        if has_expired(self.expires) {
            Err(Refusal::KeyExpired)
        } else {
            Ok(())
        }
    }

    /// What it may use: the tenant, and the key.
    pub fn allowances<'w>(&self, worker: &'w Worker) -> [&'w Allowance; 2] {
        let policy = &worker.policy;
        let tenant = &policy.tenant(self.tenant).allowance;
        [tenant, &policy.key_allowances[self.key.0 as usize]]
    }

    /// Whether the model must be known before the request may go anywhere.
    pub fn must_name_model(&self, worker: &Worker) -> bool {
        let tenant = worker.policy.tenant(self.tenant);
        let serves_some = |id: &UpstreamId| !worker.policy.upstream(*id).models.is_empty();
        !tenant.models.is_empty()
            || tenant.upstreams.iter().any(serves_some)
            || self.allowances(worker).into_iter().any(has_budget)
    }
}

/// The fields in which a key may come, in the order of preference: `X-API-Key` wins over the dummy Bearer that its
/// users have to give their SDK.
const KEY_FIELDS: [&str; 4] = ["x-api-key", "authorization", "api-key", "x-goog-api-key"];

/// Checks the key.
///
/// # Errors
/// 401 with a code for each of: no key, unknown key, expired key.
pub fn authenticate(worker: &Worker, request: &Request<'_>) -> Result<Caller, Refusal> {
    let presented = presented_key(request).ok_or(Refusal::KeyMissing)?;
    let hash = keys::hash(presented);
    let key = worker.policy.keys.get(&hash).ok_or(Refusal::KeyUnknown)?;
    if has_expired(key.expires) {
        return Err(Refusal::KeyExpired);
    }
    Ok(Caller {
        tenant: key.tenant,
        key: key.number,
        key_id: [hash[0], hash[1], hash[2], hash[3]],
        expires: key.expires,
    })
}

fn presented_key<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
    KEY_FIELDS.iter().find_map(|&name| {
        let value = request.field(name)?;
        let key = if name == "authorization" {
            bearer_token(value)?
        } else {
            value
        };
        (!key.is_empty()).then_some(key)
    })
}

/// The token of `Bearer TOKEN` (RFC 6750 section 2.1; the scheme is case-insensitive, RFC 9110 section 11.1).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn has_expired(expires: Option<SystemTime>) -> bool {
    expires.is_some_and(|expires| expires <= SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::{bearer_token, has_expired};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_key_ends_when_its_time_has_come() {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        assert!(!has_expired(None));
        assert!(!has_expired(Some(now + hour)));
        assert!(has_expired(Some(now)));
        assert!(has_expired(Some(now - hour)));
    }

    #[test]
    fn bearer_tokens() {
        assert_eq!(bearer_token(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer_token(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer_token(b"Basic abc"), None);
        assert_eq!(bearer_token(b"Bearer"), None);
        assert_eq!(bearer_token(b"Bearerabc"), None);
    }
}
