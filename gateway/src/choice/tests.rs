//! The choice as pure code: a table for every tier, properties of any pool, and where the load and the conversations go.

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
    now: NOW,
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
    let rows: &[(&str, &[View], Choice)] = &[
        ("the only one", &[WELL], ask(0, Reason::Balanced)),
        ("near before far", &[FAR, WELL], ask(1, Reason::Balanced)),
        (
            "far if near is full",
            &[FAR, full(WELL)],
            ask(0, Reason::Balanced),
        ),
        (
            "far if near was tried",
            &[FAR, tried(WELL)],
            ask(0, Reason::Balanced),
        ),
        (
            "far if near is blocked",
            &[FAR, guess(5)],
            ask(0, Reason::Balanced),
        ),
        (
            "the less busy one",
            &[View { pending: 1, ..WELL }, WELL],
            ask(1, Reason::Balanced),
        ),
        (
            "a place is waited for",
            &[full(WELL), full(FAR)],
            WAIT_FOR_PLACE,
        ),
        (
            "one with a place was tried",
            &[tried(WELL), full(FAR)],
            WAIT_FOR_PLACE,
        ),
        ("all were tried", &[tried(WELL), tried(FAR)], NOBODY),
        ("there is none", &[], NOBODY),
    ];
    check(rows, TERMS);
}
