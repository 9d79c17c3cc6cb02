//! The grammar of JSON numbers (RFC 8259 section 6), byte by byte.

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

    pub(super) fn may_end(self) -> bool {
        matches!(
            self,
            Self::LeadingZero | Self::Integer | Self::Fraction | Self::Exponent
        )
    }
}
