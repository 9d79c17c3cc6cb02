//! What is written by tables and into memory that is there already is what the plain way writes.

use super::*;
use fastrand::Rng;

/// The name's digits, read one after the other.
fn plain_request_name(name: &str) -> Option<Vec<u8>> {
    let digits = name.strip_prefix("req_")?;
    let is_digit = |digit: char| matches!(digit, '0'..='9' | 'a'..='f');
    if digits.len() != 24 || !digits.chars().all(is_digit) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    Some((0..24).step_by(2).map(byte).collect())
}

#[test]
fn a_request_name_is_one_of_the_gateways_own_or_not() {
    let rng = &mut Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut name = format!("req_{:024x}", rng.u128(..) >> 32).into_bytes();
        if rng.bool() {
            let at = rng.usize(..name.len());
            name[at] = rng.u8(..0x80);
        }
        if rng.u8(..4) == 0 {
            name.push(b'0');
        }
        let own = own_request_name(&name).map(Vec::from);
        let plain = plain_request_name(std::str::from_utf8(&name).unwrap());
        assert_eq!(own, plain, "{name:?}");
    }
}

#[test]
fn a_number_takes_seven_bits_of_each_byte() {
    for shift in 0..64 {
        for number in [
            u64::MAX >> shift,
            (u64::MAX >> shift) + u64::from(shift > 0),
        ] {
            let mut bytes = [0xFF; 16];
            let mut out = Output::to(&mut bytes);
            out.push(number);
            let length = out.length();
            let bits = u64::BITS - number.leading_zeros();
            assert_eq!(length, bits.div_ceil(7).max(1) as usize);
            let mut input = Input(&bytes[..length]);
            assert_eq!(input.varint(), Some(number));
            assert!(input.0.is_empty());
        }
    }
}
