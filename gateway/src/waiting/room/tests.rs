//! Order and displacement, by example and by whatever may happen.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const ROOMY: Bounds = Bounds {
    waiting_max: usize::MAX,
    per_tenant_max: usize::MAX,
};

const TENANTS: usize = 5;

fn nobody_holds(_: TenantId) -> u64 {
    0
}

/// An upstream with its room, as the accounts and the requests would use it.
#[derive(Default)]
struct Scene {
    room: Room,
    /// Requests in flight, by tenant.
    held: [u64; TENANTS],
    /// All that wait, in order of arrival.
    waiting: Vec<(TenantId, u64)>,
}

impl Scene {
    fn with(held: &[u64], waiting: &[u16]) -> Self {
        let mut scene = Self::default();
        scene.held[..held.len()].copy_from_slice(held);
        for &tenant in waiting {
            scene.enter(tenant, ROOMY).unwrap();
        }
        scene
    }

    fn enter(&mut self, tenant: u16, bounds: Bounds) -> Result<(), NoRoom> {
        let (tenant, held) = (TenantId(tenant), self.held);
        let number = self
            .room
            .enter(tenant, bounds, &|id| held[usize::from(id.0)])?;
        self.waiting.push((tenant, number));
        let displaced: Vec<_> = self.waiting.clone();
        self.waiting = displaced
            .into_iter()
            .filter(|one| self.rank(*one, usize::MAX) != Rank::Displaced)
            .collect();
        Ok(())
    }

    fn rank(&self, (tenant, number): (TenantId, u64), count: usize) -> Rank {
        let held = |id: TenantId| self.held[usize::from(id.0)];
        self.room.rank(tenant, number, count, &held)
    }

    /// Who would take the next place; nobody else would.
    fn first(&self) -> Option<(TenantId, u64)> {
        let mut first = self.waiting.iter().copied();
        let mut first = first
            .by_ref()
            .filter(|one| self.rank(*one, 1) == Rank::First);
        let found = first.next();
        assert_eq!(first.next(), None, "two for one place");
        found
    }

    /// A place becomes free and is taken.
    fn serve(&mut self) -> Option<u16> {
        let (tenant, number) = self.first()?;
        self.held[usize::from(tenant.0)] += 1;
        self.room.serve(tenant, number);
        self.waiting.retain(|one| *one != (tenant, number));
        Some(tenant.0)
    }

    /// The tenants in the order in which they are served, while nothing comes to its end.
    fn served(mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.serve()).collect()
    }

    /// The same where each ends before the next one begins.
    fn served_one_by_one(mut self) -> Vec<u16> {
        let one = || {
            let tenant = self.serve()?;
            self.held[usize::from(tenant)] -= 1;
            Some(tenant)
        };
        std::iter::from_fn(one).collect()
    }

    fn waiting_of(&self, tenant: usize) -> u64 {
        let own = self.waiting.iter();
        own.filter(|(own, _)| usize::from(own.0) == tenant).count() as u64
    }

    fn total(&self, tenant: usize) -> u64 {
        self.held[tenant] + self.waiting_of(tenant)
    }
}

#[test]
fn tenants_take_turns_and_each_is_served_in_its_order() {
    let arrivals = [1, 1, 1, 1, 2, 2, 3];
    let turns = [1, 2, 3, 1, 2, 1, 1];
    assert_eq!(Scene::with(&[], &arrivals).served_one_by_one(), turns);
    assert_eq!(Scene::with(&[], &arrivals).served(), turns);
    let mut scene = Scene::with(&[], &[1, 1, 1]);
    for number in 0..3 {
        assert_eq!(scene.first(), Some((TenantId(1), number)));
        scene.serve();
    }
}

#[test]
fn who_has_the_fewest_in_flight_is_next() {
    let scene = Scene::with(&[3, 1, 0], &[0, 0, 1, 1, 2, 2]);
    assert_eq!(scene.served(), [2, 1, 2, 1, 0, 0]);
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut scene = Scene::with(&[], &[1, 1, 1, 1]);
    for _ in 0..2 {
        scene.serve();
        scene.held = [0; TENANTS];
    }
    // Two of the other were not served meanwhile, but it did not wait either: from now on they take turns.
    for _ in 0..3 {
        scene.enter(2, ROOMY).unwrap();
    }
    assert_eq!(scene.served_one_by_one(), [2, 1, 2, 1, 2]);
}

