//! Accounts are chosen, and places in them taken, with the real counters and the real health behind them.

use super::*;
use crate::config;
use crate::health::{Cause, Fault};
use crate::waiting::Rank;
use std::path::Path;

const LIGHT: AccountId = AccountId(0);
const HEAVY: AccountId = AccountId(1);
const FAR: AccountId = AccountId(2);

struct Rig {
    chooser: Chooser,
    accounts: &'static Accounts,
    in_flight: &'static InFlight,
    now: Moment,
}

/// Accounts 0 and 1 are near, the second with three times the weight; account 2 is in another region; account 3 is of another
/// upstream.
fn rig() -> Rig {
    rig_of(
        r#"
        [health]
        trials_max = 1
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        [[upstream]]
        name = "other"
        base_url = "http://127.0.0.1:2"
        [[account]]
        name = "light"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.1", "127.0.7.2"]
        region = "near"
        max_concurrent = 4
        [[account]]
        name = "heavy"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.3"]
        region = "near"
        weight = 3
        max_concurrent = 4
        [[account]]
        name = "far"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.7.4"]
        region = "elsewhere"
        max_concurrent = 1
        [[account]]
        name = "another"
        upstream = "other"
        credential = { env = "KEY" }
        egress = ["127.0.7.5"]
        [[tenant]]
        name = "team"
        keys = [{ sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }]
        upstreams = ["provider"]
        [[tenant]]
        name = "other-team"
        keys = [{ sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }]
        upstreams = ["provider"]
    "#,
    )
}

fn rig_of(text: &str) -> Rig {
    let environment = |_: &str| Some("sk-test".into());
    let loaded = config::parse(text, Path::new("test.toml"), &environment)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let policy = Arc::new(loaded.policy);
    let in_flight: &'static InFlight = Box::leak(Box::new(InFlight::new(&policy)));
    let accounts: &'static Accounts = Box::leak(Box::new(Accounts::new(&policy)));
    Rig {
        chooser: Chooser::new(policy, in_flight, accounts),
        accounts,
        in_flight,
        now: accounts.health.clock().now(),
    }
}

impl Rig {
    fn ask<'r>(&self, target: Target, tried: &'r [Tried]) -> Ask<'r> {
        Ask {
            upstream: UpstreamId(0),
            tenant: TenantId(0),
            target,
            region: "near",
            tried,
            may_try: true,
            may_panic: false,
            now: self.now,
            waits_until: self.now + Duration::from_secs(10),
        }
    }

    fn pick(&self, ask: &Ask<'_>) -> Pick<Slot> {
        let mut random = fastrand::Rng::with_seed(7);
        self.chooser.pick(ask, &mut || random.f64())
    }

    fn take(&self, ask: &Ask<'_>) -> Slot {
        match self.pick(ask) {
            Pick::Taken(slot) => slot,
            Pick::Wait { until } => panic!("wait until {until:?}"),
            Pick::Nobody { until } => panic!("nobody until {until:?}"),
        }
    }

    fn free_places(&self) -> usize {
        let free = self.chooser.free_places(UpstreamId(0), self.now);
        assert!(!free.in_panic);
        free.places
    }

    fn fail(&self, account: AccountId, fault: Fault) {
        let health = &self.accounts.health;
        health.failed(account, 0, None, fault, self.now, 0.5);
    }

    fn limit_for(&self, account: AccountId, seconds: u64) -> Moment {
        let until = self.now + Duration::from_secs(seconds);
        self.fail(account, Fault::RateLimited { until: Some(until) });
        until
    }
}

fn tried(accounts: &[AccountId]) -> Vec<Tried> {
    let may_again = false;
    let tried = |&account| Tried { account, may_again };
    accounts.iter().map(tried).collect()
}

#[test]
fn places_are_filled_by_weight_then_far_away_then_waited_for() {
    let rig = rig();
    let ask = rig.ask(Target::Any, &[]);
    let mut slots = Vec::new();
    while let Pick::Taken(slot) = rig.pick(&ask) {
        slots.push(slot);
    }
    let order: Vec<_> = slots.iter().map(|slot| slot.account).collect();
    let heavy = order[..4].iter().filter(|&&id| id == HEAVY).count();
    assert_eq!(heavy, 3, "a weight of 3 against 1: {order:?}");
    assert_eq!(order.len(), 4 + 4 + 1, "every place once: {order:?}");
    assert_eq!(order[8], FAR, "the other region last: {order:?}");
    assert_eq!(rig.free_places(), 0);
    assert!(matches!(rig.pick(&ask), Pick::Wait { until: None }));
    slots.truncate(7);
    assert_eq!(rig.free_places(), 2);
    drop(slots);
    assert_ne!(rig.take(&ask).account, FAR);
}

