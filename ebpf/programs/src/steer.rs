//! Which worker accepts a connection: the one with the fewest. Refuses before the handshake whom a cap would turn away.

use crate::context::{field, mapped, source};
use crate::count::{is_lease_held, note, settings};
use crate::exact;
use crate::maps::{
    LISTENER_SOCKETS, LISTENERS, NETWORKS, SETTINGS, SOURCES, TENANTS, TENANTS_INBOUND,
    WORKERS_INBOUND,
};
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::bindings::{bpf_hdr_start_off::BPF_HDR_START_NET, bpf_sock, sk_reuseport_md};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::bpf_skb_load_bytes_relative;
use aya_ebpf::macros::sk_reuseport;
use aya_ebpf::programs::SkReuseportContext;
use core::ptr;
use relay_ebpf_abi::WORKERS_MAX;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::record::{ListenerKey, Settings};

/// Tries to give a connection to a worker: one whose socket has gone away since may have the fewest.
const ROUNDS: u32 = 4;
/// Where the TCP header has its flags (RFC 9293 section 3.1).
const FLAGS_AT: usize = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
/// Where the source stands in the header of IPv4 (RFC 791 section 3.1) and of IPv6 (RFC 8200 section 3).
const SOURCE4_AT: u32 = 12;
const SOURCE6_AT: u32 = 8;
const ADDRESS_BITS: u32 = 128;
const WORKER_MASK: u32 = WORKERS_MAX - 1;
const WORKER_BITS: u32 = WORKER_MASK.count_ones();
const _: () = assert!(WORKERS_MAX.is_power_of_two());
/// Above all ranks, of which differences must be signed numbers.
const NO_RANK: u64 = i64::MAX as u64;

#[sk_reuseport(migrate)]
fn relay_steer(context: SkReuseportContext) -> u32 {
    // SAFETY: the kernel's context is valid while the program runs.
    let call = unsafe { &*context.md };
    let settings = settings();
    let is_migration = context.migrating_sk().is_some();
    if !is_migration && is_syn(&context) && is_refused(call, &settings) {
        return SK_DROP;
    }
    match give(&context, call, is_migration) {
        Ok(()) if is_migration => note(Counter::Migrated),
        Ok(()) => note(Counter::Steered),
        // The kernel chooses by hash, among the sockets that listen.
        Err(()) => note(Counter::SteeringFellBack),
    }
    SK_PASS
}

#[inline(always)]
fn is_syn(context: &SkReuseportContext) -> bool {
    let begin = context.data() as *const u8;
    let end = context.data_end() as *const u8;
    if begin.wrapping_add(FLAGS_AT + 1) > end {
        return false;
    }
    // SAFETY: so many bytes are there.
    let flags = unsafe { begin.wrapping_add(FLAGS_AT).read_volatile() };
    flags & (SYN | ACK) == SYN
}

/// Is its source, or the tenant of its source's network, at its cap? What is refused here gets a reset. Exact is the count
/// that is taken later; this only spares the handshake.
#[inline(always)]
fn is_refused(call: &sk_reuseport_md, settings: &Settings) -> bool {
    let Some(source) = packet_source(call) else {
        return false;
    };
    if is_tenant_full(&source) && is_lease_held() {
        note(Counter::SynRefusedTenant);
        return true;
    }
    let places = settings.source_connections_max;
    if places != 0 && exact::live(&SOURCES, &source) >= places && is_lease_held() {
        note(Counter::SynRefusedSource);
        return true;
    }
    false
}

#[inline(always)]
fn is_tenant_full(source: &[u8; 16]) -> bool {
    let Some(tenant) = NETWORKS.get(&Key::new(ADDRESS_BITS, *source)).copied() else {
        return false;
    };
    let places = TENANTS
        .get(tenant)
        .map_or(0, |limits| limits.connections_max);
    let live = TENANTS_INBOUND.get(tenant).map_or(0, |live| live.load());
    places != 0 && live >= u64::from(places)
}

#[inline(always)]
fn packet_source(call: &sk_reuseport_md) -> Option<[u8; 16]> {
    match u32::from(u16::from_be(
        field!(call, sk_reuseport_md, eth_protocol) as u16
    )) {
        ETHERTYPE_IPV4 => load(call, SOURCE4_AT).map(|ipv4| mapped(u32::from_ne_bytes(ipv4))),
        ETHERTYPE_IPV6 => load(call, SOURCE6_AT),
        _ => None,
    }
}