#[test]
fn who_had_more_than_others_has_not_saved_that_time_up_either() {
    let mut scene = Scene::with(&[0, 9], &[1, 1, 1, 0, 0, 0]);
    for _ in 0..2 {
        assert_eq!(scene.serve(), Some(0));
        scene.held[0] = 0;
    }
    scene.held[1] = 0;
    scene.enter(2, ROOMY).unwrap();
    // One turn of the second, however long it had waited, before the one that has just come.
    assert_eq!(scene.served_one_by_one(), [1, 2, 1, 0, 1]);
}

#[test]
fn who_leaves_unserved_costs_its_tenant_nothing() {
    let mut scene = Scene::with(&[], &[1, 1, 1, 2, 2, 2]);
    for number in 0..2 {
        scene.room.leave(TenantId(1), number);
    }
    scene.waiting.drain(..2);
    assert_eq!(scene.first(), Some((TenantId(1), 2)), "the third moved up");
    assert_eq!(scene.served_one_by_one(), [1, 2, 2, 2]);
}

#[test]
fn who_overtakes_its_own_kind_is_charged_all_the_same() {
    let mut scene = Scene::with(&[], &[1, 1, 2, 2]);
    scene.room.serve(TenantId(1), 1);
    scene.waiting.remove(1);
    assert_eq!(scene.first(), Some((TenantId(2), 2)));
    assert_eq!(scene.served_one_by_one(), [2, 1, 2]);
}

#[test]
fn who_stands_aside_takes_no_turn_from_those_behind_it() {
    let mut scene = Scene::with(&[], &[1, 1, 2]);
    scene.room.set_aside(TenantId(1), 0, true);
    // The first may look as well: but for its wish it would be its turn.
    let first = |scene: &Scene| {
        [(1, 0), (1, 1), (2, 2)]
            .map(|(tenant, number)| scene.rank((TenantId(tenant), number), 1) == Rank::First)
    };
    assert_eq!(first(&scene), [true, true, false]);
    scene.room.set_aside(TenantId(1), 0, false);
    assert_eq!(first(&scene), [true, false, false]);
}

#[test]
fn an_empty_room_remembers_nobody() {
    let mut room = Room::default();
    for tenant in [1, 2] {
        room.enter(TenantId(tenant), ROOMY, &nobody_holds).unwrap();
    }
    room.serve(TenantId(1), 0);
    room.leave(TenantId(2), 1);
    assert!(room.tenants.is_empty());
    assert_eq!((room.now, room.count()), (0, 0));
    let number = room.enter(TenantId(1), ROOMY, &nobody_holds);
    assert_eq!(number, Ok(2), "numbers are not used again");
}

#[test]
fn a_full_room_is_left_by_the_latest_of_who_has_most() {
    let full = Bounds {
        waiting_max: 5,
        per_tenant_max: 5,
    };
    let mut scene = Scene::with(&[0, 1], &[0, 0, 0, 1, 1]);
    scene.enter(2, full).unwrap();
    let left = [(0, 0), (0, 1), (0, 2), (1, 3), (2, 5)];
    let left = left.map(|(tenant, number)| (TenantId(tenant), number));
    assert_eq!(
        scene.waiting, left,
        "the two have three each: the later one's goes"
    );
}

