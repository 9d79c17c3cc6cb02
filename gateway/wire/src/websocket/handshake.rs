//! The two values of a handshake that prove that both sides mean it (RFC 6455 section 4.2.2).

use sha1::{Digest, Sha1};

/// What every server puts behind a client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How long a value of `Sec-WebSocket-Accept` is.
pub const ACCEPT_BYTES: usize = 28;

/// Is this a value of `Sec-WebSocket-Key`: sixteen bytes in base64 (RFC 6455 section 4.1)?
pub fn is_key(value: &[u8]) -> bool {
    let [digits @ .., b'=', b'='] = value else {
        return false;
    };
    digits.len() == 22 && digits.iter().all(|digit| ALPHABET.contains(digit))
}

/// The value of `Sec-WebSocket-Accept` that belongs to a key.
pub fn accept_value(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let hash = hash.finalize();
    let mut value = [b'='; ACCEPT_BYTES];
    for (group, digits) in hash.chunks(3).zip(value.chunks_exact_mut(4)) {
        let byte = |index| group.get(index).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        // The last group has two bytes, which three digits say; the fourth stays the padding.
        for (index, digit) in digits.iter_mut().enumerate().take(group.len() + 1) {
            *digit = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
        }
    }
    value
}
