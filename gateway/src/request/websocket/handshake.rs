//! The handshake (RFC 6455 section 4): both sides' part in it is checked, and each is written anew for the other.

use crate::config::policy::{Allowance, UpstreamId};
use crate::limits::Place;
use crate::request::Request;
use crate::request::authenticate::Caller;
use crate::request::egress::names_field;
use crate::request::refusal::{Refusal, UpgradeRefusal};
use crate::worker::Worker;
use relay_wire::encode::HeadWriter;
use relay_wire::head::{Field, Framing, Method, ResponseHead, Version};
use relay_wire::websocket::{ACCEPT_BYTES, VERSION, accept_value, is_key};

/// A checked fact: the request asks for a WebSocket as it should, of a tenant that may have one more. Only `asked_for` makes one.
pub struct Handshake {
    /// What has to come back for the key.
    accept: [u8; ACCEPT_BYTES],
    /// What passes must be read: what cannot be must not pass.
    must_be_read: bool,
    _place: Place,
}

/// Whether a WebSocket is asked for. `Upgrade` may be ignored (RFC 9110 section 7.8), and is for any other protocol, for methods
/// that no WebSocket begins with, and in HTTP/1.0, where it has no meaning.
///
/// # Errors
/// There is none for what is asked for, or it is not asked for as it should be, or the tenant has as many as it may have.
pub fn asked_for(
    worker: &'static Worker,
    request: &Request<'_>,
    caller: &Caller,
) -> Result<Option<Handshake>, Refusal> {
    let has_method = request.head.method == Method::Get && request.head.version == Version::Http11;
    if !has_method || !lists(request, "upgrade", b"websocket") {
        return Ok(None);
    }
    let refused = |refusal| Err(Refusal::Upgrade(refusal));
    let tenant = worker.policy.tenant(caller.tenant());
    let takes_one = |id: &UpstreamId| worker.policy.upstream(*id).websocket;
    // Of no other resource is it known what passes.
    let resource = request.path().strip_prefix(b"/v1");
    let is_known = resource.unwrap_or(request.path()) == b"/responses";
    if !is_known || !tenant.upstreams.iter().any(takes_one) {
        return refused(UpgradeRefusal::NotOffered);
    }
    let key = match check(request) {
        Ok(key) => key,
        Err(refusal) => return refused(refusal),
    };
    let accept = accept_value(key);
    let max = worker.policy.limits.websockets_per_tenant_max;
    let Some(place) = worker.in_flight.enter_websocket(caller.tenant(), max) else {
        return refused(UpgradeRefusal::TooMany);
    };
    Ok(Some(Handshake {
        accept,
        must_be_read: must_be_read(worker, caller),
        _place: place,
    }))
}

/// The key of a request that asks as it should (RFC 6455 section 4.2.1).
fn check<'r>(request: &'r Request<'_>) -> Result<&'r [u8], UpgradeRefusal> {
    let malformed = |how| Err(UpgradeRefusal::Malformed(how));
    if !lists(request, "connection", b"upgrade") {
        return malformed("Connection must name Upgrade where that names websocket.");
    }
    if request.head.framing != Framing::Empty {
        return malformed("A request for a WebSocket has no body.");
    }
    match only(request, "sec-websocket-version") {
        Ok(version) if version == VERSION.as_bytes() => {}
        Ok(_) => return Err(UpgradeRefusal::Version),
        Err(()) => return malformed("A request for a WebSocket has one Sec-WebSocket-Version."),
    }
    match only(request, "sec-websocket-key") {
        Ok(key) if is_key(key) => Ok(key),
        _ => malformed("A request for a WebSocket has one Sec-WebSocket-Key: 16 bytes in base64."),
    }
}

