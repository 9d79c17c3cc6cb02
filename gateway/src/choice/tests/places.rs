//! What is counted as free is what is handed out.

use super::*;

/// So many are asked, one after the other, until nobody has a place.
fn handed_out(views: &[View], ejection_max: f64, may_panic: bool) -> usize {
    let mut views = views.to_vec();
    let terms = Terms {
        wanted: Wanted::Any,
        may_try: true,
        may_panic,
        ejection_max,
        waits_until: NOW,
    };
    let mut count = 0;
    while let Choice::Ask { index, .. } = choose(&views, &terms, &mut || 0.5) {
        views[index].pending += 1;
        count += 1;
    }
    count
}

#[test]
fn the_places_that_are_free_are_those_that_are_handed_out() {
    let two = |view: View| View { places: 2, ..view };
    let taken = |view: View| View { pending: 2, ..view };
    let kinds = [
        WELL,
        FAR,
        DUE,
        guess(5),
        guess(9),
        stated(7),
        DRAINING,
        DISABLED,
        taken(WELL),
        taken(DUE),
        taken(guess(5)),
    ]
    .map(two);
    let mut in_panic = 0;
    for first in kinds {
        for second in kinds {
            for third in kinds {
                let views = [first, second, third];
                for ejection_max in [0.0, 0.34, 0.5, 1.0] {
                    let free = free_places(&views, ejection_max);
                    let found = handed_out(&views, ejection_max, free.in_panic);
                    assert_eq!(free.places, found, "{views:?}, {ejection_max}");
                    if free.in_panic {
                        in_panic += 1;
                        assert_eq!(handed_out(&views, ejection_max, false), 0, "{views:?}");
                    }
                }
            }
        }
    }
    assert!(in_panic > 0);
}
