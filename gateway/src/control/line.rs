//! One JSON object on one line, written member by member.

use crate::config::policy::Money;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Characters of a value from outside that are kept.
const VALUE_CHARS_MAX: usize = 256;

/// A line being written.
pub(super) struct Line<'l>(pub(super) &'l mut String);

impl Line<'_> {
    pub(super) fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    /// An amount of money, as it is shown everywhere.
    pub(super) fn money(&mut self, name: &str, value: Money) {
        self.name(name);
        self.0.push('"');
        self.0
            .push_str(itoa::Buffer::new().format(value.nano() / 1_000_000_000));
        self.0.push('.');
        let mut digits = itoa::Buffer::new();
        // One digit more than there are, so that leading zeroes are there; it is left out.
        let behind = &digits.format(value.nano() % 1_000_000_000 + 1_000_000_000)[1..];
        let shown = behind.trim_end_matches('0').len().max(2);
        self.0.push_str(&behind[..shown]);
        self.0.push('"');
    }

    pub(super) fn milliseconds(&mut self, name: &str, value: Duration) {
        self.name(name);
        self.fraction(value.as_micros() as u64, 1000);
    }

    /// `value / unit` with all digits behind the point.
    fn fraction(&mut self, value: u64, unit: u64) {
        self.0.push_str(itoa::Buffer::new().format(value / unit));
        self.0.push('.');
        // One digit more than the fraction has, so that its leading zeroes are there; the first one is left out.
        self.0
            .push_str(&itoa::Buffer::new().format(value % unit + unit)[1..]);
    }

    /// A value from outside: escaped and cut.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push('"');
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if value.len() <= VALUE_CHARS_MAX && value.bytes().all(is_plain) {
            self.0.push_str(value);
        } else {
            self.escaped(value);
        }
        self.0.push('"');
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars().take(VALUE_CHARS_MAX) {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.0, "\\u{:04x}", u32::from(control));
                }
                plain => self.0.push(plain),
            }
        }
    }
}

/// Writes times of day; the part that is the same for a whole second is made once a second.
#[derive(Default)]
pub(super) struct TimeOfDay {
    second: u64,
    text: String,
}

impl TimeOfDay {
    pub(super) fn write(&mut self, line: &mut Line<'_>, time: SystemTime) {
        let since_epoch = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != since_epoch.as_secs() || self.text.is_empty() {
            self.second = since_epoch.as_secs();
            let whole = Timestamp::from_second(self.second as i64).unwrap_or_default();
            self.text = whole.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        line.0.push_str(&self.text);
        line.0.push('.');
        let micros = u64::from(since_epoch.subsec_micros());
        line.0
            .push_str(&itoa::Buffer::new().format(micros + 1_000_000)[1..]);
        line.0.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_outside_cannot_break_a_line() {
        let mut text = String::new();
        Line(&mut text).text("model", "a\"b\\c\nd\u{1b}[31m\u{2028}é");
        let object = format!("{{{}}}", &text[1..]);
        let value: serde_json::Value = serde_json::from_str(&object).unwrap();
        assert_eq!(value["model"], "a\"b\\c\nd\u{1b}[31m\u{2028}é");
        assert!(!text.contains('\n') && !text.contains('\u{1b}'));
    }

    #[test]
    fn money_is_written_as_it_is_shown() {
        for nano in [0, 1, 795_000, 1_500_000_000, 12_345_678_901, u64::MAX] {
            let (mut text, value) = (String::new(), Money::from_nano(nano));
            Line(&mut text).money("cost", value);
            assert_eq!(text, format!(",\"cost\":\"{value}\""));
        }
    }

    #[test]
    fn long_values_are_cut() {
        let mut text = String::new();
        Line(&mut text).text("model", &"x".repeat(1000));
        assert_eq!(text.matches('x').count(), VALUE_CHARS_MAX);
    }
}
