//! The Huffman code of RFC 7541, appendix B. It is canonical: the lengths of its codes say everything.

use std::sync::OnceLock;

/// How many bits the code of each byte has; that of EOS, which comes last, has 30.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5,
    7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22,
    22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
    21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
    24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27,
    27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The symbol that is not a byte.
pub(super) const EOS: usize = 256;

/// The code of each symbol, with its length.
fn codes() -> &'static [(u32, u8); 257] {
    static CODES: OnceLock<[(u32, u8); 257]> = OnceLock::new();
    CODES.get_or_init(|| {
        let mut codes = [(0, 0); 257];
        let mut next = 0;
        for length in 1..=30 {
            next <<= 1;
            for symbol in (0..=EOS).filter(|symbol| LENGTHS[*symbol] == length) {
                codes[symbol] = (next, length);
                next += 1;
            }
        }
        codes
    })
}

/// The code of these symbols, filled up with ones.
pub(super) fn encode(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for symbol in symbols {
        let (code, length) = codes()[symbol];
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.chunks(8).map(byte).collect()
}

/// What was coded.
///
/// # Errors
/// Says which rule of RFC 7541, section 5.2, is broken.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::new();
    let (mut code, mut length) = (0, 0);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let symbol = codes().iter().position(|known| *known == (code, length));
            match symbol {
                Some(EOS) => return Err("EOS in a string".to_owned()),
                Some(symbol) => {
                    decoded.push(u8::try_from(symbol).map_err(|error| error.to_string())?);
                    (code, length) = (0, 0);
                }
                None => {}
            }
        }
    }
    let padding_is_ones = code == (1 << length) - 1;
    if length > 7 || !padding_is_ones {
        return Err(format!("padding of {length} bits: {code:b}"));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    /// RFC 7541, appendix C.4.1.
    #[test]
    fn the_example_of_the_rfc() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&coded).as_deref(), Ok(&b"www.example.com"[..]));
        let symbols = b"www.example.com".iter().map(|byte| usize::from(*byte));
        assert_eq!(encode(symbols), coded);
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let coded = encode(all.iter().map(|byte| usize::from(*byte)));
        assert_eq!(decode(&coded), Ok(all));
    }
}
