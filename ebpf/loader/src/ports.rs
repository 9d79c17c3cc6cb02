//! Ports: how many there are for each path, and how many are in use.

use crate::Missing;
use crate::bpf::Update;
use crate::list::SocketList;
use crate::map::Map;
use crate::sock_diag::{self, Entry};
use relay_ebpf_abi::address_bytes;
use relay_ebpf_abi::record::PathKey;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// One port in so many is kept back: between two surveys, ports of ended connections go uncounted.
const RESERVE_SHARE: u32 = 32;

/// Where a port range cannot be read: the kernel's own default.
const RANGE_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Counts ports. May be sent to a thread of its own: the list of sockets can be long, and events do not wait for it.
pub struct Surveyor {
    pub(crate) addresses: Addresses,
    pub(crate) ports_max: u32,
    pub(crate) waiting: Map<PathKey, u64>,
    pub(crate) owners: Map<[u8; 16], u32>,
    pub(crate) sockets: Option<SocketList>,
    /// What the programs were told last.
    pub(crate) published: HashMap<PathKey, u64>,
}

/// The plan's addresses: index and account of each.
pub(crate) type Addresses = HashMap<IpAddr, (u32, u32)>;

/// Ports of one egress address to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPorts {
    /// The egress address.
    pub source: IpAddr,
    /// The account that it belongs to.
    pub account: u32,
    /// The destination.
    pub destination: SocketAddr,
    /// Ports of open connections.
    pub open: u32,
    /// Ports of connections that were closed, in TIME_WAIT or on the way there.
    pub waiting: u32,
    /// Ports that the kernel may use for it, less a reserve.
    pub ports_max: u32,
}

impl Surveyor {
    /// Ports in use of every path (egress address and destination), from the kernel's own list of sockets; publishes to the
    /// programs, which count only what is open, those that are not free yet after a connection has ended.
    ///
    /// # Errors
    /// The list could not be read.
    pub fn survey(&mut self) -> Result<Vec<PathPorts>, Missing> {
        let sockets = sock_diag::tcp_sockets().map_err(|error| Missing {
            piece: "sock_diag",
            detail: format!(
                "cannot list the TCP sockets: {error}; the kernel's modules inet_diag and tcp_diag are needed"
            ),
        })?;
        let paths = paths(&sockets, &self.addresses, self.ports_max);
        self.publish(&paths).map_err(|error| Missing {
            piece: "map",
            detail: format!("cannot publish the ports in TIME_WAIT: {error}"),
        })?;
        Ok(paths)
    }

    fn publish(&mut self, paths: &[PathPorts]) -> io::Result<()> {
        let key = |path: &PathPorts| {
            let (address, _) = self.addresses.get(&path.source)?;
            Some(PathKey {
                address: *address,
                port: u32::from(path.destination.port()),
                destination: address_bytes(path.destination.ip()),
            })
        };
        let waiting = paths.iter().filter(|path| path.waiting > 0);
        let waiting: HashMap<PathKey, u64> = waiting
            .filter_map(|path| Some((key(path)?, u64::from(path.waiting))))
            .collect();
        let mut kept = HashMap::new();
        for (path, ports) in &self.published {
            if waiting.contains_key(path) {
                kept.insert(*path, *ports);
            } else {
                self.waiting.remove(path)?;
            }
        }
        self.published = kept;
        for (path, ports) in waiting {
            if self.published.get(&path) == Some(&ports) {
                continue;
            }
            match self.waiting.set(&path, &ports, Update::Any) {
                // No room: of so many paths each has hardly a port in use.
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {}
                written => {
                    written?;
                    self.published.insert(path, ports);
                }
            }
        }
        Ok(())
    }

    /// Addresses of the plan that belong to another account by `IP_OWNER`, or that carry an open connection of another
    /// account. Must stay zero.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accounts_sharing_address(&self) -> Result<u64, Missing> {
        self.shared_addresses().map_err(|error| Missing {
            piece: "map",
            detail: format!("cannot read who owns which address: {error}"),
        })
    }

    fn shared_addresses(&self) -> io::Result<u64> {
        let mut shared: HashSet<u32> = HashSet::new();
        let mut accounts: HashMap<u32, u32> = HashMap::new();
        for (address, (index, account)) in &self.addresses {
            accounts.insert(*index, *account);
            if self.owners.get(&address_bytes(*address))? != Some(*account) {
                shared.insert(*index);
            }
        }
        let sockets = match &self.sockets {
            Some(list) => list.read()?,
            None => Vec::new(),
        };
        shared.extend(
            sockets
                .iter()
                .filter(|state| state.flags & relay_ebpf_abi::record::flag::HOLDS_ACCOUNT != 0)
                .filter(|state| accounts.get(&state.address) != Some(&state.account))
                .map(|state| state.address),
        );
        Ok(shared.len() as u64)
    }
}

