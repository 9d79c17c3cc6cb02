//! Which of several accounts is asked. Pure: what is known of each comes in as a [`View`], chance from outside.
//!
//! Region first, then health, then the better of two drawn by weight; a conversation stays with its account as long as that is
//! well and not busier than the others.

mod balance;
mod home;
mod places;
#[cfg(test)]
mod tests;

pub use places::{Free, free_places};

use crate::health::{Moment, Standing};
use smallvec::SmallVec;

/// However little an account is given after a recovery, it is given something.
const SHARE_MIN: f64 = 0.01;

/// One account as it is seen at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Whether it may be asked.
    pub standing: Standing,
    /// It is in the region that is preferred.
    pub is_near: bool,
    /// It was asked for this request already, and is not asked again.
    pub is_tried: bool,
    /// Requests in flight.
    pub pending: u32,
    /// Requests in flight at most.
    pub places: u32,
    /// Share of the load, 1 to 1,000.
    pub weight: u32,
    /// How long its answers take to begin, in milliseconds; 0 if it is not known.
    pub latency_ms: u32,
    /// Its hash, for the choice by conversation: of its name, so that it is the same on every node and after every restart.
    pub name_hash: u64,
}

/// The accounts of one upstream. More than a dozen are rare.
pub type Views = SmallVec<[View; 12]>;

/// What the request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Anybody.
    Any,
    /// The account of its conversation, by a hash in which the tenant is included.
    Conversation(u64),
    /// This one and no other (index in the views): it alone has what the request refers to.
    Owner(usize),
}

/// Whom to ask, or why nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one (index in the views).
    Ask {
        /// Which.
        index: usize,
        /// Why it.
        reason: Reason,
    },
    /// There are some that could be asked, but all are full, or blocked for no longer than the request may wait.
    Wait {
        /// Of those that are blocked the one that is free first, if none is merely full.
        until: Option<Moment>,
    },
    /// Nobody.
    Nobody {
        /// Of those that are blocked the one that is free first.
        until: Option<Moment>,
    },
}

/// Why an account was chosen: a closed set, for the record and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The better of two.
    Balanced,
    /// Its conversation is there.
    Conversation,
    /// Its conversation would be elsewhere, but that account is not well, or too busy.
    Escaped,
    /// Only it has what the request refers to.
    Owner,
    /// To see whether it is well again.
    Trial,
    /// It is not well, but more than the allowed share of the accounts is not, and the others are full.
    Retained,
    /// Nobody is well.
    Panic,
}

impl Reason {
    /// All of them, for tables.
    pub const ALL: [Self; 7] = [
        Self::Balanced,
        Self::Conversation,
        Self::Escaped,
        Self::Owner,
        Self::Trial,
        Self::Retained,
        Self::Panic,
    ];

    /// A name for the record and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Conversation => "conversation",
            Self::Escaped => "escaped",
            Self::Owner => "owner",
            Self::Trial => "trial",
            Self::Retained => "retained",
            Self::Panic => "panic",
        }
    }
}

/// What the choice goes by besides the views.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What the request asks for.
    pub wanted: Wanted,
    /// It can be sent again if a trial fails. Otherwise a trial is made with it only where no well account has a place.
    pub may_try: bool,
    /// Accounts that are not well may be asked because nobody is. Where a request may go to several upstreams: only once none of them
    /// has anybody.
    pub may_panic: bool,
    /// Share of the accounts that may be kept out, 0 to 1.
    pub ejection_max: f64,
    /// A wait may last until then.
    pub waits_until: Moment,
}

/// Chooses. `random` gives numbers from 0 up to 1.
pub fn choose(views: &[View], terms: &Terms, random: &mut impl FnMut() -> f64) -> Choice {
    if let Wanted::Owner(index) = terms.wanted {
        return match views.get(index) {
            Some(owner) => ask_owner(index, owner, terms),
            None => Choice::Nobody { until: None },
        };
    }
    let asked = due(views)
        .filter(|_| terms.may_try)
        .or_else(|| well(views, terms.wanted, random))
        .or_else(|| due(views))
        .or_else(|| not_well(views, terms, random));
    match asked {
        Some((index, reason)) => Choice::Ask { index, reason },
        None => wait(views, terms),
    }
}

type Asked = (usize, Reason);

/// An account that only a trial can tell of. Near or not: one trial costs one request the way.
fn due(views: &[View]) -> Option<Asked> {
    let can_try = |view: &View| view.standing == Standing::Due && view.can_take();
    let least_busy = indexed(views, can_try).min_by_key(|(_, view)| (!view.is_near, view.pending));
    least_busy.map(|(index, _)| (index, Reason::Trial))
}

/// The nearest accounts that are well and have a place.
fn well(views: &[View], wanted: Wanted, random: &mut impl FnMut() -> f64) -> Option<Asked> {
    [true, false].into_iter().find_map(|is_near| {
        let has_place =
            |view: &View| view.is_near == is_near && view.is_usable() && view.can_take();
        match wanted {
            Wanted::Conversation(hash) => home::find(views, hash, has_place),
            _ => balance::better_of_two(views, has_place, random)
                .map(|index| (index, Reason::Balanced)),
        }
    })
}

