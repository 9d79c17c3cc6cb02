//! Times and spans as operators write and read them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// `90s`, `30m`, `2h`, `7d`
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(u64::from(count) * seconds))
}

/// A time of RFC 3339; a day, or a time of day without an offset, of this time zone; or how long before now, as a span.
/// A day stands for its beginning.
pub(super) fn parse_moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return zone.to_timestamp(time).ok();
    }
    let ago = SignedDuration::try_from(parse_span(text)?).ok()?;
    now.checked_sub(ago).ok()
}

/// In the largest unit that fits and the one below it, rounded: what is finer does not matter any more.
fn show_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let largest = UNITS.iter().position(|(_, unit)| seconds >= *unit);
    let units = &UNITS[largest.unwrap_or(UNITS.len() - 1)..];
    let (name, unit) = units[0];
    let Some((name_below, below)) = units.get(1) else {
        return format!("{seconds}{name}");
    };
    let seconds = (seconds + below / 2) / below * below;
    let (count, rest) = (seconds / unit, seconds % unit / below);
    if rest > 0 {
        format!("{count}{name} {rest}{name_below}")
    } else {
        format!("{count}{name}")
    }
}

/// A time in microseconds since 1970 as one of RFC 3339, in UTC.
pub(super) fn show_us(time_us: u64) -> String {
    let time = i64::try_from(time_us).ok();
    match time.and_then(|time| Timestamp::from_microsecond(time).ok()) {
        Some(time) => format!("{time:.6}"),
        // No clock has ever told such a time.
        None => format!("{time_us} µs after 1970"),
    }
}

/// A time of RFC 3339, to the second, and how far away it is.
pub(super) fn show_time(time: &str, now: Timestamp) -> String {
    let Ok(at) = time.parse::<Timestamp>() else {
        return time.to_owned();
    };
    let away = show_span(at.duration_since(now).unsigned_abs());
    let seconds = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    if at < now {
        format!("{seconds} ({away} ago)")
    } else {
        format!("{seconds} (in {away})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_number_and_one_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("2h", Some(7_200)),
            ("7d", Some(604_800)),
            ("4294967295d", Some(4_294_967_295 * 86_400)),
            ("2", None),
            ("h", None),
            ("-2h", None),
            ("1.5h", None),
            ("4294967296s", None),
            ("2é", None),
            ("", None),
        ] {
            assert_eq!(
                parse_span(text),
                seconds.map(Duration::from_secs),
                "{text:?}"
            );
        }
    }

    #[test]
    fn moments_are_times_days_or_spans_before_now() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (text, expected) in [
            ("2h", Some("2026-03-01T10:00:00Z")),
            ("1d", Some("2026-02-28T12:00:00Z")),
            ("90s", Some("2026-03-01T11:58:30Z")),
            ("2026-03-01T13:00:00+01:00", Some("2026-03-01T12:00:00Z")),
            (
                "2026-03-01T13:00:00.000001Z",
                Some("2026-03-01T13:00:00.000001Z"),
            ),
            ("2026-03-01", Some("2026-02-28T23:00:00Z")),
            ("2026-07-01", Some("2026-06-30T22:00:00Z")),
            ("2026-03-01T08:30", Some("2026-03-01T07:30:00Z")),
            ("2026-03-01 08:30:15", Some("2026-03-01T07:30:15Z")),
            ("2026-02-30", None),
            ("4294967295d", None),
            ("tomorrow", None),
            ("2", None),
            ("-2h", None),
            ("2é", None),
            ("", None),
        ] {
            let moment = parse_moment(text, now, &zone);
            assert_eq!(
                moment,
                expected.map(|time| time.parse().unwrap()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn spans_are_shown_in_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3_600, "1h"),
            (3_629, "1h"),
            (3_630, "1h 1m"),
            (7_199, "2h"),
            (3_660, "1h 1m"),
            (86_369, "23h 59m"),
            (86_370, "24h"),
            (31 * 86_400, "31d"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(show_span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn times_are_shown_with_their_distance() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (time, expected) in [
            (
                "2026-03-01T12:04:10.999999Z",
                "2026-03-01T12:04:10Z (in 4m 10s)",
            ),
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z (in 0s)"),
            ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z (2h ago)"),
            ("soon", "soon"),
        ] {
            assert_eq!(show_time(time, now), expected);
        }
    }
}
