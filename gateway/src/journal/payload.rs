//! An entry's payload: what most entries have in common costs nothing, a name costs a number.
//!
//! ```text
//! time 8 · flags · number of: tenant, ended, model, upstream, account, region, egress, chosen, code ·
//! request's name · status · attempts · duration · bytes in · bytes out · events · what else the flags tell of
//! ```
//!
//! Numbers without a size are LEB128. The time and the names come first: whoever looks for one tenant reads no further.

mod output;
#[cfg(test)]
mod tests;

use super::entry::{Closed, ClosedBy, Entry, REQUEST_NAME_BYTES_MAX, RequestName};
use super::names::{self, Glossary, NAME_BYTES_MAX, Names};
use crate::config::policy::{Limit, LimitSet, Money, Scope};
use crate::request::authenticate::KeyId;
use crate::usage::Known;
use output::Output;
use relay_wire::dialect::{Dialect, Usage};
use std::time::Duration;

/// What an entry's payload takes whose members are all as large as they can be. Writing relies on it: a payload is written into
/// so much memory without a look whether there is room, and one that were longer would be a panic. Whoever adds a member adds
/// its bytes here.
pub(super) const BYTES_MAX: usize = {
    let short = leb128_bytes(u16::BITS);
    let middle = leb128_bytes(u32::BITS);
    let long = leb128_bytes(u64::BITS);
    let (time, flags) = (size_of::<u64>(), long);
    // A model whose name is written out has no number, and how it ended has one without a flag.
    let names = flag::NAMES.count_ones() as usize * middle;
    let request_name = 1 + REQUEST_NAME_BYTES_MAX;
    let (status, attempts) = (short, middle);
    let duration_bytes_events = 4 * long;
    let (key, route) = (size_of::<KeyId>(), 1);
    let (durations, usage, known, cost) = (3 * long, 4 * long, 1, long);
    let (failed_status, limit, shadowed) = (short, 2, short);
    let model_text = leb128_bytes(usize::BITS - NAME_BYTES_MAX.leading_zeros()) + NAME_BYTES_MAX;
    let closed = 1 + short;
    let always = time + flags + names + request_name + status + attempts + duration_bytes_events;
    let details = key + route + durations + usage + known + cost + failed_status + limit + shadowed;
    always + details + model_text + closed
};

/// What numbers of so many bits take at most.
const fn leb128_bytes(bits: u32) -> usize {
    bits.div_ceil(7) as usize
}

/// A name's number, in one segment.
pub(super) type Number = u32;

/// What an entry has. A payload of a later version may have more, behind everything else.
mod flag {
    pub(super) const TENANT: u64 = 1;
    pub(super) const MODEL: u64 = 1 << 1;
    pub(super) const UPSTREAM: u64 = 1 << 2;
    pub(super) const ACCOUNT: u64 = 1 << 3;
    pub(super) const REGION: u64 = 1 << 4;
    pub(super) const EGRESS: u64 = 1 << 5;
    pub(super) const CHOSEN: u64 = 1 << 6;
    pub(super) const KEY: u64 = 1 << 7;
    pub(super) const ROUTE: u64 = 1 << 8;
    pub(super) const FIRST_BYTE: u64 = 1 << 9;
    pub(super) const OVERHEAD: u64 = 1 << 10;
    pub(super) const STREAMED: u64 = 1 << 11;
    pub(super) const CHARGED: u64 = 1 << 12;
    pub(super) const USAGE: u64 = 1 << 13;
    pub(super) const KNOWN: u64 = 1 << 14;
    pub(super) const COST: u64 = 1 << 15;
    /// The request's name is one of the gateway's own.
    pub(super) const OWN_REQUEST_NAME: u64 = 1 << 16;
    pub(super) const CODE: u64 = 1 << 17;
    pub(super) const FAILED_STATUS: u64 = 1 << 18;
    pub(super) const QUEUED: u64 = 1 << 19;
    pub(super) const LIMIT: u64 = 1 << 20;
    // So far three bytes.
    pub(super) const SHADOWED: u64 = 1 << 21;
    /// The model has no number: its name stands behind everything else.
    pub(super) const MODEL_TEXT: u64 = 1 << 22;
    pub(super) const CLOSED: u64 = 1 << 23;

    /// Each stands for a name's number.
    pub(super) const NAMES: u64 =
        TENANT | MODEL | UPSTREAM | ACCOUNT | REGION | EGRESS | CODE | CHOSEN;
}

