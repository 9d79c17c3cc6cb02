//! What strings are made of (RFC 8259 section 7): plain text, which ends at the first byte that cannot be in it as it is (a
//! quote, a backslash or a control character), and escapes.

use super::JsonError;
use memchr::memchr2;

/// Up to here eight bytes at a time are faster than a vector search: most strings are shorter.
const SHORT_BYTES: usize = 32;

/// How many bytes of plain text these begin with.
#[inline(always)]
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    let Some((word, behind)) = text.split_first_chunk() else {
        return position_of_special(text);
    };
    match special_bytes(*word) {
        0 => 8 + plain_bytes_behind_word(behind),
        special => first_byte(special),
    }
}

#[inline(never)]
fn plain_bytes_behind_word(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let searched = text.len() - rest.len();
        if searched == SHORT_BYTES - 8 {
            return searched + plain_bytes_of_long(rest);
        }
        let special = special_bytes(*word);
        if special != 0 {
            return searched + first_byte(special);
        }
        rest = behind;
    }
    text.len() - rest.len() + position_of_special(rest)
}

fn plain_bytes_of_long(text: &[u8]) -> usize {
    let text = &text[..memchr2(b'"', b'\\', text).unwrap_or(text.len())];
    // The minimum of a whole stretch, with no way out of the loop, takes vector instructions.
    if text.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) >= 0x20 {
        return text.len();
    }
    position_of_special(text)
}

#[inline]
fn position_of_special(text: &[u8]) -> usize {
    let special = text
        .iter()
        .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    special.unwrap_or(text.len())
}

/// The high bits of the bytes that are not plain. Exact up to the first one; what comes after it may be wrong.
#[inline]
fn special_bytes(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(word);
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * ONES) & !word;
    let equal = |byte: u8| below(word ^ (u64::from(byte) * ONES), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (0x80 * ONES)
}

#[inline]
fn first_byte(special: u64) -> usize {
    special.trailing_zeros() as usize / 8
}

/// How many bytes the escapes take that these begin with. One that is not whole is left.
#[inline]
pub(super) fn escapes_bytes(text: &[u8]) -> Result<usize, JsonError> {
    let mut rest = text;
    loop {
        rest = match rest {
            [b'\\', b'u', digits @ ..] => match digits.split_first_chunk() {
                Some((digits, behind)) if is_utf16_unit(*digits) => behind,
                Some(_) => return Err(JsonError::Invalid),
                None => break,
            },
            [b'\\', name, behind @ ..] if unescaped(*name).is_some() => behind,
            [b'\\', _, ..] => return Err(JsonError::Invalid),
            _ => break,
        };
    }
    Ok(text.len() - rest.len())
}

/// The byte that an escape of this name stands for; `\u` is another matter.
#[inline]
pub(super) fn unescaped(name: u8) -> Option<u8> {
    Some(match name {
        b'"' | b'\\' | b'/' => name,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Are these hexadecimal digits? Without an early exit, so that the many different digits of a text cost no wrong guess.
#[inline]
fn is_utf16_unit(digits: [u8; 4]) -> bool {
    let is_digit = |at: usize| IS_HEX_DIGIT[usize::from(digits[at])];
    is_digit(0) & is_digit(1) & is_digit(2) & is_digit(3)
}

static IS_HEX_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_hexdigit();
        byte += 1;
    }
    table
};
