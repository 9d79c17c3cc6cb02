//! One JSON object on one line, written member by member.

use crate::config::policy::Money;
use crate::request::reply::RequestId;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Characters of a value from outside that are kept.
const VALUE_CHARS_MAX: usize = 256;

/// A line being written.
pub(super) struct Line<'l>(pub(super) &'l mut String);

/// The name of a member, with what stands before and behind it: made by [`member`].
#[derive(Clone, Copy)]
pub(super) struct Member(&'static str);

impl Member {
    /// Only for [`member`], which has it looked through when the gateway is compiled.
    pub(super) const fn of(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let end = bytes.len() - 2;
        assert!(
            bytes[0] == b',' && bytes[1] == b'"' && bytes[end] == b'"' && bytes[end + 1] == b':'
        );
        let mut at = 2;
        while at < end {
            assert!(
                matches!(bytes[at], b'a'..=b'z' | b'_'),
                "no name of a member"
            );
            at += 1;
        }
        Self(text)
    }
}

/// The [`Member`] of this name.
macro_rules! member {
    ($name:literal) => {
        const { $crate::control::line::Member::of(concat!(",\"", $name, "\":")) }
    };
}

pub(super) use member;

// Lines of requests are written at their rate: most of this is inlined, so that names are copied by a length that is known.
impl Line<'_> {
    #[inline(always)]
    pub(super) fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    #[inline]
    pub(super) fn number(&mut self, member: Member, value: u64) {
        self.push(member.0);
        self.push(itoa::Buffer::new().format(value));
    }

    /// An amount of money, as it is shown everywhere.
    pub(super) fn money(&mut self, member: Member, value: Money) {
        self.push(member.0);
        self.push("\"");
        self.push(itoa::Buffer::new().format(value.nano() / 1_000_000_000));
        self.push(".");
        let mut digits = itoa::Buffer::new();
        // One digit more than there are, so that leading zeroes are there; it is left out.
        let behind = &digits.format(value.nano() % 1_000_000_000 + 1_000_000_000)[1..];
        let shown = behind.trim_end_matches('0').len().max(2);
        self.push(&behind[..shown]);
        self.push("\"");
    }

    #[inline]
    pub(super) fn milliseconds(&mut self, member: Member, value: Duration) {
        self.push(member.0);
        let micros = value.as_micros() as u64;
        let mut digits = itoa::Buffer::new();
        // Below a millisecond the leading zeroes have to come from somewhere: its digit is another one then.
        let text = digits.format(if micros < 1000 { micros + 1000 } else { micros });
        let (whole, behind) = text.split_at(text.len() - 3);
        self.push(if micros < 1000 { "0" } else { whole });
        self.push(".");
        self.push(behind);
    }

    /// A value of a closed set of the gateway's own, in which there is nothing to be escaped.
    #[inline]
    pub(super) fn word(&mut self, member: Member, value: &'static str) {
        self.plain(member, value);
    }

    /// A request's name. Also where its client has chosen it, it is made of letters and digits of ASCII and of `-_.:`, so that
    /// there is nothing to be escaped.
    #[inline]
    pub(super) fn request_id(&mut self, member: Member, id: &RequestId) {
        self.plain(member, id.as_str());
    }

    #[inline]
    fn plain(&mut self, member: Member, value: &str) {
        debug_assert!(is_plain(value), "{value}");
        self.push(member.0);
        self.push("\"");
        self.push(value);
        self.push("\"");
    }

    /// Eight hexadecimal digits.
    pub(super) fn hexadecimal(&mut self, member: Member, value: [u8; 4]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = u32::from_be_bytes(value);
        let digit = |place: u32| DIGITS[(number >> (28 - 4 * place)) as usize & 15];
        self.push(member.0);
        self.push("\"");
        for place in 0..8 {
            self.0.push(char::from(digit(place)));
        }
        self.push("\"");
    }

    /// A value from outside: escaped and cut.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.push(",\"");
        self.push(name);
        self.push("\":\"");
        if value.len() <= VALUE_CHARS_MAX && is_plain(value) {
            self.push(value);
        } else {
            self.escaped(value);
        }
        self.push("\"");
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

/// Is it written as it is?
fn is_plain(value: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // Each byte is looked at, so that several can be at once.
    value.bytes().fold(true, |all, byte| all & is_plain(byte))
}

/// Begins lines with the time of day; the part that is the same for a whole second is made once a second.
#[derive(Default)]
pub(super) struct TimeOfDay {
    second: u64,
    text: String,
}

impl TimeOfDay {
    pub(super) fn begin(&mut self, line: &mut Line<'_>, time: SystemTime) {
        let since_epoch = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != since_epoch.as_secs() || self.text.is_empty() {
            self.second = since_epoch.as_secs();
            let whole = Timestamp::from_second(self.second as i64).unwrap_or_default();
            self.text = whole.strftime("{\"time\":\"%Y-%m-%dT%H:%M:%S.").to_string();
        }
        line.push(&self.text);
        let micros = u64::from(since_epoch.subsec_micros());
        line.push(&itoa::Buffer::new().format(micros + 1_000_000)[1..]);
        line.push("Z\"");
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
            Line(&mut text).money(member!("cost"), value);
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
