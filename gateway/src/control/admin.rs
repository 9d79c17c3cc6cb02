//! The admin address: for the operator and for monitoring, never for tenants.

mod accounts;

use super::accounts::Condition;
use super::certificates::Orders;
use super::egress::{OpenConnections, check};
use super::health::Tally;
use super::metrics::Metrics;
use crate::accounts::Accounts;
use crate::config::Policy;
use crate::config::policy::UpstreamId;
use crate::connections::Connections;
use crate::journal::Acceptance;
use crate::kernel::{self, Features};
use crate::limits::InFlight;
use crate::state::StateStore;
use crate::worker::mailbox::Mailbox;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use relay_ebpf::Feature;
use relay_io::Engine;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What the admin API answers from.
#[derive(Clone)]
pub struct Admin {
    /// What the operator wants.
    pub policy: Arc<Policy>,
    /// Orders to the workers.
    pub mailbox: &'static Mailbox,
    /// What all threads share about the accounts.
    pub accounts: &'static Accounts,
    /// What of it survives a restart.
    pub state: Arc<StateStore>,
    /// Requests in flight.
    pub in_flight: &'static InFlight,
    /// Whether what requests use can be kept on record.
    pub acceptance: &'static Acceptance,
    /// The metrics.
    pub metrics: Metrics,
    /// What drives the workers.
    pub engine: Engine,
    /// What the kernel enforces.
    pub features: Arc<Features>,
    /// Who holds how many connections.
    pub connections: &'static Connections,
    /// Connections to providers.
    pub open: Arc<OpenConnections>,
    /// The files of TLS.
    pub certificates: Orders,
}

