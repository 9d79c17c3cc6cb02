//! When which account is probed from which address. Pure: it has neither clock nor chance of its own.

use crate::config::policy::{AccountId, Probe};
use crate::health::Moment;
use std::time::Duration;

/// Probes of one account from one address are not always equally far apart: hosts that were started together do not stay in
/// step.
const JITTER: f64 = 0.2;

/// An account, and which of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The account.
    pub(super) account: AccountId,
    /// Index in `Account::egress`.
    pub(super) address: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This one now; it is not due again before it is `put_back`.
    Probe(Target),
    /// Nothing before this.
    At(Moment),
}

/// The probes of one upstream.
pub(super) struct Schedule {
    waiting: Vec<(Moment, Target)>,
    interval: Duration,
    /// Between any two.
    spacing: Duration,
    not_before: Moment,
}

impl Schedule {
    /// The first round is spread over one interval. `random`: numbers from 0 up to 1.
    pub(super) fn new(
        targets: impl Iterator<Item = Target>,
        probe: &Probe,
        now: Moment,
        mut random: impl FnMut() -> f64,
    ) -> Self {
        let spread = |target| (now + probe.interval.mul_f64(random()), target);
        Self {
            waiting: targets.map(spread).collect(),
            interval: probe.interval,
            // Rounded up to what a moment can tell apart.
            spacing: Duration::from_millis(1000u64.div_ceil(probe.per_second_max.max(1).into())),
            not_before: now,
        }
    }

    /// Takes the one that has been due for longest, if it may be probed now.
    pub(super) fn next(&mut self, now: Moment) -> Next {
        let by_time = self.waiting.iter().enumerate();
        let Some((first, &(due_at, target))) = by_time.min_by_key(|(_, (at, _))| *at) else {
            return Next::At(now + self.interval);
        };
        let begins_at = due_at.max(self.not_before);
        if begins_at > now {
            return Next::At(begins_at);
        }
        self.waiting.swap_remove(first);
        self.not_before = now + self.spacing;
        Next::Probe(target)
    }

    /// It is due again after the interval, or already at `due_at`.
    pub(super) fn put_back(
        &mut self,
        target: Target,
        due_at: Option<Moment>,
        now: Moment,
        random: f64,
    ) {
        let factor = 1.0 - JITTER + 2.0 * JITTER * random;
        let regular = now + self.interval.mul_f64(factor);
        let due_at = due_at.map_or(regular, |at| at.clamp(now, regular));
        self.waiting.push((due_at, target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const SECOND: Duration = Duration::from_secs(1);

    fn probe(interval_s: u64, per_second_max: u32) -> Probe {
        Probe {
            path: "/".to_owned(),
            interval: Duration::from_secs(interval_s),
            timeout: SECOND,
            per_second_max,
        }
    }

    fn target(number: usize) -> Target {
        Target {
            account: AccountId(number as u16),
            address: 0,
        }
    }

    /// Probes that end at once, for so long: when which began.
    fn played(count: usize, probe: &Probe, length: Duration) -> Vec<(Moment, Target)> {
        let mut chance = fastrand::Rng::with_seed(7);
        let mut random = || chance.f64();
        let begins_at = Moment::from_unix_ms(1_000);
        let mut now = begins_at;
        let targets = (0..count).map(target);
        let mut schedule = Schedule::new(targets, probe, now, &mut random);
        let mut begun = Vec::new();
        while now < begins_at + length {
            match schedule.next(now) {
                Next::Probe(target) => {
                    begun.push((now, target));
                    schedule.put_back(target, None, now, random());
                }
                Next::At(at) => {
                    assert!(at > now, "time goes on");
                    now = at;
                }
            }
        }
        begun
    }

    #[test]
    fn everybody_is_probed_about_once_in_an_interval() {
        let begun = played(20, &probe(10, 100), 1_000 * SECOND);
        let mut last: HashMap<u16, Moment> = HashMap::new();
        for (at, target) in &begun {
            if let Some(before) = last.insert(target.account.0, *at) {
                let apart = at.since(before).as_secs_f64();
                // The spacing may hold it up for a moment.
                assert!((8.0..=12.5).contains(&apart), "{apart}");
            }
        }
        assert_eq!(last.len(), 20);
        assert!((1_900..=2_100).contains(&begun.len()), "{}", begun.len());
    }

    #[test]
    fn there_are_never_more_in_a_second_than_allowed() {
        // Twice as many would be due.
        for per_second_max in [1, 3, 50] {
            let count = per_second_max as usize * 20;
            let begun = played(count, &probe(10, per_second_max), 100 * SECOND);
            for (first, (at, _)) in begun.iter().enumerate() {
                let within = begun[first..].iter();
                let within = within.take_while(|(other, _)| other.since(*at) < SECOND);
                assert!(within.count() <= per_second_max as usize);
            }
            // And everybody has a turn all the same.
            let probed: std::collections::HashSet<_> =
                begun.iter().map(|(_, target)| target.account).collect();
            assert_eq!(probed.len(), count);
        }
    }

    #[test]
    fn one_that_was_taken_is_due_when_it_was_put_back_for() {
        let mut now = Moment::from_unix_ms(1_000);
        let mut schedule = Schedule::new([target(0)].into_iter(), &probe(10, 1), now, || 0.0);
        assert_eq!(schedule.next(now), Next::Probe(target(0)));
        now = now + 100 * SECOND;
        assert_eq!(schedule.next(now), Next::At(now + 10 * SECOND), "nobody");
        for (due_in, expected) in [
            (None, 12 * SECOND),
            (Some(3 * SECOND), 3 * SECOND),
            (Some(100 * SECOND), 12 * SECOND),
        ] {
            now = now + 100 * SECOND;
            schedule.put_back(target(0), due_in.map(|later| now + later), now, 1.0);
            assert_eq!(schedule.next(now), Next::At(now + expected));
            assert_eq!(schedule.next(now + expected), Next::Probe(target(0)));
        }
        now = now + 100 * SECOND;
        let long_ago = Some(Moment::default());
        schedule.put_back(target(0), long_ago, now, 0.5);
        assert_eq!(schedule.next(now), Next::Probe(target(0)));
    }
}
