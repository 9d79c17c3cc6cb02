//! Names of the maps and of the programs in the object.
//!
//! | map | type | key → value | who writes |
//! | --- | --- | --- | --- |
//! | `SETTINGS` | array | 0 → `Settings` | loader |
//! | `TENANTS` | array | tenant → `TenantSettings` | loader |
//! | `ACCOUNTS` | array | account → `AccountSettings` | loader |
//! | `ADDRESSES` | array | address → `AddressSettings` | loader |
//! | `IP_OWNER` | hash | address bytes → account | loader |
//! | `NETWORKS` | LPM trie | prefix of address bytes → tenant | loader |
//! | `CONTROL` | LPM trie | prefix of address bytes → port; 0: any, also where several are allowed at an address | loader |
//! | `LISTENERS` | hash | `ListenerKey` → index of its first socket in `LISTENER_SOCKETS` | loader |
//! | `LISTENER_SOCKETS` | reuseport socket array | listener × `WORKERS_MAX` + worker | loader |
//! | `PATHS_WAITING` | hash | `PathKey` → ports in TIME_WAIT (u64) | loader |
//! | `LEASE` | array, mmap | 0 → `CLOCK_MONOTONIC` in ns until which somebody reconciles the counts | loader |
//! | `TENANTS_INBOUND` | array, mmap | tenant → live client connections (u64) | programs; corrections: loader |
//! | `TENANTS_UPSTREAM` | array, mmap | tenant → live upstream connections (u64) | the same |
//! | `ACCOUNTS_UPSTREAM` | array, mmap | account → live upstream connections (u64) | the same |
//! | `ADDRESSES_UPSTREAM` | array, mmap | address → live upstream connections (u64) | the same |
//! | `WORKERS_INBOUND` | array, mmap | worker → live client connections (u64) | the same |
//! | `COUNTERS` | array, mmap | `counter` → total (u64) | programs |
//! | `TURNS` | array | account → turns so far (u64) | programs |
//! | `SOURCES` | hash, not preallocated | address bytes → `count` | programs; corrections: loader |
//! | `PATHS` | hash, not preallocated | `PathKey` → `count` | the same |
//! | `SOCKETS` | socket storage, cloned to accepted sockets | socket → `SocketState` | programs |
//! | `EVENTS` | ring buffer | `Event` | programs |

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*
    };
}

names! {
    /// See the table.
    SETTINGS = "SETTINGS";
    /// See the table.
    TENANTS = "TENANTS";
    /// See the table.
    ACCOUNTS = "ACCOUNTS";
    /// See the table.
    ADDRESSES = "ADDRESSES";
    /// See the table.
    IP_OWNER = "IP_OWNER";
    /// See the table.
    NETWORKS = "NETWORKS";
    /// See the table.
    CONTROL = "CONTROL";
    /// See the table.
    LISTENERS = "LISTENERS";
    /// See the table.
    LISTENER_SOCKETS = "LISTENER_SOCKETS";
    /// See the table.
    PATHS_WAITING = "PATHS_WAITING";
    /// See the table.
    LEASE = "LEASE";
    /// See the table.
    TENANTS_INBOUND = "TENANTS_INBOUND";
    /// See the table.
    TENANTS_UPSTREAM = "TENANTS_UPSTREAM";
    /// See the table.
    ACCOUNTS_UPSTREAM = "ACCOUNTS_UPSTREAM";
    /// See the table.
    ADDRESSES_UPSTREAM = "ADDRESSES_UPSTREAM";
    /// See the table.
    WORKERS_INBOUND = "WORKERS_INBOUND";
    /// See the table.
    COUNTERS = "COUNTERS";
    /// See the table.
    TURNS = "TURNS";
    /// See the table.
    SOURCES = "SOURCES";
    /// See the table.
    PATHS = "PATHS";
    /// See the table.
    SOCKETS = "SOCKETS";
    /// See the table.
    EVENTS = "EVENTS";
}

/// Names of the programs.
pub mod program {
    names! {
        /// `cgroup/setsockopt`: the options of `option`.
        SET_OPTION = "relay_set_option";
        /// `cgroup/connect4`
        CONNECT4 = "relay_connect4";
        /// `cgroup/connect6`
        CONNECT6 = "relay_connect6";
        /// `cgroup/sock_release`: gives places back when a socket is closed.
        RELEASE = "relay_release";
        /// `sockops`: counts what was established, gives places back at the end of a connection, reports.
        SOCK_OPS = "relay_sock_ops";
        /// `sk_reuseport/migrate`: the worker with the fewest connections.
        STEER = "relay_steer";
        /// `iter/bpf_sk_storage_map`: writes the `SocketState` of every socket that has one.
        LIST = "relay_list";
    }
}
