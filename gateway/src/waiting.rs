//! Where requests wait while all accounts of an upstream are busy: bounded, and fair between tenants.
//!
//! Nobody is held back while there are places free. When there are none, places are shared max-min: the next one goes to the
//! tenant that has the fewest requests in flight there, and a full room is left by the latest of the tenant that has most.

mod holdings;
mod room;

pub use room::{NoRoom, Rank};

use crate::config::Policy;
use crate::config::policy::{TenantId, UpstreamId};
use crate::limits::Place;
use holdings::Holdings;
use room::{Bounds, Held, Room};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The waiting rooms of all upstreams. One per process; only who has to wait takes its lock.
pub struct WaitingRooms {
    rooms: Box<[SharedRoom]>,
    holdings: Holdings,
    bounds: Bounds,
}

/// On a cache line of its own: each request reads the counts.
#[derive(Default)]
#[repr(align(128))]
struct SharedRoom {
    /// Written under the lock, read without.
    count: AtomicUsize,
    /// The same without those that stand aside.
    in_line: AtomicUsize,
    room: Mutex<Room>,
}

/// A place in a waiting room; given back when dropped.
pub struct Ticket {
    rooms: &'static WaitingRooms,
    upstream: UpstreamId,
    tenant: TenantId,
    number: u64,
    is_served: bool,
}

impl WaitingRooms {
    /// All empty.
    pub fn new(policy: &Policy) -> Self {
        let bounds = Bounds {
            waiting_max: policy.limits.queue_max,
            per_tenant_max: policy.limits.queue_per_tenant_max,
        };
        Self::of(policy.upstreams.len(), Holdings::new(policy), bounds)
    }

    fn of(upstreams: usize, holdings: Holdings, bounds: Bounds) -> Self {
        Self {
            rooms: (0..upstreams).map(|_| SharedRoom::default()).collect(),
            holdings,
            bounds,
        }
    }

    /// The tenant has one more request in flight there, until this is dropped. `None`: it does not use that upstream.
    pub fn hold(&'static self, upstream: UpstreamId, tenant: TenantId) -> Option<Place> {
        self.holdings.add(tenant, upstream)
    }

    /// Requests that wait there.
    pub fn count(&self, upstream: UpstreamId) -> usize {
        self.room(upstream).count.load(Ordering::Relaxed)
    }

    /// Those of them that would take any place: who comes now comes after them. One load.
    pub fn in_line(&self, upstream: UpstreamId) -> usize {
        self.room(upstream).in_line.load(Ordering::Relaxed)
    }

    /// A place behind those of the same tenant, and between those of the others.
    ///
    /// # Errors
    /// There is none left, for all or for this tenant.
    pub fn enter(&'static self, upstream: UpstreamId, tenant: TenantId) -> Result<Ticket, NoRoom> {
        let enter = |room: &mut Room| room.enter(tenant, self.bounds, &self.held(upstream));
        let number = self.room(upstream).change(enter)?;
        Ok(Ticket {
            rooms: self,
            upstream,
            tenant,
            number,
            is_served: false,
        })
    }

    fn room(&self, upstream: UpstreamId) -> &SharedRoom {
        &self.rooms[usize::from(upstream.0)]
    }

    fn held(&self, upstream: UpstreamId) -> impl Fn(TenantId) -> u64 {
        move |tenant| self.holdings.count(tenant, upstream)
    }
}

impl SharedRoom {
    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Room) -> T) -> T {
        let mut room = self.lock();
        let changed = change(&mut room);
        self.count.store(room.count(), Ordering::Relaxed);
        self.in_line.store(room.in_line(), Ordering::Relaxed);
        changed
    }
}

impl Ticket {
    /// Whether it is among the first so many: those may look whether an account has a place for them.
    pub fn rank(&self, count: usize) -> Rank {
        let held: Held<'_> = &self.rooms.held(self.upstream);
        let room = self.rooms.room(self.upstream).lock();
        room.rank(self.tenant, self.number, count, held)
    }

