//! Values with a unit: `"10s"`, `"32KiB"`, amounts with a fraction, and numbers that may be left to the program (`"auto"`).
//!
//! Bounds are part of the type, so that they stand in the JSON Schema and are checked from there.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::time::Duration;

const PERIOD_UNITS: [(&str, u64); 5] = [
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", MS),
];
const BYTE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

pub(super) const MS: u64 = 1;
pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 3_600_000;
pub(super) const DAY: u64 = 24 * HOUR;
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Milliseconds in a text such as `10s`.
pub(super) fn parse_period(text: &str) -> Option<u64> {
    parse(text, &PERIOD_UNITS)
}

/// Bytes in a text such as `32KiB`.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &BYTE_UNITS)
}

/// A duration in the form of the file.
pub(super) fn show_period(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        "0s".to_owned()
    } else {
        show(ms, &PERIOD_UNITS)
    }
}

/// A number of bytes in the form of the file.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &BYTE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |factor: u64| value >= factor && value.is_multiple_of(factor);
    match units.iter().find(|(_, factor)| fits(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => value.to_string(),
    }
}

/// A duration between two bounds, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Period<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Period<MIN, MAX> {
    pub(super) const fn ms(ms: u64) -> Self {
        assert!(MIN <= ms && ms <= MAX);
        Self(ms)
    }

    pub(super) fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Period<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show_period(self.get()))
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Period<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_period(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a duration"))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Period<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "period",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "formatMinimum": show_period(Duration::from_millis(MIN)),
            "formatMaximum": show_period(Duration::from_millis(MAX)),
        })
    }
}

/// A number of bytes between two bounds: an integer, or a text with a unit.
#[derive(Clone, Copy)]
pub(super) struct Bytes<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bytes<MIN, MAX> {
    pub(super) const fn new(bytes: u64) -> Self {
        assert!(MIN <= bytes && bytes <= MAX);
        Self(bytes)
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    /// For a window of HTTP/2, which has at most 31 bits (RFC 9113 section 6.9.1).
    pub(super) fn in_window(self) -> u32 {
        const { assert!(MAX < 1 << 31) };
        self.0 as u32
    }

    /// For what is kept in memory.
    pub(super) fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Bytes<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 > 0 && self.0.is_multiple_of(KIB) {
            to.serialize_str(&show_bytes(self.0))
        } else {
            to.serialize_u64(self.0)
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bytes<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = match NumberOrText::deserialize(from)? {
            NumberOrText::Number(bytes) => Some(bytes),
            NumberOrText::Text(text) => parse_bytes(&text),
        };
        bytes
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a number of bytes"))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Bytes<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": MIN,
            "maximum": MAX,
            "format": "bytes",
            "pattern": "^[0-9]+(KiB|MiB|GiB)$",
        })
    }
}

/// A decimal number with at most `DIGITS` digits behind the point, of at least `MIN` of the last of them and at most
/// `MAX`: exact, where a float is not.
#[derive(Clone, Copy)]
pub(super) struct Decimal<const DIGITS: u32, const MIN: u64, const MAX: u64>(u64);

/// Why a number is none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecimalFault {
    /// More digits behind the point than are kept, or another form of number.
    Form,
    /// Below zero, or more than can be held.
    Bounds,
}

/// The number as a multiple of the last of `digits` places behind the point.
pub(super) fn parse_decimal(text: &str, digits: u32) -> Result<u64, DecimalFault> {
    let is_negative = text.starts_with('-');
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let places = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || places > digits {
        return Err(DecimalFault::Form);
    }
    if is_negative {
        return Err(DecimalFault::Bounds);
    }
    let all = format!(
        "{whole}{fraction}{}",
        "0".repeat((digits - places) as usize)
    );
    // Nothing but digits can only be too large.
    all.parse().map_err(|_| DecimalFault::Bounds)
}

/// Such a multiple as it would be written.
pub(super) fn show_decimal(value: u64, digits: u32) -> String {
    let scale = 10_u64.pow(digits);
    let fraction = format!("{:0width$}", value % scale, width = digits as usize);
    match fraction.trim_end_matches('0') {
        "" => (value / scale).to_string(),
        fraction => format!("{}.{fraction}", value / scale),
    }
}

