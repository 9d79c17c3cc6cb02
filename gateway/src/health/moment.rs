//! Time as health sees it: it can be kept on disk, and does not go back while the process runs.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// So many milliseconds after 1970 began.
    pub const fn from_unix_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since 1970 began.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// How long after `earlier` it is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        let milliseconds = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// The clock of one process: the time of day when it was made, and from there on the monotonic clock. A time of day that is set
/// anew neither ends a block nor makes it longer.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Instant,
    at_start: Moment,
}

impl Clock {
    /// A clock that is right now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started_at: Instant::now(),
            at_start: Moment::default() + since_epoch.unwrap_or_default(),
        }
    }

    /// What the clock shows at that instant.
    pub fn at(&self, instant: Instant) -> Moment {
        self.at_start + instant.saturating_duration_since(self.started_at)
    }

    /// What it shows now.
    pub fn now(&self) -> Moment {
        self.at(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_in_milliseconds_and_do_not_overflow() {
        let moment = Moment::from_unix_ms(1_000) + Duration::from_millis(500);
        assert_eq!(moment.unix_ms(), 1_500);
        assert_eq!(
            moment.since(Moment::from_unix_ms(1_000)),
            Duration::from_millis(500)
        );
        assert_eq!(Moment::from_unix_ms(1).since(moment), Duration::ZERO);
        assert_eq!((moment + Duration::MAX).unix_ms(), u64::MAX);
    }

    #[test]
    fn a_clock_shows_the_time_of_day_and_goes_on() {
        let clock = Clock::start();
        let began_at = Instant::now();
        let shown = clock.at(began_at);
        assert!(shown.unix_ms() > 1_700_000_000_000);
        assert_eq!(
            clock.at(began_at + Duration::from_secs(5)),
            shown + Duration::from_secs(5)
        );
    }
}
