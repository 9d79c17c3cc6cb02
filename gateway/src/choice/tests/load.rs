//! Where the load goes. Chance is seeded: what is counted here is the same every time.

use super::*;
use std::collections::VecDeque;

/// How often each account is asked in so many requests that find nobody busy.
fn shares_when_idle(views: &[View]) -> Vec<f64> {
    const REQUESTS: usize = 30_000;
    let mut random = fastrand::Rng::with_seed(42);
    let mut asked = vec![0; views.len()];
    for _ in 0..REQUESTS {
        if let Choice::Ask { index, .. } = choose(views, &TERMS, &mut || random.f64()) {
            asked[index] += 1;
        }
    }
    asked
        .iter()
        .map(|&count| f64::from(count) / REQUESTS as f64)
        .collect()
}

#[track_caller]
fn assert_shares(actual: &[f64], expected: &[f64], tolerance: f64) {
    let is_close = |(actual, expected): (&f64, &f64)| (actual - expected).abs() <= tolerance;
    assert!(
        actual.iter().zip(expected).all(is_close),
        "{actual:.3?} for {expected:.3?}"
    );
}

fn weighing(weight: u32) -> View {
    View { weight, ..WELL }
}

fn beginning(share: f32) -> View {
    of(Standing::Usable { share })
}

fn taking(latency_ms: u32) -> View {
    View { latency_ms, ..WELL }
}

#[test]
fn idle_accounts_are_asked_by_weight() {
    let views = [weighing(1), weighing(2), weighing(5)];
    assert_shares(&shares_when_idle(&views), &[0.125, 0.25, 0.625], 0.02);
    let equal = [weighing(1_000); 20];
    assert_shares(&shares_when_idle(&equal), &[0.05; 20], 0.01);
}

#[test]
fn requests_that_stay_are_spread_by_weight() {
    const IN_FLIGHT: usize = 120;
    let mut views = [weighing(1), weighing(2), weighing(3)].map(|view| View {
        places: 1_000,
        ..view
    });
    let mut random = fastrand::Rng::with_seed(42);
    let mut running = VecDeque::new();
    let mut most = [0; 3];
    for round in 0..20_000 {
        let Choice::Ask { index, .. } = choose(&views, &TERMS, &mut || random.f64()) else {
            panic!("there are places for all");
        };
        views[index].pending += 1;
        running.push_back(index);
        if running.len() > IN_FLIGHT {
            // Answers take all kinds of time.
            let ended = random.usize(..running.len());
            views[running.swap_remove_back(ended).unwrap()].pending -= 1;
        }
        if round >= IN_FLIGHT {
            for (most, view) in most.iter_mut().zip(&views) {
                *most = view.pending.max(*most);
            }
        }
    }
    for (most, even) in most.iter().zip([20, 40, 60]) {
        assert!(
            (even..even + 10).contains(most),
            "{most} where {even} are even"
        );
    }
}

#[test]
fn an_account_that_recovered_is_given_more_and_more() {
    let mut before = 0.0;
    for (share, expected) in [(0.1, 0.1 / 1.1), (0.5, 0.5 / 1.5), (1.0, 0.5)] {
        let shares = shares_when_idle(&[WELL, beginning(share)]);
        assert_shares(&shares, &[1.0 - expected, expected], 0.02);
        assert!(shares[1] > before, "{shares:?}");
        before = shares[1];
    }
    // A request in flight weighs ten times as much there.
    let busy = View {
        pending: 1,
        ..beginning(0.1)
    };
    let five_in_flight = View { pending: 5, ..WELL };
    assert_shares(&shares_when_idle(&[five_in_flight, busy]), &[1.0, 0.0], 0.0);
}

#[test]
fn a_share_of_next_to_nothing_is_something() {
    assert!(shares_when_idle(&[WELL, beginning(f32::MIN_POSITIVE)])[1] > 0.005);
}

#[test]
fn a_slow_account_is_asked_less_but_never_forgotten() {
    for (name, latencies, expected) in [
        ("equal", [1_000, 1_000], 0.5),
        ("within what is usual", [1_000, 1_500], 0.5),
        ("three times", [1_000, 3_000], 1.0 / 3.0),
        ("a hundred times", [1_000, 100_000], 0.2),
        ("not known", [1_000, 0], 0.5),
        ("both are fast", [1, 20], 0.5),
    ] {
        let shares = shares_when_idle(&latencies.map(taking));
        assert!((shares[1] - expected).abs() < 0.02, "{name}: {shares:?}");
    }
}

#[test]
fn the_latency_of_an_account_that_cannot_be_asked_is_no_measure() {
    let fastest_is_full = [full(taking(100)), taking(3_000), taking(3_000)];
    assert_shares(&shares_when_idle(&fastest_is_full), &[0.0, 0.5, 0.5], 0.02);
}

#[test]
fn instead_of_a_busy_account_the_others_are_asked_by_weight() {
    let busy = View {
        pending: 9,
        ..weighing(8)
    };
    let shares = shares_when_idle(&[busy, weighing(1), weighing(3)]);
    // It loses to whomever it is drawn with, and they do not lose to it: a quarter and three quarters of all.
    assert_shares(&shares, &[0.0, 0.25, 0.75], 0.02);
}
