//! Concurrency, quotas and budgets, compared with a list of the requests there have been.

use crate::config::policy::{Allowance, KeyNumber, Limit, LimitSet, Money, Scope, TenantId};
use crate::limits::tests::used;
use crate::limits::{Admission, Allowances, Estimate, Exceeded, ScopeState, Who};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::{Duration, Instant, SystemTime};

const OF_REQUESTS: [Limit; 3] = [
    Limit::ConcurrentRequests,
    Limit::RequestsPerDay,
    Limit::RequestsPerMonth,
];
const OF_USE: [Limit; 3] = [
    Limit::TokensPerDay,
    Limit::TokensPerMonth,
    Limit::BudgetPerMonth,
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit {
        key: u32,
    },
    Reserve {
        which: usize,
        tokens: u64,
        cost: u64,
    },
    Settle {
        which: usize,
        tokens: u64,
        cost: u64,
    },
    Drop {
        which: usize,
    },
    Clock {
        minutes: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        6 => -300..2_000i64,
        2 => -10_000..10_000i64,
        1 => 0..200_000i64,
    ];
    prop_oneof![
        4 => (0..2u32).prop_map(|key| Step::Admit { key }),
        3 => (0..9usize, 0..60u64, 0..60u64)
            .prop_map(|(which, tokens, cost)| Step::Reserve { which, tokens, cost }),
        3 => (0..9usize, 0..90u64, 0..90u64)
            .prop_map(|(which, tokens, cost)| Step::Settle { which, tokens, cost }),
        1 => (0..9usize).prop_map(|which| Step::Drop { which }),
        2 => clock.prop_map(|minutes| Step::Clock { minutes }),
    ]
}

fn allowance() -> impl Strategy<Value = Allowance> {
    let maybe = |most| prop::option::weighted(0.6, 0..most as u64);
    let limits = (
        prop::option::weighted(0.5, 0..6u32),
        (maybe(8), maybe(20)),
        (maybe(200), maybe(400), maybe(400)),
        any::<u16>(),
        any::<u16>(),
    );
    limits.prop_map(
        |(concurrent_requests, requests, tokens, some, others)| Allowance {
            concurrent_requests,
            requests_per_day: requests.0,
            requests_per_month: requests.1,
            tokens_per_day: tokens.0,
            tokens_per_month: tokens.1,
            budget_per_month: tokens.2.map(Money::from_nano),
            shadow: LimitSet::from_bits(some & others),
            ..Allowance::default()
        },
    )
}

/// A day and its month, as a calendar on the wall has them.
type Date = (civil::Date, (i16, i8));

/// A request that was admitted and not given back.
#[derive(Clone, Copy)]
struct Request {
    key: u32,
    date: Date,
    is_running: bool,
    /// What is set aside, or was used, and when that was set aside.
    use_date: Date,
    tokens: u64,
    cost: u64,
}

struct Model {
    tenant: Allowance,
    keys: [Allowance; 2],
    requests: Vec<Request>,
    today: Date,
}

impl Model {
    /// How much of a limit is taken.
    fn used(&self, key: Option<u32>, limit: Limit) -> u64 {
        let amount = |request: &Request| {
            let (date, month) = (request.date, request.date.1);
            let (use_date, use_month) = (request.use_date, request.use_date.1);
            let (counts, amount) = match limit {
                Limit::ConcurrentRequests => (request.is_running, 1),
                Limit::RequestsPerDay => (date == self.today, 1),
                Limit::RequestsPerMonth => (month == self.today.1, 1),
                Limit::TokensPerDay => (use_date == self.today, request.tokens),
                Limit::TokensPerMonth => (use_month == self.today.1, request.tokens),
                Limit::BudgetPerMonth => (use_month == self.today.1, request.cost),
                _ => unreachable!("no rates here"),
            };
            if counts { amount } else { 0 }
        };
        let own = |request: &&Request| key.is_none_or(|key| request.key == key);
        self.requests.iter().filter(own).map(amount).sum()
    }

