//! Which keys and values lie on the paths that are looked for, and what was found there.

use super::key::KeyMatch;
use super::syntax::StringRole;
use super::{EVERY_ITEM, Found, JsonError, Path};

/// A set of paths, by index.
pub(super) type PathSet = u32;
/// More than any path we look for has.
pub(super) const PATH_LENGTH_MAX: usize = 4;

/// Follows the text along the paths. Everything off the paths costs one comparison.
#[derive(Debug)]
pub(super) struct Watch {
    paths: &'static [Path],
    first_bytes: FirstBytes,
    capture_bytes_max: usize,
    pub(super) found: Vec<Found>,
    /// How many of the open arrays and objects, counted from the outermost, lie on a path.
    watched: usize,
    /// The paths that go on inside of each of those.
    inside: [PathSet; PATH_LENGTH_MAX],
    /// The paths that lead to or through the next value.
    to_value: PathSet,
    /// The paths whose value is being captured.
    capturing: PathSet,
    /// Up to where the current piece has been captured.
    captured: usize,
    /// Bytes of the earlier pieces.
    earlier_bytes: u64,
    key: KeyMatch,
}

impl Watch {
    pub(super) fn new(paths: &'static [Path], capture_bytes_max: usize) -> Self {
        assert!(paths.len() <= PathSet::BITS as usize);
        assert!(
            paths
                .iter()
                .all(|path| (1..=PATH_LENGTH_MAX).contains(&path.len()))
        );
        Self {
            paths,
            first_bytes: FirstBytes::of(paths),
            capture_bytes_max,
            found: paths.iter().map(|_| Found::default()).collect(),
            watched: 0,
            inside: [0; PATH_LENGTH_MAX],
            to_value: all_of(paths),
            capturing: 0,
            captured: 0,
            earlier_bytes: 0,
            key: KeyMatch::default(),
        }
    }

    /// Starts over, keeping allocations.
    pub(super) fn reset(&mut self) {
        self.found.iter_mut().for_each(Found::clear);
        (self.watched, self.capturing, self.captured) = (0, 0, 0);
        self.earlier_bytes = 0;
        self.to_value = all_of(self.paths);
    }

    /// All of the piece has been read: captures go on with the next one.
    pub(super) fn end_piece(&mut self, bytes: &[u8]) {
        self.capture(bytes, bytes.len());
        self.captured = 0;
        self.earlier_bytes += bytes.len() as u64;
    }

    /// The text is broken. How much of a value was seen before that depends on the splitting.
    pub(super) fn drop_captures(&mut self) {
        for index in indices(self.capturing) {
            self.found[index].raw.clear();
        }
    }

    /// A value begins at `at`, in this many arrays and objects, the innermost of which is an object or not.
    #[inline]
    pub(super) fn value_starts(&mut self, bytes: &[u8], at: usize, depth: usize, in_object: bool) {
        // The text as a whole is at the end of no path.
        if self.watched == depth && depth > 0 {
            self.watched_value_starts(bytes, at, depth, in_object);
        }
    }

    #[inline(never)]
    fn watched_value_starts(&mut self, bytes: &[u8], at: usize, depth: usize, in_object: bool) {
        if !in_object {
            self.to_value = self.inside[depth - 1];
        }
        let ending = self.subset(self.to_value, |path| path.len() == depth);
        if ending != 0 {
            self.capture(bytes, at);
            for index in indices(ending) {
                self.found[index].begin(self.earlier_bytes + at as u64);
            }
            self.capturing |= ending;
        }
        self.to_value &= !ending;
    }

    /// The value that began is an array or object.
    #[inline]
    pub(super) fn opens(&mut self, depth: usize, is_object: bool) {
        if self.watched == depth && self.to_value != 0 {
            let wants_items = |path: Path| path[depth] == EVERY_ITEM;
            let inside = self.subset(self.to_value, |path| wants_items(path) != is_object);
            if inside != 0 {
                self.inside[depth] = inside;
                self.watched += 1;
            }
        }
    }

    /// The innermost of this many arrays and objects ends.
    #[inline]
    pub(super) fn closes(&mut self, depth: usize) {
        self.watched = self.watched.min(depth - 1);
    }

    /// A value that is in this many arrays and objects ended before `end`.
    #[inline]
    pub(super) fn value_ends(&mut self, bytes: &[u8], end: usize, depth: usize) {
        if self.capturing != 0 {
            self.captured_value_ends(bytes, end, depth);
        }
    }

    #[inline(never)]
    fn captured_value_ends(&mut self, bytes: &[u8], end: usize, depth: usize) {
        let ending = self.subset(self.capturing, |path| path.len() == depth);
        if ending != 0 {
            self.capture(bytes, end);
            for index in indices(ending) {
                self.found[index].end();
            }
            self.capturing &= !ending;
        }
    }

    /// A key of the innermost of this many arrays and objects begins.
    #[inline]
    pub(super) fn key_starts(&mut self, depth: usize) -> StringRole {
        if self.watched != depth {
            return StringRole::OtherKey;
        }
        self.key = KeyMatch::new(self.inside[depth - 1]);
        StringRole::WatchedKey
    }

    pub(super) fn key_text(&mut self, text: &[u8], depth: usize) -> Result<(), JsonError> {
        if depth == 1
            && let Some(&first) = text.first()
        {
            self.key.begins(|| self.first_bytes.paths_with(first));
        }
        self.key.text(text, self.paths, depth)
    }

    pub(super) fn key_utf16_unit(&mut self, unit: u16, depth: usize) -> Result<(), JsonError> {
        self.key.utf16_unit(unit, self.paths, depth)
    }

    pub(super) fn key_ends(&mut self, depth: usize) {
        self.to_value = self.key.end(self.paths, depth);
    }

    /// Appends to the captures what has come up to `end`.
    fn capture(&mut self, bytes: &[u8], end: usize) {
        for index in indices(self.capturing) {
            self.found[index].append(&bytes[self.captured..end], self.capture_bytes_max);
        }
        self.captured = end;
    }

    fn subset(&self, set: PathSet, wanted: impl Fn(Path) -> bool) -> PathSet {
        let wanted = |&index: &usize| wanted(self.paths[index]);
        indices(set)
            .filter(wanted)
            .fold(0, |set, index| set | 1 << index)
    }
}

/// The first bytes of the paths' first keys.
#[derive(Debug)]
struct FirstBytes([u8; PathSet::BITS as usize]);

impl FirstBytes {
    fn of(paths: &[Path]) -> Self {
        let mut first_bytes = [0; PathSet::BITS as usize];
        for (first_byte, path) in first_bytes.iter_mut().zip(paths) {
            *first_byte = path[0].bytes().next().unwrap_or(0);
        }
        Self(first_bytes)
    }

    /// The paths that begin so. Without a way out of the loop, which takes vector instructions.
    fn paths_with(&self, byte: u8) -> PathSet {
        let mut set = 0;
        for (index, &first_byte) in self.0.iter().enumerate() {
            set |= PathSet::from(first_byte == byte) << index;
        }
        set
    }
}

fn all_of(paths: &[Path]) -> PathSet {
    let others = PathSet::BITS as usize - paths.len();
    PathSet::MAX.checked_shr(others as u32).unwrap_or(0)
}

pub(super) fn indices(mut set: PathSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (index < PathSet::BITS as usize).then_some(index)
    })
}