#[test]
fn nobody_is_displaced_for_one_that_would_then_have_as_much() {
    let full = Bounds {
        waiting_max: 3,
        per_tenant_max: 3,
    };
    // What is in flight counts as well as what waits.
    for (held, waiting, tenant, found) in [
        ([0, 0, 0], [0, 0, 0], 1, Ok(())),
        ([0, 0, 0], [0, 0, 1], 2, Ok(())),
        ([0, 0, 1], [0, 0, 1], 2, Err(NoRoom::Full)),
        ([0, 0, 2], [0, 0, 1], 2, Err(NoRoom::AboveShare)),
        ([0, 0, 0], [0, 0, 1], 0, Err(NoRoom::AboveShare)),
        ([0, 0, 0], [0, 0, 1], 1, Err(NoRoom::Full)),
        ([5, 0, 0], [0, 1, 1], 1, Ok(())),
        ([5, 0, 0], [1, 1, 2], 0, Err(NoRoom::AboveShare)),
        ([5, 0, 0], [1, 2, 3], 4, Err(NoRoom::Full)),
        ([5, 0, 0], [0, 0, 0], 0, Err(NoRoom::Full)),
    ] {
        let mut scene = Scene::with(&held, &waiting);
        assert_eq!(
            scene.enter(tenant, full),
            found,
            "{held:?} {waiting:?} {tenant}"
        );
        assert_eq!(scene.waiting.len(), 3);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u16),
    /// One in flight comes to its end.
    End(Index),
    /// One of those that wait leaves.
    Leave(Index),
    Aside(Index, bool),
    /// One place is free.
    Serve,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..TENANTS as u16).prop_map(Step::Enter),
        3 => Just(Step::Serve),
        2 => any::<Index>().prop_map(Step::End),
        1 => any::<Index>().prop_map(Step::Leave),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, aside)| Step::Aside(at, aside)),
    ]
}

/// The shares of so many places by these demands: as if they were given out one at a time to who has least and wants more.
fn max_min(mut places: u64, demands: [u64; TENANTS]) -> [u64; TENANTS] {
    let mut shares = [0; TENANTS];
    while places > 0 {
        let wants_more = (0..TENANTS).filter(|&tenant| shares[tenant] < demands[tenant]);
        let Some(least) = wants_more.min_by_key(|&tenant| shares[tenant]) else {
            break;
        };
        shares[least] += 1;
        places -= 1;
    }
    shares.sort_unstable();
    shares
}