/// Those that are kept out, as far as capacity is needed or nobody is left.
fn not_well(views: &[View], terms: &Terms, random: &mut impl FnMut() -> f64) -> Option<Asked> {
    if is_anybody_well(views) {
        return retained(views, terms, View::can_take).map(|index| (index, Reason::Retained));
    }
    let can_take = |view: &View| terms.may_panic && view.is_guess() && view.can_take();
    balance::better_of_two(views, can_take, random).map(|index| (index, Reason::Panic))
}

/// Of the accounts that are kept out beyond the allowance, the one whose block is the softest and that may be asked. The allowance
/// belongs to the hardest blocks, those that the provider stated first of all: they are never asked.
fn retained(views: &[View], terms: &Terms, may_ask: impl Fn(&View) -> bool) -> Option<usize> {
    let in_service = views.iter().filter(|view| view.is_in_service()).count();
    let kept_out = indexed(views, |view| view.blocked_until().is_some()).count();
    let hardness = |view: &View| (!view.is_guess(), view.blocked_until());
    let (index, softest) = indexed(views, |view| view.is_guess() && may_ask(view))
        .min_by_key(|(_, view)| hardness(view))?;
    let softer = indexed(views, |view| view.blocked_until().is_some())
        .filter(|&(other, view)| (hardness(view), other) < (hardness(softest), index))
        .count();
    (softer + allowance(in_service, terms.ejection_max) < kept_out).then_some(index)
}

/// So many of a pool may be kept out.
fn allowance(accounts: usize, ejection_max: f64) -> usize {
    // A product like 100 × 0.29 is a little less than the whole number that is meant.
    (accounts as f64 * ejection_max + 1e-9).floor() as usize
}

fn is_anybody_well(views: &[View]) -> bool {
    let is_well = |view: &View| view.is_usable() || view.standing == Standing::Due;
    views.iter().any(is_well)
}

/// Nobody else has what is asked for: what is a guess of ours does not keep it from being asked.
fn ask_owner(index: usize, owner: &View, terms: &Terms) -> Choice {
    match owner.standing {
        _ if owner.is_tried => Choice::Nobody {
            until: owner.blocked_until(),
        },
        Standing::Disabled => Choice::Nobody { until: None },
        Standing::Blocked {
            until,
            stated: true,
            ..
        } => {
            if until <= terms.waits_until {
                Choice::Wait { until: Some(until) }
            } else {
                Choice::Nobody { until: Some(until) }
            }
        }
        _ if owner.can_take() => Choice::Ask {
            index,
            reason: Reason::Owner,
        },
        _ => Choice::Wait { until: None },
    }
}

/// Nobody can be asked now: may somebody in time?
fn wait(views: &[View], terms: &Terms) -> Choice {
    let is_full = |view: &View| !view.is_tried && !view.has_place();
    let is_any_full =
        |may_ask: fn(&View) -> bool| views.iter().any(|view| is_full(view) && may_ask(view));
    let would_do = is_any_full(|view| view.is_usable() || view.standing == Standing::Due)
        || if is_anybody_well(views) {
            retained(views, terms, is_full).is_some()
        } else {
            terms.may_panic && is_any_full(View::is_guess)
        };
    if would_do {
        return Choice::Wait { until: None };
    }
    let first = |may_ask: fn(&View) -> bool| {
        indexed(views, may_ask)
            .filter_map(|(_, view)| view.blocked_until())
            .min()
    };
    match first(|view| !view.is_tried) {
        Some(until) if until <= terms.waits_until => Choice::Wait { until: Some(until) },
        _ => Choice::Nobody {
            until: first(|_| true),
        },
    }
}

fn indexed<'v>(
    views: &'v [View],
    matches: impl Fn(&View) -> bool + 'v,
) -> impl Iterator<Item = (usize, &'v View)> {
    views
        .iter()
        .enumerate()
        .filter(move |(_, view)| matches(view))
}

impl View {
    fn has_place(&self) -> bool {
        self.pending < self.places
    }

    fn can_take(&self) -> bool {
        !self.is_tried && self.has_place()
    }

    fn is_usable(&self) -> bool {
        matches!(self.standing, Standing::Usable { .. })
    }

    /// The operator lets it take something new.
    fn is_in_service(&self) -> bool {
        !matches!(self.standing, Standing::Draining | Standing::Disabled)
    }

    /// It is blocked, but nobody has said so: asking it is allowed, though hardly of use.
    fn is_guess(&self) -> bool {
        matches!(self.standing, Standing::Blocked { stated: false, .. })
    }

    fn blocked_until(&self) -> Option<Moment> {
        match self.standing {
            Standing::Blocked { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Its part of the load, which grows after a recovery.
    fn capacity(&self) -> f64 {
        let share = match self.standing {
            Standing::Usable { share } => f64::from(share).max(SHARE_MIN),
            _ => 1.0,
        };
        f64::from(self.weight.max(1)) * share
    }
}
