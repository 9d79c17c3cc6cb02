//! One waiting room: who is in it, and in which order.

use crate::config::policy::TenantId;
use std::collections::{BTreeMap, VecDeque};

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) waiting_max: usize,
    pub(super) per_tenant_max: usize,
}

/// Virtual time: the places given to the tenant that has been given the most since the room filled.
type VirtualTime = u64;

/// Who waits, in order of virtual start, then of arrival.
#[derive(Default)]
pub(super) struct Room {
    line: BTreeMap<Position, Waiting>,
    tenants: BTreeMap<TenantId, Share>,
    /// The virtual start of the latest that was served.
    now: VirtualTime,
    next_number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    start: VirtualTime,
    number: u64,
}

struct Waiting {
    is_aside: bool,
}

/// What one tenant has in the room. Those of its requests that wait start one after the other from `next_start` on.
#[derive(Default)]
struct Share {
    next_start: VirtualTime,
    positions: VecDeque<Position>,
}

impl Room {
    pub(super) fn count(&self) -> usize {
        self.line.len()
    }

    /// The number of the new one.
    pub(super) fn enter(&mut self, tenant: TenantId, bounds: Bounds) -> Option<u64> {
        if self.line.len() >= bounds.waiting_max {
            return None;
        }
        let share = self.tenants.entry(tenant).or_default();
        if share.positions.len() >= bounds.per_tenant_max {
            return None;
        }
        if share.positions.is_empty() {
            // Time in which it did not wait is not saved up.
            share.next_start = share.next_start.max(self.now);
        }
        let position = Position {
            start: share.next_start + share.positions.len() as u64,
            number: self.next_number,
        };
        self.next_number += 1;
        share.positions.push_back(position);
        self.line.insert(position, Waiting { is_aside: false });
        Some(position.number)
    }

    /// Are fewer than `count` before it, apart from those that stepped aside? It does not stand aside itself any more.
    pub(super) fn is_among_first(&mut self, number: u64, count: usize) -> bool {
        let mut before = 0;
        for (position, waiting) in &mut self.line {
            if position.number == number {
                waiting.is_aside = false;
                return before < count;
            }
            before += usize::from(!waiting.is_aside);
        }
        false
    }

    pub(super) fn step_aside(&mut self, number: u64) {
        let found = self
            .line
            .iter_mut()
            .find(|(position, _)| position.number == number);
        if let Some((_, waiting)) = found {
            waiting.is_aside = true;
        }
    }

    /// It got a place: it costs its tenant one unit.
    pub(super) fn serve(&mut self, tenant: TenantId, number: u64) {
        self.remove(tenant, number, 1);
    }

    /// It left without: it costs nothing.
    pub(super) fn leave(&mut self, tenant: TenantId, number: u64) {
        self.remove(tenant, number, 0);
    }

    fn remove(&mut self, tenant: TenantId, number: u64, cost: VirtualTime) {
        let Some(share) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let Ok(index) = share
            .positions
            .binary_search_by_key(&number, |position| position.number)
        else {
            return;
        };
        if let Some(position) = share.positions.remove(index) {
            self.line.remove(&position);
            if cost > 0 {
                self.now = self.now.max(position.start);
            }
        }
        share.next_start += cost;
        // Those that start at another time now: the later ones if it cost nothing, the earlier ones if it overtook them.
        for (place, position) in share.positions.iter_mut().enumerate() {
            let start = share.next_start + place as u64;
            if position.start != start
                && let Some(waiting) = self.line.remove(position)
            {
                position.start = start;
                self.line.insert(*position, waiting);
            }
        }
        self.forget_tenants();
    }

    /// Keeps only those that wait, and those that have had more than the others.
    fn forget_tenants(&mut self) {
        if self.line.is_empty() {
            *self = Self {
                next_number: self.next_number,
                ..Self::default()
            };
        } else {
            let now = self.now;
            self.tenants
                .retain(|_, share| !share.positions.is_empty() || share.next_start > now);
        }
    }
}
