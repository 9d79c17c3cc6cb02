//! The choice as pure code: a table for every tier, properties of any pool, and where the load and the conversations go.

mod conversations;
mod load;
mod places;
mod properties;

use super::*;
use crate::health::Cause;

const NOW: Moment = Moment::from_unix_ms(1_000_000);

/// So many seconds from now.
fn after(seconds: u64) -> Moment {
    Moment::from_unix_ms(NOW.unix_ms() + seconds * 1_000)
}

const WELL: View = View {
    standing: Standing::Usable { share: 1.0 },
    is_near: true,
    is_tried: false,
    pending: 0,
    places: 10,
    weight: 1,
    latency_ms: 0,
    name_hash: 1,
};
const FAR: View = View {
    is_near: false,
    ..WELL
};
const DUE: View = of(Standing::Due);
const DRAINING: View = of(Standing::Draining);
const DISABLED: View = of(Standing::Disabled);

const fn of(standing: Standing) -> View {
    View { standing, ..WELL }
}

/// Blocked by a guess of ours.
fn guess(seconds: u64) -> View {
    of(Standing::Blocked {
        until: after(seconds),
        stated: false,
        cause: Cause::ServerErrors,
    })
}

/// Blocked by the provider.
fn stated(seconds: u64) -> View {
    of(Standing::Blocked {
        until: after(seconds),
        stated: true,
        cause: Cause::RateLimited,
    })
}

fn full(view: View) -> View {
    View {
        pending: view.places,
        ..view
    }
}

fn tried(view: View) -> View {
    View {
        is_tried: true,
        ..view
    }
}

/// A wait may last ten seconds.
const TERMS: Terms = Terms {
    wanted: Wanted::Any,
    may_try: true,
    may_panic: false,
    ejection_max: 0.5,
    waits_until: Moment::from_unix_ms(NOW.unix_ms() + 10_000),
};

fn chosen(views: &[View], terms: Terms) -> Choice {
    let mut random = fastrand::Rng::with_seed(7);
    choose(views, &terms, &mut || random.f64())
}

const fn ask(index: usize, reason: Reason) -> Choice {
    Choice::Ask { index, reason }
}

const WAIT_FOR_PLACE: Choice = Choice::Wait { until: None };
const NOBODY: Choice = Choice::Nobody { until: None };

fn wait(seconds: u64) -> Choice {
    Choice::Wait {
        until: Some(after(seconds)),
    }
}

fn nobody(seconds: u64) -> Choice {
    Choice::Nobody {
        until: Some(after(seconds)),
    }
}

#[track_caller]
fn check(rows: &[(&str, &[View], Choice)], terms: Terms) {
    for (name, views, expected) in rows {
        assert_eq!(chosen(views, terms), *expected, "{name}");
    }
}

#[test]
fn well_accounts_near_before_far() {
    let busy = View { pending: 1, ..WELL };
    let rows: &[(&str, &[View], Choice)] = &[
        ("the only one", &[WELL], ask(0, Reason::Balanced)),
        ("near before far", &[FAR, WELL], ask(1, Reason::Balanced)),
        ("near is full", &[FAR, full(WELL)], ask(0, Reason::Balanced)),
        (
            "near was tried",
            &[FAR, tried(WELL)],
            ask(0, Reason::Balanced),
        ),
        (
            "near is blocked",
            &[FAR, guess(5)],
            ask(0, Reason::Balanced),
        ),
        (
            "near is draining",
            &[FAR, DRAINING],
            ask(0, Reason::Balanced),
        ),
        (
            "near is disabled",
            &[FAR, DISABLED],
            ask(0, Reason::Balanced),
        ),
        ("the less busy one", &[busy, WELL], ask(1, Reason::Balanced)),
        ("all are full", &[full(WELL), full(FAR)], WAIT_FOR_PLACE),
        (
            "one was tried, one is full",
            &[tried(WELL), full(FAR)],
            WAIT_FOR_PLACE,
        ),
        ("all were tried", &[tried(WELL), tried(FAR)], NOBODY),
        ("all are out of service", &[DRAINING, DISABLED], NOBODY),
        ("there is none", &[], NOBODY),
    ];
    check(rows, TERMS);
}

