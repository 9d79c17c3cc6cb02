use super::*;

mod properties;

const START: Moment = Moment::from_unix_ms(1_800_000_000_000);

const RULES: Rules = Rules {
    failures_max: 3,
    failure_rate_max: 0.5,
    failure_rate_requests_min: 10,
    failure_window: Duration::from_secs(30),
    backoff_min: Duration::from_secs(2),
    backoff_max: Duration::from_secs(60),
    refused_backoff_min: Duration::from_secs(600),
    refused_backoff_max: Duration::from_secs(3_600),
    stated_block_max: Duration::from_secs(7_200),
    trials_max: 2,
    trial_successes: 2,
    slow_start: Duration::from_secs(30),
    ejection_max: 0.5,
};

fn after(seconds: u64) -> Moment {
    START + Duration::from_secs(seconds)
}

fn counted(weight: u32) -> Charge {
    Charge::Counted {
        cause: Cause::ServerErrors,
        weight,
        until: None,
    }
}

fn at_once(cause: Cause, until: Option<Moment>) -> Charge {
    Charge::AtOnce { cause, until }
}

/// A failure without jitter (the middle of its range), of no trial.
fn at(now: Moment) -> Circumstances {
    Circumstances {
        ticket: None,
        completed: 0,
        now,
        random: 0.5,
        is_probe: false,
    }
}

fn of_trial(ticket: Ticket, now: Moment) -> Circumstances {
    Circumstances {
        ticket: Some(ticket),
        ..at(now)
    }
}

fn admitted(breaker: &mut Breaker, now: Moment) -> Ticket {
    let (ticket, _) = breaker.admit(now, &RULES).expect("a place is free");
    ticket
}

/// Open from the start on, for `seconds` as stated.
fn open_until(seconds: u64) -> Breaker {
    let mut breaker = Breaker::default();
    let charge = at_once(Cause::RateLimited, Some(after(seconds)));
    assert!(breaker.note_failure(charge, &at(START), &RULES).is_some());
    breaker
}

fn close(breaker: &mut Breaker, now: Moment) -> Option<Shift> {
    let mut shift = None;
    for _ in 0..RULES.trial_successes {
        let ticket = admitted(breaker, now);
        shift = breaker.note_success(Some(ticket), now, &RULES);
    }
    assert_eq!(breaker.state(), State::Closed);
    shift
}

#[test]
fn so_many_failures_in_a_row_open_it_and_a_success_in_between_counts_from_the_start() {
    let mut breaker = Breaker::default();
    for _ in 0..2 {
        assert_eq!(breaker.note_failure(counted(1), &at(START), &RULES), None);
    }
    assert!(breaker.is_troubled());
    assert_eq!(breaker.note_success(None, START, &RULES), None);
    assert!(!breaker.is_troubled());
    for _ in 0..2 {
        assert_eq!(breaker.note_failure(counted(1), &at(START), &RULES), None);
    }
    let shift = breaker.note_failure(counted(1), &at(START), &RULES);
    let expected = Shift {
        from: State::Closed,
        to: State::Open,
        cause: Cause::ServerErrors,
        until: Some(after(2)),
        recovered_after: None,
    };
    assert_eq!(shift, Some(expected));
    assert_eq!(breaker.admit(START, &RULES), None);
}

#[test]
fn heavier_failures_count_for_more() {
    let mut breaker = Breaker::default();
    assert_eq!(breaker.note_failure(counted(2), &at(START), &RULES), None);
    assert!(
        breaker
            .note_failure(counted(2), &at(START), &RULES)
            .is_some()
    );
}

#[test]
fn too_large_a_share_of_failures_opens_it_although_none_follow_each_other() {
    let mut breaker = Breaker::default();
    let mut note = |completed, now| {
        let circumstances = Circumstances {
            completed,
            ..at(now)
        };
        breaker.note_success(None, now, &RULES);
        breaker.note_failure(counted(1), &circumstances, &RULES)
    };
    // Every other request fails: nine are too few to tell.
    let opened_at = (0..20).find(|&done| note(1_000 + done, after(done)).is_some());
    assert_eq!(opened_at, Some(5), "6 failures and 5 successes");
}