/// A request's name of the gateway's own: this, and the digits.
const OWN_PREFIX: &str = "req_";
const OWN_DIGITS: usize = 24;

/// Puts the payload behind what is there.
pub(super) fn encode(entry: &Entry<&str>, names: &mut Names, out: &mut Vec<u8>) {
    let begin = out.len();
    // Made long enough for any payload ([`BYTES_MAX`]) and cut in the end, so that memory need not grow byte by byte.
    out.resize(begin + BYTES_MAX, 0);
    let mut output = Output::to(&mut out[begin..]);
    encode_whole(entry, names, &mut output);
    let length = output.length();
    out.truncate(begin + length);
}

fn encode_whole(entry: &Entry<&str>, names: &mut Names, out: &mut Output<'_>) {
    let request_name = entry.request_id.stored();
    let own_name = own_request_name(request_name);
    out.extend(&entry.time_us.to_le_bytes());
    let model = entry.model.map(|name| names.of_chosen(name));
    let model_text = entry.model.filter(|_| model == Some(None));
    out.push(flags(entry, own_name.is_some(), model_text.is_some()));
    let egress = entry.egress.map(|address| names.of_address(address));
    let mut name = |name: Option<&str>| name.map(|name| names.of(name));
    let numbers = [
        name(entry.tenant),
        name(Some(entry.ended)),
        model.flatten(),
        name(entry.upstream),
        name(entry.account),
        name(entry.region),
        egress,
        name(entry.chosen),
        name(entry.code),
    ];
    for number in numbers.into_iter().flatten() {
        out.push(number.into());
    }
    match own_name {
        Some(bytes) => out.extend(&bytes),
        None => {
            out.byte(request_name.len() as u8);
            out.extend(request_name);
        }
    }
    out.push(entry.status.into());
    out.push(entry.attempts.into());
    out.push(entry.duration.as_micros() as u64);
    out.push(entry.bytes_in);
    out.push(entry.bytes_out);
    out.push(entry.events);
    encode_details(entry, out);
    if let Some(name) = model_text.map(names::cut) {
        out.push(name.len() as u64);
        out.extend(name.as_bytes());
    }
    if let Some(Closed { by, code }) = entry.closed {
        out.byte(by as u8);
        out.push(code.into());
    }
}

fn encode_details(entry: &Entry<&str>, out: &mut Output<'_>) {
    if let Some(key) = entry.key {
        out.extend(&key);
    }
    if let Some(route) = entry.route {
        out.byte(route_number(route));
    }
    let durations = [entry.first_byte, entry.overhead, entry.queued];
    for duration in durations.into_iter().flatten() {
        out.push(duration.as_micros() as u64);
    }
    if let Some(usage) = entry.usage {
        out.push(usage.input_tokens);
        out.push(usage.cached_tokens);
        out.push(usage.output_tokens);
        out.push(usage.reasoning_tokens);
    }
    if let Some(known) = entry.known {
        out.byte(known as u8);
    }
    if entry.cost != Money::ZERO {
        out.push(entry.cost.nano());
    }
    if let Some(status) = entry.failed_status {
        out.push(status.into());
    }
    if let Some((scope, limit)) = entry.limit {
        out.byte(scope_number(scope));
        out.byte(limit as u8);
    }
    if !entry.shadowed.is_empty() {
        out.push(entry.shadowed.bits().into());
    }
}

fn flags(entry: &Entry<&str>, has_own_name: bool, has_model_text: bool) -> u64 {
    let has_model = entry.model.is_some() && !has_model_text;
    let flag = |has: bool, flag: u64| if has { flag } else { 0 };
    flag(entry.tenant.is_some(), flag::TENANT)
        | flag(has_model, flag::MODEL)
        | flag(has_model_text, flag::MODEL_TEXT)
        | flag(entry.upstream.is_some(), flag::UPSTREAM)
        | flag(entry.account.is_some(), flag::ACCOUNT)
        | flag(entry.region.is_some(), flag::REGION)
        | flag(entry.egress.is_some(), flag::EGRESS)
        | flag(entry.chosen.is_some(), flag::CHOSEN)
        | flag(entry.key.is_some(), flag::KEY)
        | flag(entry.route.is_some(), flag::ROUTE)
        | flag(entry.first_byte.is_some(), flag::FIRST_BYTE)
        | flag(entry.overhead.is_some(), flag::OVERHEAD)
        | flag(entry.streamed, flag::STREAMED)
        | flag(entry.charged, flag::CHARGED)
        | flag(entry.usage.is_some(), flag::USAGE)
        | flag(entry.known.is_some(), flag::KNOWN)
        | flag(entry.cost != Money::ZERO, flag::COST)
        | flag(has_own_name, flag::OWN_REQUEST_NAME)
        | flag(entry.code.is_some(), flag::CODE)
        | flag(entry.failed_status.is_some(), flag::FAILED_STATUS)
        | flag(entry.queued.is_some(), flag::QUEUED)
        | flag(entry.limit.is_some(), flag::LIMIT)
        | flag(!entry.shadowed.is_empty(), flag::SHADOWED)
        | flag(entry.closed.is_some(), flag::CLOSED)
}

