//! `setsockopt(2)` of our own level: whose a connection is.

use crate::choice;
use crate::context::{STREAM, destination, field, half};
use crate::count::{note, settings};
use crate::egress::take_tenant;
use crate::exact::{self, Place};
use crate::maps::{ACCOUNTS, SOURCES, TENANTS, TENANTS_INBOUND, WORKERS_INBOUND};
use crate::socket::{Socket, give, give_back_tenant};
use aya_ebpf::bindings::{bpf_sock, bpf_sockopt};
use aya_ebpf::helpers::bpf_set_retval;
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use core::mem::offset_of;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::option::{CLAIM, ENTER, LEAST_USED, LEVEL, ROUND_ROBIN, TAG, Tag, WORKER};
use relay_ebpf_abi::record::flag;
use relay_ebpf_abi::tcp::state;
use relay_ebpf_abi::{NOBODY, TENANTS_MAX, WORKERS_MAX, errno};

/// The kernel shows values up to a page, and refuses to go on with a longer one unless the program gives up seeing it.
const SHOWN_BYTES_MAX: i32 = 4_096;

#[cgroup_sockopt(setsockopt)]
fn relay_set_option(context: SockoptContext) -> i32 {
    let raw = context.sockopt;
    // SAFETY: the kernel's context is valid while the program runs.
    let call = unsafe { &*raw };
    let bytes = field!(call, bpf_sockopt, optlen) as i32;
    if field!(call, bpf_sockopt, level) as i32 != LEVEL {
        if bytes > SHOWN_BYTES_MAX {
            // SAFETY: the field may be written; zero leaves the value to the kernel as it is.
            unsafe { (&raw mut (*raw).optlen).write_volatile(0) };
        }
        return 1;
    }
    match set(call) {
        Ok(()) => {
            // SAFETY: the field may be written; -1 ends the call here, with success.
            unsafe { (&raw mut (*raw).optlen).write_volatile(-1) };
            1
        }
        Err(errno) => {
            // SAFETY: the helper takes a number.
            unsafe { bpf_set_retval(-errno) };
            0
        }
    }
}

#[inline(always)]
fn set(call: &bpf_sockopt) -> Result<(), i32> {
    // SAFETY: a pointer in either variant of the union.
    let socket = unsafe { call.__bindgen_anon_1.sk };
    // SAFETY: the kernel's own, or null.
    let Some(socket) = (unsafe { socket.as_ref() }) else {
        return Err(errno::INVALID);
    };
    if field!(socket, bpf_sock, type_) != STREAM {
        return Err(errno::INVALID);
    }
    match field!(call, bpf_sockopt, optname) as i32 {
        TAG => tag(socket, value::<Tag>(call)?),
        CLAIM => claim(socket, value::<u32>(call)?),
        WORKER => listen(socket, value::<u32>(call)?),
        ENTER => enter(socket, value::<u32>(call)?),
        _ => Err(errno::INVALID),
    }
}

/// The value of an option.
#[inline(always)]
fn value<T: Copy>(call: &bpf_sockopt) -> Result<T, i32> {
    // SAFETY: a pointer in either variant of the union.
    let begin = unsafe { call.__bindgen_anon_2.optval };
    // SAFETY: a pointer in either variant of the union.
    let end = unsafe { call.__bindgen_anon_3.optval_end };
    if field!(call, bpf_sockopt, optlen) != size_of::<T>() as u32 {
        return Err(errno::INVALID);
    }
    if begin.wrapping_byte_add(size_of::<T>()) > end {
        return Err(errno::INVALID);
    }
    // SAFETY: so many bytes are there, and any of them make a value of the plain types that options have.
    Ok(unsafe { begin.cast::<T>().read_unaligned() })
}

/// Its storage, made if there is none.
#[inline(always)]
fn known(socket: &bpf_sock) -> Result<&Socket, i32> {
    let socket = core::ptr::from_ref(socket).cast_mut();
    // SAFETY: the kernel's own.
    unsafe { Socket::find_or_make(socket.cast()) }.ok_or(errno::NO_MEMORY)
}

#[inline(always)]
fn tag(socket: &bpf_sock, tag: Tag) -> Result<(), i32> {
    if !is_valid(&tag) {
        note(Counter::TagRefused);
        return Err(errno::INVALID);
    }
    let state = known(socket)?;
    let flags = state.flags.load();
    if flags & flag::HOLDS_ACCOUNT != 0 {
        return retag(state, flags, &tag);
    }
    let is_open = field!(socket, bpf_sock, state) != state::CLOSE;
    if is_open || flags & (flag::LISTENER | flag::INBOUND) != 0 {
        note(Counter::TagRefused);
        return Err(errno::REFUSED);
    }
    state.tenant.set(tag.tenant);
    state.account.set(tag.account);
    state.address.set(tag.address);
    state.flags.set(flag::UPSTREAM);
    Ok(())
}

