//! What is known of one socket, and giving back the places that it holds.

use crate::count::Word;
use crate::exact;
use crate::maps::{
    ACCOUNTS_UPSTREAM, ADDRESSES_UPSTREAM, PATHS, SOCKETS, SOURCES, TENANTS_INBOUND,
    TENANTS_UPSTREAM, WORKERS_INBOUND,
};
use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::bpf_sk_storage_get;
use core::cell::Cell;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;
use relay_ebpf_abi::record::{PathKey, SocketState, flag};

/// A `SocketState` where it is stored. Fields besides `flags` change under the socket's lock.
#[repr(C)]
pub(crate) struct Socket {
    pub(crate) flags: Word,
    pub(crate) tenant: Cell<u32>,
    pub(crate) account: Cell<u32>,
    pub(crate) address: Cell<u32>,
    pub(crate) worker: Cell<u32>,
    pub(crate) peer: Cell<[u8; 16]>,
    pub(crate) peer_port: Cell<u32>,
    reserved: Cell<u32>,
    pub(crate) established_at_ns: Cell<u64>,
    pub(crate) cookie: Cell<u64>,
}

const _: () = assert!(size_of::<Socket>() == size_of::<SocketState>());
const _: () = assert!(offset_of!(Socket, flags) == offset_of!(SocketState, flags));
const _: () = assert!(offset_of!(Socket, tenant) == offset_of!(SocketState, tenant));
const _: () = assert!(offset_of!(Socket, account) == offset_of!(SocketState, account));
const _: () = assert!(offset_of!(Socket, address) == offset_of!(SocketState, address));
const _: () = assert!(offset_of!(Socket, worker) == offset_of!(SocketState, worker));
const _: () = assert!(offset_of!(Socket, peer) == offset_of!(SocketState, peer));
const _: () = assert!(offset_of!(Socket, peer_port) == offset_of!(SocketState, peer_port));
const _: () = assert!(offset_of!(Socket, reserved) == offset_of!(SocketState, reserved));
const _: () =
    assert!(offset_of!(Socket, established_at_ns) == offset_of!(SocketState, established_at_ns));
const _: () = assert!(offset_of!(Socket, cookie) == offset_of!(SocketState, cookie));

impl Socket {
    /// What is known of it.
    ///
    /// # Safety
    /// `socket` is one that the kernel gave to this run of the program, and not null.
    #[inline(always)]
    pub(crate) unsafe fn find<'a>(socket: *mut c_void) -> Option<&'a Self> {
        // SAFETY: the caller's promise; without the flag to create, no value is read.
        let state = unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), socket, ptr::null_mut(), 0) };
        // SAFETY: storage of a socket is valid while a program runs (RCU), as large as `SocketState` and aligned to eight.
        unsafe { state.cast::<Self>().as_ref() }
    }

    /// The same, zeroed if nothing was known. `None`: there is no memory for it.
    ///
    /// # Safety
    /// As for `find`.
    #[inline(always)]
    pub(crate) unsafe fn find_or_make<'a>(socket: *mut c_void) -> Option<&'a Self> {
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: the caller's promise; no value to begin with means zeroes.
        let state =
            unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), socket, ptr::null_mut(), create) };
        // SAFETY: as in `find`.
        unsafe { state.cast::<Self>().as_ref() }
    }

    /// Is any of these bits set?
    #[inline(always)]
    pub(crate) fn has(&self, bits: u64) -> bool {
        self.flags.load() & bits != 0
    }

    /// Egress address and destination.
    #[inline(always)]
    pub(crate) fn path(&self) -> PathKey {
        PathKey {
            address: self.address.get(),
            port: self.peer_port.get(),
            destination: self.peer.get(),
        }
    }

    /// Gives all places back that it holds and that nobody else has given back.
    #[inline(always)]
    pub(crate) fn give_back(&self) {
        let flags = self.flags.clear(flag::HOLDS_ANY);
        if flags & flag::HOLDS_ANY == 0 {
            return;
        }
        if flags & flag::HOLDS_TENANT != 0 {
            give_back_tenant(flags, self.tenant.get());
        }
        if flags & flag::HOLDS_ACCOUNT != 0 {
            give(ACCOUNTS_UPSTREAM.get(self.account.get()));
            give(ADDRESSES_UPSTREAM.get(self.address.get()));
        }
        if flags & flag::HOLDS_WORKER != 0 {
            give(WORKERS_INBOUND.get(self.worker.get()));
        }
        if flags & flag::HOLDS_PATH != 0 {
            exact::give_back(&PATHS, &self.path());
        }
        if flags & flag::HOLDS_SOURCE != 0 {
            exact::give_back(&SOURCES, &self.peer.get());
        }
    }
}

/// Gives a tenant's place back, on the side that the flags tell.
#[inline(always)]
pub(crate) fn give_back_tenant(flags: u64, tenant: u32) {
    if flags & flag::INBOUND != 0 {
        give(TENANTS_INBOUND.get(tenant));
    } else {
        give(TENANTS_UPSTREAM.get(tenant));
    }
}

#[inline(always)]
pub(crate) fn give(count: Option<&Word>) {
    if let Some(count) = count {
        count.give_back();
    }
}
