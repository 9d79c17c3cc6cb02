//! Establishing the programs, and what a running gateway does with them.

use crate::bpf::Update;
use crate::canary::Canary;
use crate::cgroup::Cgroup;
use crate::events::Events;
use crate::link::{Links, Made, REQUIRED, SOCK_OPS};
use crate::list::SocketList;
use crate::live::Live;
use crate::map::Map;
use crate::object::Loaded;
use crate::pins::{Lock, Pins};
use crate::plan::Plan;
use crate::ports::{self, Addresses, Surveyor};
use crate::reconcile::Reconciler;
use crate::{Feature, Missing, Places, capability, link, option, publish};
use relay_ebpf_abi::map::{self, program};
use relay_ebpf_abi::option::{LEVEL, WORKER};
use relay_ebpf_abi::record::{Event, ListenerKey, PathKey};
use relay_ebpf_abi::{LISTENERS_MAX, WORKERS_MAX, address_bytes};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long the programs believe their counts after they were told to: they survive a gateway that is gone for a while, and
/// keep nobody out when it does not come back. The first time is when all is in force.
pub const LEASE_PERIOD: Duration = Duration::from_secs(30);

/// Comparisons at the beginning: the first finds what an earlier process has left, the second corrects it.
const COMPARISONS: usize = 2;

/// The programs, attached: in force as long as this lives, even if pins are removed. Dropping it closes descriptors and nothing
/// else: what is pinned stays in force.
pub struct Kernel {
    live: Live,
    links: Links,
    canary: Canary,
    addresses: Addresses,
    ports_max: u32,
    sources: Map<[u8; 16], u64>,
    paths: Map<PathKey, u64>,
    waiting: Map<PathKey, u64>,
    owners: Map<[u8; 16], u32>,
    listeners: Map<ListenerKey, u32>,
    listener_sockets: ListenerSockets,
    steer: Option<OwnedFd>,
    events: Option<Events>,
    sockets: Option<SocketList>,
    missing: Vec<(Feature, Missing)>,
    _lock: Lock,
}

/// The array of listening sockets; the kernel takes a descriptor for a value.
struct ListenerSockets(Map<u32, u32>);

impl Kernel {
    /// Enters the cgroup with the whole process, loads, attaches (or replaces what is pinned), writes the plan into the maps,
    /// corrects the counts, and proves with a canary that an untagged connect is refused.
    ///
    /// Must be called before any socket that it should govern is made. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and the
    /// right to write to the cgroup and the pins. All of these may be given up afterwards.
    ///
    /// # Errors
    /// The first piece without which neither the egress pin nor the caps can be had; the process is then back in the cgroup
    /// that it came from. Parts that are missing beyond that are told by `missing`.
    pub fn establish(places: &Places, plan: &Plan) -> Result<Self, Missing> {
        publish::check(plan)?;
        let cgroup = Cgroup::find_or_make(places.cgroup.as_deref())?;
        let entered = cgroup.enter()?;
        let pins = Pins::at(&places.pins);
        Self::establish_in(&cgroup, &pins, plan).map_err(|mut missing| {
            entered.leave(&mut missing);
            missing
        })
    }

    fn establish_in(cgroup: &Cgroup, pins: &Pins, plan: &Plan) -> Result<Self, Missing> {
        pins.make()?;
        let lock = pins.lock()?;
        // Held until the end: two versions at one cgroup would not know each other's tags.
        let others = pins.others()?;
        let _locks = others
            .iter()
            .map(Pins::lock)
            .collect::<Result<Vec<Lock>, _>>()?;
        // After the locks: of a gateway that uses the same pins they tell more.
        cgroup.check_alone()?;
        capability::check()?;
        let own: Vec<&Pins> = iter::once(pins).chain(&others).collect();
        link::check_no_others(cgroup, &own)?;
        let is_first = pins.links()?.is_empty();
        let mut made = Made::default();
        let established = Self::attach(cgroup, pins, plan, lock, &mut made)
            .and_then(|kernel| kernel.supersede(&others).map(|()| kernel));
        if established.is_err() {
            made.undo();
            if is_first {
                // Maps alone are of no use to anybody. What cannot be removed is used by the next one.
                let _ = pins.remove();
            }
        }
        established
    }