/// What is in use from these addresses. Connections that were accepted there are none of ours: they have the port of a
/// listener.
fn paths(sockets: &[Entry], addresses: &Addresses, ports_max: u32) -> Vec<PathPorts> {
    let listening = sockets.iter().filter(|entry| entry.is_listening);
    let listening: HashSet<u16> = listening.map(|entry| entry.local.port()).collect();
    let mut paths: HashMap<(IpAddr, SocketAddr), PathPorts> = HashMap::new();
    for entry in sockets {
        let source = entry.local.ip();
        let Some((_, account)) = addresses.get(&source) else {
            continue;
        };
        if listening.contains(&entry.local.port()) {
            continue;
        }
        let path = paths.entry((source, entry.remote)).or_insert(PathPorts {
            source,
            account: *account,
            destination: entry.remote,
            open: 0,
            waiting: 0,
            ports_max,
        });
        if entry.is_open {
            path.open += 1;
        } else {
            path.waiting += 1;
        }
    }
    let mut paths: Vec<PathPorts> = paths.into_values().collect();
    paths.sort_by_key(|path| (path.source, path.destination));
    paths
}

/// Ports that one address may use for one destination, less a reserve.
pub(crate) fn ports_max() -> u32 {
    let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let range = range(&read("ip_local_port_range")).unwrap_or(RANGE_DEFAULT);
    let ports = ports_in(range, &read("ip_local_reserved_ports"));
    // At least one: a cap of 0 is none.
    (ports - ports / RESERVE_SHARE).max(1)
}

/// First and last port, with a tab between.
fn range(text: &str) -> Option<(u16, u16)> {
    let mut bounds = text.split_whitespace().map(str::parse);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (first <= last).then_some((first, last))
}

/// Ports of the range without those reserved: `8080,9000-9010`.
fn ports_in((first, last): (u16, u16), reserved: &str) -> u32 {
    let reserved = reserved.trim().split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        let (from, to) = (from.max(first), to.min(last));
        (from <= to).then(|| u32::from(to - from) + 1)
    });
    let all = u32::from(last - first) + 1;
    all.saturating_sub(reserved.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(local: &str, remote: &str) -> Entry {
        Entry {
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            is_listening: false,
            is_open: true,
        }
    }

    #[test]
    fn ports_of_the_range() {
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(range("9 3"), None);
        assert_eq!(range(""), None);
        assert_eq!(ports_in((32_768, 60_999), "\n"), 28_232);
        assert_eq!(ports_in((100, 199), "8080,90-109,150,198-300\n"), 100 - 13);
        assert_eq!(ports_in((100, 101), "1-65535"), 0);
    }

    #[test]
    fn ports_are_counted_by_path() {
        let own: IpAddr = "127.0.7.1".parse().expect("an address");
        let addresses = HashMap::from([(own, (5, 2))]);
        let waiting = Entry {
            is_open: false,
            ..entry("127.0.7.1:40001", "10.0.0.1:443")
        };
        let listener = Entry {
            is_listening: true,
            ..entry("127.0.7.1:8080", "0.0.0.0:0")
        };
        let sockets = [
            entry("127.0.7.1:40000", "10.0.0.1:443"),
            waiting,
            entry("127.0.7.1:40000", "10.0.0.2:443"),
            entry("127.0.7.2:40000", "10.0.0.1:443"),
            listener,
            entry("127.0.7.1:8080", "10.0.0.9:50000"),
        ];
        let path = |destination: &str, open, waiting| PathPorts {
            source: own,
            account: 2,
            destination: destination.parse().expect("an address"),
            open,
            waiting,
            ports_max: 7,
        };
        let expected = [path("10.0.0.1:443", 1, 1), path("10.0.0.2:443", 1, 0)];
        assert_eq!(paths(&sockets, &addresses, 7), expected);
    }
}
