//! How fast a peer sends, and with which buffer it is waited for.

use crate::lease::{Lease, Pool, TINY_LEASE_BYTES};

/// A peer that let us wait this long (half a second) is one that a buffer should not wait for.
const SLOW_TICKS: u64 = 10;

/// How fast a peer sends: what decides whether a read waits with a buffer, and with which.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    is_slow: bool,
    room: Room,
}

#[derive(Clone, Copy)]
enum Room {
    Tiny,
    Small,
    Large,
}

impl Pace {
    /// Of a connection that has not sent anything yet: many never do.
    pub(crate) const UNKNOWN: Self = Self {
        is_slow: true,
        room: Room::Small,
    };

    pub(crate) fn lease(self, pool: &Pool) -> Lease {
        match self.room {
            Room::Tiny if !self.is_slow => pool.tiny(),
            Room::Tiny | Room::Small => pool.small(),
            Room::Large => pool.large(),
        }
    }

    /// Should the next read wait without a buffer? After a slow one, since it may be slow again; and before a large one,
    /// since nothing that large may be kept waiting.
    pub(crate) fn waits_without_buffer(self) -> bool {
        self.is_slow || matches!(self.room, Room::Large)
    }

    /// Takes note of a read that waited for so many ticks of the wheel and left so much of its buffer.
    pub(crate) fn note(&mut self, waited_ticks: u64, filled_bytes: usize, spare_bytes: usize) {
        self.is_slow = waited_ticks >= SLOW_TICKS;
        self.room = match (self.room, spare_bytes) {
            (Room::Tiny, 0) => Room::Small,
            (Room::Small | Room::Large, 0) => Room::Large,
            _ if filled_bytes < TINY_LEASE_BYTES / 2 => Room::Tiny,
            _ => Room::Small,
        };
    }
}
