//! What is written by tables and into memory that is there already is what the plain way writes.

use super::*;
use fastrand::Rng;
use std::net::{IpAddr, Ipv6Addr};

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

#[test]
fn there_is_room_for_an_entry_with_every_member_at_its_largest() {
    let mut names = Names::default();
    // So many that further ones of clients are written out, and numbers take two bytes.
    let mut others = (0..).map(|number: u32| number.to_string());
    while let Some(number) = names.of_chosen(&others.next().unwrap()) {
        assert!(number < 1 << 14);
    }
    let (name, model) = ("n".repeat(NAME_BYTES_MAX), "m".repeat(NAME_BYTES_MAX + 1));
    let (name, longest) = (Some(&*name), Duration::from_micros(u64::MAX));
    let entry = Entry {
        sequence: u64::MAX,
        time_us: u64::MAX,
        request_id: (&*"r".repeat(REQUEST_NAME_BYTES_MAX)).into(),
        tenant: name,
        key: Some([0xFF; _]),
        route: Some(Dialect::Opaque),
        model: Some(&*model),
        upstream: name,
        account: name,
        region: name,
        egress: Some(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
        status: u16::MAX,
        failed_status: Some(u16::MAX),
        code: name,
        attempts: u32::MAX,
        chosen: name,
        queued: Some(longest),
        first_byte: Some(longest),
        duration: longest,
        overhead: Some(longest),
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        events: u64::MAX,
        streamed: true,
        charged: true,
        usage: Some(Usage {
            input_tokens: u64::MAX,
            cached_tokens: u64::MAX,
            output_tokens: u64::MAX,
            reasoning_tokens: u64::MAX,
        }),
        known: Known::ALL.into_iter().next(),
        cost: Money::from_nano(u64::MAX),
        limit: Some((Scope::Key, Limit::ALL[0])),
        shadowed: LimitSet::from_bits(u16::MAX),
        closed: ClosedBy::ALL
            .into_iter()
            .next()
            .map(|by| Closed { by, code: u16::MAX }),
        ended: "ended",
    };
    let mut payload = Vec::new();
    encode(&entry, &mut names, &mut payload);
    let leb128 = |number: u64| leb128_bytes(u64::BITS - number.leading_zeros());
    // Numbers that are as large as their types, but for flags, names and limits: there are not so many of these.
    let flags = leb128_bytes(u64::BITS) - leb128(flag::CLOSED);
    let numbers = 8 * (leb128_bytes(u32::BITS) - leb128((1 << 14) - 1));
    let limits = leb128_bytes(u16::BITS) - leb128(entry.shadowed.bits().into());
    assert_eq!(payload.len() + flags + numbers + limits, BYTES_MAX);
}
