//! A connection for an account from one of its addresses, opened by the control thread: for checks and for probes.

use crate::config::policy::AccountId;
use crate::connections::{Connections, Denied, UpstreamPlaces};
use relay_io::{ConnectError, Interrupt, Origin};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// An open connection, in its place among those of the account.
pub(in crate::control) struct Opened {
    /// The connection.
    pub(in crate::control) stream: TcpStream,
    /// Where it came from by this host: from the address that was asked for.
    pub(in crate::control) local: SocketAddr,
    /// Its place, for as long as it is open.
    pub(in crate::control) places: UpstreamPlaces,
}

/// Why there is none.
pub(in crate::control) enum Failure {
    /// A cap is reached, or the account may not use the address.
    Denied(Denied),
    /// It came about from here instead.
    Foreign(SocketAddr),
    /// Anything else, as on the path of a request.
    Failed {
        /// What has happened.
        error: ConnectError,
        /// Who decided on its address.
        origin: Origin,
    },
}

/// Opens one.
pub(in crate::control) async fn open(
    connections: &'static Connections,
    account: AccountId,
    address: IpAddr,
    destination: SocketAddr,
    limit: Duration,
) -> Result<Opened, Failure> {
    let (origin, places) = connections
        .begin_upstream(None, account, address)
        .map_err(Failure::Denied)?;
    let opened = timeout(limit, connect(&origin, destination)).await;
    let opened = opened.unwrap_or(Err(ConnectError::Interrupted(Interrupt::Deadline)));
    let with_local = |stream: TcpStream| match stream.local_addr() {
        Ok(local) => Ok((stream, local)),
        Err(error) => Err(ConnectError::Socket(error)),
    };
    match opened.and_then(with_local) {
        Ok((_, local)) if local.ip() != address => Err(Failure::Foreign(local)),
        Ok((stream, local)) => Ok(Opened {
            stream,
            local,
            places,
        }),
        Err(error) => Err(Failure::Failed { error, origin }),
    }
}

async fn connect(origin: &Origin, destination: SocketAddr) -> Result<TcpStream, ConnectError> {
    let socket = if destination.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(ConnectError::Socket)?;
    match origin {
        Origin::Address(address) => socket
            .bind(SocketAddr::new(*address, 0))
            .map_err(|error| unless_unavailable(error, ConnectError::SourceMissing))?,
        Origin::Option { option, .. } => option
            .set(socket.as_fd())
            .map_err(ConnectError::OptionRefused)?,
    }
    socket
        .connect(destination)
        .await
        .map_err(|error| unless_unavailable(error, ConnectError::PortsExhausted))
}

/// The kernel says the same of an address that is not there and of one that has no port left.
fn unless_unavailable(error: io::Error, unavailable: ConnectError) -> ConnectError {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => unavailable,
        _ => ConnectError::Socket(error),
    }
}
