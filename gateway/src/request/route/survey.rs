//! In which order the upstreams of a request are gone through.

use crate::accounts::Pick;
use crate::config::policy::UpstreamId;

/// What all upstreams together have for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// A place.
    Taken(UpstreamId, T),
    /// Nothing yet: it may wait in this upstream's room.
    Wait(UpstreamId),
    /// Nothing.
    Nobody(Lack),
}

/// Why there is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// All are busy.
    Full,
    /// All are blocked.
    Blocked,
    /// There is none at all, or all were asked.
    None,
}

/// Goes through the upstreams: a healthy account of a later one comes before one of an earlier one that is asked although it is
/// not well, and so does waiting for one that is merely busy, as long as the request can wait.
pub(super) fn survey<T>(
    upstreams: &[UpstreamId],
    can_wait: bool,
    mut pick: impl FnMut(UpstreamId, bool) -> Pick<T>,
) -> Found<T> {
    let (mut busy, mut waits, mut is_blocked) = (None, None, false);
    for &upstream in upstreams {
        match pick(upstream, false) {
            Pick::Taken(taken) => return Found::Taken(upstream, taken),
            Pick::Wait { until: None } => busy = busy.or(Some(upstream)),
            Pick::Wait { until } | Pick::Nobody { until } => is_blocked |= until.is_some(),
        }
    }
    if let Some(upstream) = busy.filter(|_| can_wait) {
        return Found::Wait(upstream);
    }
    for &upstream in upstreams {
        match pick(upstream, true) {
            Pick::Taken(taken) => return Found::Taken(upstream, taken),
            Pick::Wait { until } => {
                waits = waits.or(Some(upstream));
                is_blocked |= until.is_some();
            }
            Pick::Nobody { until } => is_blocked |= until.is_some(),
        }
    }
    match waits {
        Some(upstream) if can_wait => Found::Wait(upstream),
        _ if busy.is_some() => Found::Nobody(Lack::Full),
        _ if is_blocked => Found::Nobody(Lack::Blocked),
        Some(_) => Found::Nobody(Lack::Full),
        None => Found::Nobody(Lack::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Moment;
    use std::time::Duration;

    const NOW: Moment = Moment::from_unix_ms(1_800_000_000_000);
    const FIRST: UpstreamId = UpstreamId(0);
    const SECOND: UpstreamId = UpstreamId(1);

    fn at(seconds: u64) -> Option<Moment> {
        Some(NOW + Duration::from_secs(seconds))
    }

    /// What an upstream says, first as long as somebody may be well, then where all may be asked.
    #[derive(Clone, Copy, Debug)]
    enum Says {
        Taken,
        /// A place, but only where those may be asked that are not well.
        Panic,
        Full,
        WaitUntil(u64),
        BlockedUntil(u64),
        Nobody,
    }

    impl Says {
        fn pick(self, may_panic: bool) -> Pick<bool> {
            match self {
                Says::Taken => Pick::Taken(may_panic),
                Says::Panic if may_panic => Pick::Taken(may_panic),
                Says::Panic | Says::Nobody => Pick::Nobody { until: None },
                Says::Full => Pick::Wait { until: None },
                Says::WaitUntil(seconds) => Pick::Wait { until: at(seconds) },
                Says::BlockedUntil(seconds) => Pick::Nobody { until: at(seconds) },
            }
        }
    }

    #[test]
    fn upstreams_are_asked_in_order_and_the_well_ones_first() {
        use Says::{BlockedUntil, Full, Nobody, Panic, Taken, WaitUntil};
        let blocked = || Found::Nobody(Lack::Blocked);
        for (first, second, can_wait, expected) in [
            (Taken, Taken, true, Found::Taken(FIRST, false)),
            (Full, Taken, true, Found::Taken(SECOND, false)),
            (WaitUntil(1), Taken, true, Found::Taken(SECOND, false)),
            // A healthy account of a later one comes before one of the first that is not well.
            (Panic, Taken, true, Found::Taken(SECOND, false)),
            (Panic, Nobody, true, Found::Taken(FIRST, true)),
            (Panic, Panic, true, Found::Taken(FIRST, true)),
            (Nobody, Panic, true, Found::Taken(SECOND, true)),
            // So does waiting for one that is only busy, if there is time for it.
            (Panic, Full, true, Found::Wait(SECOND)),
            (Panic, Full, false, Found::Taken(FIRST, true)),
            (Full, Panic, true, Found::Wait(FIRST)),
            (Full, Panic, false, Found::Taken(SECOND, true)),
            // But not for one that the provider has blocked.
            (WaitUntil(1), Panic, true, Found::Taken(SECOND, true)),
            (Full, Full, true, Found::Wait(FIRST)),
            (Nobody, Full, true, Found::Wait(SECOND)),
            (BlockedUntil(20), WaitUntil(1), true, Found::Wait(SECOND)),
            (Full, Full, false, Found::Nobody(Lack::Full)),
            (Full, BlockedUntil(20), false, Found::Nobody(Lack::Full)),
            (BlockedUntil(20), BlockedUntil(9), true, blocked()),
            (BlockedUntil(9), Nobody, true, blocked()),
            (Nobody, BlockedUntil(9), false, blocked()),
            (WaitUntil(1), BlockedUntil(9), false, blocked()),
            (Nobody, Nobody, true, Found::Nobody(Lack::None)),
        ] {
            let says = [first, second];
            let found = survey(&[FIRST, SECOND], can_wait, |upstream, may_panic| {
                says[usize::from(upstream.0)].pick(may_panic)
            });
            assert_eq!(found, expected, "{says:?} {can_wait}");
        }
    }

    #[test]
    fn a_request_whose_first_upstream_has_a_place_looks_no_further() {
        let mut asked = Vec::new();
        let found = survey(&[FIRST, SECOND], true, |upstream, may_panic| {
            asked.push((upstream, may_panic));
            Pick::Taken(())
        });
        assert_eq!(found, Found::Taken(FIRST, ()));
        assert_eq!(asked, [(FIRST, false)]);
    }
}
