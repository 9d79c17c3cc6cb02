//! Days and months of the operator's time zone.
//!
//! The control thread moves the calendar on; workers read it with one load. It never goes back: where the wall clock
//! does, or where a day's last hour comes twice, the day goes on that had begun.

use super::standing::Span;
use super::term::span_of;
use crate::config::policy::{Limit, LimitSet};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which day it is.
pub(super) struct Calendar {
    zone: TimeZone,
    /// The day's number in the upper half, the month's in the lower one.
    today: AtomicU64,
    /// Milliseconds since 1970.
    day_ends: AtomicU64,
    month_ends: AtomicU64,
    /// The wall clock when it was last looked at.
    wall: AtomicU64,
}

/// A day and its month. Numbers follow one another without gaps; what day it is they do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Today {
    day: u32,
    month: u32,
}

/// A new day, and when it and its month will be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) to: Today,
    day_ends: u64,
    month_ends: u64,
}

impl Calendar {
    /// Of this time zone, now.
    pub(super) fn new(zone: TimeZone, now: SystemTime) -> Self {
        let calendar = Self {
            zone,
            today: AtomicU64::new(0),
            day_ends: AtomicU64::new(0),
            month_ends: AtomicU64::new(0),
            wall: AtomicU64::new(0),
        };
        if let Some(turn) = calendar.due(now) {
            calendar.turn(&turn);
        }
        calendar
    }

    /// The day that is now.
    pub(super) fn today(&self) -> Today {
        let packed = self.today.load(Ordering::Acquire);
        Today {
            day: (packed >> 32) as u32,
            month: packed as u32,
        }
    }

    /// Notes what the wall clock says, and tells which day has to begin, if one has.
    pub(super) fn due(&self, now: SystemTime) -> Option<Turn> {
        let wall = milliseconds(now);
        self.wall.store(wall, Ordering::Relaxed);
        if wall < self.day_ends.load(Ordering::Relaxed) {
            return None;
        }
        // Only a clock behind the year 9999 has no days: then the last one goes on.
        let turn = Turn::at(now, &self.zone).ok()?;
        (turn.to.day > self.today().day).then_some(turn)
    }

    /// Begins a day. What is counted in its places must have been cleared by then.
    pub(super) fn turn(&self, turn: &Turn) {
        self.day_ends.store(turn.day_ends, Ordering::Relaxed);
        self.month_ends.store(turn.month_ends, Ordering::Relaxed);
        let packed = u64::from(turn.to.day) << 32 | u64::from(turn.to.month);
        self.today.store(packed, Ordering::Release);
    }

    /// Limits to whose day or month nothing can be counted any more.
    pub(super) fn closed(&self, at: Today) -> LimitSet {
        if at == self.today() {
            return LimitSet::EMPTY;
        }
        let is_closed = |limit: &Limit| span_of(*limit).is_some_and(|span| !self.is_open(span, at));
        let closed = Limit::ALL.into_iter().filter(is_closed);
        closed.fold(LimitSet::EMPTY, LimitSet::with)
    }

    /// Can something still be counted to that day or month?
    #[inline]
    pub(super) fn is_open(&self, span: Span, at: Today) -> bool {
        at.number(span) + 1 >= self.today().number(span)
    }

    /// When the day or month ends.
    pub(super) fn ends(&self, span: Span) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.end(span))
    }

    /// Until the day or month ends.
    pub(super) fn left(&self, span: Span) -> Duration {
        let wall = self.wall.load(Ordering::Relaxed);
        Duration::from_millis(self.end(span).saturating_sub(wall))
    }

    fn end(&self, span: Span) -> u64 {
        match span {
            Span::Day => &self.day_ends,
            Span::Month => &self.month_ends,
        }
        .load(Ordering::Relaxed)
    }
}

impl Today {
    /// The number of the day or of the month.
    #[inline]
    pub(super) fn number(self, span: Span) -> u32 {
        match span {
            Span::Day => self.day,
            Span::Month => self.month,
        }
    }
}

impl Turn {
    fn at(now: SystemTime, zone: &TimeZone) -> Result<Self, jiff::Error> {
        let date = Timestamp::try_from(now)?.to_zoned(zone.clone()).date();
        // Midnight may not exist, or not be the first moment of its day: `to_zoned` takes the first that does.
        let begins = |date: Date| {
            let first = date.to_zoned(zone.clone())?.timestamp();
            Ok::<_, jiff::Error>(milliseconds(SystemTime::from(first)))
        };
        Ok(Self {
            to: Today {
                day: days_since_epoch(date)?,
                month: u32::from(date.year().unsigned_abs()) * 12
                    + date.month().unsigned_abs() as u32,
            },
            day_ends: begins(date.tomorrow()?)?,
            month_ends: begins(date.first_of_month().checked_add(1.month())?)?,
        })
    }
}

fn days_since_epoch(date: Date) -> Result<u32, jiff::Error> {
    let days = date.since(Date::constant(1970, 1, 1))?.get_days();
    Ok(u32::try_from(days).unwrap_or(0))
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}
