//! The state machine of one account, or of one of its addresses.
//!
//! Pure: it has neither clock nor chance of its own, and does not know how many requests went well; all three come in from
//! outside. It never stays open: a block has an end that was fixed when it began (only the provider's word makes it longer), and
//! a trial of which nothing is heard takes a place for [`TRIAL_PLACE_AGE_MAX`] at most.

mod rules;

pub use rules::{Cause, Openings, Rules, STATED_BLOCK_MIN, State};

use super::blame::Charge;
use super::moment::Moment;
use smallvec::SmallVec;
use std::time::Duration;

/// A trial takes a place for so long: the answer to it may be a stream of an hour.
pub const TRIAL_PLACE_AGE_MAX: Duration = Duration::from_secs(30);

/// What is known of a breaker for longer than the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerRecord {
    /// Where it stands.
    pub state: State,
    /// Since when; `None` if nothing has ever been amiss.
    pub since: Option<Moment>,
    /// Why it opened last.
    pub cause: Option<Cause>,
    /// When the last block is over; `None` while it is closed.
    pub until: Option<Moment>,
    /// The provider itself stated that.
    pub is_stated: bool,
    /// Since it was last well for `backoff_max`: what the back-off goes by.
    pub openings: Openings,
    /// When it opened first since it was last closed; `None` while it is closed.
    pub first_opened: Option<Moment>,
}

/// The state machine.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    kept: BreakerRecord,
    /// Weights of the failures since the last success, while closed.
    failures_in_row: u32,
    /// The same of probes, since the last probe or request that went well.
    probe_failures_in_row: u32,
    window: Option<Window>,
    /// Of the present half-open state, or of the last one.
    round: u32,
    /// Trials that take a place, of this round or of earlier ones: their numbers, and since when.
    trials: SmallVec<[(u32, Moment); 4]>,
    trials_begun: u32,
    trials_succeeded: u32,
}

/// From a failure on, what share of the requests fails.
#[derive(Clone, Copy, Debug)]
struct Window {
    began_at: Moment,
    failures: u64,
    /// What had been completed when it began.
    completed_before: u64,
}

/// A place among the trials of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    round: u32,
    number: u32,
}

/// What a breaker did: it went from one state to another, or a block became longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Where it stood.
    pub from: State,
    /// Where it stands.
    pub to: State,
    /// Why it opened, or what it has recovered from.
    pub cause: Cause,
    /// If it is open: until when.
    pub until: Option<Moment>,
    /// If it closed: since its first opening.
    pub recovered_after: Option<Duration>,
}

/// What a breaker is told about a failure besides what it weighs.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The trial that failed; `None` if it was none.
    pub ticket: Option<Ticket>,
    /// Requests that went well, ever.
    pub completed: u64,
    /// Now.
    pub now: Moment,
    /// From 0 up to 1, for jitter.
    pub random: f64,
    /// It was a probe that failed, not a tenant's request.
    pub is_probe: bool,
}

impl Breaker {
    /// Where it stands.
    pub fn state(&self) -> State {
        self.kept.state
    }

    /// What is to be kept of it.
    pub fn record(&self) -> BreakerRecord {
        self.kept
    }

    /// As it was when the record was made. However the clock was set meanwhile, no block is longer from now on than the rules
    /// allow a new one to be.
    pub fn restore(record: BreakerRecord, rules: &Rules, now: Moment) -> Self {
        let mut kept = record;
        let past = |moment: Option<Moment>| moment.map(|moment| moment.min(now));
        kept.since = past(kept.since);
        kept.first_opened = past(kept.first_opened);
        if kept.state == State::Closed {
            kept.until = None;
            kept.is_stated = false;
            kept.first_opened = None;
        } else {
            let cause = kept.cause.unwrap_or(Cause::ServerErrors);
            let latest = now + rules.block_max(cause, kept.is_stated);
            kept.cause = Some(cause);
            kept.until = Some(kept.until.map_or(now, |until| until.min(latest)));
            kept.since = Some(kept.since.unwrap_or(now));
            kept.first_opened = kept.first_opened.or(kept.since);
        }
        Self {
            kept,
            ..Self::default()
        }
    }

    /// Whether a success would change anything although it is no trial's.
    pub fn is_troubled(&self) -> bool {
        self.kept.state == State::Closed
            && (self.failures_in_row > 0 || self.probe_failures_in_row > 0)
    }

    /// Whether a probe that goes well tells that what it opened for is over.
    pub fn is_seen_by_probes(&self) -> bool {
        self.kept.cause.is_none_or(Cause::is_seen_by_probes)
    }