    fn attach(
        cgroup: &Cgroup,
        pins: &Pins,
        plan: &Plan,
        lock: Lock,
        made: &mut Made,
    ) -> Result<Self, Missing> {
        let mut loaded = Loaded::load(pins)?;
        let mut programs = Vec::new();
        for (name, attach_type) in REQUIRED {
            programs.push((name, attach_type, loaded.program(name)?));
        }
        let addresses = plan
            .addresses()
            .map(|one| (one.address, (one.number, one.account)))
            .collect();
        let mut kernel = Self {
            live: Live::map(pins)?,
            links: Links::of(cgroup),
            canary: Canary::new(plan),
            addresses,
            ports_max: ports::ports_max(),
            sources: Map::open_pinned(pins, map::SOURCES)?,
            paths: Map::open_pinned(pins, map::PATHS)?,
            waiting: Map::open_pinned(pins, map::PATHS_WAITING)?,
            owners: Map::open_pinned(pins, map::IP_OWNER)?,
            listeners: Map::open_pinned(pins, map::LISTENERS)?,
            listener_sockets: ListenerSockets(Map::open_pinned(pins, map::LISTENER_SOCKETS)?),
            steer: None,
            events: None,
            sockets: None,
            missing: Vec::new(),
            _lock: lock,
        };
        publish::publish(pins, plan, kernel.ports_max)?;
        for (name, attach_type, program) in &programs {
            let link = made.attach(pins, cgroup, (name, *attach_type), program.as_fd())?;
            kernel.links.hold(name, link);
        }
        kernel.attach_optional(cgroup, pins, &mut loaded, made);
        kernel.correct_counts(loaded.is_reopened)?;
        kernel.live.renew_lease(LEASE_PERIOD);
        Ok(kernel)
    }

    /// Takes away what other versions have left, now that these programs are in force; and proves that they are.
    fn supersede(&self, others: &[Pins]) -> Result<(), Missing> {
        let remove = |pins: &Pins| {
            pins.remove()?;
            pins.remove_directories()
        };
        others.iter().try_for_each(|pins| {
            remove(pins).map_err(|error| Missing {
                piece: "link",
                detail: format!("cannot remove {}: {error}", pins.path().display()),
            })
        })?;
        self.check_canary()
    }

    /// What may be missing by itself.
    fn attach_optional(
        &mut self,
        cgroup: &Cgroup,
        pins: &Pins,
        loaded: &mut Loaded,
        made: &mut Made,
    ) {
        let steer = loaded.program(program::STEER);
        self.steer = self.or_missing(Feature::Steering, steer);
        let (name, _) = SOCK_OPS;
        let attached = loaded
            .program(name)
            .and_then(|program| made.attach(pins, cgroup, SOCK_OPS, program.as_fd()));
        let attached = attached.map(|link| self.links.hold(name, link));
        let events = attached.and_then(|()| Events::open(loaded, &self.addresses));
        self.events = self.or_missing(Feature::Telemetry, events);
        let sockets = SocketList::make(loaded, pins);
        self.sockets = self.or_missing(Feature::Reconciliation, sockets);
    }

