//! What readers need to know of a breaker, and of the operator's wish, in one atomic word each.

use super::{Standing, Wish};
use crate::health::breaker::{Breaker, Cause, Rules, State};
use crate::health::moment::Moment;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Share of the load that an account begins with after a recovery.
const SHARE_FIRST: f32 = 0.1;

/// Where all trials are out, it is worth asking again after this: the answers of most of them have come by then.
const TRIALS_OUT_PAUSE: Duration = Duration::from_millis(100);

const MOMENT_BITS: u32 = 42;
const MOMENT_MAX: u64 = (1 << MOMENT_BITS) - 1;
const CAUSE_SHIFT: u32 = MOMENT_BITS;
const CAUSE_BITS: u32 = 4;
const STATED_SHIFT: u32 = CAUSE_SHIFT + CAUSE_BITS;
const KIND_SHIFT: u32 = STATED_SHIFT + 1;

// Until the year 2109.
const _: () = assert!(MOMENT_MAX > 4_000_000_000_000);
const _: () = assert!(Cause::ALL.len() <= 1 << CAUSE_BITS);

/// Closed; the moment: since when, zero if it was never open.
const CLOSED: u64 = 0;
/// Closed, and the last request failed: a success has to be noted.
const TROUBLED: u64 = 1;
/// Open; the moment: until when.
const OPEN: u64 = 2;
/// Half open; the moment: when a further trial has a place.
const HALF_OPEN: u64 = 3;

/// A breaker as readers see it: moment (42 bits), cause (4), whether the end is stated (1), kind (2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// Of that breaker.
    pub(super) fn of(breaker: &Breaker, rules: &Rules) -> Self {
        let record = breaker.record();
        // Trials that began before it opened again may have all the places.
        let next_place = breaker.next_place(rules);
        let (kind, moment) = match record.state {
            State::Closed if breaker.is_troubled() => (TROUBLED, record.since),
            State::Closed => (CLOSED, record.since),
            State::Open => (OPEN, record.until.max(next_place)),
            State::HalfOpen => (HALF_OPEN, next_place),
        };
        let is_stated = record.is_stated && next_place <= record.until;
        let cause = match record.state {
            State::Closed => 0,
            State::Open | State::HalfOpen => record.cause.map_or(0, |cause| cause as u64),
        };
        Self(
            kind << KIND_SHIFT
                | u64::from(is_stated) << STATED_SHIFT
                | cause << CAUSE_SHIFT
                | packed(moment),
        )
    }

    /// A success that is no trial's has to be noted.
    pub(super) fn is_troubled(self) -> bool {
        self.0 >> KIND_SHIFT == TROUBLED
    }

    /// What follows from it.
    pub(super) fn standing(self, now: Moment, rules: &Rules) -> Standing {
        let moment = Moment::from_unix_ms(self.0 & MOMENT_MAX);
        match self.0 >> KIND_SHIFT {
            OPEN | HALF_OPEN if moment <= now => Standing::Due,
            OPEN => Standing::Blocked {
                until: moment,
                stated: self.0 >> STATED_SHIFT & 1 == 1,
                cause: self.cause(),
            },
            HALF_OPEN => Standing::Blocked {
                until: moment.min(now + TRIALS_OUT_PAUSE),
                stated: false,
                cause: self.cause(),
            },
            _ => Standing::Usable {
                share: share(now.since(moment), rules.slow_start),
            },
        }
    }

    fn cause(self) -> Cause {
        let index = self.0 >> CAUSE_SHIFT & ((1 << CAUSE_BITS) - 1);
        Cause::ALL[(index as usize).min(Cause::ALL.len() - 1)]
    }
}

/// Grows from a tenth to all of it.
fn share(closed_for: Duration, slow_start: Duration) -> f32 {
    if closed_for >= slow_start {
        return 1.0;
    }
    SHARE_FIRST + (1.0 - SHARE_FIRST) * closed_for.div_duration_f32(slow_start)
}

/// Zero stands for "none": nothing here happened in 1970.
fn packed(moment: Option<Moment>) -> u64 {
    moment.map_or(0, |moment| moment.unix_ms().min(MOMENT_MAX))
}

/// What the operator wants, what applies after it, and when that is: moment (42 bits), later wish (2), present wish (2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WishWord(u64);

impl WishWord {
    /// `wish` until then, if it ends; then `afterwards`.
    pub(super) fn new(wish: Wish, until: Option<Moment>, afterwards: Wish) -> Self {
        // A wish that ended in 1970 is over, too.
        let until = until.map(|until| until.max(Moment::from_unix_ms(1)));
        Self(code(wish) << (MOMENT_BITS + 2) | code(afterwards) << MOMENT_BITS | packed(until))
    }

    /// Its time is over.
    pub(super) fn is_over(self, now: Moment) -> bool {
        let until = self.0 & MOMENT_MAX;
        until != 0 && now.unix_ms() >= until
    }

    /// What applies now.
    pub(super) fn wish(self, now: Moment) -> Wish {
        let shift = if self.is_over(now) {
            MOMENT_BITS
        } else {
            MOMENT_BITS + 2
        };
        match self.0 >> shift & 3 {
            0 => Wish::Enabled,
            1 => Wish::Drained,
            _ => Wish::Disabled,
        }
    }
}

fn code(wish: Wish) -> u64 {
    match wish {
        Wish::Enabled => 0,
        Wish::Drained => 1,
        Wish::Disabled => 2,
    }
}

/// A word that many read and that is written under the account's lock.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64);

impl Gate {
    pub(super) fn word(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    pub(super) fn publish(&self, breaker: &Breaker, rules: &Rules) {
        self.0.store(Word::of(breaker, rules).0, Ordering::Release);
    }
}

/// The same of the operator's wish.
#[derive(Debug)]
pub(super) struct WishGate(AtomicU64);

impl WishGate {
    pub(super) fn new(word: WishWord) -> Self {
        Self(AtomicU64::new(word.0))
    }

    pub(super) fn word(&self) -> WishWord {
        WishWord(self.0.load(Ordering::Acquire))
    }

    pub(super) fn publish(&self, word: WishWord) {
        self.0.store(word.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_numbered_as_they_are_listed() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index, "{cause:?}");
        }
    }

    #[test]
    fn an_accounts_share_grows_from_a_tenth_to_all_of_it() {
        let slow_start = Duration::from_secs(30);
        for (closed_for_ms, expected) in [(0, 0.1), (15_000, 0.55), (30_000, 1.0), (90_000, 1.0)] {
            let found = share(Duration::from_millis(closed_for_ms), slow_start);
            assert!((found - expected).abs() < 1e-6, "{closed_for_ms}: {found}");
        }
        assert_eq!(
            share(Duration::ZERO, Duration::ZERO).to_bits(),
            1.0f32.to_bits()
        );
    }

    #[test]
    fn a_wish_ends_by_itself() {
        let at = Moment::from_unix_ms;
        let word = WishWord::new(Wish::Drained, Some(at(2_000)), Wish::Disabled);
        assert_eq!(word.wish(at(1_999)), Wish::Drained);
        assert_eq!(word.wish(at(2_000)), Wish::Disabled);
        let for_ever = WishWord::new(Wish::Disabled, None, Wish::Enabled);
        assert_eq!(for_ever.wish(at(u64::MAX)), Wish::Disabled);
        let long_over = WishWord::new(Wish::Disabled, Some(at(0)), Wish::Enabled);
        assert_eq!(long_over.wish(at(2_000)), Wish::Enabled);
    }
}