/// Moves an open connection to another tenant.
#[inline(always)]
fn retag(state: &Socket, flags: u64, tag: &Tag) -> Result<(), i32> {
    let any = tag.address == ROUND_ROBIN || tag.address == LEAST_USED;
    if tag.account != state.account.get() || !any && tag.address != state.address.get() {
        note(Counter::TagRefused);
        return Err(errno::REFUSED);
    }
    let before = state.tenant.get();
    if tag.tenant == before {
        return Ok(());
    }
    if tag.tenant != NOBODY {
        take_tenant(tag.tenant)?;
    }
    move_tenant(state, flags, before, tag.tenant);
    Ok(())
}

/// The place of the tenant `after` is taken already.
#[inline(always)]
fn move_tenant(state: &Socket, flags: u64, before: u32, after: u32) {
    if flags & flag::HOLDS_TENANT != 0 {
        give_back_tenant(flags, before);
    }
    state.tenant.set(after);
    if after == NOBODY {
        state.flags.clear(flag::HOLDS_TENANT);
    } else {
        state.flags.set(flag::HOLDS_TENANT);
    }
}

#[inline(always)]
fn is_valid(tag: &Tag) -> bool {
    let has_tenant = tag.tenant < TENANTS_MAX || tag.tenant == NOBODY;
    let has_address = match tag.address {
        ROUND_ROBIN | LEAST_USED => true,
        index => choice::entry(index).is_some(),
    };
    let has_account = ACCOUNTS
        .get(tag.account)
        .is_some_and(|account| account.ipv4_count | account.ipv6_count != 0);
    has_tenant && has_address && has_account
}

#[inline(always)]
fn claim(socket: &bpf_sock, tenant: u32) -> Result<(), i32> {
    let state = known(socket)?;
    let flags = state.flags.load();
    if flags & flag::INBOUND == 0 {
        return Err(errno::REFUSED);
    }
    // It has ended, and will be closed once user space sees that.
    if field!(socket, bpf_sock, state) == state::CLOSE {
        return Ok(());
    }
    let before = state.tenant.get();
    let holds = flags & flag::HOLDS_TENANT != 0;
    if tenant == before && (holds || tenant == NOBODY) {
        return Ok(());
    }
    if tenant != NOBODY {
        let (Some(limits), Some(live)) = (TENANTS.get(tenant), TENANTS_INBOUND.get(tenant)) else {
            return Err(errno::INVALID);
        };
        if !live.take(limits.connections_max) {
            note(Counter::ClaimRefused);
            return Err(errno::FULL);
        }
    }
    move_tenant(state, flags, before, tenant);
    Ok(())
}

#[inline(always)]
fn listen(socket: &bpf_sock, worker: u32) -> Result<(), i32> {
    if worker >= WORKERS_MAX {
        return Err(errno::INVALID);
    }
    let state = known(socket)?;
    if state.has(flag::UPSTREAM | flag::INBOUND) {
        return Err(errno::REFUSED);
    }
    state.worker.set(worker);
    state.tenant.set(NOBODY);
    state.flags.set(flag::LISTENER);
    Ok(())
}

#[inline(always)]
fn enter(socket: &bpf_sock, worker: u32) -> Result<(), i32> {
    if worker >= WORKERS_MAX {
        return Err(errno::INVALID);
    }
    let state = known(socket)?;
    if state.has(flag::UPSTREAM) || field!(socket, bpf_sock, state) == state::LISTEN {
        return Err(errno::REFUSED);
    }
    if !state.has(flag::INBOUND) {
        let port = half::<bpf_sock, { offset_of!(bpf_sock, dst_port) }>(socket);
        state.enter(destination(socket), u32::from(u16::from_be(port)));
    }
    // It has ended in the queue: its places are given back, and nobody will do so again before it is closed.
    if field!(socket, bpf_sock, state) == state::CLOSE {
        return Ok(());
    }
    take_worker(state, worker);
    take_source(state)
}

/// Counts the connection at this worker, and no more at the one that it came through.
#[inline(always)]
pub(crate) fn take_worker(state: &Socket, worker: u32) {
    let before = state.worker.get();
    let holds = state.has(flag::HOLDS_WORKER);
    if holds && before == worker {
        return;
    }
    if let Some(live) = WORKERS_INBOUND.get(worker) {
        live.add(1);
    }
    if holds {
        give(WORKERS_INBOUND.get(before));
    }
    state.worker.set(worker);
    state.flags.set(flag::HOLDS_WORKER);
}

#[inline(always)]
fn take_source(state: &Socket) -> Result<(), i32> {
    let places = settings().source_connections_max;
    if places == 0 || state.has(flag::HOLDS_SOURCE) {
        return Ok(());
    }
    match exact::take(&SOURCES, &state.peer.get(), places, 0) {
        Place::Taken => state.flags.set(flag::HOLDS_SOURCE),
        Place::Uncounted => note(Counter::Uncounted),
        Place::Full => {
            note(Counter::SourceRefused);
            return Err(errno::FULL);
        }
    }
    Ok(())
}