/// Puts a name's definition behind what is there.
pub(super) fn encode_name(number: Number, name: &str, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut output = Output::to(&mut digits);
    output.push(number.into());
    let length = output.length();
    out.extend_from_slice(&digits[..length]);
    out.extend_from_slice(name.as_bytes());
}

/// A name's definition.
pub(super) fn decode_name(payload: &[u8]) -> Option<(Number, &str)> {
    let mut input = Input(payload);
    let number = input.integer()?;
    Some((number, std::str::from_utf8(input.0).ok()?))
}

/// What can be said of an entry without reading all of it.
pub(super) struct Beginning<'a> {
    pub(super) time_us: u64,
    flags: u64,
    rest: Input<'a>,
}

impl<'a> Beginning<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Option<Self> {
        let mut rest = Input(payload);
        Some(Self {
            time_us: rest.number()?,
            flags: rest.varint()?,
            rest,
        })
    }

    /// Its tenant's number.
    pub(super) fn tenant(&self) -> Option<Number> {
        let mut rest = self.rest;
        (self.flags & flag::TENANT != 0).then(|| rest.integer())?
    }

    /// The numbers of all its names.
    pub(super) fn names(&self) -> impl Iterator<Item = Number> + use<'a> {
        let mut rest = self.rest;
        let count = (self.flags & flag::NAMES).count_ones() + 1;
        (0..count).map_while(move |_| rest.integer())
    }

    /// The whole entry; `None`: it has a name that nobody has defined, or does not have this form.
    pub(super) fn entry<'n>(self, sequence: u64, names: &'n Glossary) -> Option<Entry<&'n str>>
    where
        'a: 'n,
    {
        let Self {
            time_us,
            flags,
            rest: mut input,
        } = self;
        let has = |flag: u64| flags & flag != 0;
        let mut number = |is_there: bool| match is_there {
            true => input.integer().map(Some),
            false => Some(None),
        };
        let name = |number: Option<Number>| match number {
            Some(number) => names.name(number).map(Some),
            None => Some(None),
        };
        let tenant = name(number(has(flag::TENANT))?)?;
        let ended = name(number(true)?)??;
        let model = name(number(has(flag::MODEL))?)?;
        let upstream = name(number(has(flag::UPSTREAM))?)?;
        let account = name(number(has(flag::ACCOUNT))?)?;
        let region = name(number(has(flag::REGION))?)?;
        let egress = match number(has(flag::EGRESS))? {
            Some(number) => Some(names.address(number)?),
            None => None,
        };
        let chosen = name(number(has(flag::CHOSEN))?)?;
        let code = name(number(has(flag::CODE))?)?;
        let request_id = input.request_name(has(flag::OWN_REQUEST_NAME))?;
        Some(Entry {
            sequence,
            time_us,
            request_id,
            tenant,
            upstream,
            account,
            region,
            egress,
            code,
            chosen,
            ended,
            status: input.integer()?,
            attempts: input.integer()?,
            duration: input.duration()?,
            bytes_in: input.varint()?,
            bytes_out: input.varint()?,
            events: input.varint()?,
            key: input.optional(has(flag::KEY), Input::array)?,
            route: input
                .optional(has(flag::ROUTE), Input::byte)?
                .and_then(route_of_number),
            first_byte: input.optional(has(flag::FIRST_BYTE), Input::duration)?,
            overhead: input.optional(has(flag::OVERHEAD), Input::duration)?,
            queued: input.optional(has(flag::QUEUED), Input::duration)?,
            streamed: has(flag::STREAMED),
            charged: has(flag::CHARGED),
            usage: input.optional(has(flag::USAGE), Input::usage)?,
            known: input
                .optional(has(flag::KNOWN), Input::byte)?
                .and_then(|number| Known::ALL.into_iter().find(|&known| known as u8 == number)),
            cost: input
                .optional(has(flag::COST), Input::varint)?
                .map_or(Money::ZERO, Money::from_nano),
            failed_status: input.optional(has(flag::FAILED_STATUS), Input::integer)?,
            limit: input
                .optional(has(flag::LIMIT), Input::array)?
                .and_then(|[scope, limit]| {
                    let limit = Limit::ALL.into_iter().find(|&it| it as u8 == limit)?;
                    Some((scope_of_number(scope)?, limit))
                }),
            shadowed: input
                .optional(has(flag::SHADOWED), Input::integer)?
                .map_or(LimitSet::EMPTY, LimitSet::from_bits),
            // Of a model that has no number the name stands here.
            model: input
                .optional(has(flag::MODEL_TEXT), Input::text)?
                .or(model),
            closed: input.optional(has(flag::CLOSED), Input::closed)?.flatten(),
        })
    }
}

