//! A connection to the provider: one that is kept or shared, or a new one from the account's own address; within the caps.

mod open;
mod share;

use super::Failure;
use crate::accounts::Spoken;
use crate::connections::{Call, Denied, Short, said_by_programs};
use crate::request::refusal::Refusal;
use crate::request::route::Candidate;
use crate::tls::Offer;
use crate::upstreams::{Connection, LetGo, Opened};
use crate::worker::Worker;
use open::Goal;
use relay_io::{ConnectError, Interrupt, Origin, Stream, pause};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Addresses of an upstream that are tried for one attempt.
const DESTINATIONS_MAX: usize = 3;

/// Times that the workers are called for a place. The first time each gives up one idle connection. The second time, one has
/// become idle that was about to be when they heard of the first: its answer had been sent before this request came; and
/// they give up all, since others were quicker to take what the first call brought.
const CALLS_MAX: u32 = 2;

/// How often is looked whether they have heard, and how long: a worker looks at every tick of its wheel, unless it is held up.
const HEARD_STEP: Duration = Duration::from_millis(20);
const HEARD_STEPS_MAX: u32 = 50;

/// Which connections will do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// What may be spoken on it.
    pub(super) offer: Offer,
    /// Another one has just failed: none that was kept, and of the shared ones only those behind that of this number (0: it was
    /// not shared).
    pub(super) behind: Option<u64>,
}

/// A connection of this account from this address, and how long the provider took to take it. Where a cap is reached, idle
/// connections make room: those of this worker at once, those of the others when called for.
pub(super) async fn connect(
    worker: &'static Worker,
    client: &Stream,
    candidate: &Candidate,
    wanted: Wanted,
) -> Result<(Connection, Duration), Failure> {
    let outcome = pin!(connect_now(worker, client, candidate, wanted)).await;
    match outcome {
        Err(Failure::TenantConnectionsFull | Failure::AccountConnectionsFull) => {
            Box::pin(make_room(worker, client, candidate, wanted, outcome)).await
        }
        settled => settled,
    }
}

/// After a cap was reached.
async fn make_room(
    worker: &'static Worker,
    client: &Stream,
    candidate: &Candidate,
    wanted: Wanted,
    mut outcome: Result<(Connection, Duration), Failure>,
) -> Result<(Connection, Duration), Failure> {
    for calls in 0..=CALLS_MAX {
        let short = match outcome {
            Err(Failure::TenantConnectionsFull) => Short::Tenant(candidate.tenant),
            Err(Failure::AccountConnectionsFull) => Short::Account(candidate.slot.account),
            _ => break,
        };
        let places = match calls {
            1 => 1,
            _ => worker.policy.limits.pool_idle_max as u64,
        };
        let call = (calls > 0).then(|| worker.connections.shortages.call(short, places));
        match &call {
            Some(call) => wait_until_heard(worker, client, call).await?,
            None => match worker.idle.let_go(short) {
                LetGo::Done => {}
                LetGo::Ending(ending) => ending.ended().await,
                LetGo::Nothing => continue,
            },
        }
        outcome = connect_now(worker, client, candidate, wanted).await;
    }
    outcome
}

async fn wait_until_heard(worker: &Worker, client: &Stream, call: &Call) -> Result<(), Failure> {
    for _ in 0..HEARD_STEPS_MAX {
        if call.was_heard() {
            break;
        }
        pause(HEARD_STEP).await;
        check_wanted(worker, client)?;
    }
    Ok(())
}

/// Does anybody still wait for what is being done?
fn check_wanted(worker: &Worker, client: &Stream) -> Result<(), Failure> {
    if client.interrupted().is_some() {
        return Err(Failure::Client(Refusal::ClientGone));
    }
    if worker.is_ending() {
        return Err(Failure::Shutdown);
    }
    Ok(())
}

async fn connect_now(
    worker: &'static Worker,
    client: &Stream,
    candidate: &Candidate,
    wanted: Wanted,
) -> Result<(Connection, Duration), Failure> {
    let (account, source) = (candidate.slot.account, candidate.slot.source);
    let upstream = worker.policy.upstream(candidate.upstream);
    let expects_shared =
        wanted.offer == Offer::Configured && worker.idle.expects_shared(account, source, upstream);
    let began_at = expects_shared.then(Instant::now);
    if let Some(began_at) = began_at {
        let begun = Box::pin(share::connect(worker, client, candidate, wanted)).await?;
        if let Some(connection) = begun {
            return Ok((connection, began_at.elapsed()));
        }
    }
    let tenant = worker.connections.counted(candidate.tenant);
    let addresses = worker.addresses_of(candidate.upstream);
    if wanted.behind.is_none()
        && let Some(kept) = worker.idle.take(account, source, &addresses, tenant)?
    {
        return Ok((kept, Duration::ZERO));
    }
    let began_at = began_at.unwrap_or_else(Instant::now);
    let goal = Goal::of(candidate, tenant, wanted.offer);
    let connection = Box::pin(open_for_one(worker, client, &goal)).await?;
    Ok((connection, began_at.elapsed()))
}

async fn open_for_one(
    worker: &'static Worker,
    client: &Stream,
    goal: &Goal,
) -> Result<Connection, Failure> {
    match open::open(worker, client, goal).await? {
        (opened, Spoken::Http1) => Ok(own(worker, opened)),
        // It was left to the provider, which has changed its mind.
        (opened, Spoken::Http2) => share::adopt(worker, opened).await,
    }
}

/// A connection for one request at a time.
fn own(worker: &Worker, opened: Opened) -> Connection {
    let (age, chance) = (worker.policy.timeouts.pool_age, worker.random_fraction());
    Connection::new(opened, age, chance)
}

