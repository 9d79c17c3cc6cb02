//! One waiting room: who is in it, in which order they are served, and who goes when it is full.
//!
//! Places are shared max-min: the next one goes to the tenant with the fewest requests in flight at the upstream. Those that have
//! as many as each other take turns by start-time fair queueing: what a tenant is given costs it one unit of virtual time, and who
//! has had the least comes first.

use crate::config::policy::TenantId;
use std::collections::{BTreeMap, VecDeque};

#[cfg(test)]
mod tests;

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) waiting_max: usize,
    pub(super) per_tenant_max: usize,
}

/// Why there is no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// All places are taken by others with no greater right to them, or those of the tenant are.
    Full,
    /// Its tenant has more than others that wait.
    AboveShare,
}

/// Where a request that waits stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Among the first so many.
    First,
    /// Behind them.
    Behind,
    /// It had to leave the room for one of a tenant with less.
    Displaced,
}

/// How many requests a tenant has in flight at the upstream.
pub(super) type Held<'h> = &'h dyn Fn(TenantId) -> u64;

/// Virtual time of start-time fair queueing, in places: one that is given to a tenant moves the start of its next request on by one.
type VirtualTime = u64;

/// Who waits.
#[derive(Default)]
pub(super) struct Room {
    tenants: BTreeMap<TenantId, Share>,
    /// The latest virtual start of one that was served. Nobody starts before it: time in which a tenant did not wait, or had more
    /// than others, is not saved up.
    now: VirtualTime,
    count: usize,
    /// So many of them stand aside.
    aside: usize,
    next_number: u64,
}

/// What one tenant has in the room, in order of arrival.
#[derive(Default)]
struct Share {
    next_start: VirtualTime,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    is_aside: bool,
}

/// Who comes first: the fewest in flight at its turn, then the earliest virtual start, then the earliest arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    level: u64,
    start: VirtualTime,
    number: u64,
}

impl Share {
    /// Each with its position; `before` counts those of the tenant that come before it and take any place.
    fn positions(&self, held: u64, now: VirtualTime) -> impl Iterator<Item = (Position, &Waiting)> {
        let first_start = self.next_start.max(now);
        let mut before = 0;
        self.waiting.iter().map(move |waiting| {
            let position = Position {
                level: held + before,
                start: first_start + before,
                number: waiting.number,
            };
            before += u64::from(!waiting.is_aside);
            (position, waiting)
        })
    }

    fn index(&self, number: u64) -> Option<usize> {
        let found = self
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number);
        found.ok()
    }
}

impl Room {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Those that do not stand aside.
    pub(super) fn in_line(&self) -> usize {
        self.count - self.aside
    }

    /// The number of the new one. Where all places are taken, the latest request of the tenant that has most makes room for one of a
    /// tenant that still has less with it.
    pub(super) fn enter(
        &mut self,
        tenant: TenantId,
        bounds: Bounds,
        held: Held<'_>,
    ) -> Result<u64, NoRoom> {
        let own = self.tenants.get(&tenant);
        let own = own.map_or(0, |share| share.waiting.len());
        if bounds.waiting_max == 0 || own >= bounds.per_tenant_max {
            return Err(NoRoom::Full);
        }
        if self.count >= bounds.waiting_max {
            self.displace_for(tenant, own as u64 + held(tenant), held)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let share = self.tenants.entry(tenant).or_default();
        share.waiting.push_back(Waiting {
            number,
            is_aside: false,
        });
        self.count += 1;
        Ok(number)
    }

    /// `own`: what the tenant has in flight and waiting.
    fn displace_for(&mut self, tenant: TenantId, own: u64, held: Held<'_>) -> Result<(), NoRoom> {
        let others = self.tenants.iter().filter_map(|(other, share)| {
            let latest = share.waiting.back().filter(|_| *other != tenant)?;
            let theirs = held(*other) + share.waiting.len() as u64;
            Some((theirs, latest.number, *other))
        });
        match (others.clone().min(), others.max()) {
            // With one more on this side and one less on the other it is still the smaller one: nobody displaces back.
            (_, Some((theirs, _, other))) if own + 1 < theirs => {
                self.drop_latest(other);
                Ok(())
            }
            (Some((theirs, ..)), _) if theirs < own => Err(NoRoom::AboveShare),
            _ => Err(NoRoom::Full),
        }
    }

    fn drop_latest(&mut self, tenant: TenantId) {
        if let Some(share) = self.tenants.get_mut(&tenant)
            && let Some(waiting) = share.waiting.pop_back()
        {
            self.count -= 1;
            self.aside -= usize::from(waiting.is_aside);
            self.forget_tenants();
        }
    }

    /// Is it among the first `count`, apart from those that stand aside?
    pub(super) fn rank(&self, tenant: TenantId, number: u64, count: usize, held: Held<'_>) -> Rank {
        let share = self.tenants.get(&tenant);
        let own = share.and_then(|share| {
            let mut positions = share.positions(held(tenant), self.now);
            positions.find(|(position, _)| position.number == number)
        });
        let Some((own, _)) = own else {
            return Rank::Displaced;
        };
        let mut before = 0;
        for (tenant, share) in &self.tenants {
            if before >= count {
                break;
            }
            let earlier = share
                .positions(held(*tenant), self.now)
                .take_while(|(position, _)| *position < own);
            before += earlier
                .filter(|(_, waiting)| !waiting.is_aside)
                .take(count - before)
                .count();
        }
        if before < count {
            Rank::First
        } else {
            Rank::Behind
        }
    }

    pub(super) fn set_aside(&mut self, tenant: TenantId, number: u64, is_aside: bool) {
        let share = self.tenants.get_mut(&tenant);
        let waiting = share.and_then(|share| {
            let index = share.index(number)?;
            share.waiting.get_mut(index)
        });
        if let Some(waiting) = waiting
            && waiting.is_aside != is_aside
        {
            waiting.is_aside = is_aside;
            if is_aside {
                self.aside += 1;
            } else {
                self.aside -= 1;
            }
        }
    }

    /// It got a place: it costs its tenant one unit.
    pub(super) fn serve(&mut self, tenant: TenantId, number: u64) {
        let now = self.now;
        if let Some(share) = self.tenants.get_mut(&tenant)
            && share.index(number).is_some()
        {
            // What it is charged for is the tenant's next turn, also if it has overtaken earlier ones of its own kind.
            let start = share.next_start.max(now);
            share.next_start = start + 1;
            self.now = start;
        }
        self.leave(tenant, number);
    }

    /// It left without: it costs nothing.
    pub(super) fn leave(&mut self, tenant: TenantId, number: u64) {
        let share = self.tenants.get_mut(&tenant);
        let removed = share.and_then(|share| {
            let index = share.index(number)?;
            share.waiting.remove(index)
        });
        if let Some(waiting) = removed {
            self.count -= 1;
            self.aside -= usize::from(waiting.is_aside);
            self.forget_tenants();
        }
    }

    /// Keeps only those that wait, and those that have had more than the others.
    fn forget_tenants(&mut self) {
        if self.count == 0 {
            *self = Self {
                next_number: self.next_number,
                ..Self::default()
            };
        } else {
            let now = self.now;
            self.tenants
                .retain(|_, share| !share.waiting.is_empty() || share.next_start > now);
        }
    }
}