proptest! {
    #[test]
    fn the_counts_are_right_whatever_happens(steps in vec(step(), 0..80)) {
        let bounds = Bounds { waiting_max: 12, per_tenant_max: 8 };
        let mut scene = Scene::default();
        let mut aside = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Enter(tenant) => {
                    let before: [u64; TENANTS] = std::array::from_fn(|tenant| scene.total(tenant));
                    let own = usize::from(tenant);
                    let is_full = scene.waiting.len() == 12 || scene.waiting_of(own) == 8;
                    let entered = scene.enter(tenant, bounds);
                    let after: [u64; TENANTS] = std::array::from_fn(|tenant| scene.total(tenant));
                    prop_assert!(is_full || entered.is_ok());
                    let lost = (0..TENANTS).find(|&other| after[other] < before[other]);
                    match (entered, lost) {
                        (Ok(()), None) => prop_assert!(!is_full),
                        (Ok(()), Some(other)) => {
                            let most = (0..TENANTS).filter(|&one| one != own && scene.waiting_of(one) + u64::from(one == other) > 0);
                            prop_assert_eq!(Some(before[other]), most.map(|one| before[one]).max());
                            prop_assert!(after[own] <= after[other]);
                        }
                        (Err(_), _) => {
                            prop_assert!(is_full);
                            prop_assert_eq!(before, after);
                        }
                    }
                }
                Step::Serve => {
                    let can = scene.waiting.iter().any(|one| !aside.contains(&one.1));
                    let first = scene.waiting.iter().copied().find(|one| {
                        !aside.contains(&one.1) && scene.rank(*one, 1) == Rank::First
                    });
                    prop_assert_eq!(first.is_some(), can, "a place is never left free");
                    if let Some((tenant, number)) = first {
                        scene.room.serve(tenant, number);
                        scene.held[usize::from(tenant.0)] += 1;
                        scene.waiting.retain(|one| one.1 != number);
                    }
                }
                Step::End(index) => {
                    let busy: Vec<_> = (0..TENANTS).filter(|&tenant| scene.held[tenant] > 0).collect();
                    if !busy.is_empty() {
                        scene.held[busy[index.index(busy.len())]] -= 1;
                    }
                }
                Step::Leave(index) if !scene.waiting.is_empty() => {
                    let left = scene.waiting.remove(index.index(scene.waiting.len()));
                    scene.room.leave(left.0, left.1);
                    scene.room.leave(left.0, left.1);
                }
                Step::Aside(index, is_aside) if !scene.waiting.is_empty() => {
                    let one = scene.waiting[index.index(scene.waiting.len())];
                    scene.room.set_aside(one.0, one.1, is_aside);
                    if is_aside {
                        aside.insert(one.1);
                    } else {
                        aside.remove(&one.1);
                    }
                }
                Step::Leave(_) | Step::Aside(..) => {}
            }
            let aside = scene.waiting.iter().filter(|one| aside.contains(&one.1)).count();
            prop_assert_eq!(scene.room.count(), scene.waiting.len());
            prop_assert_eq!(scene.room.in_line(), scene.waiting.len() - aside);
            let first = scene.waiting.iter().filter(|one| scene.rank(**one, 3) == Rank::First);
            let first = first.count();
            prop_assert!((3.min(scene.room.in_line())..=3 + aside).contains(&first), "{first}");
        }
    }

    #[test]
    fn places_are_shared_max_min(
        arrivals in vec(0..TENANTS as u16, 0..60),
        places in 0..70_u64,
    ) {
        let mut scene = Scene::with(&[], &arrivals);
        let demands = std::array::from_fn(|tenant| scene.total(tenant));
        for _ in 0..places {
            scene.serve();
        }
        let mut shares = scene.held;
        shares.sort_unstable();
        prop_assert_eq!(shares, max_min(places, demands));
        let is_idle = scene.held.iter().sum::<u64>() < places;
        prop_assert!(!is_idle || scene.waiting.is_empty(), "work is conserved");
    }

    /// Whoever had how much before, as soon as each of these has ended, all have their shares.
    #[test]
    fn who_had_more_gives_it_back_as_its_requests_end(
        held in proptest::array::uniform5(0..12_u64),
        ends in vec(any::<Index>(), 0..200),
    ) {
        let mut scene = Scene::with(&held, &[]);
        let places: u64 = held.iter().sum();
        let mut old = held;
        for end in ends {
            // Everybody always wants more.
            for tenant in 0..TENANTS {
                if scene.waiting_of(tenant) == 0 {
                    scene.enter(tenant as u16, ROOMY).unwrap();
                }
            }
            let busy: Vec<_> = (0..TENANTS).filter(|&tenant| scene.held[tenant] > 0).collect();
            if busy.is_empty() {
                break;
            }
            let tenant = busy[end.index(busy.len())];
            old[tenant] = old[tenant].saturating_sub(1);
            scene.held[tenant] -= 1;
            let least = *scene.held.iter().min().unwrap();
            let next = scene.serve().map(usize::from);
            prop_assert_eq!(next.map(|next| scene.held[next] - 1), Some(least));
            prop_assert_eq!(scene.held.iter().sum::<u64>(), places);
            if old == [0; TENANTS] {
                let (least, most) = (scene.held.iter().min(), scene.held.iter().max());
                prop_assert!(least.zip(most).is_some_and(|(least, most)| most - least <= 2), "{:?}", scene.held);
            }
        }
    }

    /// However many others come and however short theirs are: who has nothing in flight is soon next.
    #[test]
    fn nobody_starves(
        before in vec(0..TENANTS as u16, 0..40),
        played in vec(any::<bool>(), 0..20),
        ends in vec(any::<Index>(), 0..60),
        places in 1..6_usize,
    ) {
        let mut scene = Scene::with(&[], &before);
        for is_served in played {
            if is_served {
                scene.serve();
            } else {
                scene.held = [0; TENANTS];
            }
        }
        scene.held[0] = 0;
        for left in scene.waiting.extract_if(.., |one| one.0 == TenantId(0)) {
            scene.room.leave(left.0, left.1);
        }
        scene.enter(0, ROOMY).unwrap();
        let mut turns = [0; TENANTS];
        for end in ends {
            for tenant in 1..TENANTS {
                while scene.waiting_of(tenant) < 3 {
                    scene.enter(tenant as u16, ROOMY).unwrap();
                }
            }
            let busy: Vec<_> = (0..TENANTS).filter(|&tenant| scene.held[tenant] > 0).collect();
            if scene.held.iter().sum::<u64>() as usize >= places {
                scene.held[busy[end.index(busy.len())]] -= 1;
                continue;
            }
            let next = usize::from(scene.serve().unwrap());
            if next == 0 {
                break;
            }
            turns[next] += 1;
            prop_assert!(turns[next] <= 2, "{turns:?} before the one that waits");
        }
    }
}
