//! Proof that the programs are in force: a connect without a tag is refused, by them and by nobody else.

use crate::Missing;
use crate::live::Live;
use crate::option;
use crate::plan::Plan;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::option::{LEVEL, ROUND_ROBIN, TAG};
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

/// A port on which hardly anybody listens, should the connect go through ("tcpmux", RFC 1078).
const PORT: u16 = 1;

/// Destinations on this host that are not allowed without a tag, and whether tags can be tried.
#[derive(Debug)]
pub(crate) struct Canary {
    destinations: Vec<SocketAddr>,
    has_account: bool,
}

impl Canary {
    pub(crate) fn new(plan: &Plan) -> Self {
        let is_allowed = |address: IpAddr| {
            let mut control = plan.control_destinations.iter();
            control.any(|one| one.address.ip() == address)
        };
        let ipv4 = (1..=254)
            .rev()
            .map(|last| Ipv4Addr::new(127, 255, 255, last));
        let ipv4 = ipv4.map(IpAddr::V4).find(|address| !is_allowed(*address));
        // There is one loopback address in IPv6 (RFC 4291 section 2.5.3).
        let ipv6 = Some(IpAddr::V6(Ipv6Addr::LOCALHOST)).filter(|address| !is_allowed(*address));
        let destinations = ipv4.into_iter().chain(ipv6);
        Self {
            destinations: destinations
                .map(|address| SocketAddr::new(address, PORT))
                .collect(),
            has_account: !plan.accounts.is_empty(),
        }
    }

    /// Connects without a tag to each destination, and sets a tag.
    pub(crate) fn check(&self, live: &Live) -> Result<(), Missing> {
        self.destinations
            .iter()
            .try_for_each(|destination| check_connect(*destination, live))
            .and_then(|()| self.check_tag())
            .map_err(|detail| Missing {
                piece: "canary",
                detail,
            })
    }

    fn check_tag(&self) -> Result<(), String> {
        if !self.has_account {
            return Ok(());
        }
        let tag = Plan::tag(None, 0, ROUND_ROBIN).bytes();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
        socket
            .and_then(|socket| option::set(socket.as_fd(), LEVEL, TAG, &tag))
            .map_err(|error| {
                format!(
                    "the kernel does not take a tag: {error}; programs of another gateway in this cgroup would cause it \
                     (codex-relay kernel detach, with the configuration that pinned them)"
                )
            })
    }
}

fn check_connect(destination: SocketAddr, live: &Live) -> Result<(), String> {
    let connect = || {
        let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::from(destination))
    };
    let before = live.counter(Counter::UntaggedRefused);
    let said = match connect() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            if live.counter(Counter::UntaggedRefused) != before {
                live.uncount(Counter::UntaggedRefused);
                return Ok(());
            }
            "it was refused by somebody else".to_owned()
        }
        // This host has no IPv6 at all.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(()),
        Err(error) => format!("the kernel said: {error}"),
        Ok(()) => "it was connected".to_owned(),
    };
    Err(format!(
        "a connect to {destination} without a tag was not refused by our programs: {said}; \
         is this process still in its cgroup, and are the links in force (codex-relay kernel status)?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ControlDestination;

    #[test]
    fn the_canary_flies_where_nobody_may() {
        let control = |address: &str| ControlDestination {
            address: address.parse().expect("an address"),
        };
        let mut plan = Plan::default();
        let all = Canary::new(&plan).destinations;
        let expected = ["127.255.255.254:1", "[::1]:1"].map(|one| one.parse().expect("an address"));
        assert_eq!(all, expected);
        plan.control_destinations = vec![control("127.255.255.254:80"), control("[::1]:80")];
        let others = Canary::new(&plan).destinations;
        assert_eq!(others, ["127.255.255.253:1".parse().expect("an address")]);
    }
}
