//! What holds of any pool.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn standing() -> impl Strategy<Value = Standing> {
    let blocked = (1..30u64, any::<bool>()).prop_map(|(seconds, stated)| Standing::Blocked {
        until: after(seconds),
        stated,
        cause: Cause::ServerErrors,
    });
    prop_oneof![
        3 => (0.1..=1.0f32).prop_map(|share| Standing::Usable { share }),
        1 => Just(Standing::Due),
        4 => blocked,
        1 => Just(Standing::Draining),
        1 => Just(Standing::Disabled),
    ]
}

prop_compose! {
    fn view()(
        standing in standing(),
        is_near in any::<bool>(),
        is_tried in prop::bool::weighted(0.2),
        places in 1..6u32,
        filled in 0..=10u32,
        weight in 1..=1_000u32,
        latency_ms in prop_oneof![Just(0), 1..60_000u32],
        name_hash in any::<u64>(),
    ) -> View {
        // A cap that was lowered leaves more requests in flight than there are places.
        let pending = filled * places / 8;
        View { standing, is_near, is_tried, pending, places, weight, latency_ms, name_hash }
    }
}

fn pool() -> impl Strategy<Value = Vec<View>> {
    vec(view(), 0..14)
}

prop_compose! {
    fn terms()(
        wanted in prop_oneof![Just(Wanted::Any), any::<u64>().prop_map(Wanted::Conversation)],
        may_try in any::<bool>(),
        may_panic in any::<bool>(),
        ejection_max in 0.0..=1.0f64,
        waits_for in 0..20u64,
    ) -> Terms {
        Terms { wanted, may_try, may_panic, ejection_max, waits_until: after(waits_for) }
    }
}

/// Chance at its worst: both ends, and between.
fn chance() -> impl Strategy<Value = Vec<f64>> {
    vec(
        prop_oneof![Just(0.0), Just(1.0f64.next_down()), 0.0..1.0],
        1..4,
    )
}

fn choose_by(views: &[View], terms: &Terms, chance: &[f64]) -> Choice {
    let mut drawn = chance.iter().copied().cycle();
    choose(views, terms, &mut || drawn.next().unwrap())
}

fn is_well(view: &View) -> bool {
    matches!(view.standing, Standing::Usable { .. } | Standing::Due)
}

fn is_free(view: &View) -> bool {
    !view.is_tried && view.pending < view.places
}

fn is_stated(view: &View) -> bool {
    matches!(view.standing, Standing::Blocked { stated: true, .. })
}

fn is_blocked(view: &View) -> bool {
    matches!(view.standing, Standing::Blocked { .. })
}

fn blocked_until(view: &View) -> Option<Moment> {
    match view.standing {
        Standing::Blocked { until, .. } => Some(until),
        _ => None,
    }
}