#[test]
fn what_failed_before_the_window_is_forgotten() {
    let mut breaker = Breaker::default();
    for step in 0..100 {
        breaker.note_success(None, after(step * 8), &RULES);
        let circumstances = Circumstances {
            completed: step,
            ..at(after(step * 8))
        };
        let shift = breaker.note_failure(counted(1), &circumstances, &RULES);
        assert_eq!(shift, None, "there are never ten requests in 30 s");
    }
}

#[test]
fn the_backoff_doubles_up_to_its_ceiling_and_is_forgotten_after_a_good_time() {
    let mut breaker = Breaker::default();
    let mut now = START;
    for seconds in [2, 4, 8, 16, 32, 60, 60] {
        let shift = breaker.note_failure(at_once(Cause::RateLimited, None), &at(now), &RULES);
        let until = now + Duration::from_secs(seconds);
        assert_eq!(shift.and_then(|shift| shift.until), Some(until));
        now = until;
        close(&mut breaker, now);
        now = now + Duration::from_secs(59);
    }
    now = now + Duration::from_secs(1);
    breaker.note_failure(at_once(Cause::RateLimited, None), &at(now), &RULES);
    assert_eq!(
        breaker.record().until,
        Some(now + Duration::from_secs(2)),
        "closed for a minute"
    );
}

#[test]
fn what_passes_in_seconds_makes_no_refusal_longer_and_the_other_way_round() {
    let mut breaker = Breaker::default();
    let mut now = START;
    for (cause, seconds) in [
        (Cause::RateLimited, 2),
        (Cause::Resets, 4),
        (Cause::RateLimited, 8),
        (Cause::Refused, 600),
        (Cause::RateLimited, 16),
        (Cause::QuotaExhausted, 1_200),
        (Cause::Refused, 2_400),
        (Cause::ServerErrors, 32),
    ] {
        breaker.note_failure(at_once(cause, None), &at(now), &RULES);
        let until = now + Duration::from_secs(seconds);
        assert_eq!(breaker.record().until, Some(until), "{cause:?}");
        now = until;
        let record = breaker.record();
        breaker = Breaker::restore(record, &RULES, now);
        close(&mut breaker, now);
    }
}

#[test]
fn jitter_stays_between_floor_and_ceiling() {
    for (openings, random, expected_ms) in [
        (0, 0.0, 2_000),
        (0, 0.999_999, 2_399),
        (1, 0.0, 3_200),
        (1, 0.999_999, 4_799),
        (10, 0.0, 48_000),
        (10, 0.999_999, 60_000),
        (u32::MAX, 0.5, 60_000),
    ] {
        let record = BreakerRecord {
            openings: Openings {
                of_credential: 3,
                others: openings,
            },
            since: Some(START),
            ..BreakerRecord::default()
        };
        let mut breaker = Breaker::restore(record, &RULES, START);
        let circumstances = Circumstances {
            random,
            ..at(START)
        };
        breaker.note_failure(at_once(Cause::PortsShort, None), &circumstances, &RULES);
        let found = breaker.record().until.map(|until| until.since(START));
        let expected = Duration::from_millis(expected_ms);
        assert_eq!(found, Some(expected), "{openings} {random}");
    }
}

#[test]
fn refusals_and_used_up_quotas_are_blocked_for_long() {
    for (cause, seconds) in [
        (Cause::Refused, 600),
        (Cause::QuotaExhausted, 600),
        (Cause::RateLimited, 2),
    ] {
        let mut breaker = Breaker::default();
        breaker.note_failure(at_once(cause, None), &at(START), &RULES);
        assert_eq!(breaker.record().until, Some(after(seconds)), "{cause:?}");
    }
}