impl<const DIGITS: u32, const MIN: u64, const MAX: u64> Decimal<DIGITS, MIN, MAX> {
    /// In units of its last place.
    pub(super) fn get(self) -> u64 {
        self.0
    }
}

impl<const DIGITS: u32, const MIN: u64, const MAX: u64> Serialize for Decimal<DIGITS, MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show_decimal(self.0, DIGITS))
    }
}

/// From a text, which is what the check makes of a number in the file.
impl<'de, const DIGITS: u32, const MIN: u64, const MAX: u64> Deserialize<'de>
    for Decimal<DIGITS, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_decimal(&text, DIGITS)
            .map(Self)
            .map_err(|_| de::Error::custom("not an amount"))
    }
}

impl<const DIGITS: u32, const MIN: u64, const MAX: u64> JsonSchema for Decimal<DIGITS, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": MIN as f64 / 10_f64.powi(DIGITS as i32),
            "maximum": MAX,
            "format": "decimal",
            "x-digits": DIGITS,
        })
    }
}

/// A number between two bounds, or `"auto"`.
#[derive(Clone, Copy, Default)]
pub(super) struct Auto<const MIN: usize, const MAX: usize>(Option<usize>);

impl<const MIN: usize, const MAX: usize> Auto<MIN, MAX> {
    /// `None` is `"auto"`.
    pub(super) fn get(self) -> Option<usize> {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Auto<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => number.serialize(to),
            None => to.serialize_str("auto"),
        }
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Auto<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => match usize::try_from(number) {
                Ok(number) => Ok(Self(Some(number))),
                Err(_) => Err(de::Error::custom("too large")),
            },
            NumberOrText::Text(_) => Ok(Self(None)),
        }
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Auto<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Auto".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": MIN,
            "maximum": MAX,
            "format": "auto",
            "pattern": "^auto$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("30d", Some(2_592_000_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("+1s", None),
            ("1 s", None),
            ("1S", None),
            ("1m30s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("1w", None),
        ] {
            assert_eq!(parse_period(text), ms, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [
            ("0KiB", Some(0)),
            ("32KiB", Some(32 * KIB)),
            ("1MiB", Some(MIB)),
            ("2GiB", Some(2 * GIB)),
            ("1024", None),
            ("1KB", None),
            ("1k", None),
            ("1kib", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn values_are_shown_as_they_would_be_written() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000] {
            let shown = show_period(Duration::from_millis(ms));
            assert_eq!(parse_period(&shown), Some(ms), "{shown}");
        }
        assert_eq!(show_period(Duration::from_secs(300)), "5m");
        assert_eq!(show_period(Duration::from_secs(48 * 3_600)), "2d");
        assert_eq!(show_bytes(32 * KIB), "32KiB");
        assert_eq!(show_bytes(65_535), "65535");
    }

    #[test]
    fn amounts_are_exact() {
        use DecimalFault::{Bounds, Form};
        for (text, value) in [
            ("0", Ok(0)),
            ("1", Ok(1_000_000)),
            ("1.25", Ok(1_250_000)),
            ("+1.250000000", Ok(1_250_000)),
            ("0.000001", Ok(1)),
            ("1234567890.123456", Ok(1_234_567_890_123_456)),
            ("0.0000001", Err(Form)),
            ("1e3", Err(Form)),
            ("inf", Err(Form)),
            ("nan", Err(Form)),
            ("-inf", Err(Form)),
            (".5", Err(Form)),
            ("1.2.3", Err(Form)),
            ("--1", Err(Form)),
            ("", Err(Form)),
            ("-1", Err(Bounds)),
            ("-0.5", Err(Bounds)),
            ("99999999999999999999", Err(Bounds)),
        ] {
            assert_eq!(parse_decimal(text, 6), value, "{text:?}");
        }
        for value in [0, 1, 10, 999_999, 1_000_000, 1_250_000] {
            let shown = show_decimal(value, 6);
            assert_eq!(parse_decimal(&shown, 6), Ok(value), "{shown}");
        }
        assert_eq!(show_decimal(1_250_000, 6), "1.25");
        assert_eq!(show_decimal(2_000_000, 6), "2");
    }
}
