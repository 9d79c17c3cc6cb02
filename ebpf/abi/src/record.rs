//! Values of maps, and what the programs report.

/// Array `SETTINGS`, one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// `ABI_VERSION` of who wrote it.
    pub abi_version: u32,
    /// Connections of one source address at most; 0: no cap.
    pub source_connections_max: u32,
    /// Ports of one egress address to one destination that may be in use, those in TIME_WAIT included.
    pub ports_max: u32,
    /// Workers that accept.
    pub workers: u32,
}

/// Array `TENANTS`, by tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TenantSettings {
    /// Connections at most, on either side for itself; 0: no cap.
    pub connections_max: u32,
    /// Zero.
    pub reserved: u32,
}

/// Array `ACCOUNTS`, by account. Its addresses stand one after the other in `ADDRESSES`, each family for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AccountSettings {
    /// Connections to the provider at most; 0: no cap.
    pub connections_max: u32,
    /// Index of its first IPv4 address.
    pub ipv4_first: u32,
    /// Its IPv4 addresses.
    pub ipv4_count: u32,
    /// Index of its first IPv6 address.
    pub ipv6_first: u32,
    /// Its IPv6 addresses.
    pub ipv6_count: u32,
    /// Zero.
    pub reserved: u32,
}

/// Array `ADDRESSES`, by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressSettings {
    /// The address.
    pub address: [u8; 16],
    /// The account that it belongs to.
    pub account: u32,
    /// 1 if the entry is in use.
    pub is_used: u32,
}

/// Key of `LISTENERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ListenerKey {
    /// The address that is listened on, all zero (with `::ffff:` before it for IPv4) for any.
    pub address: [u8; 16],
    /// The port.
    pub port: u32,
}

/// Key of `PATHS` and `PATHS_WAITING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PathKey {
    /// Index of the egress address.
    pub address: u32,
    /// The destination's port.
    pub port: u32,
    /// The destination.
    pub destination: [u8; 16],
}

/// What is known of one socket: value of the socket storage `SOCKETS`, and what the iterator writes for each socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketState {
    /// Bits of `flag`; changed by atomic operations only.
    pub flags: u64,
    /// Upstream: for whom it was opened. Inbound: who claimed it. Or `NOBODY`.
    pub tenant: u32,
    /// Upstream: the account.
    pub account: u32,
    /// Upstream: index of the source address; before `connect`, what `Tag::address` asked for.
    pub address: u32,
    /// Inbound, and of a listener: the worker.
    pub worker: u32,
    /// Upstream: the destination. Inbound: the source.
    pub peer: [u8; 16],
    /// Upstream: the destination's port.
    pub peer_port: u32,
    /// Zero.
    pub reserved: u32,
    /// `CLOCK_MONOTONIC`, when it was established.
    pub established_at_ns: u64,
    /// `SO_COOKIE`, once it was established.
    pub cookie: u64,
}

/// Bits of `SocketState::flags`.
pub mod flag {
    /// A listener of a worker. Inherited by what is accepted from it, and cleared there.
    pub const LISTENER: u64 = 1 << 0;
    /// A connection to a provider, tagged.
    pub const UPSTREAM: u64 = 1 << 1;
    /// A connection of a client.
    pub const INBOUND: u64 = 1 << 2;
    /// `Event::OPENED` was reported.
    pub const ESTABLISHED: u64 = 1 << 3;
    /// Counted in the tenant's live connections, upstream or inbound.
    pub const HOLDS_TENANT: u64 = 1 << 8;
    /// Counted in the account's and in the address's live connections.
    pub const HOLDS_ACCOUNT: u64 = 1 << 9;
    /// Counted in `PATHS`.
    pub const HOLDS_PATH: u64 = 1 << 10;
    /// Counted in the worker's live connections.
    pub const HOLDS_WORKER: u64 = 1 << 11;
    /// Counted in `SOURCES`.
    pub const HOLDS_SOURCE: u64 = 1 << 12;
    /// All places that are to be given back.
    pub const HOLDS_ANY: u64 =
        HOLDS_TENANT | HOLDS_ACCOUNT | HOLDS_PATH | HOLDS_WORKER | HOLDS_SOURCE;
}

/// What the ring `EVENTS` carries: an upstream connection was established, or has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// `OPENED` or `CLOSED`.
    pub kind: u32,
    /// For whom it was opened, or `NOBODY`; of one that has ended: who used it last.
    pub tenant: u32,
    /// The account.
    pub account: u32,
    /// Index of the source address that it should have.
    pub address: u32,
    /// `SO_COOKIE`: the same for the opening and the end of one connection.
    pub cookie: u64,
    /// `CLOCK_MONOTONIC`, now.
    pub at_ns: u64,
    /// `CLOCK_MONOTONIC`, when it was established; 0 if it never was.
    pub established_at_ns: u64,
    /// The source address that it has.
    pub source: [u8; 16],
    /// The destination.
    pub destination: [u8; 16],
    /// The source's port.
    pub source_port: u32,
    /// The destination's port.
    pub destination_port: u32,
    /// Payload that the far side has acknowledged (`bytes_acked` of RFC 4898).
    pub bytes_sent: u64,
    /// Payload received.
    pub bytes_received: u64,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// 1 if the source address is not one of the account's: a violation.
    pub is_violation: u32,
    /// Zero.
    pub reserved: u32,
}

impl Event {
    /// It was established.
    pub const OPENED: u32 = 1;
    /// It has ended, or could not be established.
    pub const CLOSED: u32 = 2;
}

/// A count in `SOURCES` and `PATHS`: the number of connections in the low half, and in the high half a number that differs
/// between two entries of the same place in memory, so that an entry that was removed and made anew meanwhile is not mistaken
/// for the old one.
pub mod count {
    /// The low half of an entry that is about to be removed.
    pub const DEAD: u32 = u32::MAX;

    /// The number of connections.
    pub const fn live(value: u64) -> u32 {
        let low = (value & 0xffff_ffff) as u32;
        if low == DEAD { 0 } else { low }
    }

    /// Is the entry about to be removed?
    pub const fn is_dead(value: u64) -> bool {
        (value & 0xffff_ffff) as u32 == DEAD
    }

    /// A new entry with one connection; `mark` should differ from those of other entries.
    pub const fn first(mark: u32) -> u64 {
        (mark as u64) << 32 | 1
    }

    /// With one connection less; the entry of the last one is dead. `None`: there is none to give back.
    pub const fn given_back(value: u64) -> Option<u64> {
        match live(value) {
            0 => None,
            1 => Some(value | DEAD as u64),
            _ => Some(value - 1),
        }
    }
}

const _: () = assert!(size_of::<Settings>() == 16);
const _: () = assert!(size_of::<TenantSettings>() == 8);
const _: () = assert!(size_of::<AccountSettings>() == 24);
const _: () = assert!(size_of::<AddressSettings>() == 24);
const _: () = assert!(size_of::<ListenerKey>() == 20);
const _: () = assert!(size_of::<PathKey>() == 24);
const _: () = assert!(size_of::<SocketState>() == 64);
const _: () = assert!(size_of::<Event>() == 112);

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn a_count_goes_up_and_down_and_dies_with_the_last() {
        let one = count::first(7);
        assert_eq!(count::live(one), 1);
        let two = one + 1;
        assert_eq!(count::live(two), 2);
        assert_eq!(count::given_back(two), Some(one));
        let dead = count::given_back(one).unwrap();
        assert!(count::is_dead(dead));
        assert_eq!(dead >> 32, 7, "the mark stays");
        assert_eq!(count::live(dead), 0);
        assert_eq!(count::given_back(dead), None);
    }
}
