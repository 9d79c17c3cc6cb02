//! The maps, by the names and shapes of `relay_ebpf_abi::map`.

use crate::count::Word;
use aya_ebpf::bindings::{
    BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, ReusePortSockArray, RingBuf};
use aya_ebpf::macros::btf_map;
use core::ffi::c_void;
use core::ptr;
use relay_ebpf_abi as abi;
use relay_ebpf_abi::record::{
    AccountSettings, AddressSettings, Event, ListenerKey, PathKey, Settings, SocketState,
    TenantSettings,
};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Memory for what is there, not for what could be.
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

const ACCOUNTS_MAX: usize = abi::ACCOUNTS_MAX as usize;
const ADDRESSES_MAX: usize = abi::ADDRESSES_MAX as usize;
const TENANTS_MAX: usize = abi::TENANTS_MAX as usize;
const WORKERS_MAX: usize = abi::WORKERS_MAX as usize;
const LISTENERS_MAX: usize = abi::LISTENERS_MAX as usize;
const NETWORKS_MAX: usize = abi::NETWORKS_MAX as usize;
const CONTROL_MAX: usize = abi::CONTROL_DESTINATIONS_MAX as usize;
const COUNTERS_MAX: usize = abi::counter::COUNTERS_MAX as usize;
const EVENTS_BYTES: usize = abi::EVENTS_BYTES as usize;

/// An array of counts that user space reads where they are.
pub(crate) type Counts<const ENTRIES: usize> = Array<Word, ENTRIES, MMAPABLE>;

/// Exact counts of what has no number.
pub(crate) type Sources = HashMap<[u8; 16], u64, { abi::SOURCES_MAX as usize }, NO_PREALLOC>;
/// The same for ports.
pub(crate) type Paths = HashMap<PathKey, u64, { abi::PATHS_MAX as usize }, NO_PREALLOC>;

#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
pub(crate) static TENANTS: Array<TenantSettings, TENANTS_MAX> = Array::new();
#[btf_map]
pub(crate) static ACCOUNTS: Array<AccountSettings, ACCOUNTS_MAX> = Array::new();
#[btf_map]
pub(crate) static ADDRESSES: Array<AddressSettings, ADDRESSES_MAX> = Array::new();
#[btf_map]
pub(crate) static IP_OWNER: HashMap<[u8; 16], u32, ADDRESSES_MAX, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static NETWORKS: LpmTrie<[u8; 16], u32, NETWORKS_MAX> = LpmTrie::new();
#[btf_map]
pub(crate) static CONTROL: LpmTrie<[u8; 16], u32, CONTROL_MAX> = LpmTrie::new();
#[btf_map]
pub(crate) static LISTENERS: HashMap<ListenerKey, u32, LISTENERS_MAX> = HashMap::new();
#[btf_map]
pub(crate) static LISTENER_SOCKETS: ReusePortSockArray<{ LISTENERS_MAX * WORKERS_MAX }> =
    ReusePortSockArray::new();
#[btf_map]
pub(crate) static PATHS_WAITING: HashMap<PathKey, u64, { abi::PATHS_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
#[btf_map]
pub(crate) static LEASE: Counts<1> = Array::new();
#[btf_map]
pub(crate) static TENANTS_INBOUND: Counts<TENANTS_MAX> = Array::new();
#[btf_map]
pub(crate) static TENANTS_UPSTREAM: Counts<TENANTS_MAX> = Array::new();
#[btf_map]
pub(crate) static ACCOUNTS_UPSTREAM: Counts<ACCOUNTS_MAX> = Array::new();
#[btf_map]
pub(crate) static ADDRESSES_UPSTREAM: Counts<ADDRESSES_MAX> = Array::new();
#[btf_map]
pub(crate) static WORKERS_INBOUND: Counts<WORKERS_MAX> = Array::new();
#[btf_map]
pub(crate) static COUNTERS: Counts<COUNTERS_MAX> = Array::new();
#[btf_map]
pub(crate) static TURNS: Array<Word, ACCOUNTS_MAX> = Array::new();
#[btf_map]
pub(crate) static SOURCES: Sources = HashMap::new();
#[btf_map]
pub(crate) static PATHS: Paths = HashMap::new();
#[btf_map]
pub(crate) static SOCKETS: ClonedSocketStorage = ClonedSocketStorage::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, EVENTS_BYTES> = RingBuf::new();

/// Socket storage whose values an accepted socket inherits from its listener. aya's own definition leaves BPF_F_CLONE out.
#[repr(C)]
pub(crate) struct ClonedSocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize | BPF_F_CLONE as usize],
}

// SAFETY: the fields carry a definition in their types; nothing is ever read or written through them.
unsafe impl Sync for ClonedSocketStorage {}

impl ClonedSocketStorage {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// What helpers take for the map.
    pub(crate) const fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}
