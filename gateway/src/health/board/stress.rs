//! Many threads on one board, and whatever one thread does to it.

use super::tests::{FIRST, RESET, SECOND, START, assert_words_agree, board};
use super::*;
use crate::health::Fault;
use crate::health::breaker::TRIAL_PLACE_AGE_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const FAULTS: [Fault; 8] = [
    Fault::RateLimited { until: None },
    Fault::ServerError { until: None },
    Fault::Reset,
    Fault::BrokenOff,
    Fault::Unreachable,
    Fault::ConnectTimedOut,
    Fault::PortsShort,
    Fault::AddressMissing,
];

/// Blocks are over soon, so that trials are many.
fn lively_board() -> &'static Health {
    board(|rules| {
        rules.backoff_min = Duration::from_millis(2);
        rules.backoff_max = Duration::from_millis(8);
        rules.trials_max = 2;
        rules.trial_successes = 2;
    })
}

fn places() -> [(AccountId, usize); 3] {
    [(FIRST, 0), (FIRST, 1), (SECOND, 0)]
}

/// Time passes, trials succeed, everybody is well.
fn assert_all_recover(health: &'static Health, now: Moment) {
    for (account, address) in places() {
        for _ in 0..health.rules.trial_successes {
            let trial = health.begin_trial(account, address, now);
            health.succeeded(account, address, trial, now);
        }
        for standing in [
            health.standing(account, now),
            health.path_standing(account, address, now),
        ] {
            assert!(matches!(standing, Standing::Usable { .. }), "{standing:?}");
        }
    }
}

#[test]
fn many_threads_never_exceed_the_places_and_give_all_of_them_back() {
    const THREADS: u64 = 8;
    const STEPS: u64 = 4_000;
    let health = lively_board();
    // Every other step takes a millisecond: no trial is so old at the end that it would have lost its place.
    let clock = AtomicU64::new(0);
    let out: [AtomicU32; 3] = Default::default();
    let trials = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let (clock, out, trials) = (&clock, &out, &trials);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..STEPS {
                    let passed = clock.fetch_add(random.u64(0..2), Ordering::Relaxed);
                    let now = START + Duration::from_millis(passed);
                    let turn = random.usize(0..3);
                    let (account, address) = places()[turn];
                    let trial = health.begin_trial(account, address, now);
                    let is_trial = trial.is_some();
                    if is_trial {
                        trials.fetch_add(1, Ordering::Relaxed);
                        let others = out[turn].fetch_add(1, Ordering::SeqCst);
                        // It may be a trial of the account, of the address, or of both.
                        assert!(others < 2 * health.rules.trials_max);
                    }
                    std::thread::yield_now();
                    if is_trial {
                        out[turn].fetch_sub(1, Ordering::SeqCst);
                    }
                    match random.u32(0..10) {
                        0 => drop(trial),
                        1..=3 => {
                            let fault = FAULTS[random.usize(0..FAULTS.len())];
                            health.failed(account, address, trial, fault, now, random.f64());
                        }
                        _ => health.succeeded(account, address, trial, now),
                    }
                    health.note_latency(account, Duration::from_millis(passed % 100), now);
                }
            });
        }
    });
    let now = START + Duration::from_millis(clock.load(Ordering::Relaxed));
    assert!(now.since(START) < TRIAL_PLACE_AGE_MAX);
    assert!(
        trials.load(Ordering::Relaxed) > 100,
        "there was little to see"
    );
    assert_words_agree(health, true);
    assert_all_recover(health, now + health.rules.backoff_max);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Begin(usize),
    /// The trial of this turn ends; `None`: without a verdict, otherwise with this fault or, beyond the table, well.
    End(usize, Option<usize>),
    Request(usize, usize),
    Reset(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = 0..FAULTS.len() * 2;
    prop_oneof![
        3 => (0..10u64).prop_map(Step::Wait),
        1 => (0..40_000u64).prop_map(Step::Wait),
        6 => (0..3usize).prop_map(Step::Begin),
        4 => (0..6usize, proptest::option::of(outcome.clone()))
            .prop_map(|(turn, outcome)| Step::End(turn, outcome)),
        6 => (0..3usize, outcome).prop_map(|(turn, outcome)| Step::Request(turn, outcome)),
        1 => (0..3usize).prop_map(Step::Reset),
    ]
}

proptest! {
    #[test]
    fn whoever_is_due_can_be_tried_and_words_always_agree(steps in vec(step(), 1..60)) {
        let health = lively_board();
        let mut now = START;
        let mut trials = Vec::new();
        let end = |turn: usize, outcome: usize, trial: Option<Trial>, now| {
            let (account, address) = places()[turn];
            match FAULTS.get(outcome) {
                Some(&fault) => health.failed(account, address, trial, fault, now, 0.5),
                None => health.succeeded(account, address, trial, now),
            }
        };
        for step in steps {
            match step {
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
                Step::Begin(turn) => {
                    let (account, address) = places()[turn];
                    let own = health.shared(account).gate.word().standing(now, &health.rules);
                    let path = health.path_standing(account, address, now);
                    let is_due = own == Standing::Due || path == Standing::Due;
                    let trial = health.begin_trial(account, address, now);
                    prop_assert_eq!(trial.is_some(), is_due, "{:?} {:?}", own, path);
                    trials.extend(trial.map(|trial| (turn, trial)));
                }
                Step::End(index, outcome) if index < trials.len() => {
                    let (turn, trial) = trials.remove(index);
                    match outcome {
                        Some(outcome) => end(turn, outcome, Some(trial), now),
                        None => drop(trial),
                    }
                }
                Step::End(..) => {}
                Step::Request(turn, outcome) => end(turn, outcome, None, now),
                Step::Reset(turn) => health.obey(places()[turn].0, RESET, now),
            }
            assert_words_agree(health, false);
        }
        drop(trials);
        assert_words_agree(health, true);
        assert_all_recover(health, now + health.rules.backoff_max);
    }
}