    /// Those behind it look past it, or no longer: a request that only one account can serve does not hold up the rest. It keeps its
    /// place, but nobody has to wait behind it.
    pub fn stand_aside(&self, is_aside: bool) {
        self.change(|room| room.set_aside(self.tenant, self.number, is_aside));
    }

    /// It has got what it waited for, which its tenant is charged for. A ticket that is merely dropped has waited in vain, and
    /// the tenant's next ones move up.
    pub fn served(mut self) {
        self.is_served = true;
    }

    fn change(&self, change: impl FnOnce(&mut Room)) {
        self.rooms.room(self.upstream).change(change);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.change(|room| {
            if self.is_served {
                room.serve(self.tenant, self.number);
            } else {
                room.leave(self.tenant, self.number);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: UpstreamId = UpstreamId(1);
    const ELSEWHERE: UpstreamId = UpstreamId(0);

    fn rooms(waiting_max: usize, per_tenant_max: usize) -> &'static WaitingRooms {
        let bounds = Bounds {
            waiting_max,
            per_tenant_max,
        };
        let upstreams = [ELSEWHERE, ROOM];
        let holdings = Holdings::of((0..8).map(|_| upstreams.as_slice()));
        Box::leak(Box::new(WaitingRooms::of(2, holdings, bounds)))
    }

    fn enter(rooms: &'static WaitingRooms, tenant: u16) -> Ticket {
        let ticket = rooms.enter(ROOM, TenantId(tenant));
        ticket.unwrap_or_else(|no_room| panic!("{no_room:?}"))
    }

    fn refusal(rooms: &'static WaitingRooms, tenant: u16) -> Option<NoRoom> {
        rooms.enter(ROOM, TenantId(tenant)).err()
    }

    fn is_first(ticket: &Ticket, count: usize) -> bool {
        ticket.rank(count) == Rank::First
    }

    #[test]
    fn each_upstream_has_a_room_of_its_own() {
        let rooms = rooms(10, 10);
        let ticket = enter(rooms, 1);
        assert_eq!((rooms.count(ROOM), rooms.count(ELSEWHERE)), (1, 0));
        assert!(is_first(&ticket, 1) && !is_first(&ticket, 0));
        drop(ticket);
        assert_eq!(rooms.count(ROOM), 0);
    }

    #[test]
    fn places_are_bounded_for_all_and_for_each_and_come_back() {
        let rooms = rooms(3, 2);
        let (first, _second) = (enter(rooms, 1), enter(rooms, 1));
        assert_eq!(refusal(rooms, 1), Some(NoRoom::Full), "two of a tenant");
        let _third = enter(rooms, 2);
        assert_eq!(refusal(rooms, 2), Some(NoRoom::Full), "three in all");
        drop(first);
        let fourth = enter(rooms, 2);
        assert_eq!(refusal(rooms, 1), Some(NoRoom::Full));
        fourth.served();
        assert_eq!(refusal(rooms, 1), None);
    }

    #[test]
    fn where_none_may_wait_nobody_does() {
        assert_eq!(refusal(rooms(0, 0), 1), Some(NoRoom::Full));
        assert_eq!(refusal(rooms(5, 0), 1), Some(NoRoom::Full));
    }

    #[test]
    fn what_a_tenant_has_in_flight_comes_before_how_long_it_has_waited() {
        let rooms = rooms(10, 10);
        let running = [(); 2].map(|()| rooms.hold(ROOM, TenantId(1)).unwrap());
        let _elsewhere = rooms.hold(ELSEWHERE, TenantId(2));
        let early = enter(rooms, 1);
        let (late, later) = (enter(rooms, 2), enter(rooms, 2));
        assert!(is_first(&late, 1) && is_first(&later, 2) && !is_first(&early, 2));
        drop(running);
        assert!(is_first(&early, 1) && is_first(&late, 2) && !is_first(&later, 2));
    }

    #[test]
    fn who_is_displaced_is_told_and_leaves_nothing_behind() {
        let rooms = rooms(3, 3);
        let [first, second, third] = [(); 3].map(|()| enter(rooms, 1));
        let other = enter(rooms, 2);
        assert_eq!(third.rank(9), Rank::Displaced);
        assert_eq!((first.rank(9), second.rank(9)), (Rank::First, Rank::First));
        assert_eq!(refusal(rooms, 1), Some(NoRoom::AboveShare));
        third.stand_aside(true);
        assert_eq!((rooms.count(ROOM), rooms.in_line(ROOM)), (3, 3));
        third.served();
        for ticket in [first, second, other] {
            drop(ticket);
        }
        assert_eq!((rooms.count(ROOM), rooms.in_line(ROOM)), (0, 0));
    }

    #[test]
    fn a_tenant_with_a_hundred_does_not_keep_another_from_being_next() {
        let rooms = rooms(1_000, 1_000);
        let mut crowd: std::collections::VecDeque<_> = (0..100).map(|_| enter(rooms, 1)).collect();
        crowd.pop_front().unwrap().served();
        let single = enter(rooms, 2);
        assert!(is_first(&single, 1));
        assert!(!is_first(&crowd[0], 1) && is_first(&crowd[0], 2));
        single.served();
        assert!(is_first(&crowd[0], 1));
        assert_eq!(rooms.count(ROOM), 99);
    }

    #[test]
    fn as_many_as_there_are_places_may_look_and_no_more() {
        let rooms = rooms(100, 100);
        let tickets: Vec<_> = (0..30).map(|number| enter(rooms, number % 4)).collect();
        for free in [0, 1, 2, 7, 29, 30, 31] {
            let may_look = tickets.iter().filter(|ticket| is_first(ticket, free));
            assert_eq!(may_look.count(), free.min(30), "{free} places");
        }
    }

    #[test]
    fn who_can_use_no_free_place_lets_others_look_past_it() {
        let rooms = rooms(10, 10);
        let (first, second, third) = (enter(rooms, 1), enter(rooms, 2), enter(rooms, 3));
        assert_eq!(rooms.in_line(ROOM), 3);
        first.stand_aside(true);
        assert!(is_first(&second, 1) && !is_first(&third, 1));
        second.stand_aside(true);
        second.stand_aside(true);
        assert!(is_first(&third, 1) && is_first(&first, 1));
        assert_eq!((rooms.in_line(ROOM), rooms.count(ROOM)), (1, 3));
        first.stand_aside(false);
        assert!(is_first(&first, 1), "it is in line again");
        assert!(!is_first(&third, 1) && is_first(&third, 2));
        third.served();
        assert_eq!((rooms.in_line(ROOM), rooms.count(ROOM)), (1, 2));
        drop(second);
        assert_eq!((rooms.in_line(ROOM), rooms.count(ROOM)), (1, 1));
        first.served();
        assert_eq!((rooms.in_line(ROOM), rooms.count(ROOM)), (0, 0));
    }

    #[test]
    fn many_threads_are_all_served_with_never_more_at_once_than_there_are_places() {
        const PLACES: usize = 3;
        let rooms = rooms(8, 2);
        let counter: &'static crate::limits::Counter = Box::leak(Box::default());
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for tenant in 0..4 {
                let served = &served;
                for _ in 0..2 {
                    scope.spawn(move || {
                        for _ in 0..200 {
                            let ticket = enter(rooms, tenant);
                            let place = loop {
                                let free = PLACES - counter.taken() as usize;
                                if is_first(&ticket, free)
                                    && let Some(place) = counter.enter(PLACES as u32)
                                {
                                    break place;
                                }
                                std::thread::yield_now();
                            };
                            ticket.served();
                            served.fetch_add(1, Ordering::Relaxed);
                            drop(place);
                        }
                    });
                }
            }
        });
        assert_eq!(served.into_inner(), 8 * 200);
        assert_eq!(rooms.count(ROOM), 0);
    }
}
