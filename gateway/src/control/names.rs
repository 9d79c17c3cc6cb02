//! Names of upstreams: resolved here, never by a worker. The time to live is kept, the last good answer is served on.

use crate::config::Policy;
use crate::worker::mailbox::Mailbox;
use hickory_resolver::TokioResolver;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bounds of the time between two look-ups of a name, whatever its time to live.
const REFRESH_MIN: Duration = Duration::from_secs(5);
const REFRESH_MAX: Duration = Duration::from_secs(300);

/// After a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How long the start waits for the first answers.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one upstream, and when to ask again.
struct Answer {
    addresses: Vec<SocketAddr>,
    valid_until: Instant,
}

/// Resolves all upstreams for the first time. A name that cannot be resolved yet has no addresses, and the error is
/// returned beside them: the gateway starts all the same.
pub fn resolve_at_start(policy: &Policy) -> (Vec<Vec<SocketAddr>>, Vec<String>) {
    let mut errors = Vec::new();
    let mut addresses: Vec<_> = policy
        .upstreams
        .iter()
        .map(|upstream| {
            literal(&upstream.host, upstream.port)
                .into_iter()
                .collect::<Vec<_>>()
        })
        .collect();
    if addresses.iter().all(|known| !known.is_empty()) {
        return (addresses, errors);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return (addresses, vec![error.to_string()]),
    };
    runtime.block_on(async {
        let resolver = match resolver() {
            Ok(resolver) => resolver,
            Err(error) => return errors.push(error),
        };
        for (upstream, known) in policy.upstreams.iter().zip(&mut addresses) {
            if !known.is_empty() {
                continue;
            }
            let looked_up = look_up(&resolver, &upstream.host, upstream.port);
            match tokio::time::timeout(FIRST_TIMEOUT, looked_up).await {
                Ok(Ok(answer)) => *known = answer.addresses,
                Ok(Err(error)) => errors.push(format!("{}: {error}", upstream.host)),
                Err(_) => errors.push(format!("{}: no answer in time", upstream.host)),
            }
        }
    });
    (addresses, errors)
}

/// Keeps the addresses of all upstreams fresh for as long as the process runs.
pub async fn keep_resolved(policy: Arc<Policy>, mailbox: &'static Mailbox) {
    let names: Vec<_> = policy
        .upstreams
        .iter()
        .map(|upstream| literal(&upstream.host, upstream.port).is_none())
        .collect();
    if !names.contains(&true) {
        return;
    }
    let resolver = loop {
        match resolver() {
            Ok(resolver) => break resolver,
            // The system's settings cannot be read now; `/ready` names what is not resolved.
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    };
    let mut next = vec![Instant::now() + REFRESH_MIN; names.len()];
    loop {
        let wake_at = next
            .iter()
            .zip(&names)
            .filter(|(_, is_name)| **is_name)
            .map(|(at, _)| *at)
            .min();
        let Some(wake_at) = wake_at else { return };
        tokio::time::sleep_until(wake_at.into()).await;
        let mut addresses = mailbox.addresses();
        let mut changed = false;
        for (index, upstream) in policy.upstreams.iter().enumerate() {
            if !names[index] || next[index] > Instant::now() {
                continue;
            }
            match look_up(&resolver, &upstream.host, upstream.port).await {
                Ok(answer) => {
                    changed |= addresses[index] != answer.addresses;
                    addresses[index] = answer.addresses;
                    let now = Instant::now();
                    next[index] = answer
                        .valid_until
                        .clamp(now + REFRESH_MIN, now + REFRESH_MAX);
                }
                // The last good answer is served on.
                Err(_) => next[index] = Instant::now() + RETRY_INTERVAL,
            }
        }
        if changed {
            mailbox.publish_addresses(addresses);
        }
    }
}

fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>()
        .ok()
        .map(|address| SocketAddr::new(address, port))
}

fn resolver() -> Result<TokioResolver, String> {
    TokioResolver::builder_tokio()
        .and_then(hickory_resolver::ResolverBuilder::build)
        .map_err(|error| error.to_string())
}

async fn look_up(resolver: &TokioResolver, host: &str, port: u16) -> Result<Answer, String> {
    let found = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| error.to_string())?;
    let mut addresses: Vec<_> = found
        .iter()
        .map(|address| SocketAddr::new(address, port))
        .collect();
    // The order of an answer carries no meaning; a fixed one does not look like a change.
    addresses.sort_unstable();
    if addresses.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(Answer {
        addresses,
        valid_until: found.valid_until(),
    })
}
