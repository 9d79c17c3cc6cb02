//! `POST /egress/check`: one connection for each account and address, and where it has really come from.

use super::connect::{self, Failure, Opened};
use crate::config::Policy;
use crate::config::policy::AccountId;
use crate::connections::{Connections, Denied, said_by_programs};
use crate::worker::mailbox::Mailbox;
use relay_ebpf::abi::errno;
use relay_io::{ConnectError, Origin};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connections that are opened at one time.
const AT_ONCE: usize = 16;

/// How long the far side may take to tell what it has seen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Longer than any address.
const ANSWER_BYTES_MAX: u64 = 128;

/// What is to be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// This account alone.
    pub account: Option<String>,
    /// A far side that tells which address it sees (`codex-relay egress echo`), instead of the provider.
    pub to: Option<SocketAddr>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The account.
    pub account: String,
    /// The address that was asked for.
    pub address: IpAddr,
    /// Where it went.
    pub destination: Option<SocketAddr>,
    /// Where it came from by this host.
    pub local: Option<SocketAddr>,
    /// Where it came from by the far side.
    pub seen: Option<String>,
    /// How long it took to open it.
    pub connect_us: Option<u64>,
    /// Why it failed, or did not come from the address.
    pub error: Option<String>,
}

/// Opens the connections.
///
/// # Errors
/// There is no such account.
pub async fn run(
    policy: Arc<Policy>,
    mailbox: &'static Mailbox,
    connections: &'static Connections,
    order: &Order,
) -> Result<Vec<Check>, String> {
    let is_wanted = |name: &str| order.account.as_deref().is_none_or(|wanted| wanted == name);
    let resolved = mailbox.addresses();
    let mut planned = Vec::new();
    for (index, account) in policy.accounts.iter().enumerate() {
        if !is_wanted(&account.name) {
            continue;
        }
        for &address in &account.egress {
            let all = &resolved[usize::from(account.upstream.0)];
            let matches = |one: &SocketAddr| one.is_ipv4() == address.is_ipv4();
            let destination = match order.to {
                Some(to) => Some(to).filter(matches),
                None => all.iter().copied().find(matches),
            };
            planned.push((AccountId(index as u16), address, destination));
        }
    }
    if planned.is_empty() {
        let wanted = order.account.as_deref().unwrap_or_default();
        return Err(format!("the configuration has no account `{wanted}`"));
    }
    let mut checks = Vec::with_capacity(planned.len());
    for some in planned.chunks(AT_ONCE) {
        let running: Vec<_> = some
            .iter()
            .map(|&(account, address, destination)| {
                let answers = order.to.is_some();
                let policy = policy.clone();
                let check = async move {
                    one(&policy, connections, account, address, destination, answers).await
                };
                tokio::spawn(check)
            })
            .collect();
        for check in running {
            checks.extend(check.await.ok());
        }
    }
    Ok(checks)
}

async fn one(
    policy: &Policy,
    connections: &'static Connections,
    account: AccountId,
    address: IpAddr,
    destination: Option<SocketAddr>,
    answers: bool,
) -> Check {
    let mut check = Check {
        account: policy.account(account).name.clone(),
        address,
        destination,
        local: None,
        seen: None,
        connect_us: None,
        error: None,
    };
    let outcome = match destination {
        Some(destination) => {
            let limit = policy.timeouts.upstream_connect;
            fill(
                &mut check,
                connections,
                account,
                destination,
                limit,
                answers,
            )
            .await
        }
        None => Err(format!(
            "the destination has no {} address",
            if address.is_ipv4() { "IPv4" } else { "IPv6" }
        )),
    };
    check.error = outcome.err();
    check
}

async fn fill(
    check: &mut Check,
    connections: &'static Connections,
    account: AccountId,
    destination: SocketAddr,
    limit: Duration,
    answers: bool,
) -> Result<(), String> {
    let began_at = Instant::now();
    let opened = connect::open(connections, account, check.address, destination, limit).await;
    if let Ok(Opened { local, .. }) | Err(Failure::Foreign(local)) = &opened {
        check.connect_us = Some(began_at.elapsed().as_micros() as u64);
        check.local = Some(*local);
    }
    let opened = opened.map_err(explain)?;
    if !answers {
        return Ok(());
    }
    let line = timeout(ANSWER_TIMEOUT, first_line(opened.stream)).await;
    check.seen = line
        .ok()
        .and_then(Result::ok)
        .filter(|line| !line.is_empty());
    judge_answer(check.address, check.seen.as_deref())
}