fn allowed_out(views: &[View], terms: &Terms) -> usize {
    let out_of_service =
        |view: &&View| matches!(view.standing, Standing::Draining | Standing::Disabled);
    let in_service = views.len() - views.iter().filter(out_of_service).count();
    (in_service as f64 * terms.ejection_max + 1e-9) as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn who_is_asked_may_be_asked_and_for_the_reason_given(
        views in pool(), terms in terms(), chance in chance(),
    ) {
        let Choice::Ask { index, reason } = choose_by(&views, &terms, &chance) else {
            return Ok(());
        };
        let asked = &views[index];
        prop_assert!(is_free(asked));
        prop_assert!(!is_stated(asked));
        let well = |is_usable: fn(&View) -> bool| views.iter().any(|view| is_usable(view) && is_free(view));
        match reason {
            Reason::Balanced => prop_assert_eq!(terms.wanted, Wanted::Any),
            Reason::Conversation | Reason::Escaped => prop_assert_ne!(terms.wanted, Wanted::Any),
            Reason::Trial => prop_assert_eq!(asked.standing, Standing::Due),
            Reason::Retained => {
                prop_assert!(is_blocked(asked) && !well(is_well));
                prop_assert!(views.iter().any(is_well));
                let kept_out = views.iter().filter(|view| is_blocked(view)).count();
                prop_assert!(kept_out > allowed_out(&views, &terms));
            }
            Reason::Panic => {
                prop_assert!(is_blocked(asked) && terms.may_panic);
                prop_assert!(!views.iter().any(is_well));
            }
            Reason::Owner => prop_assert!(false, "nobody wanted the owner"),
        }
        if matches!(reason, Reason::Balanced | Reason::Conversation | Reason::Escaped) {
            let is_usable = matches!(asked.standing, Standing::Usable { .. });
            prop_assert!(is_usable);
            let is_nearer = |view: &View| {
                view.is_near && matches!(view.standing, Standing::Usable { .. })
            };
            prop_assert!(asked.is_near || !well(is_nearer));
        }
    }

    #[test]
    fn an_owner_is_asked_or_nobody(
        views in pool(), terms in terms(), index in 0..14usize, chance in chance(),
    ) {
        let terms = Terms { wanted: Wanted::Owner(index), ..terms };
        if let Choice::Ask { index: asked, reason } = choose_by(&views, &terms, &chance) {
            prop_assert_eq!((asked, reason), (index, Reason::Owner));
            prop_assert!(is_free(&views[asked]) && !is_stated(&views[asked]));
            prop_assert_ne!(views[asked].standing, Standing::Disabled);
        }
    }

    #[test]
    fn no_place_of_a_well_account_is_left_unused(
        views in pool(), terms in terms(), chance in chance(),
    ) {
        if views.iter().any(|view| is_well(view) && is_free(view)) {
            let Choice::Ask { index, .. } = choose_by(&views, &terms, &chance) else {
                return Err(TestCaseError::fail("somebody could have been asked"));
            };
            prop_assert!(is_well(&views[index]));
        }
    }

    #[test]
    fn no_more_than_the_allowance_are_kept_out_while_capacity_is_needed(
        views in pool(), terms in terms(), chance in chance(),
    ) {
        let mut views: Vec<_> = views.into_iter().map(|view| View { is_tried: false, ..view }).collect();
        prop_assume!(views.iter().any(is_well));
        // Requests come until nobody takes any more.
        while let Choice::Ask { index, .. } = choose_by(&views, &terms, &chance) {
            views[index].pending += 1;
        }
        let idle = |view: &&View| is_blocked(view) && view.pending < view.places;
        let stated = views.iter().filter(|view| is_stated(view)).count();
        let guesses_left = views.iter().filter(idle).filter(|view| !is_stated(view)).count();
        prop_assert!(guesses_left <= allowed_out(&views, &terms).saturating_sub(stated));
    }

    #[test]
    fn with_nobody_well_every_place_but_the_stated_ones_is_used_in_panic(
        views in pool(), terms in terms(), chance in chance(),
    ) {
        let mut views: Vec<_> = views.into_iter().filter(|view| !is_well(view)).collect();
        let terms = Terms { may_panic: true, ..terms };
        while let Choice::Ask { index, reason } = choose_by(&views, &terms, &chance) {
            prop_assert_eq!(reason, Reason::Panic);
            views[index].pending += 1;
        }
        let is_left = |view: &View| is_blocked(view) && !is_stated(view) && is_free(view);
        prop_assert!(!views.iter().any(is_left));
    }

    #[test]
    fn a_wait_is_for_something_and_nobody_means_that_there_is_nothing(
        views in pool(), terms in terms(), chance in chance(),
    ) {
        let untried = || views.iter().filter(|view| !view.is_tried);
        let first_untried = untried().filter_map(blocked_until).min();
        match choose_by(&views, &terms, &chance) {
            Choice::Ask { .. } => {}
            Choice::Wait { until: None } => {
                let would_do = |view: &View| is_well(view) || is_blocked(view) && !is_stated(view);
                prop_assert!(untried().any(|view| would_do(view) && !is_free(view)));
            }
            Choice::Wait { until } => {
                prop_assert!(until.is_some_and(|until| until <= terms.waits_until));
                prop_assert_eq!(until, first_untried);
            }
            Choice::Nobody { until } => {
                prop_assert!(!untried().any(is_well));
                prop_assert!(first_untried.is_none_or(|until| until > terms.waits_until));
                prop_assert_eq!(until, views.iter().filter_map(blocked_until).min());
            }
        }
    }

    #[test]
    fn a_conversation_depends_on_neither_chance_nor_the_order_of_the_accounts(
        views in pool(), terms in terms(), conversation in any::<u64>(), chance in chance(), turn in 0..14usize,
    ) {
        let terms = Terms { wanted: Wanted::Conversation(conversation), may_try: false, ..terms };
        let by_name = |views: &[View], chance: &[f64]| match choose_by(views, &terms, chance) {
            Choice::Ask { index, reason: reason @ (Reason::Conversation | Reason::Escaped) } => {
                Some((views[index].name_hash, reason))
            }
            _ => None,
        };
        let mut turned = views.clone();
        turned.rotate_left(turn % views.len().max(1));
        prop_assert_eq!(by_name(&views, &chance), by_name(&turned, &[0.5]));
    }
}