#[test]
fn the_preferred_region_is_the_requests_own() {
    let rig = rig();
    let ask = Ask {
        region: "elsewhere",
        ..rig.ask(Target::Any, &[])
    };
    assert_eq!(rig.take(&ask).account, FAR);
}

#[test]
fn an_account_that_was_tried_is_not_taken_again() {
    let rig = rig();
    let two = tried(&[LIGHT, HEAVY]);
    assert_eq!(rig.take(&rig.ask(Target::Any, &two)).account, FAR);
    let all = tried(&[LIGHT, HEAVY, FAR]);
    for may_panic in [false, true] {
        let ask = Ask {
            may_panic,
            ..rig.ask(Target::Any, &all)
        };
        assert!(matches!(rig.pick(&ask), Pick::Nobody { until: None }));
    }
}

#[test]
fn an_accounts_own_addresses_take_turns() {
    let rig = rig();
    let others = tried(&[HEAVY, FAR]);
    let ask = rig.ask(Target::Any, &others);
    let slots: Vec<_> = (0..4).map(|_| rig.take(&ask)).collect();
    let mut sources: Vec<_> = slots.iter().map(|slot| slot.source.to_string()).collect();
    sources.sort();
    let twice_each = ["127.0.7.1", "127.0.7.1", "127.0.7.2", "127.0.7.2"];
    assert_eq!(sources, twice_each);
    for slot in &slots {
        let is_second = slot.source.to_string() == "127.0.7.2";
        assert_eq!(slot.address, usize::from(is_second));
    }
}

#[test]
fn who_has_too_much_to_do_is_waited_for_and_not_asked_before() {
    let rig = rig();
    let until = rig.limit_for(LIGHT, 5);
    rig.limit_for(HEAVY, 7);
    rig.limit_for(FAR, 60);
    let again = [LIGHT, HEAVY, FAR].map(|account| Tried {
        account,
        may_again: true,
    });
    let ask = rig.ask(Target::Any, &again);
    for may_panic in [false, true] {
        match rig.pick(&Ask { may_panic, ..ask }) {
            Pick::Wait { until: found } => assert_eq!(found, Some(until)),
            _ => panic!("nobody is asked before its time"),
        }
    }
    let later = Ask { now: until, ..ask };
    assert_eq!(rig.take(&later).account, LIGHT, "its time is over");
}

#[test]
fn a_guess_of_ours_keeps_nobody_from_being_asked_who_is_the_last() {
    let rig = rig();
    rig.fail(HEAVY, Fault::Refused);
    let others = tried(&[LIGHT, FAR]);
    let ask = rig.ask(Target::Any, &others);
    assert!(!matches!(rig.pick(&ask), Pick::Taken(_)));
    let ask = Ask {
        may_panic: true,
        ..ask
    };
    let slot = rig.take(&ask);
    assert_eq!((slot.account, slot.reason), (HEAVY, Reason::Panic));
}

#[test]
fn one_request_tries_an_account_whose_block_is_over_and_its_place_comes_back() {
    let rig = rig();
    let until = rig.limit_for(HEAVY, 5);
    let ask = Ask {
        now: until,
        ..rig.ask(Target::Any, &[])
    };
    let trial = rig.take(&ask);
    assert_eq!((trial.account, trial.reason), (HEAVY, Reason::Trial));
    assert!(trial.trial.is_some());
    let meanwhile = rig.take(&ask);
    assert_eq!(meanwhile.account, LIGHT, "one trial at a time");
    assert!(meanwhile.trial.is_none());
    drop(trial);
    assert_eq!(rig.take(&ask).account, HEAVY, "nothing came of it");
    assert_eq!(rig.in_flight.of_account(HEAVY), 0);
}