    /// The limit that must refuse, and the shadows that would have.
    fn verdict(
        &self,
        key: u32,
        limits: &[Limit],
        amount: impl Fn(Limit) -> u64,
    ) -> (Option<(Scope, Limit)>, LimitSet) {
        let mut shadowed = LimitSet::EMPTY;
        let scopes = [
            (Scope::Key, Some(key), &self.keys[key as usize]),
            (Scope::Tenant, None, &self.tenant),
        ];
        for (scope, key, allowance) in scopes {
            for &limit in limits {
                let fits = max(allowance, limit)
                    .is_none_or(|max| self.used(key, limit) + amount(limit) <= max);
                if fits {
                    continue;
                }
                if !allowance.shadow.contains(limit) {
                    return (Some((scope, limit)), shadowed);
                }
                shadowed = shadowed.with(limit);
            }
        }
        (None, shadowed)
    }
}

fn max(allowance: &Allowance, limit: Limit) -> Option<u64> {
    match limit {
        Limit::ConcurrentRequests => allowance.concurrent_requests.map(u64::from),
        Limit::RequestsPerDay => allowance.requests_per_day,
        Limit::RequestsPerMonth => allowance.requests_per_month,
        Limit::TokensPerDay => allowance.tokens_per_day,
        Limit::TokensPerMonth => allowance.tokens_per_month,
        Limit::BudgetPerMonth => allowance.budget_per_month.map(Money::nano),
        _ => None,
    }
}

/// The gateway's limits, and the list beside them.
struct Run {
    allowances: &'static Allowances,
    model: Model,
    /// Those in flight: with their places in the list.
    running: Vec<(usize, Admission)>,
    zone: TimeZone,
    wall: SystemTime,
    now: Instant,
}