/// The upstream's addresses of the family of `source`, beginning with any of them (`chance` from 0 to 1), so that the load
/// is spread and one that is dead does not stop an account.
pub(crate) fn destinations(
    addresses: &[SocketAddr],
    source: IpAddr,
    chance: f64,
) -> impl Iterator<Item = SocketAddr> {
    let matches = |address: &&SocketAddr| address.is_ipv4() == source.is_ipv4();
    let usable: SmallVec<[SocketAddr; 4]> = addresses.iter().filter(matches).copied().collect();
    let count = usable.len();
    let start = (chance * count as f64) as usize;
    (0..count.min(DESTINATIONS_MAX)).map(move |offset| usable[(start + offset) % count])
}

/// What an error on the way to a connection means.
pub(crate) fn failed(error: &ConnectError, origin: &Origin) -> Failure {
    match error {
        ConnectError::SourceMissing => Failure::Egress,
        ConnectError::SourceDiffers => Failure::EgressMismatch,
        ConnectError::PortsExhausted => Failure::PortsShort,
        // A socket that the kernel's programs do not know is never connected: it could leave from anywhere.
        ConnectError::OptionRefused(error) if is_for_want_of_resources(error) => {
            Failure::OutOfResources
        }
        ConnectError::OptionRefused(error) => {
            said_by_programs(error).map_or(Failure::Egress, Failure::from)
        }
        ConnectError::Interrupted(Interrupt::Deadline) => Failure::ConnectTimeout,
        ConnectError::Interrupted(Interrupt::Shutdown) => Failure::Shutdown,
        ConnectError::Interrupted(_) => Failure::Client(Refusal::ClientGone),
        ConnectError::Socket(error) if is_for_want_of_resources(error) => Failure::OutOfResources,
        ConnectError::Socket(error) => match origin {
            Origin::Option { .. } => {
                said_by_programs(error).map_or(Failure::Connect, Failure::from)
            }
            Origin::Address(_) => Failure::Connect,
        },
    }
}

fn is_for_want_of_resources(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::TenantFull => Self::TenantConnectionsFull,
            Denied::AccountFull => Self::AccountConnectionsFull,
            Denied::PortsShort => Self::PortsShort,
            Denied::Refused => Self::Egress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_ebpf::abi::errno;
    use relay_io::SocketOption;
    use std::io;

    fn tagged() -> Origin {
        Origin::Option {
            option: SocketOption::new(1, 1, &[]),
            source: [127, 0, 0, 1].into(),
        }
    }

    #[test]
    fn what_the_kernels_programs_say_is_theirs_only_where_they_were_asked() {
        let tagged = tagged();
        let bound = Origin::Address([127, 0, 0, 1].into());
        let error = |number| ConnectError::Socket(io::Error::from_raw_os_error(number));
        for (number, kind) in [
            (errno::FULL, "tenant_connections_full"),
            (errno::ACCOUNT_FULL, "account_connections_full"),
            (errno::PORTS_SHORT, "ports_short"),
            (errno::REFUSED, "egress"),
            (errno::ADDRESS_MISSING, "egress"),
            (errno::FAMILY_MISSING, "egress"),
        ] {
            assert_eq!(failed(&error(number), &tagged).kind(), kind, "{number}");
            assert_eq!(failed(&error(number), &bound).kind(), "connect", "{number}");
        }
        assert_eq!(
            failed(&error(libc::ECONNREFUSED), &tagged).kind(),
            "connect"
        );
        assert_eq!(
            failed(&error(libc::EMFILE), &tagged).kind(),
            "out_of_resources"
        );
    }

    #[test]
    fn a_socket_whose_tag_is_refused_is_the_egress_failing() {
        let origin = tagged();
        let refused = |number| ConnectError::OptionRefused(io::Error::from_raw_os_error(number));
        for (number, kind) in [
            (libc::ENOPROTOOPT, "egress"),
            (libc::EPERM, "egress"),
            (libc::EINVAL, "egress"),
            (libc::ENOMEM, "out_of_resources"),
        ] {
            assert_eq!(failed(&refused(number), &origin).kind(), kind, "{number}");
        }
    }

    #[test]
    fn an_attempt_to_connect_that_takes_too_long_is_the_path_s() {
        let too_slow = ConnectError::Interrupted(Interrupt::Deadline);
        assert_eq!(failed(&too_slow, &tagged()).kind(), "connect_timeout");
        let shutdown = ConnectError::Interrupted(Interrupt::Shutdown);
        assert_eq!(failed(&shutdown, &tagged()).kind(), "shutdown");
    }

    #[test]
    fn a_connection_from_another_address_is_told_apart() {
        let failure = failed(&ConnectError::SourceDiffers, &tagged());
        assert_eq!(failure.kind(), "egress_mismatch");
    }

    #[test]
    fn every_address_of_the_right_family_has_its_turn() {
        let addresses: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let from = |source: &str, chance| -> Vec<String> {
            let found = destinations(&addresses, source.parse().unwrap(), chance);
            found.map(|address| address.to_string()).collect()
        };
        assert_eq!(from("127.0.0.1", 0.0), ["10.0.0.1:1", "10.0.0.2:1"]);
        assert_eq!(from("127.0.0.1", 0.99), ["10.0.0.2:1", "10.0.0.1:1"]);
        assert_eq!(from("::1", 0.5), ["[2001:db8::1]:1"]);
        assert!(
            destinations(&[], "::1".parse().unwrap(), 0.5)
                .next()
                .is_none()
        );
    }
}
