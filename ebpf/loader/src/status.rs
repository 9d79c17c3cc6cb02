//! What is in force, seen from outside of a running gateway.

use crate::bpf::{self, LinkInfo};
use crate::bytes::Bytes;
use crate::cgroup::Cgroup;
use crate::live::Live;
use crate::map::Map;
use crate::pins::Pins;
use crate::{Missing, Places};
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::map;
use relay_ebpf_abi::record::{AddressSettings, PathKey, count};
use relay_ebpf_abi::{ABI_VERSION, address_of};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What is pinned, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version of maps and programs that this build speaks; only its pins are looked at.
    pub abi_version: u32,
    /// The directory of the pins.
    pub pins: PathBuf,
    /// The gateway's cgroup, if it exists.
    pub cgroup: Option<PathBuf>,
    /// The process that uses the pins.
    pub held_by: Option<u32>,
    /// Links, by name of their program. Empty: nothing is attached.
    pub links: Vec<LinkStatus>,
    /// Time for which counts are still believed; caps are enforced as long.
    pub lease: Option<Duration>,
    /// Live counts that are not zero.
    pub live: Vec<LiveCount>,
    /// All totals.
    pub counters: Vec<(Counter, u64)>,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Name of its program.
    pub name: String,
    /// The kernel's number of the program.
    pub program_id: u32,
    /// Where it is attached.
    pub attached_to: AttachedTo,
}

/// Where a link is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedTo {
    /// The gateway's cgroup.
    Cgroup,
    /// Another one, by its number.
    OtherCgroup(u64),
    /// One that was removed since: it does nothing any more.
    Nothing,
}

/// A live count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCount {
    /// The map.
    pub map: &'static str,
    /// Which one: a number, an address, or an address with the destination.
    pub of: String,
    /// Connections.
    pub connections: u64,
}

/// What is in force. Needs the right to read the pins.
///
/// # Errors
/// The kernel's. That nothing is pinned is none.
pub fn status(places: &Places) -> Result<Status, Missing> {
    let pins = Pins::at(&places.pins);
    let links = links(&pins)?;
    let cgroup = gateway_group(places, &links)?;
    let group_id = cgroup.as_ref().map(Cgroup::id);
    let mut status = Status {
        abi_version: ABI_VERSION,
        pins: pins.path().to_owned(),
        cgroup: cgroup.as_ref().map(|group| group.path().to_owned()),
        held_by: pins.holder(),
        links: links
            .into_iter()
            .map(|(name, info)| link_status(name, info, group_id))
            .collect(),
        lease: None,
        live: Vec::new(),
        counters: Vec::new(),
    };
    if !pins.maps()?.is_empty() {
        let live = Live::map(&pins)?;
        status.lease = live.lease();
        let totals = Counter::ALL.iter();
        status.counters = totals.map(|one| (*one, live.counter(*one))).collect();
        status.live = live_counts(&pins, live)?;
    }
    Ok(status)
}

/// Names of the links, with what the kernel knows of them.
fn links(pins: &Pins) -> Result<Vec<(String, LinkInfo)>, Missing> {
    let names = pins.links()?.into_iter();
    let links = names.map(|name| {
        let path = pins.link(&name);
        let info = bpf::open_pinned(&path).and_then(|link| bpf::link_info(link.as_fd()));
        let info = info.map_err(|error| Missing {
            piece: "link",
            detail: format!("cannot look at {}: {error}", path.display()),
        })?;
        Ok((name, info))
    });
    links.collect()
}

/// The gateway's group. If it is not said which: the one that the links are attached to, since this process can be anywhere.
fn gateway_group(places: &Places, links: &[(String, LinkInfo)]) -> Result<Option<Cgroup>, Missing> {
    let mut attached = links.iter().map(|(_, info)| info.cgroup_id);
    match (&places.cgroup, attached.find(|id| *id != 0)) {
        (None, Some(id)) => Cgroup::find_by_id(id),
        (path, _) => Cgroup::find(path.as_deref()),
    }
}

