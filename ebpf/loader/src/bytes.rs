//! Keys and values of maps as bytes.

use relay_ebpf_abi::record::{
    AccountSettings, AddressSettings, Event, ListenerKey, PathKey, Settings, SocketState,
    TenantSettings,
};

/// A key or a value: bytes to the kernel.
///
/// # Safety
/// It must have no padding, and any bytes must be one.
pub(crate) unsafe trait Bytes: Copy {
    /// Its bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: it has no padding, so that all of its bytes are initialized; and they are borrowed as long as it is.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// The first one in `bytes`, if they are enough.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: there are as many bytes, any of which are one; alignment is not asked for.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

macro_rules! bytes {
    ($($name:ty,)*) => {
        $(
            // SAFETY: integers and arrays of them, whose sizes add up to that of the whole.
            unsafe impl Bytes for $name {}
        )*
    };
}

bytes! {
    u32,
    u64,
    [u8; 16],
    Settings,
    TenantSettings,
    AccountSettings,
    AddressSettings,
    ListenerKey,
    PathKey,
    SocketState,
    Event,
    PrefixKey,
}

/// Key of an LPM trie over addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct PrefixKey {
    /// Bits of the prefix.
    pub(crate) bits: u32,
    /// The address, in the form that all maps use.
    pub(crate) address: [u8; 16],
}