    /// When a further trial has a place, if all are taken now.
    pub fn next_place(&self, rules: &Rules) -> Option<Moment> {
        if self.trials.len() < rules.trials_max as usize {
            return None;
        }
        let oldest = self.trials.iter().map(|(_, began_at)| *began_at).min();
        oldest.map(|began_at| began_at + TRIAL_PLACE_AGE_MAX)
    }

    /// So many requests would be let through now: all of them while it is closed.
    pub fn trials_left(&self, now: Moment, rules: &Rules) -> u32 {
        match self.kept.state {
            State::Closed => u32::MAX,
            State::Open if self.kept.until.is_some_and(|until| now < until) => 0,
            State::Open | State::HalfOpen => {
                let lasts = |since: Moment| now.since(since) < TRIAL_PLACE_AGE_MAX;
                let taken = self.trials.iter().filter(|(_, since)| lasts(*since));
                rules.trials_max.saturating_sub(taken.count() as u32)
            }
        }
    }

    /// A place for a trial, if one is due and a place is left; the first one makes it half open.
    pub fn admit(&mut self, now: Moment, rules: &Rules) -> Option<(Ticket, Option<Shift>)> {
        let is_over = self.kept.until.is_none_or(|until| until <= now);
        if self.kept.state == State::Closed || (self.kept.state == State::Open && !is_over) {
            return None;
        }
        self.trials
            .retain(|(_, began_at)| now.since(*began_at) < TRIAL_PLACE_AGE_MAX);
        if self.trials.len() >= rules.trials_max as usize {
            return None;
        }
        let shift = (self.kept.state == State::Open).then(|| {
            self.round = self.round.wrapping_add(1);
            self.trials_succeeded = 0;
            self.shift(State::HalfOpen, now)
        });
        self.trials_begun = self.trials_begun.wrapping_add(1);
        self.trials.push((self.trials_begun, now));
        let ticket = Ticket {
            round: self.round,
            number: self.trials_begun,
        };
        Some((ticket, shift))
    }

    /// A trial has ended, or will not say how it ends.
    pub fn give_back(&mut self, ticket: Ticket) {
        self.trials.retain(|(number, _)| *number != ticket.number);
    }

    /// A request went well; with the ticket of the trial that it was.
    pub fn note_success(
        &mut self,
        ticket: Option<Ticket>,
        now: Moment,
        rules: &Rules,
    ) -> Option<Shift> {
        if let Some(ticket) = ticket {
            self.give_back(ticket);
        }
        match self.kept.state {
            State::Closed => {
                self.failures_in_row = 0;
                self.probe_failures_in_row = 0;
                None
            }
            State::HalfOpen if self.is_present(ticket) => {
                self.trials_succeeded += 1;
                (self.trials_succeeded >= rules.trial_successes)
                    .then(|| self.shift(State::Closed, now))
            }
            // Whoever began before the block says nothing about what comes after it.
            State::Open | State::HalfOpen => None,
        }
    }

    /// A probe went well; with the ticket of the trial that it was. Unless it was one, it says nothing of what requests have met
    /// with: it only makes up for probes that failed.
    pub fn note_probe_success(
        &mut self,
        ticket: Option<Ticket>,
        now: Moment,
        rules: &Rules,
    ) -> Option<Shift> {
        if self.kept.state != State::Closed {
            return self.note_success(ticket, now, rules);
        }
        if let Some(ticket) = ticket {
            self.give_back(ticket);
        }
        self.probe_failures_in_row = 0;
        None
    }

    /// A request or a probe failed in a way for which this breaker has to answer.
    pub fn note_failure(
        &mut self,
        charge: Charge,
        circumstances: &Circumstances,
        rules: &Rules,
    ) -> Option<Shift> {
        let now = circumstances.now;
        if let Some(ticket) = circumstances.ticket {
            self.give_back(ticket);
        }
        let is_at_once = matches!(charge, Charge::AtOnce { .. });
        let opens = match self.kept.state {
            State::Closed => self.count(charge, circumstances, rules) || is_at_once,
            State::HalfOpen => is_at_once || self.is_present(circumstances.ticket),
            State::Open => {
                if let Some(shift) = self.prolong(charge, now, rules) {
                    return Some(shift);
                }
                is_at_once && self.kept.until.is_none_or(|until| until <= now)
            }
        };
        opens.then(|| self.open(charge, circumstances, rules))
    }

    /// By the operator's order it is as if nothing had ever been amiss.
    pub fn reset(&mut self, now: Moment) -> Option<Shift> {
        let shift = (self.kept.state != State::Closed).then(|| self.shift(State::Closed, now));
        self.kept = BreakerRecord::default();
        self.forget_failures();
        shift
    }

    /// It is a trial of the half-open state that lasts.
    fn is_present(&self, ticket: Option<Ticket>) -> bool {
        ticket.is_some_and(|ticket| ticket.round == self.round)
    }

