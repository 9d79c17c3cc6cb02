//! Which header fields pass, in each direction: `[headers]` compiled for look-up per field.

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on unchanged.
    Pass,
    /// It stops here.
    Drop,
}

/// A list of field names, exact or with a trailing `*`, looked up without regard to case.
#[derive(Clone, Debug, Default)]
pub struct NameSet {
    /// Exact names by length (lower case); index = length.
    by_length: Vec<Vec<Box<[u8]>>>,
    /// Prefixes (lower case), without the `*`.
    prefixes: Vec<Box<[u8]>>,
}

/// Rules of one direction for one upstream.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names that pass.
    pub allow: NameSet,
    /// Names that stop although `allow` covers them.
    pub remove: NameSet,
    /// Fields added at the end (checked when the configuration was read; replaces a passing field of the same name).
    pub set: Vec<(String, String)>,
}

/// All rules: index of `request` and `response` is the upstream's id, exceptions already merged in.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// From client to upstream.
    pub request: Vec<Rules>,
    /// From upstream to client.
    pub response: Vec<Rules>,
}

impl NameSet {
    /// Builds the set; names are lower-cased, `x-foo-*` is a prefix.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        todo!("{}", names.into_iter().count())
    }
    /// Is the name covered?
    pub fn contains(&self, name: &[u8]) -> bool {
        todo!("{name:?}")
    }
}

impl Rules {
    /// What happens to a field of this name. Hop-by-hop fields, credentials and framing fields are not decided here:
    /// they never pass, whatever the rules say.
    pub fn verdict(&self, name: &[u8]) -> Verdict {
        todo!("{name:?}")
    }
}