    fn or_missing<T>(&mut self, feature: Feature, result: Result<T, Missing>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(missing) => {
                self.missing.push((feature, missing));
                None
            }
        }
    }

    /// Counts from before: sockets of an earlier process are gone.
    fn correct_counts(&self, is_reopened: bool) -> Result<(), Missing> {
        if !is_reopened {
            return Ok(());
        }
        if let Some(mut reconciler) = self.reconciler() {
            for _ in 0..COMPARISONS {
                reconciler.compare()?;
            }
            return Ok(());
        }
        self.live.reset();
        let cleared = self.sources.hold_only(&[]);
        let cleared = cleared.and_then(|()| self.paths.hold_only(&[]));
        cleared.map_err(|error| Missing {
            piece: "map",
            detail: format!("cannot remove counts of an earlier process: {error}"),
        })
    }

    /// Parts that could not be had, and why.
    pub fn missing(&self) -> &[(Feature, Missing)] {
        &self.missing
    }

    /// Steers connections between the workers' sockets of one listening address (`sockets[worker]`), which must be listening
    /// already. Tells the programs which worker has which socket, whether they are steered or not.
    ///
    /// # Errors
    /// The kernel's; connections are then spread by its own hash.
    pub fn steer(
        &mut self,
        listener: usize,
        address: SocketAddr,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<(), Missing> {
        let cannot = |error: io::Error| Missing {
            piece: "steering",
            detail: format!("cannot steer connections to {address}: {error}"),
        };
        for (worker, socket) in (0_u32..).zip(sockets) {
            option::set(*socket, LEVEL, WORKER, &worker.to_ne_bytes()).map_err(cannot)?;
        }
        let Some(program) = &self.steer else {
            let of_steering = self
                .missing
                .iter()
                .find(|(feature, _)| *feature == Feature::Steering);
            let missing = of_steering.map(|(_, missing)| missing.clone());
            return Err(missing.unwrap_or_else(|| cannot(io::Error::other("no program"))));
        };
        let has_room = listener < LISTENERS_MAX as usize && sockets.len() <= WORKERS_MAX as usize;
        let (Some(first), true) = (sockets.first(), has_room) else {
            return Err(cannot(io::Error::other("no socket, or too many of them")));
        };
        let first_index = listener as u32 * WORKERS_MAX;
        for (worker, socket) in (0_u32..).zip(sockets) {
            self.listener_sockets
                .set(first_index + worker, *socket)
                .map_err(cannot)?;
        }
        let key = ListenerKey {
            address: address_bytes(address.ip()),
            port: u32::from(address.port()),
        };
        self.listeners
            .set(&key, &first_index, Update::Any)
            .map_err(cannot)?;
        option::attach_to_group(*first, program.as_fd()).map_err(cannot)
    }

    /// The live counts.
    pub fn live(&self) -> Live {
        self.live
    }

    /// A reconciler, unless `Feature::Reconciliation` is missing.
    pub fn reconciler(&self) -> Option<Reconciler> {
        let sockets = self.sockets.clone()?;
        let sources = self.sources.try_clone().ok()?;
        let paths = self.paths.try_clone().ok()?;
        Some(Reconciler::new(self.live, sources, paths, sockets))
    }

    /// Hands over the events that have come since the last call. The first ones can be those that an earlier process left
    /// unread, with nobody for a tenant.
    pub fn take_events(&mut self, each: impl FnMut(&Event)) {
        if let Some(events) = &mut self.events {
            events.take(each);
        }
    }

    /// Proves again that an untagged connect is refused, and that the programs that no such connect asks are attached too. What
    /// it makes the programs refuse is not left in the totals.
    ///
    /// # Errors
    /// It was not, or one is not.
    pub fn check_canary(&self) -> Result<(), Missing> {
        self.links.check()?;
        self.canary.check(&self.live)
    }

    /// A surveyor of ports; none if the process has no descriptors left for it.
    pub fn surveyor(&self) -> Option<Surveyor> {
        Some(Surveyor {
            addresses: self.addresses.clone(),
            ports_max: self.ports_max,
            waiting: self.waiting.try_clone().ok()?,
            owners: self.owners.try_clone().ok()?,
            sockets: self.sockets.clone(),
            published: self.waiting.entries().ok()?.into_iter().collect(),
        })
    }
}

impl ListenerSockets {
    fn set(&self, index: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        // A borrowed descriptor is never negative.
        self.0
            .set(&index, &(socket.as_raw_fd() as u32), Update::Any)
    }
}