/// Has the far side seen the address?
fn judge_answer(address: IpAddr, seen: Option<&str>) -> Result<(), String> {
    match seen.map(seen_address) {
        Some(Some(seen)) if seen == address => Ok(()),
        Some(Some(seen)) => Err(format!(
            "the far side sees {seen}: are addresses translated on the way?"
        )),
        Some(None) => {
            Err("what the far side says is no address: is it `codex-relay egress echo`?".to_owned())
        }
        None => Err(
            "the far side does not say what it sees: is it `codex-relay egress echo`?".to_owned(),
        ),
    }
}

async fn first_line(stream: TcpStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    Ok(line.trim().to_owned())
}

fn seen_address(line: &str) -> Option<IpAddr> {
    let with_port = line.parse().map(|address: SocketAddr| address.ip());
    with_port.or_else(|_| line.parse()).ok()
}

fn denied(denied: Denied) -> String {
    let why = match denied {
        Denied::TenantFull => "the tenant has as many connections as it may have",
        Denied::AccountFull => "the account has as many connections as it may have",
        Denied::PortsShort => "hardly a port is left for this address and destination",
        Denied::Refused => "the kernel's programs have refused it: see `codex-relay kernel status`",
    };
    why.to_owned()
}

/// Whose fault it is, and what helps.
fn explain(failure: Failure) -> String {
    let (error, origin) = match failure {
        Failure::Denied(why) => return denied(why),
        Failure::Foreign(local) => return format!("it has left from {} instead", local.ip()),
        Failure::Failed { error, origin } => (error, origin),
    };
    match error {
        ConnectError::SourceMissing => "the address is not one of this host's".to_owned(),
        ConnectError::PortsExhausted => denied(Denied::PortsShort),
        ConnectError::Interrupted(_) => "the destination does not answer".to_owned(),
        ConnectError::SourceDiffers => "it has left from another address".to_owned(),
        ConnectError::OptionRefused(error) | ConnectError::Socket(error) => {
            explain_error(&error, &origin)
        }
    }
}

fn explain_error(error: &io::Error, origin: &Origin) -> String {
    let is_told = matches!(origin, Origin::Option { .. });
    match error.raw_os_error() {
        Some(errno::ADDRESS_MISSING) if is_told => {
            "the address is not one of this host's, or has no port left".to_owned()
        }
        Some(libc::ENOPROTOOPT) => {
            "the kernel's programs are gone: see `codex-relay kernel status`".to_owned()
        }
        _ => match said_by_programs(error).filter(|_| is_told) {
            Some(why) => denied(why),
            None => format!("the destination cannot be reached: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_io::SocketOption;

    #[test]
    fn what_a_far_side_says_is_an_address_with_or_without_a_port() {
        let address: IpAddr = "127.0.7.1".parse().unwrap();
        assert_eq!(seen_address("127.0.7.1:4711"), Some(address));
        assert_eq!(seen_address("127.0.7.1"), Some(address));
        assert_eq!(seen_address("[::1]:1"), "::1".parse().ok());
        assert_eq!(seen_address("HTTP/1.1 400 Bad Request"), None);
    }

    #[test]
    fn only_the_address_itself_will_do_for_an_answer() {
        let address: IpAddr = "127.0.7.1".parse().unwrap();
        assert_eq!(judge_answer(address, Some("127.0.7.1:4711")), Ok(()));
        let said = |seen| judge_answer(address, seen).unwrap_err();
        assert!(said(Some("127.0.7.2:4711")).contains("127.0.7.2"));
        assert!(said(Some("hello")).contains("no address"));
        assert!(said(None).contains("does not say"));
    }

    #[test]
    fn errors_name_who_is_to_blame() {
        let origin = Origin::Option {
            option: SocketOption::new(1, 1, &[]),
            source: [127, 0, 0, 1].into(),
        };
        let said = |code| explain_error(&io::Error::from_raw_os_error(code), &origin);
        assert!(said(errno::ACCOUNT_FULL).contains("account"));
        assert!(said(errno::ADDRESS_MISSING).contains("this host"));
        assert!(said(errno::REFUSED).contains("kernel"));
        assert!(said(libc::ENOPROTOOPT).contains("gone"));
        assert!(said(libc::ECONNREFUSED).contains("destination"));
    }
}
