//! Where the plain text of a string ends: at the first byte that cannot be in it as it is (RFC 8259 section 7), a quote,
//! a backslash or a control character.

use memchr::memchr2;

const BLOCK_BYTES: usize = 16;
/// So many blocks are looked at one by one: most strings are shorter, and calling a search costs more.
const BLOCKS_MAX: usize = 4;

/// How many bytes of plain text these begin with.
#[inline]
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    let Some((block, rest)) = text.split_first_chunk() else {
        return position(text, is_special);
    };
    plain_bytes_of_block(block).unwrap_or_else(|| BLOCK_BYTES + plain_bytes_behind_block(rest))
}

#[inline(never)]
fn plain_bytes_behind_block(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((block, behind)) = rest.split_first_chunk() {
        let searched = text.len() - rest.len();
        if searched == BLOCK_BYTES * BLOCKS_MAX {
            return searched + plain_bytes_of_long(rest);
        }
        if let Some(bytes) = plain_bytes_of_block(block) {
            return searched + bytes;
        }
        rest = behind;
    }
    text.len() - rest.len() + position(rest, is_special)
}

fn plain_bytes_of_long(text: &[u8]) -> usize {
    let text = &text[..memchr2(b'"', b'\\', text).unwrap_or(text.len())];
    // The minimum of a whole stretch, with no way out of the loop, takes vector instructions.
    if text.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) >= 0x20 {
        return text.len();
    }
    position(text, is_special)
}

fn position(text: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    let position = text.iter().position(|&byte| wanted(byte));
    position.unwrap_or(text.len())
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// How many bytes of a block come before the first that is not plain; `None`: all of them are plain.
#[inline(always)]
fn plain_bytes_of_block(block: &[u8; BLOCK_BYTES]) -> Option<usize> {
    let special = u128::from_le_bytes(marked(block));
    let (low, high) = (special as u64, (special >> 64) as u64);
    if low != 0 {
        Some(low.trailing_zeros() as usize / 8)
    } else if high != 0 {
        Some(8 + high.trailing_zeros() as usize / 8)
    } else {
        None
    }
}

/// Ones for the bytes that are not plain. All are looked at in the same way and by themselves, which takes vector instructions.
#[inline(never)]
fn marked(block: &[u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    block.map(|byte| if is_special(byte) { u8::MAX } else { 0 })
}
