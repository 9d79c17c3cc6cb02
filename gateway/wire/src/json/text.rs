//! Where the plain text of a string ends: at the first byte that cannot be in it as it is (RFC 8259 section 7), a quote,
//! a backslash or a control character.

use memchr::memchr2;

const BLOCK_BYTES: usize = 16;
/// So many blocks are looked at one by one: most strings are shorter, and calling a search costs more.
const BLOCKS_MAX: usize = 4;

/// How many bytes of plain text these begin with.
#[inline]
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    let block = text.first_chunk();
    match block.and_then(plain_bytes_of_block) {
        Some(bytes) => bytes,
        None => plain_bytes_of_long(text),
    }
}

/// The same where the first block, if it is there, is plain.
fn plain_bytes_of_long(text: &[u8]) -> usize {
    let (blocks, tail) = text.as_chunks();
    for (index, block) in blocks.iter().enumerate().take(BLOCKS_MAX).skip(1) {
        if let Some(bytes) = plain_bytes_of_block(block) {
            return BLOCK_BYTES * index + bytes;
        }
    }
    if blocks.len() > BLOCKS_MAX {
        let searched = BLOCK_BYTES * BLOCKS_MAX;
        return searched + plain_bytes_of_very_long(&text[searched..]);
    }
    BLOCK_BYTES * blocks.len() + position(tail, is_special)
}

fn plain_bytes_of_very_long(text: &[u8]) -> usize {
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

/// How many bytes of a block come before the first that is not plain; `None`: all of them are plain. They are looked at all
/// in the same way, which takes vector instructions.
#[inline(always)]
fn plain_bytes_of_block(block: &[u8; BLOCK_BYTES]) -> Option<usize> {
    let special = block.map(|byte| if is_special(byte) { u8::MAX } else { 0 });
    let special = u128::from_le_bytes(special);
    let (low, high) = (special as u64, (special >> 64) as u64);
    if low != 0 {
        Some(low.trailing_zeros() as usize / 8)
    } else if high != 0 {
        Some(8 + high.trailing_zeros() as usize / 8)
    } else {
        None
    }
}
