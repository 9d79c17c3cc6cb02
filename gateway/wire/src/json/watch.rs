//! Which keys and values lie on the paths that are looked for, and what was found there.

use super::key::KeyText;
use super::paths::{NodeIndex, PATH_LENGTH_MAX, PATHS_MAX, Paths};
use super::{Found, JsonError};

/// Few texts have more of the members that are looked for.
const FOUND_EXPECTED: usize = 8;

/// Follows the text along the paths. Everything off the paths costs one comparison.
#[derive(Debug)]
pub(super) struct Watch {
    paths: &'static Paths,
    capture_bytes_max: usize,
    /// How many of the open arrays and objects, counted from the outermost, are looked into: something is looked for in
    /// each of them, and in none that is deeper. At most as many as are open, and as a path has keys.
    watched: usize,
    /// Where those are: valid below `watched`; what is behind that is of earlier ones.
    inside: [NodeIndex; PATH_LENGTH_MAX],
    /// Where the next value is, if that is on a path. Set at the start of the text, by a key, and where an item may follow,
    /// and that only while the innermost open array or object is looked into. Taken by the value that begins, and gone
    /// where the array ends without one.
    next: Option<NodeIndex>,
    /// In how many arrays and objects the innermost value is that is being captured: the index of the last that is set in
    /// `capturing`; `usize::MAX` if none is.
    capture_depth: usize,
    /// The values that are being captured, each inside of those before it, by how many arrays and objects they are in,
    /// which is as many as the path has keys: the places in `found`.
    capturing: [Option<u8>; PATH_LENGTH_MAX + 1],
    /// Bytes of the earlier pieces.
    earlier_bytes: u64,
    /// What was found, in the order in which it came first. The first `found_count` are of this text.
    found: Vec<Found>,
    found_count: usize,
    /// Of each path where in `found` it is, one more than that; 0: nowhere.
    places: [u8; PATHS_MAX],
    /// The paths for which something was found, as bits.
    found_paths: u32,
    key: KeyText,
}

impl Watch {
    pub(super) fn new(paths: &'static Paths, capture_bytes_max: usize) -> Self {
        Self {
            paths,
            capture_bytes_max,
            watched: 0,
            inside: [NodeIndex::ROOT; PATH_LENGTH_MAX],
            next: Some(NodeIndex::ROOT),
            capture_depth: usize::MAX,
            capturing: [None; PATH_LENGTH_MAX + 1],
            earlier_bytes: 0,
            found: Vec::new(),
            found_count: 0,
            places: [0; PATHS_MAX],
            found_paths: 0,
            key: KeyText::default(),
        }
    }

    /// Starts over, keeping allocations.
    pub(super) fn reset(&mut self) {
        self.watched = 0;
        self.next = Some(NodeIndex::ROOT);
        self.capture_depth = usize::MAX;
        self.capturing = [None; PATH_LENGTH_MAX + 1];
        self.earlier_bytes = 0;
        (self.found_count, self.found_paths) = (0, 0);
        self.places = [0; PATHS_MAX];
    }

    /// What was found for a path, if anything was.
    #[inline]
    pub(super) fn found(&self, path: usize) -> Option<&Found> {
        self.found
            .get(usize::from(self.places[path]).wrapping_sub(1))
    }

    /// The paths for which something was found, in their order.
    pub(super) fn found_paths(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.found_paths;
        std::iter::from_fn(move || {
            let path = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (path < u32::BITS).then_some(path as usize)
        })
    }

    /// All of the piece has been read: captures go on with the next one.
    pub(super) fn end_piece(&mut self, bytes: &[u8]) {
        if self.capture_depth != usize::MAX {
            for place in self.capturing.iter().flatten() {
                self.found[usize::from(*place)].pause(bytes, self.capture_bytes_max);
            }
        }
        self.earlier_bytes += bytes.len() as u64;
    }

    /// The text is broken. How much of a value was seen before that depends on the splitting.
    pub(super) fn drop_captures(&mut self) {
        for place in self.capturing.iter().flatten() {
            self.found[usize::from(*place)].forget();
        }
    }

