//! Reading what the kernel hands to a program.
//!
//! The kernel rewrites every access to a context, and to do so it must know the field from the instruction itself. Were the
//! loads left to the compiler, it would join neighbours, and compute one address for two branches.

use aya_ebpf::bindings::bpf_sock;
use core::arch::asm;

/// `SOCK_STREAM`.
pub(crate) const STREAM: u32 = 1;
/// `AF_INET`.
pub(crate) const AF_INET: u32 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u32 = 10;

/// A field of a context: `field!(context, its type, the field)`, or one of an array of words, `field!(…, the field, 2)`.
macro_rules! field {
    ($context:expr, $type:ident, $field:ident) => {
        field!($context, $type, $field, 0)
    };
    ($context:expr, $type:ident, $field:ident, $index:literal) => {
        $crate::context::word::<$type, { core::mem::offset_of!($type, $field) + 4 * $index }>(
            $context,
        )
    };
}

/// An IPv6 address in a context.
macro_rules! ipv6 {
    ($context:expr, $type:ident, $field:ident) => {
        $crate::context::bytes([
            field!($context, $type, $field, 0),
            field!($context, $type, $field, 1),
            field!($context, $type, $field, 2),
            field!($context, $type, $field, 3),
        ])
    };
}

pub(crate) use {field, ipv6};

macro_rules! loads {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $load:literal,)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name<T, const AT: usize>(context: &T) -> $type {
                const { assert!(AT + size_of::<$type>() <= size_of::<T>()) };
                let value: u64;
                // SAFETY: loads from within what the reference is to, and touches nothing else.
                unsafe {
                    asm!(
                        $load,
                        value = out(reg) value,
                        base = in(reg) context,
                        at = const AT,
                        options(nostack, preserves_flags, readonly),
                    );
                }
                value as $type
            }
        )*
    };
}

loads! {
    /// Two bytes of a context.
    half: u16 = "{value} = *(u16 *)({base} + {at})",
    /// Four bytes of a context.
    word: u32 = "{value} = *(u32 *)({base} + {at})",
    /// Eight bytes of a context.
    double: u64 = "{value} = *(u64 *)({base} + {at})",
}

/// An IPv4 address, as RFC 4291 section 2.5.5.2 maps it.
#[inline(always)]
pub(crate) fn mapped(ipv4: u32) -> [u8; 16] {
    bytes([0, 0, 0xffff_u32.to_be(), ipv4])
}

/// Four words in network order.
#[inline(always)]
pub(crate) fn bytes(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}

/// Is it an IPv4 address?
#[inline(always)]
pub(crate) fn is_mapped(address: &[u8; 16]) -> bool {
    address[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}

/// The address that a socket is bound to; all zero, or mapped zero, if it is to none.
#[inline(always)]
pub(crate) fn source(socket: &bpf_sock) -> [u8; 16] {
    if field!(socket, bpf_sock, family) == AF_INET {
        mapped(field!(socket, bpf_sock, src_ip4))
    } else {
        ipv6!(socket, bpf_sock, src_ip6)
    }
}

/// The address that a socket is connected to.
#[inline(always)]
pub(crate) fn destination(socket: &bpf_sock) -> [u8; 16] {
    if field!(socket, bpf_sock, family) == AF_INET {
        mapped(field!(socket, bpf_sock, dst_ip4))
    } else {
        ipv6!(socket, bpf_sock, dst_ip6)
    }
}