#[test]
fn a_stated_time_wins_within_what_is_believed() {
    for (stated, expected_ms) in [
        (START, 1_000),
        (after(1), 1_000),
        (after(17), 17_000),
        (after(7_200), 7_200_000),
        (after(1_000_000), 7_200_000),
    ] {
        let mut breaker = Breaker::default();
        let charge = at_once(Cause::RateLimited, Some(stated));
        breaker.note_failure(charge, &at(START), &RULES);
        let record = breaker.record();
        assert_eq!(
            record.until,
            Some(START + Duration::from_millis(expected_ms))
        );
        assert!(record.is_stated);
        assert_eq!(record.openings.all(), 0, "nothing was guessed");
    }
}

#[test]
fn a_later_stated_end_prolongs_a_block_and_an_earlier_one_does_not_shorten_it() {
    let mut breaker = open_until(30);
    let stated = |seconds| at_once(Cause::QuotaExhausted, Some(after(seconds)));
    assert_eq!(
        breaker.note_failure(stated(29), &at(after(1)), &RULES),
        None
    );
    let shift = breaker.note_failure(stated(60), &at(after(1)), &RULES);
    let expected = Shift {
        from: State::Open,
        to: State::Open,
        cause: Cause::QuotaExhausted,
        until: Some(after(60)),
        recovered_after: None,
    };
    assert_eq!(shift, Some(expected));
    assert_eq!(
        breaker.note_failure(at_once(Cause::Refused, None), &at(after(2)), &RULES),
        None,
        "guesses do not count twice"
    );
    assert_eq!(breaker.record().until, Some(after(60)));
}

#[test]
fn what_is_counted_is_blocked_for_its_backoff_at_least_and_for_what_was_stated() {
    for (stated, until, is_stated) in [(1, 2, false), (2, 2, true), (40, 40, true)] {
        let mut breaker = Breaker::default();
        let charge = Charge::Counted {
            cause: Cause::ServerErrors,
            weight: 3,
            until: Some(after(stated)),
        };
        breaker.note_failure(charge, &at(START), &RULES);
        let record = breaker.record();
        assert_eq!(
            (record.until, record.is_stated),
            (Some(after(until)), is_stated)
        );
    }
}

#[test]
fn a_few_trials_decide() {
    let mut breaker = open_until(10);
    assert_eq!(breaker.admit(after(9), &RULES), None);
    let (first, shift) = breaker.admit(after(10), &RULES).expect("it is due");
    assert_eq!(
        shift.map(|shift| (shift.from, shift.to)),
        Some((State::Open, State::HalfOpen))
    );
    let second = admitted(&mut breaker, after(11));
    assert_eq!(breaker.admit(after(11), &RULES), None, "two at one time");
    assert_eq!(breaker.next_place(&RULES), Some(after(40)));
    assert_eq!(breaker.note_success(Some(first), after(12), &RULES), None);
    let third = admitted(&mut breaker, after(12));
    let shift = breaker.note_success(Some(second), after(13), &RULES);
    assert_eq!(
        shift.map(|shift| (shift.to, shift.recovered_after)),
        Some((State::Closed, Some(Duration::from_secs(13))))
    );
    // The last one comes too late to decide; it counts as what it is.
    assert_eq!(
        breaker.note_failure(counted(1), &of_trial(third, after(14)), &RULES),
        None
    );
    assert!(breaker.is_troubled());
}

#[test]
fn a_failed_trial_opens_it_again_for_longer() {
    let mut breaker = Breaker::default();
    breaker.note_failure(counted(3), &at(START), &RULES);
    let first = admitted(&mut breaker, after(2));
    let second = admitted(&mut breaker, after(2));
    let shift = breaker.note_failure(counted(1), &of_trial(first, after(3)), &RULES);
    assert_eq!(shift.and_then(|shift| shift.until), Some(after(7)));
    assert_eq!(
        breaker.note_failure(counted(1), &of_trial(second, after(4)), &RULES),
        None,
        "the other trial of the same time does not count twice"
    );
    assert_eq!(breaker.record().until, Some(after(7)));
    assert_eq!(breaker.record().first_opened, Some(START));
}