#[test]
fn accounts_whose_block_is_over_are_tried_at_once() {
    let far_due = View {
        is_near: false,
        ..DUE
    };
    let busy_due = View { pending: 1, ..DUE };
    let rows: &[(&str, &[View], Choice)] = &[
        (
            "before those that are well",
            &[WELL, DUE],
            ask(1, Reason::Trial),
        ),
        ("wherever it is", &[WELL, far_due], ask(1, Reason::Trial)),
        (
            "near before far",
            &[far_due, busy_due],
            ask(1, Reason::Trial),
        ),
        ("the less busy one", &[busy_due, DUE], ask(1, Reason::Trial)),
        ("not twice", &[WELL, tried(DUE)], ask(0, Reason::Balanced)),
        (
            "not without a place",
            &[WELL, full(DUE)],
            ask(0, Reason::Balanced),
        ),
        (
            "its place is waited for",
            &[full(DUE), guess(5)],
            WAIT_FOR_PLACE,
        ),
        (
            "nobody else is left",
            &[tried(WELL), DUE, guess(5)],
            ask(1, Reason::Trial),
        ),
    ];
    check(rows, TERMS);
}

#[test]
fn what_cannot_be_sent_again_is_a_trial_only_where_nobody_is_well() {
    let rows: &[(&str, &[View], Choice)] = &[
        ("somebody is well", &[DUE, WELL], ask(1, Reason::Balanced)),
        ("far away too", &[DUE, FAR], ask(1, Reason::Balanced)),
        (
            "who is well is full",
            &[DUE, full(WELL)],
            ask(0, Reason::Trial),
        ),
        ("nobody else is there", &[DUE], ask(0, Reason::Trial)),
        (
            "before a blocked one",
            &[guess(5), guess(6), DUE],
            ask(2, Reason::Trial),
        ),
    ];
    let may_try = false;
    check(rows, Terms { may_try, ..TERMS });
}

#[test]
fn blocked_accounts_beyond_the_allowance_are_asked_when_the_others_are_full() {
    let rows: &[(&str, &[View], Choice)] = &[
        (
            "not before",
            &[WELL, guess(20), guess(30)],
            ask(0, Reason::Balanced),
        ),
        (
            "half of two may be out",
            &[full(WELL), guess(20)],
            WAIT_FOR_PLACE,
        ),
        (
            "one of three",
            &[full(WELL), guess(20), guess(30)],
            ask(1, Reason::Retained),
        ),
        (
            "the sooner",
            &[full(WELL), guess(30), guess(20)],
            ask(2, Reason::Retained),
        ),
        (
            "wherever",
            &[full(FAR), guess(30), guess(20)],
            ask(2, Reason::Retained),
        ),
        (
            "stated is out first",
            &[full(WELL), stated(5), guess(30)],
            ask(2, Reason::Retained),
        ),
        (
            "stated is stated",
            &[full(WELL), stated(20), stated(30)],
            WAIT_FOR_PLACE,
        ),
        (
            "after who was tried",
            &[tried(WELL), guess(20), guess(30)],
            ask(1, Reason::Retained),
        ),
        (
            "full",
            &[full(WELL), full(guess(20)), guess(30)],
            WAIT_FOR_PLACE,
        ),
        (
            "tried",
            &[full(WELL), tried(guess(20)), guess(30)],
            WAIT_FOR_PLACE,
        ),
        (
            "two of four may be out",
            &[full(WELL), guess(40), guess(20), guess(30)],
            ask(2, Reason::Retained),
        ),
        (
            "and two are",
            &[full(WELL), guess(40), full(guess(20)), guess(30)],
            WAIT_FOR_PLACE,
        ),
        (
            "out of service does not count",
            &[full(WELL), guess(20), DISABLED, DRAINING],
            WAIT_FOR_PLACE,
        ),
        (
            "its place is waited for",
            &[tried(WELL), full(guess(5)), guess(30)],
            WAIT_FOR_PLACE,
        ),
    ];
    check(rows, TERMS);
}

