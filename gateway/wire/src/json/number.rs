//! The grammar of JSON numbers (RFC 8259 section 6), byte by byte, and what they come to.

use super::JsonError;

/// What the last byte of a number was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    LeadingZero,
    Integer,
    Point,
    Fraction,
    ExponentMark,
    ExponentSign,
    Exponent,
}

impl Number {
    pub(super) fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::LeadingZero),
            b'1'..=b'9' => Some(Self::Integer),
            _ => None,
        }
    }

    /// Reads on from `at`: returns where it ends, or where the piece does and what the last byte was.
    pub(super) fn read(
        self,
        bytes: &[u8],
        mut at: usize,
    ) -> Result<(usize, Option<Self>), JsonError> {
        let mut number = self;
        while let Some(&byte) = bytes.get(at) {
            number = match number.step(byte) {
                Some(number) => number,
                None if number.may_end() => return Ok((at, None)),
                None => return Err(JsonError::Invalid),
            };
            at += 1;
        }
        Ok((at, Some(number)))
    }

    /// After one more byte; `None` if that does not belong to the number.
    pub(super) fn step(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::LeadingZero),
            (Self::Minus | Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::LeadingZero | Self::Integer, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::LeadingZero | Self::Integer | Self::Fraction, b'e' | b'E') => {
                Some(Self::ExponentMark)
            }
            (Self::ExponentMark, b'+' | b'-') => Some(Self::ExponentSign),
            (Self::ExponentMark | Self::ExponentSign | Self::Exponent, b'0'..=b'9') => {
                Some(Self::Exponent)
            }
            _ => None,
        }
    }

    /// Where a number ends of which the first byte is before `at`, if it has no exponent and ends in this piece; nearly all
    /// are such.
    #[inline(always)]
    pub(super) fn plain_end(self, bytes: &[u8], at: usize) -> Option<usize> {
        let integer_end = at + digits(&bytes[at..]);
        let is_integer = match self {
            Self::LeadingZero => integer_end == at,
            Self::Minus => integer_end == at + 1 || (integer_end > at && bytes[at] != b'0'),
            _ => true,
        };
        let end = match bytes.get(integer_end)? {
            b'.' => fraction_end(bytes, integer_end + 1)?,
            _ => integer_end,
        };
        (is_integer && !matches!(bytes.get(end)?, b'e' | b'E')).then_some(end)
    }

    pub(super) fn may_end(self) -> bool {
        matches!(
            self,
            Self::LeadingZero | Self::Integer | Self::Fraction | Self::Exponent
        )
    }
}

/// Where digits end of which the first is at `at`, if it is one.
fn fraction_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = at + digits(&bytes[at..]);
    (end > at).then_some(end)
}

/// How many digits these begin with.
#[inline(always)]
fn digits(bytes: &[u8]) -> usize {
    let other = bytes.iter().position(|byte| !byte.is_ascii_digit());
    other.unwrap_or(bytes.len())
}

/// What a number comes to as a count, however it is written: rounded up, and if it is too large for the type the largest
/// that is not. `None`: it is less than nothing, or is no number.
pub(super) fn count(number: &[u8]) -> Option<u64> {
    if !is_number(number) || number.first() == Some(&b'-') {
        return None;
    }
    let mark = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = number.split_at(mark.unwrap_or(number.len()));
    let point = mantissa.iter().position(|&byte| byte == b'.');
    let (integer, fraction) = mantissa.split_at(point.unwrap_or(mantissa.len()));
    let exponent = match exponent.get(1..) {
        Some(digits) => saturated(digits),
        None => 0,
    };
    // The number is 0.DIGITS × 10^places.
    let places = exponent.saturating_add(integer.len() as i64);
    let digits = || integer.iter().chain(fraction.iter().skip(1));
    let mut value = 0_u64;
    let mut at = 0_i64;
    for &byte in digits() {
        if at < places {
            value = value
                .saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'));
        } else if byte > b'0' {
            return Some(value.saturating_add(1));
        }
        at += 1;
    }
    // Twenty more zeros are too many for any but zero.
    for _ in at..places.min(at.saturating_add(20)) {
        value = value.saturating_mul(10);
    }
    Some(value)
}

fn is_number(text: &[u8]) -> bool {
    let Some((&first, rest)) = text.split_first() else {
        return false;
    };
    let begun = Number::begin(first);
    begun
        .and_then(|begun| {
            rest.iter()
                .try_fold(begun, |number, &byte| number.step(byte))
        })
        .is_some_and(Number::may_end)
}

/// An exponent; one that is too large for the type is at its end.
fn saturated(exponent: &[u8]) -> i64 {
    let (sign, digits) = match exponent {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    digits.iter().fold(0, |value: i64, byte| {
        let digit = i64::from(byte - b'0');
        value.saturating_mul(10).saturating_add(sign * digit)
    })
}