    /// Counts a failure of a closed breaker; whether it is one too many.
    fn count(&mut self, charge: Charge, circumstances: &Circumstances, rules: &Rules) -> bool {
        let Charge::Counted { weight, .. } = charge else {
            return false;
        };
        let in_row = if circumstances.is_probe {
            &mut self.probe_failures_in_row
        } else {
            &mut self.failures_in_row
        };
        *in_row = in_row.saturating_add(weight);
        let in_row = self
            .failures_in_row
            .saturating_add(self.probe_failures_in_row);
        // The share is one of requests: probes that go well are not among those that were completed.
        let is_share = !circumstances.is_probe && self.is_share_reached(circumstances, rules);
        in_row >= rules.failures_max || is_share
    }

    /// Counts a request's failure in its window; whether too large a share of them fails.
    fn is_share_reached(&mut self, circumstances: &Circumstances, rules: &Rules) -> bool {
        let (now, completed) = (circumstances.now, circumstances.completed);
        let lasts = |window: &Window| now.since(window.began_at) <= rules.failure_window;
        let mut window = self.window.filter(lasts).unwrap_or(Window {
            began_at: now,
            failures: 0,
            completed_before: completed,
        });
        window.failures += 1;
        self.window = Some(window);
        let requests = window.failures + completed.saturating_sub(window.completed_before);
        let are_enough = requests >= u64::from(rules.failure_rate_requests_min);
        let share = window.failures as f64 / requests as f64;
        are_enough && share >= rules.failure_rate_max
    }

    /// An open breaker stays open for longer if the provider says so.
    fn prolong(&mut self, charge: Charge, now: Moment, rules: &Rules) -> Option<Shift> {
        let until = rules.stated_end(charge.until()?, now);
        if self.kept.until.is_some_and(|present| until <= present) {
            return None;
        }
        self.kept.until = Some(until);
        self.kept.is_stated = true;
        self.kept.cause = Some(charge.cause());
        Some(Shift {
            from: State::Open,
            to: State::Open,
            cause: charge.cause(),
            until: Some(until),
            recovered_after: None,
        })
    }

    fn open(&mut self, charge: Charge, circumstances: &Circumstances, rules: &Rules) -> Shift {
        let now = circumstances.now;
        let was_well_for = |since: Moment| now.since(since) >= rules.backoff_max;
        if self.kept.state == State::Closed && self.kept.since.is_none_or(was_well_for) {
            self.kept.openings = Openings::default();
        }
        let (until, is_stated) = self.block_end(charge, circumstances, rules);
        if !is_stated {
            self.kept.openings.count(charge.cause());
        }
        self.kept.cause = Some(charge.cause());
        self.kept.is_stated = is_stated;
        self.kept.until = Some(until);
        self.kept.first_opened = self.kept.first_opened.or(Some(now));
        self.forget_failures();
        self.shift(State::Open, now)
    }

    fn forget_failures(&mut self) {
        self.failures_in_row = 0;
        self.probe_failures_in_row = 0;
        self.window = None;
    }

    /// When a block that begins now is over, and whether the provider said so. For what is blocked at once its word alone
    /// counts; otherwise it only says how long at least.
    fn block_end(
        &self,
        charge: Charge,
        circumstances: &Circumstances,
        rules: &Rules,
    ) -> (Moment, bool) {
        let now = circumstances.now;
        let (shortest, longest) = rules.backoff(charge.cause());
        let doubled = shortest.saturating_mul(1 << self.kept.openings.of(charge.cause()).min(31));
        let jitter = 0.8 + 0.4 * circumstances.random;
        let varied = doubled.min(longest).as_secs_f64() * jitter;
        let guessed = now + Duration::from_secs_f64(varied).min(longest).max(shortest);
        let stated = charge.until().map(|until| rules.stated_end(until, now));
        match (charge, stated) {
            (Charge::AtOnce { .. }, Some(stated)) => (stated, true),
            (Charge::Counted { .. }, Some(stated)) if stated >= guessed => (stated, true),
            _ => (guessed, false),
        }
    }

    fn shift(&mut self, to: State, now: Moment) -> Shift {
        let from = std::mem::replace(&mut self.kept.state, to);
        self.kept.since = Some(now);
        let mut recovered_after = None;
        if to == State::Closed {
            recovered_after = self.kept.first_opened.take().map(|first| now.since(first));
            self.kept.until = None;
            self.kept.is_stated = false;
        }
        Shift {
            from,
            to,
            cause: self.kept.cause.unwrap_or(Cause::ServerErrors),
            until: self.kept.until.filter(|_| to == State::Open),
            recovered_after,
        }
    }
}

#[cfg(test)]
mod tests;