#[test]
fn who_began_before_the_block_has_no_say_in_what_comes_after_it() {
    let mut breaker = open_until(10);
    let place = admitted(&mut breaker, after(10));
    assert_eq!(
        breaker.note_failure(counted(9), &at(after(11)), &RULES),
        None
    );
    assert_eq!(breaker.note_success(None, after(11), &RULES), None);
    assert_eq!(breaker.note_success(None, after(11), &RULES), None);
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.note_failure(counted(1), &of_trial(place, after(11)), &RULES);
    let due = breaker.record().until.expect("it is open");
    let late = admitted(&mut breaker, due);
    breaker.give_back(late);
    // A trial of the round before.
    assert_eq!(breaker.note_success(Some(place), due, &RULES), None);
    assert_eq!(breaker.note_success(Some(place), due, &RULES), None);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn what_is_blocked_at_once_is_blocked_while_it_is_half_open_too() {
    let mut breaker = open_until(10);
    let place = admitted(&mut breaker, after(10));
    breaker.give_back(place);
    let missing = at_once(Cause::AddressMissing, None);
    assert!(
        breaker
            .note_failure(missing, &at(after(11)), &RULES)
            .is_some()
    );
    let due = breaker.record().until.expect("it is open");
    // Nobody has tried meanwhile, and it is reported again.
    assert!(breaker.note_failure(missing, &at(due), &RULES).is_some());
    assert!(breaker.record().until > Some(due));
}

#[test]
fn a_trial_of_which_nothing_is_heard_takes_a_place_for_half_a_minute() {
    let mut breaker = open_until(10);
    let first = admitted(&mut breaker, after(10));
    let _lost = admitted(&mut breaker, after(20));
    assert_eq!(breaker.admit(after(39), &RULES), None);
    let third = admitted(&mut breaker, after(40));
    assert_eq!(breaker.admit(after(49), &RULES), None);
    // It says how it ended after all: that counts, and takes nobody's place away.
    assert_eq!(breaker.note_success(Some(first), after(49), &RULES), None);
    assert_eq!(breaker.admit(after(49), &RULES), None);
    assert!(
        breaker
            .note_success(Some(third), after(49), &RULES)
            .is_some()
    );
}

#[test]
fn trials_of_an_earlier_round_take_places_as_well() {
    let mut breaker = open_until(10);
    let first = admitted(&mut breaker, after(10));
    let second = admitted(&mut breaker, after(10));
    breaker.note_failure(counted(1), &of_trial(first, after(11)), &RULES);
    let _third = admitted(&mut breaker, after(13));
    assert_eq!(breaker.admit(after(13), &RULES), None);
    breaker.give_back(second);
    assert!(breaker.admit(after(13), &RULES).is_some());
}

#[test]
fn by_order_it_is_as_if_nothing_had_been_amiss() {
    let mut breaker = open_until(3_600);
    let shift = breaker.reset(after(1));
    assert_eq!(
        shift.map(|shift| (shift.from, shift.to)),
        Some((State::Open, State::Closed))
    );
    assert_eq!(breaker.record(), BreakerRecord::default());
    breaker.note_failure(counted(2), &at(after(1)), &RULES);
    assert_eq!(breaker.reset(after(1)), None);
    assert!(!breaker.is_troubled());
    assert_eq!(
        breaker.note_failure(counted(2), &at(after(2)), &RULES),
        None
    );
}

#[test]
fn a_clock_that_was_set_back_makes_no_block_longer_than_a_new_one() {
    let breaker = open_until(3_600);
    let year_before = Moment::from_unix_ms(START.unix_ms() - 31_536_000_000);
    let restored = Breaker::restore(breaker.record(), &RULES, year_before);
    assert_eq!(
        restored.record().until,
        Some(year_before + RULES.stated_block_max)
    );
    assert_eq!(restored.record().since, Some(year_before));
    let guess = BreakerRecord {
        is_stated: false,
        ..breaker.record()
    };
    let restored = Breaker::restore(guess, &RULES, START);
    assert_eq!(restored.record().until, Some(after(60)));
}

#[test]
fn records_that_make_no_sense_become_breakers_that_do() {
    for state in State::ALL {
        let record = BreakerRecord {
            state,
            ..BreakerRecord::default()
        };
        let mut breaker = Breaker::restore(record, &RULES, START);
        if state != State::Closed {
            close(&mut breaker, START);
        }
    }
}
