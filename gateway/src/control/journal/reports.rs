//! Which days' files are to be written, and when.

use super::clerk::Order;
use crate::usage::{Calendar, Day};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Files are looked at no more often: long streams end one after the other behind midnight.
const INTERVAL: Duration = Duration::from_secs(60);

/// After a start, files of so many days are made up for.
const DAYS_BACK: u8 = 7;

/// The days whose files may lack something.
pub(super) struct Reports {
    calendar: Calendar,
    today: Day,
    /// With the records that must be on the disk before: so many of all that this process was given.
    due: BTreeMap<Day, u64>,
    ordered_at: Option<Instant>,
}

impl Reports {
    /// All of the last days are due.
    pub(super) fn new(zone: &TimeZone, now_us: u64) -> Self {
        let today = Day::of(now_us, zone);
        Self {
            calendar: Calendar::new(zone),
            today,
            due: (1..=DAYS_BACK)
                .map(|days| (today.earlier(days), 0))
                .collect(),
            ordered_at: None,
        }
    }

    /// Takes note of a request that began at this time; it is the record of this number.
    pub(super) fn note(&mut self, time_us: u64, number: u64) {
        let day = self.calendar.day(time_us);
        if day < self.today {
            self.due.insert(day, number);
        }
    }

    /// What is to be written now, if something is. `given`: records so far; `kept`: those on the disk.
    pub(super) fn order(
        &mut self,
        now_us: u64,
        now: Instant,
        given: u64,
        kept: u64,
    ) -> Option<Order> {
        let day = self.calendar.day(now_us);
        if day > self.today {
            self.due.insert(self.today, given);
            self.today = day;
        }
        let is_soon = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        if self.due.is_empty() || self.ordered_at.is_some_and(is_soon) {
            return None;
        }
        let days: Vec<_> = self
            .due
            .iter()
            .filter(|(_, number)| **number <= kept)
            .collect();
        let days: Vec<Day> = days.into_iter().map(|(day, _)| *day).collect();
        if days.is_empty() {
            return None;
        }
        self.due.retain(|day, _| !days.contains(day));
        self.ordered_at = Some(now);
        Some(Order::Report(days))
    }

    /// These could not be written.
    pub(super) fn again(&mut self, days: impl IntoIterator<Item = Day>) {
        for day in days {
            self.due.entry(day).or_insert(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 86_400_000_000;
    const MIDNIGHT_US: u64 = 20_000 * DAY_US;

    fn days(order: Option<Order>) -> Vec<String> {
        match order {
            Some(Order::Report(days)) => days.iter().map(Day::to_string).collect(),
            Some(Order::Tend) => panic!("not a report"),
            None => Vec::new(),
        }
    }

    #[test]
    fn a_day_is_due_when_it_is_over_and_on_the_disk() {
        let began_at = Instant::now();
        let at = |seconds| began_at + Duration::from_secs(seconds);
        let mut reports = Reports::new(&TimeZone::UTC, MIDNIGHT_US - 90_000_000);
        let last_week = days(reports.order(MIDNIGHT_US - 90_000_000, at(0), 0, 0));
        assert_eq!(last_week.len(), 7);
        assert_eq!(last_week.last().map(String::as_str), Some("2024-10-02"));
        reports.note(MIDNIGHT_US - 80_000_000, 1);
        assert_eq!(days(reports.order(MIDNIGHT_US - 1, at(89), 1, 1)), [""; 0]);
        // Over, but its last record is not on the disk.
        assert_eq!(days(reports.order(MIDNIGHT_US, at(90), 2, 1)), [""; 0]);
        assert_eq!(
            days(reports.order(MIDNIGHT_US + 1, at(91), 3, 2)),
            ["2024-10-03"]
        );
        assert_eq!(days(reports.order(MIDNIGHT_US + 2, at(92), 3, 3)), [""; 0]);
    }

    #[test]
    fn what_ends_after_midnight_is_made_up_for_but_not_each_time() {
        let began_at = Instant::now();
        let at = |seconds| began_at + Duration::from_secs(seconds);
        let mut reports = Reports::new(&TimeZone::UTC, MIDNIGHT_US);
        assert_eq!(days(reports.order(MIDNIGHT_US, at(0), 0, 0)).len(), 7);
        reports.note(MIDNIGHT_US - 1, 1);
        assert_eq!(days(reports.order(MIDNIGHT_US, at(59), 1, 1)), [""; 0]);
        reports.note(MIDNIGHT_US - 2, 2);
        assert_eq!(
            days(reports.order(MIDNIGHT_US, at(60), 2, 2)),
            ["2024-10-03"]
        );
        assert_eq!(days(reports.order(MIDNIGHT_US, at(120), 2, 2)), [""; 0]);
        reports.again(["2024-10-03".parse().unwrap()]);
        assert_eq!(
            days(reports.order(MIDNIGHT_US, at(121), 2, 2)),
            ["2024-10-03"]
        );
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_due() {
        let now = Instant::now();
        let mut reports = Reports::new(&TimeZone::UTC, MIDNIGHT_US);
        assert_eq!(days(reports.order(MIDNIGHT_US, now, 0, 0)).len(), 7);
        let later = now + 2 * INTERVAL;
        assert_eq!(
            days(reports.order(MIDNIGHT_US - DAY_US, later, 0, 0)),
            [""; 0]
        );
        assert_eq!(days(reports.order(MIDNIGHT_US, later, 0, 0)), [""; 0]);
    }
}
