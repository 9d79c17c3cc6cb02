//! One probe on the wire: a connection of its own, a request without a body, the head of the answer.

use super::channel::{self, Channel};
use super::schedule::Target;
use crate::config::Policy;
use crate::config::policy::{Account, Probe, Upstream, UpstreamId};
use crate::connections::{Connections, UpstreamPlaces};
use crate::control::egress::connect::{self, Opened};
use crate::health::Clock;
use crate::request::egress::connect::{destinations, failed};
use crate::request::egress::error_answer::{BODY_BYTES_MAX, BODY_TIMEOUT, is_error_status, judge};
use crate::request::egress::head::with_credential;
use crate::request::egress::{Failure, INFORMATIONAL_MAX};
use crate::tls::{Clients, Offer};
use relay_wire::encode::HeadWriter;
use relay_wire::head::{FramingError, HeadLimits, ResponseHead};
use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

/// Room for the head of an answer; most need less.
const ANSWER_BYTES: usize = 4096;

/// What is needed to ask.
#[derive(Clone, Copy)]
pub(super) struct Means<'p> {
    pub(super) policy: &'p Policy,
    pub(super) connections: &'static Connections,
    pub(super) clock: &'static Clock,
    /// Where the upstream can be reached.
    pub(super) addresses: &'p [SocketAddr],
    /// TLS towards providers.
    pub(super) tls: &'p Clients,
}

/// Why there is no answer.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Why there was no agreement on TLS, if it is that.
    pub(super) tls_reason: Option<Cow<'static, str>>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            tls_reason: None,
        }
    }
}

/// Asks an account once, from an address of its own. The status, if it is none that speaks of the account or the provider.
pub(super) async fn ask(means: Means<'_>, target: Target, probe: &Probe) -> Result<u16, Failed> {
    let policy = means.policy;
    let account = policy.account(target.account);
    // Its place among the account's connections is kept until the end.
    let (mut channel, _places) = open(means, target).await?;
    let ends_at = Instant::now() + probe.timeout;
    let head = write_head(policy, account.upstream, &probe.path);
    let mut answer = Answer {
        limits: HeadLimits {
            head_bytes_max: policy.limits.head_bytes_max,
            fields_max: policy.limits.head_fields_max,
            target_bytes_max: policy.limits.target_bytes_max,
        },
        bytes: Vec::with_capacity(ANSWER_BYTES),
    };
    let begin = async {
        let upstream = policy.upstream(account.upstream);
        send(&mut *channel, &head, upstream, account)
            .await
            .map_err(|_| Failure::Broken)?;
        answer.read_head(&mut *channel).await
    };
    let head = timeout_at(ends_at, begin)
        .await
        .unwrap_or(Err(Failure::Timeout))?;
    if !is_error_status(head.status) {
        return Ok(head.status);
    }
    let depth_max = policy.limits.json_depth_max;
    // For all of it: whoever sends it byte by byte holds nothing for long.
    let body_ends_at = ends_at.min(Instant::now() + BODY_TIMEOUT);
    let now = means.clock.now();
    loop {
        let (failure, is_whole) = judge(&head, &answer.bytes, depth_max, now);
        let is_enough = is_whole || answer.bytes.len() >= head.head_bytes + BODY_BYTES_MAX;
        let more = channel.read_buf(&mut answer.bytes);
        if is_enough || !matches!(timeout_at(body_ends_at, more).await, Ok(Ok(1..))) {
            return Err(failure.into());
        }
    }
}

/// As on the path of a request, and with as much time: an address that is dead does not stop an account, and what is only slow
/// does not count against the way.
async fn open(
    means: Means<'_>,
    target: Target,
) -> Result<(Box<dyn Channel>, UpstreamPlaces), Failed> {
    let account = means.policy.account(target.account);
    let source = account.egress[target.address];
    let mut failed = Failed::from(Failure::NoDestination);
    for destination in destinations(means.addresses, source, fastrand::f64()) {
        match reach(means, target, source, destination).await {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = error,
        }
        let may_differ = matches!(
            failed.failure,
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
    Err(failed)
}

async fn reach(
    means: Means<'_>,
    target: Target,
    source: IpAddr,
    destination: SocketAddr,
) -> Result<(Box<dyn Channel>, UpstreamPlaces), Failed> {
    let policy = means.policy;
    let (id, limit) = (target.account, policy.timeouts.upstream_connect);
    let opened = connect::open(means.connections, id, source, destination, limit).await;
    let Opened { stream, places, .. } = opened.map_err(meaning)?;
    let upstream = policy.upstream(policy.account(id).upstream);
    let config = means.tls.config(id, source, Offer::Configured);
    match channel::begin(policy, upstream, stream, config).await {
        Ok(channel) => Ok((channel, places)),
        Err(refused) => Err(Failed {
            failure: refused.failure,
            tls_reason: Some(refused.reason),
        }),
    }
}

fn meaning(failure: connect::Failure) -> Failed {
    let failure = match failure {
        connect::Failure::Denied(denied) => denied.into(),
        connect::Failure::Foreign(_) => Failure::EgressMismatch,
        connect::Failure::Failed { error, origin } => failed(&error, &origin),
    };
    failure.into()
}

/// All of the request but its credential, which is its last field.
fn write_head(policy: &Policy, id: UpstreamId, path: &str) -> Vec<u8> {
    let upstream = policy.upstream(id);
    let mut bytes = Vec::new();
    let target = [upstream.path_prefix.as_bytes(), path.as_bytes()];
    let mut head = HeadWriter::request(&mut bytes, "GET", &target);
    head.known("host", &upstream.authority);
    head.known("connection", "close");
    for (name, value) in policy.headers.request(id).set() {
        head.known(name, value);
    }
    bytes
}

/// The credential goes from where it is kept, in the same segment as the rest.
async fn send(
    channel: &mut dyn Channel,
    head: &[u8],
    upstream: &Upstream,
    account: &Account,
) -> io::Result<()> {
    let mut parts = with_credential(head, upstream, account).map(IoSlice::new);
    let mut left = &mut parts[..];
    while !left.is_empty() {
        let sent = channel.write_vectored(left).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, sent);
    }
    channel.flush().await
}

/// What has come of an answer.
struct Answer {
    limits: HeadLimits,
    bytes: Vec<u8>,
}

impl Answer {
    /// Reads the final head; `bytes` begins with it then.
    async fn read_head(&mut self, channel: &mut dyn Channel) -> Result<ResponseHead, Failure> {
        let mut informational = 0;
        loop {
            match ResponseHead::parse(&self.bytes, &self.limits, false) {
                Ok(Some(head)) if head.status >= 200 => return Ok(head),
                Ok(Some(head)) => {
                    informational += 1;
                    if head.status == 101 || informational > INFORMATIONAL_MAX {
                        return Err(Failure::Unexpected);
                    }
                    self.bytes.drain(..head.head_bytes);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Err(Failure::Malformed(error)),
            }
            match channel.read_buf(&mut self.bytes).await {
                Ok(0) if self.bytes.is_empty() => return Err(Failure::Broken),
                Ok(0) => return Err(Failure::Malformed(FramingError::Malformed)),
                Ok(_) => {}
                Err(_) => return Err(Failure::Broken),
            }
        }
    }
}
