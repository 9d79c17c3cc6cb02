//! A new connection: TCP from the account's own address, then TLS where the upstream is behind it.

use super::{destinations, failed};
use crate::accounts::Spoken;
use crate::config::policy::{AccountId, Protocol, TenantId, UpstreamId};
use crate::request::egress::Failure;
use crate::request::refusal::Refusal;
use crate::request::route::Candidate;
use crate::tls::{Offer, clients};
use crate::upstreams::Opened;
use crate::worker::Worker;
use relay_io::{Alpn, Interrupt, Stream, TlsError};
use std::borrow::Cow;
use std::net::IpAddr;

/// Whose connection it is, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) upstream: UpstreamId,
    pub(super) account: AccountId,
    /// The address that it leaves from.
    pub(super) source: IpAddr,
    /// Whose it is besides, if that is counted.
    pub(super) tenant: Option<TenantId>,
    pub(super) offer: Offer,
}

impl Goal {
    pub(super) fn of(candidate: &Candidate, tenant: Option<TenantId>, offer: Offer) -> Self {
        Self {
            upstream: candidate.upstream,
            account: candidate.slot.account,
            source: candidate.slot.source,
            tenant,
            offer,
        }
    }
}

/// Opens one, within the caps and the time-outs; if `client` leaves the attempt ends.
pub(super) async fn open(
    worker: &'static Worker,
    client: &Stream,
    goal: &Goal,
) -> Result<(Opened, Spoken), Failure> {
    let addresses = worker.addresses_of(goal.upstream);
    let timeout = worker.policy.timeouts.upstream_connect;
    let mut failure = Failure::NoDestination;
    for destination in destinations(&addresses, goal.source, worker.random_fraction()) {
        let (origin, places) =
            worker
                .connections
                .begin_upstream(goal.tenant, goal.account, goal.source)?;
        let outcome = match Stream::connect(&origin, destination, timeout, client).await {
            Ok(stream) => {
                worker.note_connection_opened();
                let secured = secure(worker, client, &stream, goal).await;
                secured.map(|spoken| (stream, spoken))
            }
            Err(error) => Err(failed(&error, &origin)),
        };
        match outcome {
            Ok((stream, spoken)) => {
                let is_free = goal.offer == Offer::Configured;
                let with = &worker.accounts.spoken;
                with.note_opened(goal.account, spoken, is_free);
                let opened = Opened {
                    stream,
                    places,
                    source: goal.source,
                    destination,
                };
                return Ok((opened, spoken));
            }
            Err(error) => failure = error,
        }
        // Ports are counted by destination too.
        let may_differ = matches!(
            failure,
            Failure::Connect
                | Failure::ConnectTimeout
                | Failure::PortsShort
                | Failure::Tls
                | Failure::TlsTimeout
        );
        if !may_differ {
            break;
        }
    }
    Err(failure)
}

/// The TLS handshake, and what was agreed to be spoken. Never goes on in plaintext where TLS is wanted.
async fn secure(
    worker: &'static Worker,
    client: &Stream,
    stream: &Stream,
    goal: &Goal,
) -> Result<Spoken, Failure> {
    let upstream = worker.policy.upstream(goal.upstream);
    let Some(tls) = &upstream.tls else {
        return Ok(match (upstream.protocol, goal.offer) {
            (Protocol::Http2, Offer::Configured) => Spoken::Http2,
            _ => Spoken::Http1,
        });
    };
    let config = worker
        .tls
        .config(goal.account, goal.source, goal.offer)
        .ok_or(Failure::Egress)?;
    stream.set_deadline(worker.policy.timeouts.upstream_tls);
    client.tie(stream);
    let name = tls.server_name.clone();
    let secured = stream
        .connect_tls(config, name, &worker.handshakes, &worker.pool)
        .await;
    client.untie();
    let secured = secured.map_err(|error| refused(worker, goal, &error))?;
    stream.clear_deadline();
    let spoken = match secured.alpn {
        Alpn::Http2 => Spoken::Http2,
        Alpn::Http1 | Alpn::None => Spoken::Http1,
    };
    match upstream.protocol {
        _ if goal.offer == Offer::Http1 => {}
        Protocol::Auto => worker
            .idle
            .note_choice(goal.account, goal.source, secured.alpn),
        Protocol::Http2 if spoken != Spoken::Http2 => {
            worker
                .note_upstream_tls_refused(goal.account, "HTTP/2 was not agreed on (ALPN)".into());
            return Err(Failure::Tls);
        }
        Protocol::Http1 | Protocol::Http2 => {}
    }
    Ok(spoken)
}

/// What a failed handshake means; the operator is told why.
fn refused(worker: &Worker, goal: &Goal, error: &TlsError) -> Failure {
    let (why, failure): (Cow<'static, str>, _) = match error {
        TlsError::Interrupted(Interrupt::Deadline) => {
            ("the handshake took too long".into(), Failure::TlsTimeout)
        }
        TlsError::Interrupted(Interrupt::Shutdown) => return Failure::Shutdown,
        TlsError::Interrupted(_) => return Failure::Client(Refusal::ClientGone),
        TlsError::Socket(_) => ("the connection ended in the handshake".into(), Failure::Tls),
        TlsError::Rejected(error) => (clients::reason(error), Failure::Tls),
    };
    worker.note_upstream_tls_refused(goal.account, why);
    failure
}
