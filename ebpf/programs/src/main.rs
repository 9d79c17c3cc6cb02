//! The kernel programs: egress, caps, steering, telemetry. See `relay_ebpf_abi` for what they share with user space.
//!
//! All of them but `list` and `steer` are attached to the gateway's own cgroup and see its sockets alone. What must not race
//! is kept apart by the kernel itself: `connect(2)`, `setsockopt(2)` and changes of a connection's state hold the socket's
//! lock. Only the release of a socket does not, so that every place in a count is given back by whoever clears its bit.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)] // atomic operations: the target declares none, although the processor has those of 64 bits
#![allow(unsafe_code)] // helpers and contexts of the kernel; every block says why it is sound

mod choice;
mod context;
mod count;
mod egress;
mod exact;
mod list;
mod maps;
mod option;
mod release;
mod socket;
mod steer;
mod telemetry;

use core::panic::PanicInfo;

/// `bpf_seq_write` may be called by programs under a license compatible with the GPL alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier admits no program that could get here.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