#[test]
fn the_operator_says_how_many_may_be_kept_out() {
    let pool = [full(WELL), guess(20), guess(30)];
    for (ejection_max, expected) in [
        (0.0, ask(1, Reason::Retained)),
        (0.5, ask(1, Reason::Retained)),
        (0.67, WAIT_FOR_PLACE),
        (1.0, WAIT_FOR_PLACE),
    ] {
        let terms = Terms {
            ejection_max,
            ..TERMS
        };
        assert_eq!(chosen(&pool, terms), expected, "{ejection_max}");
    }
    assert_eq!(allowance(100, 0.29), 29, "29.0 is not 28.999…");
    assert_eq!(allowance(7, 0.5), 3);
}

#[test]
fn with_nobody_left_all_are_asked_but_those_that_stated_a_time() {
    let rows: &[(&str, &[View], Choice)] = &[
        ("the only one", &[guess(20)], ask(0, Reason::Panic)),
        (
            "not who stated a time",
            &[stated(5), guess(20)],
            ask(1, Reason::Panic),
        ),
        (
            "not who was tried",
            &[tried(guess(5)), guess(20)],
            ask(1, Reason::Panic),
        ),
        (
            "not who is out of service",
            &[DRAINING, DISABLED, guess(20)],
            ask(2, Reason::Panic),
        ),
        ("all stated a time", &[stated(30), stated(20)], nobody(20)),
        ("or are over soon", &[stated(30), stated(5)], wait(5)),
        (
            "a place is waited for",
            &[full(guess(20)), stated(5)],
            WAIT_FOR_PLACE,
        ),
        (
            "somebody is well but full",
            &[full(WELL), guess(20)],
            WAIT_FOR_PLACE,
        ),
        (
            "somebody is well but was tried",
            &[tried(WELL), guess(20)],
            nobody(20),
        ),
    ];
    let may_panic = true;
    check(rows, Terms { may_panic, ..TERMS });
    let rows: &[(&str, &[View], Choice)] = &[
        (
            "not unless it is allowed",
            &[guess(30), guess(20)],
            nobody(20),
        ),
        (
            "a short block is waited for",
            &[guess(30), guess(5)],
            wait(5),
        ),
        ("its place alone is not", &[full(guess(20))], nobody(20)),
    ];
    check(rows, TERMS);
}

#[test]
fn blocks_that_end_in_time_are_waited_for() {
    let rows: &[(&str, &[View], Choice)] = &[
        ("to the last moment", &[tried(WELL), stated(10)], wait(10)),
        ("no longer", &[tried(WELL), stated(11)], nobody(11)),
        (
            "the first of them",
            &[stated(9), stated(7), guess(8)],
            wait(7),
        ),
        (
            "not for who was tried",
            &[tried(stated(3)), stated(11)],
            nobody(3),
        ),
    ];
    check(rows, TERMS);
}

#[test]
fn an_owner_alone_can_answer() {
    let until_five = Terms {
        waits_until: after(5),
        ..TERMS
    };
    for (name, owner, expected) in [
        ("well", WELL, ask(1, Reason::Owner)),
        ("far", FAR, ask(1, Reason::Owner)),
        ("due", DUE, ask(1, Reason::Owner)),
        ("draining", DRAINING, ask(1, Reason::Owner)),
        ("blocked by a guess", guess(20), ask(1, Reason::Owner)),
        ("full", full(WELL), WAIT_FOR_PLACE),
        (
            "full and blocked by a guess",
            full(guess(20)),
            WAIT_FOR_PLACE,
        ),
        ("blocked for a while", stated(5), wait(5)),
        ("blocked for long", stated(6), nobody(6)),
        ("disabled", DISABLED, NOBODY),
        ("tried", tried(WELL), NOBODY),
        ("tried and blocked", tried(guess(3)), nobody(3)),
    ] {
        let terms = Terms {
            wanted: Wanted::Owner(1),
            ..until_five
        };
        assert_eq!(chosen(&[WELL, owner, DUE], terms), expected, "{name}");
    }
    let nowhere = Terms {
        wanted: Wanted::Owner(3),
        ..TERMS
    };
    assert_eq!(chosen(&[WELL, WELL, WELL], nowhere), NOBODY);
}
