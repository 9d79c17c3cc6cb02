//! How many more requests a pool would take at this moment.

use super::{View, allowance, is_anybody_well};
use crate::health::Standing;

/// Places that are free for whoever asks for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// So many.
    pub places: usize,
    /// Nobody is well: they are those of accounts that are asked for want of others.
    pub in_panic: bool,
}

/// The places that [`choose`](super::choose) would hand out one after the other.
pub fn free_places(views: &[View], ejection_max: f64) -> Free {
    let free = |view: &View| view.places.saturating_sub(view.pending) as usize;
    let sum = |may_ask: fn(&View) -> bool| {
        let asked = views.iter().filter(|view| may_ask(view));
        asked.map(free).sum::<usize>()
    };
    if !is_anybody_well(views) {
        return Free {
            places: sum(View::is_guess),
            in_panic: true,
        };
    }
    let well = sum(|view| view.is_usable() || view.standing == Standing::Due);
    Free {
        places: well + retained(views, ejection_max, free),
        in_panic: false,
    }
}

/// Those of the accounts that are kept out beyond the allowance, the softest blocks first.
fn retained(views: &[View], ejection_max: f64, free: impl Fn(&View) -> usize) -> usize {
    let in_service = views.iter().filter(|view| view.is_in_service()).count();
    let kept_out = views.iter().filter(|view| view.blocked_until().is_some());
    let too_many = kept_out
        .count()
        .saturating_sub(allowance(in_service, ejection_max));
    if too_many == 0 {
        return 0;
    }
    let mut guesses: Vec<&View> = views.iter().filter(|view| view.is_guess()).collect();
    guesses.sort_by_key(|view| view.blocked_until());
    guesses.into_iter().take(too_many).map(free).sum()
}