fn link_status(name: String, info: LinkInfo, group_id: Option<u64>) -> LinkStatus {
    let attached_to = match info.cgroup_id {
        0 => AttachedTo::Nothing,
        id if group_id == Some(id) => AttachedTo::Cgroup,
        id => AttachedTo::OtherCgroup(id),
    };
    LinkStatus {
        name,
        program_id: info.program_id,
        attached_to,
    }
}

fn live_counts(pins: &Pins, live: Live) -> Result<Vec<LiveCount>, Missing> {
    let arrays = [
        (map::TENANTS_INBOUND, live.tenants_inbound),
        (map::TENANTS_UPSTREAM, live.tenants_upstream),
        (map::ACCOUNTS_UPSTREAM, live.accounts_upstream),
        (map::WORKERS_INBOUND, live.workers_inbound),
    ];
    let mut counts = Vec::new();
    for (map, words) in arrays {
        let numbered = (0_u32..).zip(words);
        let numbered = numbered.map(|(index, word)| (index.to_string(), word.load(Relaxed)));
        push_counts(&mut counts, map, numbered);
    }
    let addresses: Map<u32, AddressSettings> = Map::open_pinned(pins, map::ADDRESSES)?;
    let address = |index: u32| {
        let settings = addresses.get(&index).ok().flatten();
        let settings = settings.filter(|settings| settings.is_used != 0);
        settings.map_or_else(
            || index.to_string(),
            |settings| address_of(settings.address).to_string(),
        )
    };
    let used = (0_u32..).zip(live.addresses_upstream);
    let used = used.map(|(index, word)| (index, word.load(Relaxed)));
    let used = used.filter(|(_, live)| *live != 0);
    let used = used.map(|(index, live)| (address(index), live));
    push_counts(&mut counts, map::ADDRESSES_UPSTREAM, used);

    let sources: Map<[u8; 16], u64> = Map::open_pinned(pins, map::SOURCES)?;
    let sources = in_order(&sources, map::SOURCES, |key| address_of(key).to_string())?;
    push_counts(&mut counts, map::SOURCES, sources.into_iter());
    let paths: Map<PathKey, u64> = Map::open_pinned(pins, map::PATHS)?;
    let paths = in_order(&paths, map::PATHS, |key| {
        let destination = SocketAddr::new(address_of(key.destination), key.port as u16);
        format!("{} → {destination}", address(key.address))
    })?;
    push_counts(&mut counts, map::PATHS, paths.into_iter());
    Ok(counts)
}

/// The entries of a hash by their names.
fn in_order<K: Bytes>(
    map: &Map<K, u64>,
    name: &str,
    of: impl Fn(K) -> String,
) -> Result<Vec<(String, u64)>, Missing> {
    let entries = map.entries().map_err(|error| Missing {
        piece: "map",
        detail: format!("cannot read {name}: {error}"),
    })?;
    let live = |value| u64::from(count::live(value));
    let mut named: Vec<(String, u64)> = entries
        .into_iter()
        .map(|(key, value)| (of(key), live(value)))
        .collect();
    named.sort();
    Ok(named)
}

fn push_counts(
    counts: &mut Vec<LiveCount>,
    map: &'static str,
    named: impl Iterator<Item = (String, u64)>,
) {
    let live = named.filter(|(_, connections)| *connections != 0);
    counts.extend(live.map(|(of, connections)| LiveCount {
        map,
        of,
        connections,
    }));
}

/// Takes the programs away: removes all pins of this version. Returns what was removed.
///
/// # Errors
/// A gateway uses them, or the kernel's.
pub fn detach(places: &Places) -> Result<Vec<PathBuf>, Missing> {
    let pins = Pins::at(&places.pins);
    if !pins.exist()? {
        return Ok(Vec::new());
    }
    let _lock = pins.lock()?;
    let removed = pins.remove().and_then(|removed| {
        pins.remove_directories()?;
        Ok(removed)
    });
    removed.map_err(|error| Missing {
        piece: "bpffs",
        detail: format!(
            "cannot remove the pins in {}: {error}",
            pins.path().display()
        ),
    })
}
