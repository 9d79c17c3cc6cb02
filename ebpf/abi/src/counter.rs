//! Index of each total in `COUNTERS`.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// All of them, in the order of their index.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

counters! {
    /// A stream socket without a tag wanted to connect to a destination that is not allowed.
    UntaggedRefused = "untagged",
    /// The socket was bound to an address that is not one of its account's, or asked for one.
    ForeignAddressRefused = "foreign_address",
    /// An IPv4 destination through an IPv6 socket (`::ffff:…`).
    MappedRefused = "mapped_address",
    /// The address belongs to another account by `IP_OWNER`.
    OwnerConflictRefused = "owner_conflict",
    /// A tag that names nobody who exists, or that an open connection may not change to.
    TagRefused = "tag",
    /// The tenant had as many upstream connections as it may have.
    TenantFull = "tenant_full",
    /// The account had as many connections as it may have.
    AccountFull = "account_full",
    /// Too few ports were left for an address and a destination.
    PortsShort = "ports_short",
    /// The account's address was not one of this host's.
    AddressMissing = "address_missing",
    /// The tenant had as many client connections as it may have when it claimed another one.
    ClaimRefused = "claim",
    /// The source address had as many connections as it may have.
    SourceRefused = "source",
    /// Refused before the handshake, by the tenant of the source's network.
    SynRefusedTenant = "syn_tenant",
    /// Refused before the handshake, by the source address.
    SynRefusedSource = "syn_source",
    /// Given to the worker with the fewest connections.
    Steered = "steered",
    /// Given to another worker when the listener closed.
    Migrated = "migrated",
    /// Left to the kernel's own choice of a worker.
    SteeringFellBack = "steering_fell_back",
    /// Established from an address that is not one of its account's: must stay zero.
    EgressViolation = "egress_violation",
    /// Over a cap, but let through since nobody reconciles the counts.
    CapSuspended = "cap_suspended",
    /// A place could not be counted, since a map was full.
    Uncounted = "uncounted",
    /// The ring of events had no room.
    EventLost = "event_lost",
}

/// Entries of `COUNTERS`.
pub const COUNTERS_MAX: u32 = 64;

const _: () = assert!(Counter::ALL.len() <= COUNTERS_MAX as usize);
