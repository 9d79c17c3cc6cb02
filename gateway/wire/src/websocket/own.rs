//! Frames that whoever stands in between sends itself.

use super::frame::Mask;

/// The longest that `close_frame` makes: header, mask, code and reason.
pub const CLOSE_FRAME_BYTES_MAX: usize = 2 + 4 + CONTROL_BYTES_MAX;

/// What a control frame may carry (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Of which the code takes two.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// A frame that closes the connection. The reason is cut to what fits. `mask`: from a client.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    frame(0x88, &payload, mask)
}

/// A message of text in one frame, as a server sends it.
pub fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes(), None)
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(14 + payload.len());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(first);
    // The shortest form that can say it is the only right one (RFC 6455 section 5.2).
    match payload.len() {
        short @ ..126 => out.push(masked | short as u8),
        middle @ ..65_536 => {
            out.push(masked | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |key| &key[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        Mask::new(key).apply(&mut out[start..]);
    }
    out
}
