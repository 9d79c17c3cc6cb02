//! The members that are looked for as a tree, made when the program is compiled.

use super::EVERY_ITEM;

/// A member to look for: the keys from the top-level object down, e.g. `["response", "usage"]`.
/// `EVERY_ITEM` in the place of a key stands for the items of an array.
pub type Path = &'static [&'static str];

/// More than any path we look for has.
pub(super) const PATH_LENGTH_MAX: usize = 4;
/// More than are looked for at once.
pub(super) const PATHS_MAX: usize = 32;
const NODES_MAX: usize = 48;
/// Objects in which much is looked for have a dozen keys.
const LENGTHS: usize = 8;

/// The members to look for. A key is compared with few of them: with those that are looked for in the same object and
/// have its length.
#[derive(Debug)]
pub struct Paths {
    nodes: [Node; NODES_MAX],
    count: usize,
}

/// A place in the text, by index; the first one is that of the text as a whole.
#[derive(Clone, Copy, Debug)]
struct Node {
    key: &'static [u8],
    /// The path that ends here.
    path: Option<u8>,
    has_members: bool,
    /// The first of the members that are looked for in this object, by the lengths of their keys, modulo the number of these.
    members: [Option<NodeIndex>; LENGTHS],
    /// What is looked for in the items of this array.
    item: Option<NodeIndex>,
    /// The next of the members of the same object whose keys have such a length.
    sibling: Option<NodeIndex>,
}

/// Which of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeIndex(u8);

impl NodeIndex {
    /// The text as a whole.
    pub(super) const ROOT: Self = Self(0);
}

impl Paths {
    /// A tree of these paths.
    ///
    /// # Panics
    /// There are more than 32 paths, two are the same, one has no key or more than 4, or the tree of them has more than 48
    /// nodes (its root is one, and each different beginning of a path): paths are constants.
    pub const fn new(paths: &[Path]) -> Self {
        assert!(paths.len() <= PATHS_MAX, "more paths than a tree has");
        let mut tree = Self {
            nodes: [Node::new(b""); NODES_MAX],
            count: 1,
        };
        let mut index = 0;
        while index < paths.len() {
            tree.add(paths[index], index as u8);
            index += 1;
        }
        tree
    }

    const fn add(&mut self, path: Path, index: u8) {
        assert!(
            !path.is_empty() && path.len() <= PATH_LENGTH_MAX,
            "a path without keys, or with too many"
        );
        let mut at = NodeIndex::ROOT;
        let mut depth = 0;
        while depth < path.len() {
            at = self.below(at, path[depth].as_bytes());
            depth += 1;
        }
        let end = &mut self.nodes[at.0 as usize];
        assert!(end.path.is_none(), "two paths are the same");
        end.path = Some(index);
    }

    /// The node of this key or of the items, which is made if it is not there.
    const fn below(&mut self, parent: NodeIndex, key: &'static [u8]) -> NodeIndex {
        let is_item = is_same(key, EVERY_ITEM.as_bytes());
        let known = if is_item {
            self.item(parent)
        } else {
            self.known_member(parent, key)
        };
        if let Some(known) = known {
            return known;
        }
        assert!(self.count < NODES_MAX, "more nodes than a tree has");
        let made = NodeIndex(self.count as u8);
        self.nodes[self.count] = Node::new(key);
        self.count += 1;
        let parent = &mut self.nodes[parent.0 as usize];
        if is_item {
            parent.item = Some(made);
        } else {
            parent.has_members = true;
            let sibling = parent.members[key.len() % LENGTHS].replace(made);
            self.nodes[made.0 as usize].sibling = sibling;
        }
        made
    }

    /// The path that ends here.
    pub(super) fn path(&self, at: NodeIndex) -> Option<u8> {
        self.node(at).path
    }

    /// Something is looked for in this object.
    pub(super) fn has_members(&self, at: NodeIndex) -> bool {
        self.node(at).has_members
    }

    /// What is looked for in the items of this array.
    pub(super) const fn item(&self, at: NodeIndex) -> Option<NodeIndex> {
        self.node(at).item
    }

    /// What is looked for in this object under that key.
    #[inline]
    pub(super) fn member(&self, object: NodeIndex, key: &[u8]) -> Option<NodeIndex> {
        let mut member = self.node(object).members[key.len() % LENGTHS];
        while let Some(index) = member {
            let node = self.node(index);
            if node.key == key {
                return member;
            }
            member = node.sibling;
        }
        None
    }

    /// The same in a constant.
    const fn known_member(&self, object: NodeIndex, key: &[u8]) -> Option<NodeIndex> {
        let mut member = self.node(object).members[key.len() % LENGTHS];
        while let Some(index) = member {
            let node = self.node(index);
            if is_same(node.key, key) {
                return member;
            }
            member = node.sibling;
        }
        None
    }

    const fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0 as usize]
    }
}

impl Node {
    const fn new(key: &'static [u8]) -> Self {
        Self {
            key,
            path: None,
            has_members: false,
            members: [None; LENGTHS],
            item: None,
            sibling: None,
        }
    }
}

/// Equality, which slices do not have in constants.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