#[test]
fn a_recovering_account_has_as_many_places_as_there_are_trials_left() {
    let rig = rig();
    let until = rig.limit_for(HEAVY, 5);
    assert_eq!(rig.free_places(), 4 + 1, "it is blocked");
    let rig = Rig { now: until, ..rig };
    assert_eq!(rig.free_places(), 4 + 1 + 1, "one trial at a time");
    let trial = rig.take(&rig.ask(Target::Any, &[]));
    assert_eq!(trial.account, HEAVY);
    assert_eq!(rig.free_places(), 4 + 1);
    drop(trial);
    assert_eq!(rig.free_places(), 4 + 1 + 1);
}

#[test]
fn where_nobody_is_well_the_places_of_those_that_may_be_asked_are_free() {
    let rig = rig();
    rig.fail(LIGHT, Fault::Refused);
    rig.limit_for(HEAVY, 5);
    rig.limit_for(FAR, 5);
    let free = rig.chooser.free_places(UpstreamId(0), rig.now);
    assert_eq!((free.places, free.in_panic), (4, true));
}

#[test]
fn what_only_one_account_has_is_asked_of_it_alone() {
    let rig = rig();
    for _ in 0..4 {
        let slot = rig.take(&rig.ask(Target::Owner(LIGHT), &[]));
        assert_eq!((slot.account, slot.reason), (LIGHT, Reason::Owner));
    }
    let elsewhere = rig.ask(Target::Owner(AccountId(3)), &[]);
    assert!(matches!(rig.pick(&elsewhere), Pick::Nobody { until: None }));
}

#[test]
fn what_is_seen_of_an_account_that_was_asked_before() {
    let until = Moment::from_unix_ms(1);
    let cause = Cause::RateLimited;
    let blocked = |stated| Standing::Blocked {
        until,
        stated,
        cause,
    };
    let usable = Standing::Usable { share: 1.0 };
    for (standing, may_again, may_panic, expected) in [
        (usable, false, false, (usable, true)),
        (usable, false, true, (Standing::Disabled, true)),
        (blocked(false), false, false, (blocked(false), true)),
        (usable, true, false, (usable, false)),
        (Standing::Due, true, true, (Standing::Due, false)),
        (blocked(false), true, false, (blocked(true), false)),
        (blocked(false), true, true, (blocked(true), false)),
    ] {
        let tried = Tried {
            account: LIGHT,
            may_again,
        };
        let found = as_tried(standing, tried, may_panic);
        assert_eq!(found, expected, "{standing:?} {may_again} {may_panic}");
    }
}

#[test]
fn a_slot_counts_for_the_tenant_that_has_it() {
    let rig = rig();
    let slot = rig.take(&rig.ask(Target::Any, &[]));
    let enter = |tenant| {
        let rooms = &rig.accounts.rooms;
        let ticket = rooms.enter(UpstreamId(0), TenantId(tenant));
        ticket.unwrap_or_else(|no_room| panic!("{no_room:?}"))
    };
    let (own, other) = (enter(0), enter(1));
    let first = || [&own, &other].map(|ticket| ticket.rank(1) == Rank::First);
    assert_eq!(first(), [false, true], "the other has less");
    drop(slot);
    assert_eq!(first(), [true, false], "both have nothing");
}

#[test]
fn a_cap_on_connections_bounds_requests_unless_they_share_them() {
    let places = |protocol: &str, spoken: &[Spoken]| {
        let rig = rig_of(&format!(
            r#"
            [node]
            workers = 2
            [limits]
            upstream_http2_streams_max = 8
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "https://api.example"
            protocol = {protocol:?}
            [[account]]
            name = "one"
            upstream = "provider"
            credential = {{ env = "KEY" }}
            egress = ["127.0.7.1"]
            max_connections = 3
            "#
        ));
        for spoken in spoken {
            rig.accounts.spoken.note_opened(LIGHT, *spoken, true);
        }
        // One for a WebSocket says nothing.
        rig.accounts.spoken.note_opened(LIGHT, Spoken::Http1, false);
        rig.free_places()
    };
    let (http1, http2) = (Spoken::Http1, Spoken::Http2);
    // Of three connections each of two workers has one; that a third is opened is certain when one of them is full.
    let shared = 2 * 8 + 1;
    for (protocol, spoken, expected) in [
        ("http1", &[][..], 3),
        ("http2", &[], shared),
        ("auto", &[], 3),
        ("auto", &[http1], 3),
        ("auto", &[http2], shared),
        ("auto", &[http2, http1], 3),
    ] {
        let found = places(protocol, spoken);
        assert_eq!(found, expected, "{protocol} {spoken:?}");
    }
}
