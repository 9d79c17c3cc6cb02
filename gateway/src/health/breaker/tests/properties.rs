//! Whatever happens to a breaker, in whatever order.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Something that happens. Trials are named by their turn among those that were admitted.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wait(Duration),
    Admit,
    /// With its verdict, or without one.
    EndTrial(usize, Option<Ending>),
    End(Ending),
    Reset,
    /// The process ends, and another one begins.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Good,
    Bad {
        cause: Cause,
        /// `None`: at once.
        weight: Option<u32>,
        /// From ten seconds ago on.
        stated_ms: Option<u64>,
        random: f64,
    },
}

fn duration(ms: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    ms.prop_map(Duration::from_millis)
}

fn rules() -> impl Strategy<Value = Rules> {
    let counts = (1..5u32, 0.1..1.0f64, 1..20u32, 1..4u32, 1..4u32);
    let times = (
        duration(10..3_000),
        duration(0..60_000),
        duration(10..60_000),
        duration(0..600_000),
        duration(1_000..7_200_000),
    );
    (counts, times).prop_map(|(counts, times)| Rules {
        failures_max: counts.0,
        failure_rate_max: counts.1,
        failure_rate_requests_min: counts.2,
        trials_max: counts.3,
        trial_successes: counts.4,
        backoff_min: times.0,
        backoff_max: times.0 + times.1,
        refused_backoff_min: times.2,
        refused_backoff_max: times.2 + times.3,
        stated_block_max: times.4,
        ..RULES
    })
}

fn ending() -> impl Strategy<Value = Ending> {
    let stated = option::weighted(0.3, 0..3_600_000u64);
    let weight = option::weighted(0.7, 1..3u32);
    let bad = (select(&Cause::ALL[..]), weight, stated, 0.0..1.0f64).prop_map(
        |(cause, weight, stated_ms, random)| Ending::Bad {
            cause,
            weight,
            stated_ms,
            random,
        },
    );
    prop_oneof![2 => Just(Ending::Good), 3 => bad]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => duration(0..5_000).prop_map(Event::Wait),
        1 => duration(0..600_000).prop_map(Event::Wait),
        5 => Just(Event::Admit),
        4 => (0..8usize, option::weighted(0.8, ending())).prop_map(|(turn, ending)| {
            Event::EndTrial(turn, ending)
        }),
        4 => ending().prop_map(Event::End),
        1 => prop_oneof![4 => Just(Event::Restart), 1 => Just(Event::Reset)],
    ]
}

