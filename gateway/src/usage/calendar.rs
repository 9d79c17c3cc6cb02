//! Days, as the operator's clock on the wall has them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(jiff::civil::Date);

impl Day {
    /// The day of this time.
    pub fn of(time_us: u64, zone: &TimeZone) -> Self {
        let time = i64::try_from(time_us).unwrap_or(i64::MAX);
        let time = Timestamp::from_microsecond(time).unwrap_or(Timestamp::MAX);
        Self(zone.to_datetime(time).date())
    }

    /// The first day of its month.
    #[must_use]
    pub fn first_of_month(self) -> Self {
        Self(self.0.first_of_month())
    }

    /// The last day of its month.
    #[must_use]
    pub fn last_of_month(self) -> Self {
        Self(self.0.last_of_month())
    }

    /// So many days earlier.
    #[must_use]
    pub fn earlier(self, days: u8) -> Self {
        let earlier = (0..days).try_fold(self.0, |day, _| day.yesterday().ok());
        Self(earlier.unwrap_or(jiff::civil::Date::MIN))
    }

    /// When it begins, in microseconds since 1970.
    pub fn begins_us(self, zone: &TimeZone) -> u64 {
        let begins = self
            .0
            .to_zoned(zone.clone())
            .and_then(|day| day.start_of_day());
        match begins {
            Ok(begins) => begins.timestamp().as_microsecond().max(0) as u64,
            // At either end of the calendar.
            Err(_) if self.0.year() < 1970 => 0,
            Err(_) => u64::MAX,
        }
    }

    /// When the one after it begins, in microseconds since 1970.
    pub fn ends_us(self, zone: &TimeZone) -> u64 {
        self.0
            .tomorrow()
            .map_or(u64::MAX, |next| Self(next).begins_us(zone))
    }

    /// A number that only this day has; later days have higher ones.
    pub(super) fn number(self) -> u64 {
        let [year, month, day] = [
            self.0.year().max(0) as u64,
            self.0.month() as u64,
            self.0.day() as u64,
        ];
        year << 9 | month << 5 | day
    }

    /// The day with this number.
    pub(super) fn with_number(number: u64) -> Option<Self> {
        let year = i16::try_from(number >> 9).ok()?;
        let (month, day) = ((number >> 5 & 15) as i8, (number & 31) as i8);
        jiff::civil::Date::new(year, month, day).map(Self).ok()
    }
}

/// `2026-03-01`
impl fmt::Display for Day {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for Day {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

/// Tells the days of times that mostly lie on the same day.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    day: Day,
    begins_us: u64,
    ends_us: u64,
}

impl Calendar {
    /// In this time zone.
    pub fn new(zone: &TimeZone) -> Self {
        let day = Day::of(0, zone);
        Self {
            day,
            begins_us: 0,
            ends_us: day.ends_us(zone),
            zone: zone.clone(),
        }
    }

    /// The day of this time.
    pub fn day(&mut self, time_us: u64) -> Day {
        if !(self.begins_us..self.ends_us).contains(&time_us) {
            self.day = Day::of(time_us, &self.zone);
            self.begins_us = self.day.begins_us(&self.zone);
            self.ends_us = self.day.ends_us(&self.zone);
        }
        self.day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> u64 {
        let time: Timestamp = text.parse().unwrap();
        time.as_microsecond() as u64
    }

    #[test]
    fn a_day_ends_at_the_zones_midnight() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let mut calendar = Calendar::new(&zone);
        for (time, day) in [
            ("2026-03-01T04:59:59.999999Z", "2026-02-28"),
            ("2026-03-01T05:00:00Z", "2026-03-01"),
            // 23 hours, then 25.
            ("2026-03-09T03:59:59Z", "2026-03-08"),
            ("2026-03-09T04:00:00Z", "2026-03-09"),
            ("2026-11-02T04:59:59Z", "2026-11-01"),
            ("2026-11-02T05:00:00Z", "2026-11-02"),
            // And back again.
            ("2026-03-01T04:59:59.999999Z", "2026-02-28"),
            ("1970-01-01T00:00:00Z", "1969-12-31"),
        ] {
            assert_eq!(calendar.day(us(time)).to_string(), day, "{time}");
            assert_eq!(Day::of(us(time), &zone).to_string(), day, "{time}");
        }
    }

    #[test]
    fn a_day_that_a_zone_has_left_out_is_nobodys() {
        // Samoa went from the 29th to the 31st.
        let zone = TimeZone::get("Pacific/Apia").unwrap();
        let mut calendar = Calendar::new(&zone);
        let last = us("2011-12-30T09:59:59Z");
        assert_eq!(calendar.day(last).to_string(), "2011-12-29");
        assert_eq!(calendar.day(last + 1_000_000).to_string(), "2011-12-31");
    }

    #[test]
    fn a_day_and_its_month() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(day.first_of_month().to_string(), "2024-02-01");
        assert_eq!(day.last_of_month(), day);
        assert_eq!(day.earlier(29).to_string(), "2024-01-31");
        assert_eq!(Day::with_number(day.number()), Some(day));
        assert!(day.number() > day.earlier(1).number());
        assert_eq!(Day::with_number(0), None);
        assert_eq!(Day::with_number(u64::MAX), None);
        assert_eq!(day.ends_us(&TimeZone::UTC), us("2024-03-01T00:00:00Z"));
    }

    #[test]
    fn the_calendar_has_ends() {
        for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
            let zone = TimeZone::get(zone).unwrap();
            let [first, last] = ["-009999-01-01", "9999-12-31"].map(|day| day.parse().unwrap());
            let (first, last): (Day, Day) = (first, last);
            assert_eq!((first.begins_us(&zone), first.ends_us(&zone)), (0, 0));
            assert!(last.begins_us(&zone) > us("9999-12-29T00:00:00Z"));
            assert_eq!(last.ends_us(&zone), u64::MAX);
            assert!(Day::of(u64::MAX, &zone).ends_us(&zone) > us("9999-12-29T00:00:00Z"));
        }
    }
}