/// Serves the admin API for as long as the process runs.
pub async fn serve(listener: tokio::net::TcpListener, admin: Admin) {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/egress/connections", get(egress_connections))
        .route("/egress/check", post(egress_check))
        .route("/tls/reload", post(reload))
        .route("/accounts", get(accounts::list))
        .route("/accounts/{name}", get(accounts::show))
        .route("/accounts/{name}/{verb}", post(accounts::obey))
        .fallback(async || refused(StatusCode::NOT_FOUND, "no such page"))
        .method_not_allowed_fallback(async || {
            let why = "this page is asked for with another method";
            refused(StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .with_state(admin);
    // Errors of single connections end these; the listener goes on.
    let _ = axum::serve(listener, routes).await;
}

/// The process is alive.
async fn health() -> Response {
    answer(
        StatusCode::OK,
        &json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "time": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }),
    )
}

/// The process can serve: all workers run, no drain was ordered, every upstream's name is resolved, the kernel enforces what is
/// required of it, and a journal of which nothing may be missing can be written.
async fn ready(State(admin): State<Admin>) -> Response {
    let workers_running = admin.mailbox.workers_running();
    let unresolved: Vec<_> = admin
        .policy
        .upstreams
        .iter()
        .zip(admin.mailbox.addresses())
        .filter(|(_, addresses)| addresses.is_empty())
        .map(|(upstream, _)| upstream.name.clone())
        .collect();
    let draining = admin.mailbox.is_draining();
    let is_ready = !draining
        && admin.mailbox.workers_started() == admin.policy.node.workers
        && workers_running == admin.policy.node.workers
        && unresolved.is_empty()
        && admin.features.may_serve()
        && admin.acceptance.check(|| false).is_ok();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(
        status,
        &json!({
            "ready": is_ready,
            "draining": draining,
            "workers": { "configured": admin.policy.node.workers, "running": workers_running },
            "engine": admin.engine.as_str(),
            "upstreams_unresolved": unresolved,
            "accounts": conditions(&admin),
            "kernel": enforced(&admin.features),
            "journal": admin.acceptance.as_str(),
        }),
    )
}

/// By upstream: how many accounts are in which condition. Whatever it says, requests are served as well as can be.
fn conditions(admin: &Admin) -> Value {
    let health = &admin.accounts.health;
    let now = health.clock().now();
    let upstreams = admin.policy.upstreams.iter().enumerate();
    let by_name = upstreams.map(|(index, upstream)| {
        let tally = Tally::of(&admin.policy, health, UpstreamId(index as u16), now);
        let counts = Condition::ALL.iter().map(|&condition| {
            (
                condition.as_str().to_owned(),
                Value::from(tally.count(condition)),
            )
        });
        let mut members = serde_json::Map::from_iter(counts);
        members.insert("panic".to_owned(), tally.is_panic().into());
        (upstream.name.clone(), Value::from(members))
    });
    Value::Object(by_name.collect())
}

fn enforced(features: &Features) -> Value {
    let by_name = Feature::ALL.iter().map(|&feature| {
        let state = match features.why_missing(feature) {
            None => "active".to_owned(),
            Some(why) => format!("missing: {why}"),
        };
        (feature.as_str().to_owned(), Value::from(state))
    });
    json!({
        "mode": kernel::mode_name(features.mode()),
        "features": serde_json::Map::from_iter(by_name),
    })
}

async fn version(State(admin): State<Admin>) -> Response {
    answer(
        StatusCode::OK,
        &json!({
            "name": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "node": admin.policy.node.name,
            "region": admin.policy.node.region,
        }),
    )
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = admin.metrics.render(&admin.policy);
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// Connections to providers that are open now.
async fn egress_connections(State(admin): State<Admin>) -> Response {
    answer(
        StatusCode::OK,
        &json!({
            "missing": admin.features.why_missing(Feature::Telemetry),
            "connections": admin.open.list(),
        }),
    )
}

/// Opens a connection for each account and address.
async fn egress_check(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = require_order(&headers) {
        return refusal;
    }
    let order: check::Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match check::run(admin.policy, admin.mailbox, admin.connections, &order).await {
        Ok(checks) => answer(StatusCode::OK, &json!({ "checks": checks })),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}

/// Has the files of TLS looked at, as complete as they are now.
async fn reload(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refusal) = require_order(&headers) {
        return refusal;
    }
    let Ok(found) = admin.certificates.look().await else {
        let why = "files are not looked at any more: this needs a restart";
        return refused(StatusCode::INTERNAL_SERVER_ERROR, why);
    };
    let (mut replaced, mut not_replaced) = (Vec::new(), Vec::new());
    for one in &found {
        let listener = one.listener().to_string();
        match one.file() {
            (file, None) => replaced.push(json!({ "listener": listener, "file": file })),
            (file, Some(why)) => {
                not_replaced.push(json!({ "listener": listener, "file": file, "error": why }));
            }
        }
    }
    // So that a script need not read the answer to know that something is wrong.
    let status = match not_replaced.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    answer(
        status,
        &json!({ "replaced": replaced, "refused": not_replaced }),
    )
}

/// Of everything that does something, so that no web page can do it. A browser asks first before it sends this type elsewhere,
/// and a page whose own name was made to lead here has that name in `Host`: an address cannot be made to lead elsewhere.
#[allow(clippy::result_large_err, reason = "it is made once and handed on")]
fn require_order(headers: &HeaderMap) -> Result<(), Response> {
    let mut hosts = headers.get_all(header::HOST).iter();
    if !hosts.next().is_some_and(is_direct) || hosts.next().is_some() {
        let why = "orders are taken by address alone: Host must be an IP address or localhost";
        return Err(refused(StatusCode::FORBIDDEN, why));
    }
    if headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Ok(());
    }
    let why = "the content type must be application/json";
    Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
}

/// An IP address or `localhost`, with or without a port (RFC 9110, section 7.2).
fn is_direct(host: &HeaderValue) -> bool {
    let Ok(text) = host.to_str() else {
        return false;
    };
    if text.parse::<SocketAddr>().is_ok() || text.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bracketed {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    name.eq_ignore_ascii_case("localhost") && port.parse::<u16>().is_ok()
}

/// With or without parameters (RFC 9110, section 8.3.1).
fn is_json(content_type: &HeaderValue) -> bool {
    let bytes = content_type.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b';');
    let essence = &bytes[..end.unwrap_or(bytes.len())];
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

fn refused(status: StatusCode, why: &str) -> Response {
    answer(status, &json!({ "error": why }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(host: &str, content_type: &str) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        match require_order(&headers) {
            Ok(()) => 200,
            Err(refusal) => refusal.status().as_u16(),
        }
    }

    #[test]
    fn orders_are_taken_by_address_alone() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:9901",
            "localhost",
            "LocalHost:9901",
        ] {
            assert_eq!(with(host, "application/json"), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost.evil.example",
            "localhost:9901:x",
            "::1",
            "[::1",
            "[evil.example]",
            "2130706433",
        ] {
            assert_eq!(with(host, "application/json"), 403, "{host}");
        }
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        assert!(require_order(&headers).is_err(), "without Host");
        for host in ["127.0.0.1", "evil.example"] {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        assert!(require_order(&headers).is_err(), "which of the two?");
    }

    #[test]
    fn orders_are_json() {
        for (content_type, status) in [
            ("application/json; charset=utf-8", 200),
            ("Application/JSON ;x=y", 200),
            ("text/plain", 415),
            ("text/plain; application/json", 415),
            ("application/jsonp", 415),
            ("", 415),
        ] {
            assert_eq!(with("localhost", content_type), status, "{content_type}");
        }
    }
}