// Numbers on disk mean the same for ever: those that a later version has added are read as if there were none.

const fn route_number(route: Dialect) -> u8 {
    match route {
        Dialect::Responses => 1,
        Dialect::ChatCompletions => 2,
        Dialect::Messages => 3,
        Dialect::Gemini => 4,
        Dialect::Opaque => 5,
    }
}

fn route_of_number(number: u8) -> Option<Dialect> {
    let mut all = Dialect::ALL.into_iter();
    all.find(|&route| route_number(route) == number)
}

const fn scope_number(scope: Scope) -> u8 {
    match scope {
        Scope::Tenant => 1,
        Scope::Key => 2,
    }
}

fn scope_of_number(number: u8) -> Option<Scope> {
    let mut all = [Scope::Tenant, Scope::Key].into_iter();
    all.find(|&scope| scope_number(scope) == number)
}

/// The digits of a request's name of the gateway's own, two in a byte.
fn own_request_name(name: &[u8]) -> Option<[u8; OWN_DIGITS / 2]> {
    let digits = name.strip_prefix(OWN_PREFIX.as_bytes())?;
    let digits: &[u8; OWN_DIGITS] = digits.try_into().ok()?;
    let mut bytes = [0; OWN_DIGITS / 2];
    let mut all = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let high = DIGIT_VALUES[usize::from(*high)];
        let low = DIGIT_VALUES[usize::from(*low)];
        *byte = high << 4 | low & 15;
        all |= high | low;
    }
    (all & NO_DIGIT == 0).then_some(bytes)
}

/// In [`DIGIT_VALUES`], of what is none of the digits that are written.
const NO_DIGIT: u8 = 0x80;

/// What each byte stands for as a hexadecimal digit.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// Eight bytes.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Nearly all names have such a number.
        if let Some((&byte, rest)) = self.0.split_first()
            && byte < 0x80
        {
            self.0 = rest;
            return Some(byte.into());
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    #[inline]
    fn integer<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.varint()?).ok()
    }

    fn duration(&mut self) -> Option<Duration> {
        self.varint().map(Duration::from_micros)
    }

    fn usage(&mut self) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.varint()?,
            cached_tokens: self.varint()?,
            output_tokens: self.varint()?,
            reasoning_tokens: self.varint()?,
        })
    }

    /// By somebody of a later version: as if by nobody.
    fn closed(&mut self) -> Option<Option<Closed>> {
        let number = self.byte()?;
        let code = self.integer()?;
        let mut all = ClosedBy::ALL.into_iter();
        let by = all.find(|&by| by as u8 == number);
        Some(by.map(|by| Closed { by, code }))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length: usize = self.integer()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn optional<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match is_there {
            true => read(self).map(Some),
            false => Some(None),
        }
    }

    fn request_name(&mut self, is_own: bool) -> Option<RequestName> {
        if !is_own {
            let length = usize::from(self.byte()?);
            let (name, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            return Some(std::str::from_utf8(name).ok()?.into());
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = [0; OWN_PREFIX.len() + OWN_DIGITS];
        let (prefix, digits) = name.split_at_mut(OWN_PREFIX.len());
        prefix.copy_from_slice(OWN_PREFIX.as_bytes());
        let bytes: [u8; OWN_DIGITS / 2] = self.array()?;
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Some(std::str::from_utf8(&name).ok()?.into())
    }
}
