//! Socket options of our own level, answered by the `cgroup/setsockopt` program. Outside of the gateway's cgroup, or with no
//! program attached, the kernel knows no such level and answers ENOPROTOOPT.

/// The level: "RELY".
pub const LEVEL: i32 = 0x5245_4c59;

/// On a connection to be opened, or one that is open: whose it is. Value: [`Tag`].
pub const TAG: i32 = 1;

/// On an accepted connection: the tenant that its key belongs to. Value: a tenant's number, or `NOBODY` to give the place
/// back. Native byte order.
pub const CLAIM: i32 = 2;

/// On a listener: the worker that accepts from it. Value: its number. Native byte order.
pub const WORKER: i32 = 3;

/// On an accepted connection, before anything else: the worker that serves it. Counts it against its source address.
/// Value: the worker's number. Native byte order.
pub const ENTER: i32 = 4;

/// `Tag::address`: the account's addresses in turn.
pub const ROUND_ROBIN: u32 = u32::MAX;

/// `Tag::address`: the account's address with the fewest connections.
pub const LEAST_USED: u32 = u32::MAX - 1;

/// Whose an upstream connection is.
///
/// Before `connect` it decides on caps and on the source address. On an open connection it moves the connection to another
/// tenant (or to `NOBODY`): account and address must stay what they are, anything else is `errno::REFUSED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tag {
    /// The tenant for which it is opened, or `NOBODY`.
    pub tenant: u32,
    /// The account.
    pub account: u32,
    /// Index of one of the account's addresses in the map `ADDRESSES`, `ROUND_ROBIN` or `LEAST_USED`.
    pub address: u32,
}

impl Tag {
    /// As `setsockopt(2)` wants it.
    pub const fn bytes(self) -> [u8; 12] {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (
            self.tenant.to_ne_bytes(),
            self.account.to_ne_bytes(),
            self.address.to_ne_bytes(),
        );
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

const _: () = assert!(size_of::<Tag>() == 12 && align_of::<Tag>() == 4);