    /// Members of the innermost of this many arrays and objects are looked for, or items.
    #[inline]
    pub(super) fn looks_into(&self, depth: usize) -> bool {
        self.watched == depth
    }

    /// A key that is there in one piece, of the innermost of this many arrays and objects.
    #[inline]
    pub(super) fn key(&mut self, key: &[u8], depth: usize) {
        self.next = self.paths.member(self.inside[depth - 1], key);
    }

    /// A key begins that comes in parts.
    pub(super) fn key_starts(&mut self) {
        self.key.clear();
    }

    pub(super) fn key_text(&mut self, text: &[u8]) -> Result<(), JsonError> {
        self.key.push(text)
    }

    pub(super) fn key_utf16_unit(&mut self, unit: u16) -> Result<(), JsonError> {
        self.key.push_utf16_unit(unit)
    }

    /// A key that came in parts ends, of the innermost of this many arrays and objects.
    pub(super) fn key_ends(&mut self, depth: usize) {
        let (paths, object) = (self.paths, self.inside[depth - 1]);
        let key = self.key.end();
        self.next = key.and_then(|key| paths.member(object, key));
    }

    /// An item follows in the array that is the innermost of this many arrays and objects.
    #[inline]
    pub(super) fn item_follows(&mut self, depth: usize) {
        if self.watched == depth {
            self.next = self.paths.item(self.inside[depth - 1]);
        }
    }

    /// A string, number or literal begins at `at`, in this many arrays and objects.
    #[inline]
    pub(super) fn scalar_starts(&mut self, at: usize, depth: usize) {
        if let Some(here) = self.next.take() {
            self.watched_value_starts(at, depth, here);
        }
    }

    /// An array or object begins at `at`, in this many others.
    #[inline]
    pub(super) fn opens(&mut self, at: usize, depth: usize, is_object: bool) {
        if let Some(here) = self.next.take() {
            self.watched_value_starts(at, depth, here);
            self.looks_into_next(depth, is_object, here);
        }
    }

    fn looks_into_next(&mut self, depth: usize, is_object: bool, here: NodeIndex) {
        let item = self.paths.item(here).filter(|_| !is_object);
        if item.is_some() || (is_object && self.paths.has_members(here)) {
            self.inside[depth] = here;
            self.watched = depth + 1;
            self.next = item;
        }
    }

    fn watched_value_starts(&mut self, at: usize, depth: usize, here: NodeIndex) {
        let Some(path) = self.paths.path(here) else {
            return;
        };
        let place = self.place(path);
        self.found[usize::from(place)].begin(at, self.earlier_bytes);
        self.capturing[depth] = Some(place);
        self.capture_depth = depth;
    }

    /// The place of what is found for a path.
    fn place(&mut self, path: u8) -> u8 {
        let place = &mut self.places[usize::from(path)];
        if *place == 0 {
            match self.found.get_mut(self.found_count) {
                Some(earlier) => earlier.clear(),
                None => {
                    if self.found.is_empty() {
                        self.found.reserve_exact(FOUND_EXPECTED);
                    }
                    self.found.push(Found::default());
                }
            }
            self.found_count += 1;
            self.found_paths |= 1 << path;
            *place = self.found_count as u8;
        }
        *place - 1
    }

    /// The innermost of this many arrays and objects ends.
    #[inline]
    pub(super) fn closes(&mut self, depth: usize) {
        self.watched = self.watched.min(depth - 1);
        self.next = None;
    }

    /// A value that is in this many arrays and objects ended before `end`.
    #[inline]
    pub(super) fn value_ends(&mut self, bytes: &[u8], end: usize, depth: usize) {
        if self.capture_depth == depth {
            self.captured_value_ends(bytes, end, depth);
        }
    }

    fn captured_value_ends(&mut self, bytes: &[u8], end: usize, depth: usize) {
        if let Some(place) = self.capturing[depth].take() {
            self.found[usize::from(place)].end(&bytes[..end], self.capture_bytes_max);
        }
        let outer = self.capturing[..depth].iter().rposition(Option::is_some);
        self.capture_depth = outer.unwrap_or(usize::MAX);
    }
}
