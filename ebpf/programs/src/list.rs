//! A list of all sockets of which something is known, for who compares them with the counts.

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::bpf_seq_write;
use core::ffi::c_void;
use relay_ebpf_abi::record::SocketState;

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    file: *mut seq_file,
    session: u64,
    number: u64,
}

/// `struct bpf_iter__bpf_sk_storage_map`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    map: *const c_void,
    socket: *const c_void,
    value: *const SocketState,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
fn relay_list(context: *const Context) -> i32 {
    // SAFETY: the kernel's context is valid while the program runs.
    let context = unsafe { &*context };
    if context.value.is_null() {
        return 0;
    }
    // SAFETY: the kernel's own.
    let file = unsafe { (*context.meta).file };
    let bytes = size_of::<SocketState>() as u32;
    // SAFETY: the kernel's file, and a value of the map, which has so many bytes. What does not fit is asked for again.
    unsafe { bpf_seq_write(file, context.value.cast(), bytes) };
    0
}
