//! Errors that the programs give to `setsockopt(2)` and `connect(2)`, so that user space can tell them from the kernel's
//! own: none of these comes out of a TCP connect otherwise.

/// The connection has no tag, its source belongs to another account, or its destination is not allowed (EPERM).
pub const REFUSED: i32 = 1;

/// The tenant, or for `ENTER` the source address, has as many connections as it may have (EDQUOT).
pub const FULL: i32 = 122;

/// The account has as many connections as it may have (EUSERS).
pub const ACCOUNT_FULL: i32 = 87;

/// Hardly a port is left for this address and destination (ENOSPC).
pub const PORTS_SHORT: i32 = 28;

/// The account's address is not one of this host's (ENXIO).
pub const ADDRESS_MISSING: i32 = 6;

/// The account has no address of this family (EAFNOSUPPORT).
pub const FAMILY_MISSING: i32 = 97;

/// The option's value is not one (EINVAL).
pub const INVALID: i32 = 22;

/// The kernel has no memory for the state of this socket (ENOMEM).
pub const NO_MEMORY: i32 = 12;
