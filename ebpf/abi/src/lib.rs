//! What the kernel programs and user space both believe: socket options, records, and the shape of the maps.
//!
//! Everything here is laid out the same way on both sides; the sizes are asserted below, so that a change of one side alone
//! does not compile. A change that an older program could misread needs a new `ABI_VERSION`, which is a part of the path
//! under which maps and links are pinned.
//!
//! Addresses are 16 bytes in network order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2). Ports are in host order.

#![no_std]

pub mod counter;
pub mod errno;
pub mod map;
pub mod option;
pub mod record;
pub mod tcp;

/// Version of everything in this crate.
pub const ABI_VERSION: u32 = 1;

/// Stands for "no tenant": connections that the gateway opens for an account on its own behalf.
pub const NOBODY: u32 = u32::MAX;

/// Tenants that can be told apart; their numbers are below it. A power of two, so that a mask bounds an index.
pub const TENANTS_MAX: u32 = 65_536;

/// Accounts that can be told apart.
pub const ACCOUNTS_MAX: u32 = 16_384;

/// Egress addresses of all accounts together.
pub const ADDRESSES_MAX: u32 = 65_536;

/// Workers, which is the bound of the configuration as well.
pub const WORKERS_MAX: u32 = 256;

/// Listening addresses, each with one socket for every worker.
pub const LISTENERS_MAX: u32 = 64;

/// Source addresses with open connections that can be counted at one time.
pub const SOURCES_MAX: u32 = 262_144;

/// Pairs of egress address and destination with open connections that can be counted at one time.
pub const PATHS_MAX: u32 = 65_536;

/// Networks of all tenants together.
pub const NETWORKS_MAX: u32 = 65_536;

/// Destinations of control traffic.
pub const CONTROL_DESTINATIONS_MAX: u32 = 1_024;

/// Bytes of the ring through which connections are reported: some 2,000 of them.
pub const EVENTS_BYTES: u32 = 256 * 1024;

/// An address in the form that maps and records use.
pub const fn address_bytes(address: core::net::IpAddr) -> [u8; 16] {
    match address {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        core::net::IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address behind `address_bytes`.
pub const fn address_of(bytes: [u8; 16]) -> core::net::IpAddr {
    core::net::IpAddr::V6(core::net::Ipv6Addr::from_octets(bytes)).to_canonical()
}
