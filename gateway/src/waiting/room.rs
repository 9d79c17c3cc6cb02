//! One waiting room: who is in it, and in which order.

use crate::config::policy::TenantId;
use std::collections::{BTreeMap, VecDeque};

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) waiting_max: usize,
    pub(super) per_tenant_max: usize,
}

/// Virtual time of start-time fair queueing, in places: one that is given to a tenant moves the start of its next request on by one.
type VirtualTime = u64;

/// Who waits, in order of virtual start, then of arrival.
#[derive(Default)]
pub(super) struct Room {
    line: BTreeMap<Position, Waiting>,
    tenants: BTreeMap<TenantId, Share>,
    /// The latest virtual start of one that was served: a tenant that comes anew begins there.
    now: VirtualTime,
    /// So many in the line stand aside.
    aside: usize,
    next_number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Those that do not stand aside.
    pub(super) fn in_line(&self) -> usize {
        self.line.len() - self.aside
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

    /// Are fewer than `count` before it, apart from those that stand aside?
    pub(super) fn is_among_first(&self, number: u64, count: usize) -> bool {
        let mut before = 0;
        for (position, waiting) in &self.line {
            if before >= count {
                return false;
            }
            if position.number == number {
                return true;
            }
            before += usize::from(!waiting.is_aside);
        }
        false
    }

    pub(super) fn set_aside(&mut self, number: u64, is_aside: bool) {
        let own = self.line.iter_mut().find(|(own, _)| own.number == number);
        if let Some((_, waiting)) = own
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
            let removed = self.line.remove(&position);
            self.aside -= usize::from(removed.is_some_and(|waiting| waiting.is_aside));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const ROOMY: Bounds = Bounds {
        waiting_max: usize::MAX,
        per_tenant_max: usize::MAX,
    };

    fn filled(tenants: &[u16]) -> Room {
        let mut room = Room::default();
        for &tenant in tenants {
            room.enter(TenantId(tenant), ROOMY).unwrap();
        }
        room
    }

    /// The tenant and number of the one at this place in the line.
    fn at(room: &Room, place: usize) -> Option<(TenantId, u64)> {
        let number = room.line.keys().nth(place)?.number;
        let holds = |share: &Share| share.positions.iter().any(|own| own.number == number);
        let found = room.tenants.iter().find(|(_, share)| holds(share));
        found.map(|(tenant, _)| (*tenant, number))
    }

    fn first(room: &Room) -> Option<(TenantId, u64)> {
        at(room, 0)
    }

    /// The tenants in the order in which they are served.
    fn served(mut room: Room) -> Vec<u16> {
        let mut order = Vec::new();
        while let Some((tenant, number)) = first(&room) {
            room.serve(tenant, number);
            order.push(tenant.0);
        }
        order
    }

    #[test]
    fn tenants_take_turns_and_each_is_served_in_its_order() {
        assert_eq!(
            served(filled(&[1, 1, 1, 1, 2, 2, 3])),
            [1, 2, 3, 1, 2, 1, 1]
        );
        let mut room = filled(&[1, 1, 1]);
        assert_eq!(first(&room), Some((TenantId(1), 0)));
        room.serve(TenantId(1), 0);
        assert_eq!(first(&room), Some((TenantId(1), 1)));
    }

    #[test]
    fn who_was_away_has_saved_nothing_up() {
        let mut room = filled(&[1, 1, 1, 1]);
        for number in 0..2 {
            room.serve(TenantId(1), number);
        }
        // Two of the other were not served meanwhile, but it did not wait either: from now on they take turns.
        for _ in 0..3 {
            room.enter(TenantId(2), ROOMY);
        }
        assert_eq!(served(room), [2, 1, 2, 1, 2]);
    }

    #[test]
    fn who_leaves_unserved_costs_its_tenant_nothing() {
        let mut room = filled(&[1, 1, 1, 2, 2, 2]);
        room.leave(TenantId(1), 0);
        room.leave(TenantId(1), 1);
        assert_eq!(first(&room), Some((TenantId(1), 2)), "the third moved up");
        assert_eq!(served(room), [1, 2, 2, 2]);
    }

    #[test]
    fn who_overtakes_its_own_kind_is_charged_all_the_same() {
        let mut room = filled(&[1, 1, 2, 2]);
        room.serve(TenantId(1), 1);
        assert_eq!(first(&room), Some((TenantId(2), 2)));
        assert_eq!(served(room), [2, 1, 2]);
    }

    #[test]
    fn an_empty_room_remembers_nobody() {
        let mut room = filled(&[1, 2]);
        room.serve(TenantId(1), 0);
        room.leave(TenantId(2), 1);
        assert!(room.tenants.is_empty());
        assert_eq!(room.now, 0);
        assert_eq!(
            room.enter(TenantId(1), ROOMY),
            Some(2),
            "numbers are not used again"
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Enter(u16),
        /// One of the first so many is served.
        Serve(usize),
        /// One of those that wait leaves.
        Leave(prop::sample::Index),
        Aside(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5u16).prop_map(Step::Enter),
            2 => (0..3usize).prop_map(Step::Serve),
            1 => any::<prop::sample::Index>().prop_map(Step::Leave),
            1 => any::<prop::sample::Index>().prop_map(Step::Aside),
        ]
    }

    proptest! {
        #[test]
        fn line_and_tenants_agree_whatever_happens(steps in vec(step(), 0..80)) {
            let bounds = Bounds { waiting_max: 20, per_tenant_max: 8 };
            let mut room = Room::default();
            for step in steps {
                match step {
                    Step::Enter(tenant) => {
                        let own = room.tenants.get(&TenantId(tenant));
                        let own = own.map_or(0, |share| share.positions.len());
                        let has_room = room.count() < 20 && own < 8;
                        prop_assert_eq!(room.enter(TenantId(tenant), bounds).is_some(), has_room);
                    }
                    Step::Serve(place) => {
                        if let Some((tenant, number)) = at(&room, place) {
                            room.serve(tenant, number);
                        }
                    }
                    Step::Leave(index) if room.count() > 0 => {
                        let left = at(&room, index.index(room.count())).unwrap();
                        room.leave(left.0, left.1);
                        room.leave(left.0, left.1);
                    }
                    Step::Aside(index) if room.count() > 0 => {
                        let aside = at(&room, index.index(room.count())).unwrap();
                        room.set_aside(aside.1, !room.line.values().next().is_some_and(|first| first.is_aside));
                    }
                    Step::Leave(_) | Step::Aside(_) => {}
                }
                let mut positions = Vec::new();
                for share in room.tenants.values() {
                    for (place, position) in share.positions.iter().enumerate() {
                        prop_assert_eq!(position.start, share.next_start + place as u64);
                        positions.push(*position);
                    }
                }
                positions.sort();
                let in_line: Vec<_> = room.line.keys().copied().collect();
                prop_assert_eq!(positions, in_line);
                let aside = room.line.values().filter(|waiting| waiting.is_aside);
                prop_assert_eq!(room.in_line(), room.count() - aside.count());
            }
        }

        #[test]
        fn while_two_tenants_wait_neither_is_served_twice_more_than_the_other(
            arrivals in vec(0..4u16, 2..60),
        ) {
            let order = served(filled(&arrivals));
            prop_assert_eq!(order.len(), arrivals.len());
            let total = |tenant| arrivals.iter().filter(|&&other| other == tenant).count();
            let mut served = [0; 4];
            for tenant in order {
                served[usize::from(tenant)] += 1;
                for other in 0..4u16 {
                    if served[usize::from(other)] < total(other) {
                        prop_assert!(served[usize::from(tenant)] <= served[usize::from(other)] + 1);
                    }
                }
            }
        }
    }
}
