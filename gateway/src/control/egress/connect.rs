//! A connection for an account from one of its addresses, opened by the control thread: for checks and for probes.

use crate::config::policy::AccountId;
use crate::connections::{Connections, Denied, UpstreamPlaces};
use relay_io::Origin;
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
    _places: UpstreamPlaces,
}

/// Why there is none.
#[derive(Debug)]
pub(in crate::control) enum Failure {
    /// A cap is reached, or the account may not use the address.
    Denied(Denied),
    /// Nobody answered in time.
    NoAnswer,
    /// What the kernel, or one of its programs, has said.
    Socket(io::Error),
    /// It came about from here instead.
    Foreign(SocketAddr),
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
    let stream = timeout(limit, connect(&origin, destination))
        .await
        .map_err(|_| Failure::NoAnswer)?
        .map_err(Failure::Socket)?;
    let local = stream.local_addr().map_err(Failure::Socket)?;
    if local.ip() != address {
        return Err(Failure::Foreign(local));
    }
    Ok(Opened {
        stream,
        local,
        _places: places,
    })
}

async fn connect(origin: &Origin, destination: SocketAddr) -> io::Result<TcpStream> {
    let socket = if destination.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    match origin {
        Origin::Address(address) => socket.bind(SocketAddr::new(*address, 0))?,
        Origin::Option { option, .. } => option.set(socket.as_fd())?,
    }
    socket.connect(destination).await
}
