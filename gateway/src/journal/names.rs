//! Names are written once and then go by numbers: there are few of them, and many entries.
//!
//! A segment defines each number that its entries use before the first of them, and again every so often ([`REPEAT_BYTES`]),
//! so that what follows damage can be read. In one segment a number never means two names.

use super::payload::Number;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// After so many bytes of a segment its definitions begin anew.
pub(super) const REPEAT_BYTES: u64 = 1 << 20;

/// A longer name is cut: models are named by clients.
pub(super) const NAME_BYTES_MAX: usize = 256;

/// A segment that has so many names takes no more of those that clients choose: they could go on for ever. From then on
/// they stand in the entries themselves.
const CHOSEN_NAMES_MAX: usize = 4_096;

/// With so many names a segment ends, and they are forgotten.
const NAMES_MAX: usize = 32_768;

/// What a name takes in memory besides its text, roughly: its places in the tables, and what counts who uses it.
const NAME_COST_BYTES: usize = 96;

/// The writer's side.
#[derive(Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, Number>,
    /// The operator's own addresses: nobody makes them up so that they collide.
    address_numbers: HashMap<IpAddr, Number, RandomState>,
    names: Vec<Arc<str>>,
    bytes: usize,
    recent: Recent,
}

/// Numbers of names that were there a moment ago, nearly all of them, found without hashing them in earnest: by their
/// length and by two of their bytes. What is found is compared with the name.
struct Recent([Number; 256]);

impl Default for Recent {
    fn default() -> Self {
        Self([Number::MAX; 256])
    }
}

impl Recent {
    fn place(&mut self, name: &str) -> &mut Number {
        let bytes = name.as_bytes();
        let mixed = bytes.last().map_or(0, |last| {
            let middle = bytes[bytes.len() / 2];
            bytes.len() as u8 ^ last.rotate_left(3) ^ middle.rotate_left(6)
        });
        &mut self.0[usize::from(mixed)]
    }
}

impl Names {
    /// What they take in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// No more names should come to these.
    pub(super) fn are_full(&self) -> bool {
        self.names.len() >= NAMES_MAX
    }

    /// The name's number.
    pub(super) fn of(&mut self, name: &str) -> Number {
        let recent = *self.recent.place(name);
        if self
            .names
            .get(recent as usize)
            .is_some_and(|known| **known == *name)
        {
            return recent;
        }
        let number = self.look_up(name);
        *self.recent.place(name) = number;
        number
    }

    fn look_up(&mut self, name: &str) -> Number {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let kept = cut(name);
        if let Some(&number) = self.numbers.get(kept) {
            return number;
        }
        let (name, number) = self.add(kept);
        self.numbers.insert(name, number);
        number
    }

    /// The number of a name that a client has chosen; `None`: it gets none.
    pub(super) fn of_chosen(&mut self, name: &str) -> Option<Number> {
        let kept = cut(name);
        let has_room = self.names.len() < CHOSEN_NAMES_MAX;
        (has_room || self.numbers.contains_key(kept)).then(|| self.of(kept))
    }

    /// The address's number.
    pub(super) fn of_address(&mut self, address: IpAddr) -> Number {
        if let Some(&number) = self.address_numbers.get(&address) {
            return number;
        }
        let (_, number) = self.add(&address.to_string());
        self.address_numbers.insert(address, number);
        number
    }

    fn add(&mut self, name: &str) -> (Arc<str>, Number) {
        let name: Arc<str> = name.into();
        self.bytes += name.len() + NAME_COST_BYTES;
        self.names.push(name.clone());
        (name, self.names.len() as Number - 1)
    }

    /// The name with this number.
    pub(super) fn name(&self, number: Number) -> &str {
        &self.names[number as usize]
    }
}

/// As much of a name as is kept.
pub(super) fn cut(name: &str) -> &str {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Which numbers a segment has defined lately.
#[derive(Default)]
pub(super) struct Defined {
    round: u32,
    rounds: Vec<u32>,
}

impl Defined {
    /// None is defined any longer.
    pub(super) fn begin_anew(&mut self) {
        self.round += 1;
    }

    /// It is defined from now on; true if it was not.
    #[inline]
    pub(super) fn insert(&mut self, number: Number) -> bool {
        let index = number as usize;
        if self.rounds.get(index) == Some(&self.round) {
            return false;
        }
        if index >= self.rounds.len() {
            self.rounds.resize(index + 1, 0);
        }
        self.rounds[index] = self.round;
        true
    }
}

/// The reader's side.
#[derive(Default)]
pub(super) struct Glossary(Vec<Option<Name>>);

struct Name {
    text: Box<str>,
    address: Option<IpAddr>,
}

impl Glossary {
    /// Before another segment.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes in a definition; true if it is news.
    pub(super) fn define(&mut self, number: Number, text: &str) -> bool {
        let index = number as usize;
        // The writer never goes so far; whoever made such a segment does not decide how much memory is taken.
        if index > NAMES_MAX + 16 {
            return false;
        }
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        let place = &mut self.0[index];
        let is_news = place.is_none();
        place.get_or_insert_with(|| Name {
            text: text.into(),
            address: text.parse().ok(),
        });
        is_news
    }

    /// What the number stands for.
    pub(super) fn name(&self, number: Number) -> Option<&str> {
        Some(&*self.get(number)?.text)
    }

    /// The address that it stands for.
    pub(super) fn address(&self, number: Number) -> Option<IpAddr> {
        self.get(number)?.address
    }

    fn get(&self, number: Number) -> Option<&Name> {
        self.0.get(number as usize)?.as_ref()
    }
}