#[inline(always)]
fn load<const BYTES: usize>(call: &sk_reuseport_md, at: u32) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    // SAFETY: the kernel's context, and room for as many bytes as are asked for.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ptr::from_ref(call).cast(),
            at,
            bytes.as_mut_ptr().cast(),
            BYTES as u32,
            BPF_HDR_START_NET,
        )
    };
    (result == 0).then_some(bytes)
}

/// Gives the connection to the worker with the fewest, among those that have a socket. Equal ones take turns by the hash.
///
/// When a listener closes, all are equal: what waits in its queue comes at once, and is counted at the new worker no sooner
/// than that has accepted it. The one with the fewest would get all of it.
#[inline(always)]
fn give(
    context: &SkReuseportContext,
    call: &sk_reuseport_md,
    is_migration: bool,
) -> Result<(), ()> {
    let weighed = if is_migration { 0 } else { u64::MAX };
    let first_socket = listener(context).ok_or(())?;
    let hash = field!(call, sk_reuseport_md, hash);
    let mut passed = 0;
    for _ in 0..ROUNDS {
        let workers = workers();
        let turn = hash.checked_rem(workers).ok_or(())?;
        let rank = least_rank(workers, turn, passed, weighed);
        if rank == NO_RANK {
            return Err(());
        }
        let socket = first_socket.wrapping_add(worker_of(rank, turn));
        if LISTENER_SOCKETS.select_reuseport(context, socket).is_ok() {
            return Ok(());
        }
        passed = rank;
    }
    Err(())
}

/// A worker's place in the order of connections, those before the turn after all others of as many: different for all of
/// them, and never 0.
#[inline(always)]
fn rank_of(worker: u32, turn: u32, live: u64) -> u64 {
    (live << WORKER_BITS | u64::from(worker.wrapping_sub(turn) & WORKER_MASK)) + 1
}

/// The worker of a rank.
#[inline(always)]
fn worker_of(rank: u64, turn: u32) -> u32 {
    (rank as u32).wrapping_sub(1).wrapping_add(turn) & WORKER_MASK
}

/// The least rank above `passed`, or `NO_RANK`. Of the counts, the bits in `weighed` matter.
#[inline(always)]
fn least_rank(workers: u32, turn: u32, passed: u64, weighed: u64) -> u64 {
    let mut least = NO_RANK;
    for worker in 0..WORKERS_MAX {
        if worker >= workers {
            break;
        }
        let live = WORKERS_INBOUND.get(worker).map_or(0, |live| live.load());
        let rank = rank_of(worker, turn, live & weighed);
        // Without a branch: the verifier would follow both sides of it, each with all workers that are left.
        let is_less = sign(rank.wrapping_sub(least)) & sign(passed.wrapping_sub(rank));
        least ^= (least ^ rank) & is_less;
    }
    least
}

/// All bits, if the difference of two ranks is negative.
#[inline(always)]
const fn sign(difference: u64) -> u64 {
    (difference as i64 >> 63) as u64
}

/// How many workers there are. Read anew by every round: of a number that leaves one loop and enters the next the verifier
/// would follow each value that it can have.
#[inline(always)]
fn workers() -> u32 {
    let Some(settings) = SETTINGS.get_ptr(0) else {
        return 0;
    };
    // SAFETY: an entry of an array is valid as long as the map; four aligned bytes are read at once.
    unsafe { (&raw const (*settings).workers).read_volatile() }
}

/// Where the sockets of the group begin.
#[inline(always)]
fn listener(context: &SkReuseportContext) -> Option<u32> {
    let socket = context.sk().sock;
    // SAFETY: the kernel's own, or null.
    let socket = unsafe { socket.as_ref() }?;
    // A listener that is being closed may have no port anymore; what it is to give away still has.
    let port = match context.migrating_sk() {
        // SAFETY: the kernel's own, and not null.
        Some(migrating) => field!(unsafe { &*migrating.sock }, bpf_sock, src_port),
        None => field!(socket, bpf_sock, src_port),
    };
    let key = ListenerKey {
        address: source(socket),
        port,
    };
    let first = LISTENERS.get_ptr(key)?;
    // SAFETY: an entry's memory stays one of this map while a program runs (RCU); four aligned bytes are read at once.
    Some(unsafe { first.read_volatile() })
}
