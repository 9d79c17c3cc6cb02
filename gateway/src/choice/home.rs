//! Where a conversation belongs: weighted rendezvous with bounded loads.

use super::{Asked, Reason, View, indexed};
use crate::affinity;

/// A conversation goes elsewhere if its account has more than so many times its part of the requests …
const BUSY_FACTOR: f64 = 2.0;

/// … and so many more. With few requests about, it stays.
const BUSY_ALLOWANCE: f64 = 4.0;

/// Among those that may be asked. There is one unless there are none: not all can have more than their part.
pub(super) fn find(
    views: &[View],
    conversation: u64,
    may_ask: impl Fn(&View) -> bool + Copy,
) -> Option<Asked> {
    // One alone is everybody's home, and never busier than the others.
    if let [only] = views {
        let is_found = only.is_in_service() && may_ask(only);
        return is_found.then_some((0, Reason::Conversation));
    }
    let (mut pending, mut capacity) = (0.0, 0.0);
    for (_, view) in indexed(views, may_ask) {
        pending += f64::from(view.pending);
        capacity += view.capacity();
    }
    let is_too_busy = |view: &View| {
        let part = pending * view.capacity() / capacity;
        f64::from(view.pending) > BUSY_FACTOR * part + BUSY_ALLOWANCE
    };

    let has_near = views
        .iter()
        .any(|view| view.is_near && view.is_in_service());
    let (mut home, mut best) = (Nearest::default(), Nearest::default());
    for (index, view) in indexed(views, View::is_in_service) {
        let distance = affinity::distance(conversation, view.name_hash);
        // At home is where it would be if all were well.
        if view.is_near == has_near {
            home.offer(index, distance / f64::from(view.weight.max(1)));
        }
        if may_ask(view) && !is_too_busy(view) {
            best.offer(index, distance / view.capacity());
        }
    }
    let reason = if best.index == home.index {
        Reason::Conversation
    } else {
        Reason::Escaped
    };
    best.index.map(|index| (index, reason))
}

struct Nearest {
    index: Option<usize>,
    distance: f64,
}

impl Default for Nearest {
    fn default() -> Self {
        Self {
            index: None,
            distance: f64::INFINITY,
        }
    }
}

impl Nearest {
    fn offer(&mut self, index: usize, distance: f64) {
        if distance < self.distance {
            *self = Self {
                index: Some(index),
                distance,
            };
        }
    }
}