/// A breaker, and what an onlooker knows of it.
struct World {
    rules: Rules,
    now: Moment,
    breaker: Breaker,
    completed: u64,
    /// Trials of this process that have not ended.
    trials: Vec<(Ticket, Moment)>,
    /// The provider's word: nobody is admitted before.
    stated: Option<Moment>,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: START,
            breaker: Breaker::default(),
            completed: 0,
            trials: Vec::new(),
            stated: None,
        }
    }

    fn live(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Wait(time) => self.now = self.now + time,
            Event::Admit => return self.admit(),
            Event::EndTrial(turn, ending) if turn < self.trials.len() => {
                let (ticket, _) = self.trials.remove(turn);
                match ending {
                    Some(ending) => return self.end(Some(ticket), ending),
                    None => self.breaker.give_back(ticket),
                }
            }
            Event::EndTrial(..) => {}
            Event::End(ending) => return self.end(None, ending),
            Event::Reset => {
                self.breaker.reset(self.now);
                self.stated = None;
            }
            Event::Restart => {
                let record = self.breaker.record();
                self.breaker = Breaker::restore(record, &self.rules, self.now);
                self.trials.clear();
                prop_assert_eq!(self.breaker.record(), record, "what is restored was saved");
            }
        }
        Ok(())
    }

    fn admit(&mut self) -> Result<(), TestCaseError> {
        let record = self.breaker.record();
        let now = self.now;
        let takes_place =
            |(_, began_at): &&(Ticket, Moment)| now.since(*began_at) < TRIAL_PLACE_AGE_MAX;
        let taken = self.trials.iter().filter(takes_place).count();
        let is_blocked = record.state == State::Open && record.until > Some(now);
        let is_expected =
            record.state != State::Closed && !is_blocked && taken < self.rules.trials_max as usize;
        let admitted = self.breaker.admit(now, &self.rules);
        prop_assert_eq!(
            admitted.is_some(),
            is_expected,
            "{} places are taken",
            taken
        );
        if let Some((ticket, _)) = admitted {
            prop_assert!(self.stated.is_none_or(|stated| stated <= now));
            self.trials.push((ticket, now));
        }
        Ok(())
    }

    fn end(&mut self, ticket: Option<Ticket>, ending: Ending) -> Result<(), TestCaseError> {
        match ending {
            Ending::Good => {
                self.completed += 1;
                self.breaker.note_success(ticket, self.now, &self.rules);
                Ok(())
            }
            Ending::Bad {
                cause,
                weight,
                stated_ms,
                random,
            } => {
                let until =
                    stated_ms.map(|ms| Moment::from_unix_ms(self.now.unix_ms() - 10_000 + ms));
                let charge = match weight {
                    None => Charge::AtOnce { cause, until },
                    Some(weight) => Charge::Counted {
                        cause,
                        weight,
                        until,
                    },
                };
                self.fail(charge, ticket, random)
            }
        }
    }

    fn fail(
        &mut self,
        charge: Charge,
        ticket: Option<Ticket>,
        random: f64,
    ) -> Result<(), TestCaseError> {
        let circumstances = Circumstances {
            ticket,
            completed: self.completed,
            now: self.now,
            random,
            is_probe: false,
        };
        let before = self.breaker.record();
        let shift = self
            .breaker
            .note_failure(charge, &circumstances, &self.rules);
        let record = self.breaker.record();
        if let Charge::AtOnce { until, .. } = charge {
            prop_assert_eq!(record.state, State::Open);
            if let Some(stated) = until {
                let stated = self.rules.stated_end(stated, self.now);
                prop_assert!(record.until >= Some(stated), "what is stated is kept");
                self.stated = self.stated.max(Some(stated));
            }
        }
        if before.state == State::Open && before.until > Some(self.now) {
            prop_assert!(record.until >= before.until, "no block becomes shorter");
        }
        let Some(shift) = shift else {
            prop_assert_eq!(record, before, "whatever changes is told");
            return Ok(());
        };
        prop_assert_eq!((shift.to, shift.until), (State::Open, record.until));
        let length = record.until.map(|until| until.since(self.now));
        let length = length.unwrap_or_default();
        let (shortest, longest) = if record.is_stated {
            (STATED_BLOCK_MIN, self.rules.stated_block_max)
        } else {
            self.rules.backoff(charge.cause())
        };
        prop_assert!(length >= shortest && length <= longest, "{:?}", length);
        Ok(())
    }

    /// Time passes, trials succeed.
    fn recover(&mut self) -> Result<(), TestCaseError> {
        let block_max = self
            .rules
            .stated_block_max
            .max(self.rules.backoff_max)
            .max(self.rules.refused_backoff_max);
        self.now = self.now + block_max.max(TRIAL_PLACE_AGE_MAX);
        for _ in 0..self.rules.trial_successes {
            if self.breaker.state() == State::Closed {
                break;
            }
            let admitted = self.breaker.admit(self.now, &self.rules);
            let Some((ticket, _)) = admitted else {
                return Err(TestCaseError::fail("nobody is admitted"));
            };
            self.breaker
                .note_success(Some(ticket), self.now, &self.rules);
        }
        prop_assert_eq!(self.breaker.state(), State::Closed);
        Ok(())
    }
}

proptest! {
    #[test]
    fn places_blocks_and_stated_times_are_kept_and_it_always_closes_again(
        rules in rules(),
        events in vec(event(), 1..80),
    ) {
        let mut world = World::new(rules);
        for event in events {
            world.live(event)?;
        }
        world.recover()?;
    }

    #[test]
    fn whatever_was_kept_becomes_a_breaker_that_closes_again(
        rules in rules(),
        state in select(&State::ALL[..]),
        cause in option::of(select(&Cause::ALL[..])),
        moments in (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>())),
        is_stated in any::<bool>(),
        openings in any::<(u32, u32)>(),
    ) {
        let moment = |ms: Option<u64>| ms.map(Moment::from_unix_ms);
        let record = BreakerRecord {
            state,
            since: moment(moments.0),
            cause,
            until: moment(moments.1),
            is_stated,
            openings: Openings { of_credential: openings.0, others: openings.1 },
            first_opened: moment(moments.2),
        };
        let mut world = World::new(rules);
        world.breaker = Breaker::restore(record, &world.rules, world.now);
        prop_assert!(world.breaker.record().since <= Some(world.now));
        world.recover()?;
    }
}
