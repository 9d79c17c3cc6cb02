//! Where conversations go.

use super::*;
use crate::affinity::{account_hash, conversation_hash};

const CONVERSATIONS: usize = 20_000;

fn account(number: usize) -> View {
    View {
        name_hash: account_hash(&format!("account-{number}")),
        ..WELL
    }
}

fn accounts(count: usize) -> Vec<View> {
    (0..count).map(account).collect()
}

fn hash(tenant: &str, number: usize) -> u64 {
    conversation_hash(tenant, format!("thread-{number}").as_bytes())
}

fn ask_for(views: &[View], conversation: u64) -> (usize, Reason) {
    let terms = Terms {
        wanted: Wanted::Conversation(conversation),
        ..TERMS
    };
    match chosen(views, terms) {
        Choice::Ask { index, reason } => (index, reason),
        other => panic!("{other:?}"),
    }
}

/// The accounts of all conversations, each in its home.
fn homes(views: &[View], tenant: &str) -> Vec<usize> {
    (0..CONVERSATIONS)
        .map(|number| {
            let (index, reason) = ask_for(views, hash(tenant, number));
            assert_eq!(reason, Reason::Conversation);
            index
        })
        .collect()
}

fn share_of(homes: &[usize], account: usize) -> f64 {
    let count = homes.iter().filter(|&&home| home == account).count();
    count as f64 / homes.len() as f64
}

#[test]
fn conversations_are_where_they_always_were() {
    // Other values take every conversation away from the provider's cache at the next start.
    let pool = accounts(5);
    let first: Vec<_> = (0..12)
        .map(|number| ask_for(&pool, hash("acme", number)).0)
        .collect();
    assert_eq!(first, [4, 0, 2, 1, 1, 2, 2, 3, 4, 3, 1, 1]);
}

#[test]
fn only_the_conversations_of_an_account_move_when_it_comes_or_goes() {
    let ten = accounts(10);
    let eleven = accounts(11);
    let (before, after) = (homes(&ten, "acme"), homes(&eleven, "acme"));
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    let mut count = 0;
    for (_, to) in moved {
        assert_eq!(*to, 10, "to the new one alone");
        count += 1;
    }
    let share = f64::from(count) / CONVERSATIONS as f64;
    assert!((share - 1.0 / 11.0).abs() < 0.01, "{share}");
}

#[test]
fn weights_say_how_many_conversations_an_account_has() {
    let mut views = accounts(3);
    for (view, weight) in views.iter_mut().zip([1, 2, 5]) {
        view.weight = weight;
    }
    let homes = homes(&views, "acme");
    for (account, expected) in [0.125, 0.25, 0.625].into_iter().enumerate() {
        let share = share_of(&homes, account);
        assert!((share - expected).abs() < 0.015, "{account}: {share}");
    }
}

#[test]
fn tenants_with_equal_keys_have_nothing_to_do_with_each_other() {
    let pool = accounts(10);
    let (one, other) = (homes(&pool, "one"), homes(&pool, "other"));
    let same = one
        .iter()
        .zip(&other)
        .filter(|(one, other)| one == other)
        .count();
    let share = same as f64 / CONVERSATIONS as f64;
    assert!((share - 0.1).abs() < 0.01, "{share}");
}

#[test]
fn a_conversation_escapes_from_an_account_that_cannot_take_it_and_comes_back() {
    let conversation = hash("acme", 1);
    let mut views = accounts(4);
    let (home, _) = ask_for(&views, conversation);
    let well = views[home];
    let mut refuges = Vec::new();
    for hindered in [
        View {
            standing: guess(5).standing,
            ..well
        },
        View {
            standing: stated(5).standing,
            ..well
        },
        full(well),
        tried(well),
    ] {
        views[home] = hindered;
        let (refuge, reason) = ask_for(&views, conversation);
        assert_eq!(reason, Reason::Escaped);
        refuges.push(refuge);
    }
    assert!(
        refuges
            .iter()
            .all(|&refuge| refuge == refuges[0] && refuge != home)
    );

    // By the operator's word it is not its home any more.
    views[home] = View {
        standing: Standing::Draining,
        ..well
    };
    assert_eq!(
        ask_for(&views, conversation),
        (refuges[0], Reason::Conversation)
    );
    views[home] = well;
    assert_eq!(ask_for(&views, conversation), (home, Reason::Conversation));
}

#[test]
fn a_busy_account_keeps_its_conversations_up_to_a_bound() {
    let conversation = hash("acme", 1);
    let mut views = accounts(4);
    for view in &mut views {
        view.places = 1_000;
    }
    let (home, _) = ask_for(&views, conversation);
    let mut stayed = 0;
    for number in 0..200 {
        let (index, reason) = ask_for(&views, conversation);
        assert_eq!(reason == Reason::Conversation, index == home);
        stayed += u32::from(number < 5 && index == home);
        views[index].pending += 1;
    }
    assert_eq!(stayed, 5, "a few at a time are no reason to go");
    // Its part is 50: at most twice that and a few more.
    assert!((100..=105).contains(&views[home].pending), "{views:?}");
}

#[test]
fn an_account_that_recovered_gets_its_conversations_back_bit_by_bit() {
    let mut views = accounts(2);
    let at_home = homes(&views, "acme");
    let mut before = 0.0;
    for (share, expected) in [(0.1, 0.1 / 1.1), (0.5, 0.5 / 1.5), (1.0, 0.5)] {
        views[0].standing = Standing::Usable { share };
        let back = (0..CONVERSATIONS)
            .filter(|&number| {
                let (index, reason) = ask_for(&views, hash("acme", number));
                assert_eq!(reason == Reason::Conversation, index == at_home[number]);
                index == 0
            })
            .count();
        let back = back as f64 / CONVERSATIONS as f64;
        assert!(
            (back - expected).abs() < 0.015 && back > before,
            "{share}: {back}"
        );
        before = back;
    }
}

#[test]
fn home_is_in_the_region_that_is_preferred() {
    let mut views = accounts(6);
    for view in &mut views[..3] {
        view.is_near = false;
    }
    for number in 0..100 {
        let conversation = hash("acme", number);
        let (home, reason) = ask_for(&views, conversation);
        assert_eq!((home >= 3, reason), (true, Reason::Conversation));
        let mut near_is_full = views.clone();
        for view in &mut near_is_full[3..] {
            *view = full(*view);
        }
        let (refuge, reason) = ask_for(&near_is_full, conversation);
        assert_eq!((refuge < 3, reason), (true, Reason::Escaped));
        // Where there is none in that region, the other one is home.
        assert_eq!(ask_for(&views[..3], conversation).1, Reason::Conversation);
    }
}
