//! The better of two: accounts are drawn by what they can bear, and of two the less busy one is taken. Chance spreads the load even
//! where many threads decide at the same time, and the second draw keeps it from piling up.

use super::{View, indexed};

/// An account that takes this many times as long as the best one is as good as that: answers differ so much by themselves.
const LATENCY_TOLERANCE: f64 = 1.5;

/// However slow an account is, it is drawn a quarter as often as its weight says: its latency would not be known any more otherwise.
const LATENCY_FACTOR_MAX: f64 = 4.0;

/// Latencies below this are equally good.
const LATENCY_FLOOR_MS: u32 = 20;

pub(super) fn better_of_two(
    views: &[View],
    may_ask: impl Fn(&View) -> bool + Copy,
    random: &mut impl FnMut() -> f64,
) -> Option<usize> {
    let latency_best = indexed(views, may_ask)
        .filter_map(|(_, view)| latency(view))
        .min();
    let chance = |view: &View| view.capacity() / latency_factor(view, latency_best);
    let total: f64 = indexed(views, may_ask).map(|(_, view)| chance(view)).sum();

    let first = draw(indexed(views, may_ask), chance, total * random())?;
    let others = indexed(views, may_ask).filter(|&(index, _)| index != first);
    let left = total - chance(&views[first]);
    let Some(second) = draw(others, chance, left * random()) else {
        return Some(first);
    };
    let load = |index: usize| f64::from(views[index].pending) / views[index].capacity();
    Some(if load(second) < load(first) {
        second
    } else {
        first
    })
}

/// The one in whose stretch the point lies when their chances are laid end to end.
fn draw<'v>(
    views: impl Iterator<Item = (usize, &'v View)>,
    chance: impl Fn(&View) -> f64,
    mut point: f64,
) -> Option<usize> {
    let mut last = None;
    for (index, view) in views {
        point -= chance(view);
        last = Some(index);
        if point < 0.0 {
            break;
        }
    }
    // Sums are rounded: a point just past the end belongs to the last one.
    last
}

fn latency(view: &View) -> Option<u32> {
    (view.latency_ms > 0).then(|| view.latency_ms.max(LATENCY_FLOOR_MS))
}

fn latency_factor(view: &View, best: Option<u32>) -> f64 {
    match (latency(view), best) {
        (Some(latency), Some(best)) => {
            let times_best = f64::from(latency) / f64::from(best);
            (times_best / LATENCY_TOLERANCE).clamp(1.0, LATENCY_FACTOR_MAX)
        }
        _ => 1.0,
    }
}