/// Something depends on what is said in it: what is asked for is limited or counted, or others have stored what could be asked for by
/// its name alone, since the provider takes all tenants of an account for one.
fn must_be_read(worker: &Worker, caller: &Caller) -> bool {
    let upstreams = &worker.policy.tenant(caller.tenant()).upstreams;
    let is_shared = || {
        let others = worker.policy.tenants.iter();
        let uses_same = |id: &UpstreamId| upstreams.contains(id);
        let users = others.filter(|other| other.upstreams.iter().any(uses_same));
        users.count() > 1
    };
    let mut allowances = caller.allowances(worker).into_iter();
    caller.must_name_model(worker) || allowances.any(Allowance::counts_requests) || is_shared()
}

/// Has the provider agreed to what it was asked for, and to nothing else (RFC 6455 section 4.1)?
pub fn is_agreed(request: &Request<'_>, head: &ResponseHead, bytes: &[u8]) -> bool {
    let Some(handshake) = &request.websocket else {
        return false;
    };
    let all = |name| values(&head.fields, bytes, name).collect::<Vec<_>>();
    let [upgrade] = all("upgrade")[..] else {
        return false;
    };
    let [accept] = all("sec-websocket-accept")[..] else {
        return false;
    };
    let protocols = all("sec-websocket-protocol");
    let was_offered = |protocol: &&[u8]| {
        lists(request, "sec-websocket-protocol", protocol) && !protocol.is_empty()
    };
    head.version == Version::Http11
        && upgrade.eq_ignore_ascii_case(b"websocket")
        && names_field(&all("connection"), b"upgrade")
        && accept == handshake.accept
        && protocols.len() <= 1
        && protocols.iter().all(was_offered)
        && all("sec-websocket-extensions").is_empty()
}

/// The provider has not agreed to a WebSocket, and may agree to the next one, or on another account.
pub fn may_be_tried_again(status: u16) -> bool {
    status == 429 || matches!(status, 500..=599) && !matches!(status, 501 | 505)
}

impl Handshake {
    /// What passes must be read: what cannot be must not pass.
    pub(super) fn must_be_read(&self) -> bool {
        self.must_be_read
    }

    /// Writes the fields with which the provider is asked. Extensions are not offered: what they change could not be read, and what
    /// cannot be read cannot be charged.
    pub fn write_request(&self, head: &mut HeadWriter<'_>, request: &Request<'_>) {
        head.known("connection", "Upgrade");
        head.known("upgrade", "websocket");
        head.known("sec-websocket-version", VERSION);
        let bytes = request.head_bytes();
        for name in ["sec-websocket-key", "sec-websocket-protocol"] {
            copy(head, &request.head.fields, bytes, name);
        }
    }

    /// Writes the fields with which the client hears that its provider has agreed.
    pub fn write_answer(&self, head: &mut HeadWriter<'_>, answer: &ResponseHead, bytes: &[u8]) {
        head.known("connection", "Upgrade");
        head.known("upgrade", "websocket");
        // Base64 always can be written.
        let _ = head.field(b"sec-websocket-accept", &self.accept);
        copy(head, &answer.fields, bytes, "sec-websocket-protocol");
    }
}

fn copy(head: &mut HeadWriter<'_>, fields: &[Field], bytes: &[u8], name: &str) {
    for value in values(fields, bytes, name) {
        // What the writer refuses is left out.
        let _ = head.field(name.as_bytes(), value);
    }
}

fn values<'b>(
    fields: &'b [Field],
    bytes: &'b [u8],
    name: &'b str,
) -> impl Iterator<Item = &'b [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
        .map(move |field| field.value.of(bytes))
}

/// Does one of the fields of this name list the token?
fn lists(request: &Request<'_>, name: &str, token: &[u8]) -> bool {
    let values: Vec<_> = values(&request.head.fields, request.head_bytes(), name).collect();
    names_field(&values, token)
}

/// The value of the one field of this name.
fn only<'r>(request: &'r Request<'_>, name: &'r str) -> Result<&'r [u8], ()> {
    let mut values = values(&request.head.fields, request.head_bytes(), name);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(()),
    }
}
