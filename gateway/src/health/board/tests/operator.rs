//! What the operator orders.

use super::*;

#[test]
fn the_operators_word_comes_first_and_ends_by_itself() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(600));
    health.obey(FIRST, wish(Wish::Drained, Some(after(60))), START);
    assert_eq!(health.standing(FIRST, after(59)), Standing::Draining);
    let expected = blocked(after(600), true, Cause::RateLimited);
    assert_eq!(health.standing(FIRST, after(60)), expected);
    health.take_transitions();
    health.tick(after(59));
    assert_eq!(health.take_transitions(), []);
    assert!(health.record(FIRST).operator.is_some());
    health.tick(after(60));
    health.tick(after(61));
    let over = Transition {
        account: FIRST,
        address: None,
        at: after(60),
        change: Change::Expired(Wish::Enabled),
    };
    assert_eq!(health.take_transitions(), [over]);
    assert_eq!(health.record(FIRST).operator, None);
}

#[test]
fn what_the_configuration_switches_off_is_asked_once_the_operator_says_so() {
    let health = board(|_| {});
    assert_eq!(health.standing(THIRD, START), Standing::Disabled);
    health.obey(THIRD, wish(Wish::Enabled, Some(after(60))), START);
    assert_eq!(health.standing(THIRD, START), WELL);
    assert_eq!(health.wish(THIRD, after(60)), Wish::Disabled);
    health.tick(after(60));
    assert_eq!(health.standing(THIRD, after(60)), Standing::Disabled);
    health.obey(THIRD, wish(Wish::Enabled, None), after(60));
    health.tick(after(1_000_000));
    assert_eq!(health.standing(THIRD, after(1_000_000)), WELL);
}

#[test]
fn to_enable_what_the_configuration_enables_only_takes_back_what_was_said() {
    let health = board(|_| {});
    health.obey(FIRST, wish(Wish::Drained, None), START);
    health.obey(FIRST, wish(Wish::Enabled, None), after(1));
    assert_eq!(health.standing(FIRST, after(1)), WELL);
    // A later `enabled = false` in the file counts.
    assert_eq!(health.record(FIRST).operator, None);
    health.obey(THIRD, wish(Wish::Enabled, None), after(1));
    assert!(health.record(THIRD).operator.is_some());
}

#[test]
fn by_order_the_account_and_its_addresses_are_well_at_once() {
    let health = board(|_| {});
    rate_limited(health, FIRST, after(600));
    unreachable(health, 1, START);
    health.take_transitions();
    let order = Order::Reset {
        reason: Some("new key".into()),
    };
    health.obey(FIRST, order.clone(), after(1));
    assert_eq!(health.standing(FIRST, after(1)), WELL);
    assert_eq!(health.path_standing(FIRST, 1, after(1)), WELL);
    let mut told = health.take_transitions();
    let last = told.pop().map(|transition| transition.change);
    assert_eq!(last, Some(Change::Ordered(order)));
    assert_eq!(told.len(), 2);
    for (transition, address) in told.iter().zip([None, Some(1)]) {
        assert_eq!(transition.address, address);
        assert!(matches!(
            transition.change,
            Change::Breaker {
                from: State::Open,
                to: State::Closed,
                ordered: true,
                ..
            }
        ));
    }
    assert_words_agree(health, true);
}

#[test]
fn every_order_is_told_with_its_words_whether_or_not_anything_changes() {
    let health = board(|_| {});
    let reset = Order::Reset {
        reason: Some("to be sure".into()),
    };
    let orders = [
        wish(Wish::Drained, Some(after(60))),
        wish(Wish::Drained, None),
        reset.clone(),
        reset,
    ];
    for order in &orders {
        health.obey(SECOND, order.clone(), START);
    }
    let told = health.take_transitions().into_iter();
    let told: Vec<_> = told
        .map(|transition| (transition.account, transition.change))
        .collect();
    let expected = orders.map(|order| (SECOND, Change::Ordered(order)));
    assert_eq!(told, expected);
}
