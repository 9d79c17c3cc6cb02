//! `connect(2)`: a connection to a provider leaves from one of its account's addresses, within the caps, or not at all.

use crate::choice::{self, Chosen};
use crate::context::{AF_INET, AF_INET6, STREAM, field, ipv6, is_mapped, mapped, source};
use crate::count::{note, settings};
use crate::exact::{self, Place};
use crate::maps::{
    ACCOUNTS, ACCOUNTS_UPSTREAM, ADDRESSES_UPSTREAM, CONTROL, PATHS, PATHS_WAITING, TENANTS,
    TENANTS_UPSTREAM,
};
use crate::socket::Socket;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::{bpf_bind, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use core::ptr;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::record::{PathKey, flag};
use relay_ebpf_abi::{NOBODY, errno};

const EADDRNOTAVAIL: i64 = 99;
const ADDRESS_BITS: u32 = 128;

#[cgroup_sock_addr(connect4)]
fn relay_connect4(context: SockAddrContext) -> i32 {
    // SAFETY: the kernel's context is valid while the program runs.
    let call = unsafe { &*context.sock_addr };
    verdict(connect(
        call,
        mapped(field!(call, bpf_sock_addr, user_ip4)),
        false,
    ))
}

#[cgroup_sock_addr(connect6)]
fn relay_connect6(context: SockAddrContext) -> i32 {
    // SAFETY: the kernel's context is valid while the program runs.
    let call = unsafe { &*context.sock_addr };
    verdict(connect(call, ipv6!(call, bpf_sock_addr, user_ip6), true))
}

#[inline(always)]
fn verdict(result: Result<(), i32>) -> i32 {
    match result {
        Ok(()) => 1,
        Err(errno) => {
            // SAFETY: the helper takes a number.
            unsafe { bpf_set_retval(-errno) };
            0
        }
    }
}

#[inline(always)]
fn connect(call: &bpf_sock_addr, destination: [u8; 16], is_ipv6: bool) -> Result<(), i32> {
    // Name resolution goes by datagrams; nobody's account is seen in them.
    if field!(call, bpf_sock_addr, type_) != STREAM {
        return Ok(());
    }
    if is_ipv6 && is_mapped(&destination) {
        // The kernel would go on by IPv4 without asking `connect4`.
        note(Counter::MappedRefused);
        return Err(errno::REFUSED);
    }
    let port = u32::from(u16::from_be(field!(call, bpf_sock_addr, user_port) as u16));
    // SAFETY: a pointer in either variant of the union.
    let socket = unsafe { call.__bindgen_anon_1.sk };
    if socket.is_null() {
        return Err(errno::REFUSED);
    }
    // SAFETY: the kernel's own, and not null.
    let state = unsafe { Socket::find(socket.cast()) }.filter(|state| state.has(flag::UPSTREAM));
    let Some(state) = state else {
        return untagged(destination, port);
    };
    // The socket is in no state between: `connect` asks only where there is no connection. What it still holds is left of
    // an attempt that ended before the kernel would tell of its end.
    state.give_back();
    // SAFETY: the kernel's own, and not null.
    let bound = source(unsafe { &*socket });
    let bound = Some(&bound).filter(|bound| !is_unspecified(bound));
    let wanted = state.address.get();
    let chosen = choice::choose(state.account.get(), wanted, is_ipv6, bound)?;
    state.address.set(chosen.index);
    state.peer.set(destination);
    state.peer_port.set(port);
    let result = take_places(state).and_then(|()| match bound {
        Some(_) => Ok(()),
        None => bind(call, &chosen, is_ipv6),
    });
    if result.is_err() {
        state.give_back();
        state.address.set(wanted);
    }
    result
}

/// A connection of the gateway itself: to where it was told, and nowhere else.
#[inline(always)]
fn untagged(destination: [u8; 16], port: u32) -> Result<(), i32> {
    let allowed = CONTROL.get(&Key::new(ADDRESS_BITS, destination));
    if allowed.is_some_and(|allowed| *allowed == 0 || *allowed == port) {
        return Ok(());
    }
    note(Counter::UntaggedRefused);
    Err(errno::REFUSED)
}

/// Tenant, account and ports, in this order. What was taken before a refusal stays noted in the flags.
#[inline(always)]
fn take_places(state: &Socket) -> Result<(), i32> {
    let tenant = state.tenant.get();
    if tenant != NOBODY {
        take_tenant(tenant)?;
        state.flags.set(flag::HOLDS_TENANT);
    }
    let account = state.account.get();
    let (Some(limits), Some(live)) = (ACCOUNTS.get(account), ACCOUNTS_UPSTREAM.get(account)) else {
        return Err(errno::INVALID);
    };
    if !live.take(limits.connections_max) {
        note(Counter::AccountFull);
        return Err(errno::ACCOUNT_FULL);
    }
    if let Some(live) = ADDRESSES_UPSTREAM.get(state.address.get()) {
        live.add(1);
    }
    state.flags.set(flag::HOLDS_ACCOUNT);
    let path = state.path();
    match exact::take(&PATHS, &path, settings().ports_max, waiting(&path)) {
        Place::Taken => state.flags.set(flag::HOLDS_PATH),
        Place::Uncounted => note(Counter::Uncounted),
        Place::Full => {
            note(Counter::PortsShort);
            return Err(errno::PORTS_SHORT);
        }
    }
    Ok(())
}

/// Takes one of a tenant's upstream places.
#[inline(always)]
pub(crate) fn take_tenant(tenant: u32) -> Result<(), i32> {
    let (Some(limits), Some(live)) = (TENANTS.get(tenant), TENANTS_UPSTREAM.get(tenant)) else {
        return Err(errno::INVALID);
    };
    if !live.take(limits.connections_max) {
        note(Counter::TenantFull);
        return Err(errno::FULL);
    }
    Ok(())
}

/// Ports in TIME_WAIT, as of the last survey.
#[inline(always)]
fn waiting(path: &PathKey) -> u64 {
    match PATHS_WAITING.get_ptr(path) {
        // SAFETY: an entry's memory stays one of this map while a program runs (RCU); eight aligned bytes are read at once.
        Some(ports) => unsafe { ports.read_volatile() },
        None => 0,
    }
}

#[inline(always)]
fn is_unspecified(address: &[u8; 16]) -> bool {
    *address == [0; 16] || *address == mapped(0)
}

/// `struct sockaddr_in`.
#[repr(C)]
struct SocketAddress4 {
    family: u16,
    port: u16,
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_in6`.
#[repr(C)]
struct SocketAddress6 {
    family: u16,
    port: u16,
    flow: u32,
    address: [u8; 16],
    scope: u32,
}

/// Binds to the address, and to no port: the kernel chooses one that is free for this destination, so that an address has
/// its ports once for every destination.
#[inline(always)]
fn bind(call: &bpf_sock_addr, chosen: &Chosen, is_ipv6: bool) -> Result<(), i32> {
    let call = ptr::from_ref(call).cast_mut();
    let result = if is_ipv6 {
        let mut address = SocketAddress6 {
            family: AF_INET6 as u16,
            port: 0,
            flow: 0,
            address: chosen.address,
            scope: 0,
        };
        let bytes = size_of_val(&address) as i32;
        // SAFETY: the kernel's context, and an address of the length that is said.
        unsafe { bpf_bind(call, ptr::from_mut(&mut address).cast(), bytes) }
    } else {
        let [.., a, b, c, d] = chosen.address;
        let mut address = SocketAddress4 {
            family: AF_INET as u16,
            port: 0,
            address: [a, b, c, d],
            zero: [0; 8],
        };
        let bytes = size_of_val(&address) as i32;
        // SAFETY: the kernel's context, and an address of the length that is said.
        unsafe { bpf_bind(call, ptr::from_mut(&mut address).cast(), bytes) }
    };
    if result == 0 {
        return Ok(());
    }
    if result == -EADDRNOTAVAIL {
        note(Counter::AddressMissing);
        return Err(errno::ADDRESS_MISSING);
    }
    // Bound by user space, to a port without an address.
    note(Counter::ForeignAddressRefused);
    Err(errno::REFUSED)
}