impl Run {
    fn new(zone: &str, tenant: Allowance, keys: [Allowance; 2]) -> Self {
        let zone = TimeZone::get(zone).unwrap();
        let wall = "2026-03-28T20:00:00Z".parse::<Timestamp>().unwrap().into();
        let allowances = Allowances::of(&[tenant], &keys, zone.clone(), wall);
        let today = date(wall, &zone);
        Self {
            allowances: Box::leak(Box::new(allowances)),
            model: Model {
                tenant,
                keys,
                requests: Vec::new(),
                today,
            },
            running: Vec::new(),
            zone,
            wall,
            now: Instant::now(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Admit { key } => self.admit(key)?,
            Step::Reserve {
                which,
                tokens,
                cost,
            } => self.reserve(which, tokens, cost)?,
            Step::Settle {
                which,
                tokens,
                cost,
            } => {
                if let Some((place, admission)) = self.take(which) {
                    admission.settle(&used(tokens / 3, tokens - tokens / 3, cost), self.now);
                    let request = &mut self.model.requests[place];
                    request.is_running = false;
                    (request.tokens, request.cost) = (tokens, cost);
                }
            }
            Step::Drop { which } => {
                if let Some((place, admission)) = self.take(which) {
                    drop(admission);
                    let request = &mut self.model.requests[place];
                    request.is_running = false;
                    // It never was.
                    request.date = Date::default();
                    (request.tokens, request.cost) = (0, 0);
                }
            }
            Step::Clock { minutes } => {
                let by = Duration::from_secs(minutes.unsigned_abs() * 60);
                self.wall = if minutes < 0 {
                    self.wall - by
                } else {
                    self.wall + by
                };
                self.allowances.turn(self.wall);
                self.model.today = self.model.today.max(date(self.wall, &self.zone));
            }
        }
        self.compare()
    }

    fn take(&mut self, which: usize) -> Option<(usize, Admission)> {
        let index = which.checked_rem(self.running.len())?;
        Some(self.running.swap_remove(index))
    }

    fn admit(&mut self, key: u32) -> Result<(), TestCaseError> {
        let before = self.states();
        let (refused, shadowed) = self.model.verdict(key, &OF_REQUESTS, |_| 1);
        let who = Who {
            tenant: TenantId(0),
            key: KeyNumber(key),
        };
        match self.allowances.admit(who, self.now) {
            Ok(admission) => {
                prop_assert_eq!(refused, None);
                prop_assert_eq!(admission.shadowed(), shadowed);
                self.running.push((self.model.requests.len(), admission));
                self.model.requests.push(Request {
                    key,
                    date: self.model.today,
                    is_running: true,
                    use_date: self.model.today,
                    tokens: 0,
                    cost: 0,
                });
            }
            Err(exceeded) => {
                check_refusal(&exceeded, refused)?;
                prop_assert_eq!(before, self.states());
            }
        }
        Ok(())
    }

    fn reserve(&mut self, which: usize, tokens: u64, cost: u64) -> Result<(), TestCaseError> {
        let Some(index) = which.checked_rem(self.running.len()) else {
            return Ok(());
        };
        let (place, admission) = &mut self.running[index];
        // What it had set aside is given back first.
        let request = &mut self.model.requests[*place];
        (request.tokens, request.cost) = (0, 0);
        let key = request.key;
        let amount = |limit| {
            if limit == Limit::BudgetPerMonth {
                cost
            } else {
                tokens
            }
        };
        let (refused, shadowed) = self.model.verdict(key, &OF_USE, amount);
        let estimate = Estimate {
            tokens,
            cost: Money::from_nano(cost),
        };
        match admission.reserve(estimate, self.now) {
            Ok(()) => {
                prop_assert_eq!(refused, None);
                let of_use = |set: LimitSet| OF_USE.map(|limit| set.contains(limit));
                prop_assert_eq!(of_use(admission.shadowed()), of_use(shadowed));
                let request = &mut self.model.requests[*place];
                request.use_date = self.model.today;
                (request.tokens, request.cost) = (tokens, cost);
            }
            Err(exceeded) => check_refusal(&exceeded, refused)?,
        }
        Ok(())
    }

    fn states(&self) -> [ScopeState; 3] {
        [None, Some(KeyNumber(0)), Some(KeyNumber(1))]
            .map(|key| self.allowances.state(TenantId(0), key, self.now))
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let keys = [None, Some(0), Some(1)];
        for (key, state) in keys.into_iter().zip(self.states()) {
            for one in state.limits {
                let expected = self.model.used(key, one.limit);
                prop_assert_eq!(one.used, expected, "{:?} of {:?}", one.limit, key);
            }
            let settled = self.model.requests.iter().filter(|request| {
                let is_own = key.is_none_or(|key| request.key == key);
                is_own && !request.is_running && request.date == self.model.today
            });
            prop_assert_eq!(state.day.requests, settled.clone().count() as u64);
            let tokens = settled.map(|request| request.tokens).sum::<u64>();
            prop_assert_eq!(state.day.input_tokens + state.day.output_tokens, tokens);
        }
        let in_flight = u64::from(self.allowances.in_flight(TenantId(0)));
        let running = self.model.used(None, Limit::ConcurrentRequests);
        prop_assert_eq!(in_flight, running);
        Ok(())
    }
}

fn check_refusal(
    exceeded: &Exceeded,
    expected: Option<(Scope, Limit)>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(Some((exceeded.scope, exceeded.limit)), expected);
    prop_assert!(exceeded.retry_after > Duration::ZERO);
    let has_end = exceeded.limit != Limit::ConcurrentRequests;
    prop_assert_eq!(exceeded.resets_at.is_some(), has_end);
    Ok(())
}

fn date(wall: SystemTime, zone: &TimeZone) -> Date {
    let time = Timestamp::try_from(wall).unwrap().to_zoned(zone.clone());
    (time.date(), (time.year(), time.month()))
}

proptest! {
    #[test]
    fn as_the_list_says(
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Tokyo"]),
        tenant in allowance(),
        keys in [allowance(), allowance()],
        steps in vec(step(), 1..150),
    ) {
        let mut run = Run::new(zone, tenant, keys);
        for step in steps {
            run.step(step)?;
        }
        while let Some((place, admission)) = run.take(0) {
            drop(admission);
            run.model.requests.remove(place);
            run.running.iter_mut().for_each(|(other, _)| *other -= usize::from(*other > place));
        }
        prop_assert_eq!(run.allowances.in_flight(TenantId(0)), 0);
        run.compare()?;
    }
}
