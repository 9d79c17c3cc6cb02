//! Which header fields pass, in each direction: `[headers]` compiled for look-up per field.
//!
//! `reserved` answers for the protocol alone: fields that belong to one connection, to the framing, to
//! a credential or to the gateway itself, which no configuration can let through. `Rules` answers for
//! both: what the operator lets through, but for what is reserved.

use crate::config::policy::UpstreamId;
use relay_wire::head::{Field, KnownName};

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on unchanged.
    Pass,
    /// It stops here.
    Drop,
}

/// Why a field never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It carries a credential; the gateway attaches the account's own.
    Credential,
    /// It carries a cookie, which is a credential as well.
    Cookie,
    /// It belongs to one connection (RFC 9110 section 7.6.1).
    HopByHop,
    /// It says where the message goes or ends; the gateway writes it anew.
    Framing,
    /// It is written by the gateway.
    Own,
}

const RESERVED: &[(Reserved, &[&str])] = &[
    (
        Reserved::Credential,
        &[
            "authorization",
            "proxy-authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
        ],
    ),
    (
        Reserved::Cookie,
        &["cookie", "cookie2", "set-cookie", "set-cookie2"],
    ),
    (
        Reserved::HopByHop,
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authentication-info",
            "te",
            "trailer",
            "upgrade",
            "http2-settings",
        ],
    ),
    (
        Reserved::Framing,
        &["content-length", "transfer-encoding", "host", "expect"],
    ),
];

/// Begins the names of the fields that the gateway writes.
const OWN_PREFIX: &[u8] = b"x-relay-";

/// Begins the names of the fields of a WebSocket's handshake, which says something about one connection (RFC 6455 section 11.3).
const WEBSOCKET_PREFIX: &[u8] = b"sec-websocket-";

/// Says why a field of this name never passes, whatever the rules are; `None` leaves it to them.
pub fn reserved(name: &[u8]) -> Option<Reserved> {
    if starts_with(name, OWN_PREFIX) {
        return Some(Reserved::Own);
    }
    if starts_with(name, WEBSOCKET_PREFIX) {
        return Some(Reserved::HopByHop);
    }
    let found = RESERVED.iter().find(|(_, names)| {
        names
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    });
    found.map(|(reason, _)| *reason)
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A list of field names, exact or with a trailing `*`, looked up without regard to case.
#[derive(Clone, Debug, Default)]
pub struct NameSet {
    /// Exact names by length (lower case); index = length.
    by_length: Vec<Vec<Box<[u8]>>>,
    /// Prefixes (lower case), without the `*`, the longest first.
    prefixes: Vec<Box<[u8]>>,
}

/// How closely an entry describes a name; a greater value is a closer description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    None,
    /// By the first so many bytes.
    Prefix(usize),
    Exact,
}

/// Rules of one direction for one upstream.
#[derive(Clone, Debug)]
pub struct Rules {
    allow: NameSet,
    remove: NameSet,
    set: Vec<(String, String)>,
    /// For the names that the parser recognises, by their number: found out once.
    known: [Verdict; KnownName::ALL.len()],
}

/// All rules: index of `request` and `response` is the upstream's id, exceptions already merged in.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// From client to upstream.
    pub request: Vec<Rules>,
    /// From upstream to client.
    pub response: Vec<Rules>,
}

impl HeaderRules {
    /// The rules for requests to this upstream.
    pub fn request(&self, upstream: UpstreamId) -> &Rules {
        &self.request[usize::from(upstream.0)]
    }

    /// The rules for answers of this upstream.
    pub fn response(&self, upstream: UpstreamId) -> &Rules {
        &self.response[usize::from(upstream.0)]
    }
}

impl NameSet {
    /// Builds the set; names are lower-cased, `x-foo-*` is a prefix.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for name in names {
            let lower = name.to_ascii_lowercase();
            if let Some(prefix) = lower.strip_suffix('*') {
                set.prefixes.push(prefix.as_bytes().into());
                continue;
            }
            let length = lower.len();
            if set.by_length.len() <= length {
                set.by_length.resize_with(length + 1, Vec::new);
            }
            set.by_length[length].push(lower.into_bytes().into());
        }
        set.prefixes
            .sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        set
    }

    /// Is the name covered?
    pub fn contains(&self, name: &[u8]) -> bool {
        self.closest(name) != Match::None
    }

    fn closest(&self, name: &[u8]) -> Match {
        let same_length = self
            .by_length
            .get(name.len())
            .map_or(&[][..], Vec::as_slice);
        if same_length
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return Match::Exact;
        }
        let prefix = self
            .prefixes
            .iter()
            .find(|prefix| starts_with(name, prefix));
        prefix.map_or(Match::None, |prefix| Match::Prefix(prefix.len()))
    }
}

impl Rules {
    /// Names that pass; names that stop although `allow` covers them; fields added at the end (checked when the configuration
    /// was read; each replaces a passing field of the same name).
    pub fn new(allow: NameSet, remove: NameSet, set: Vec<(String, String)>) -> Self {
        let mut rules = Self {
            allow,
            remove,
            set,
            known: [Verdict::Drop; _],
        };
        for &name in KnownName::ALL {
            rules.known[name as usize] = rules.verdict(name.as_str().as_bytes());
        }
        rules
    }

    /// Fields added at the end.
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    /// Does this field of a head that was parsed from this buffer go on?
    pub fn pass(&self, buffer: &[u8], field: &Field) -> bool {
        let verdict = match field.known {
            Some(name) => self.known[name as usize],
            None => self.verdict(field.name.of(buffer)),
        };
        verdict == Verdict::Pass
    }

    /// What happens to a field of this name. The entry that describes the name most closely decides,
    /// a whole name before a prefix and a longer prefix before a shorter one; between equals
    /// `remove` wins. `reserved` fields never pass, whatever the rules say.
    pub fn verdict(&self, name: &[u8]) -> Verdict {
        let allowed = self.allow.closest(name);
        if allowed == Match::None || self.remove.closest(name) >= allowed {
            return Verdict::Drop;
        }
        let mut set = self.set.iter();
        if set.any(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            || reserved(name).is_some()
        {
            return Verdict::Drop;
        }
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_wire::head::{HeadLimits, ResponseHead};

    fn rules(allow: &[&str], remove: &[&str]) -> Rules {
        let set = |names: &[&str]| NameSet::new(names.iter().copied());
        Rules::new(set(allow), set(remove), Vec::new())
    }

    #[test]
    fn names_are_found_without_regard_to_case() {
        let set = NameSet::new(["Session-Id", "x-codex-*"]);
        for name in ["session-id", "SESSION-ID", "X-Codex-Turn", "x-codex-"] {
            assert!(set.contains(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "session_id",
            "session-i",
            "session-idd",
            "x-codex",
            "y-codex-a",
        ] {
            assert!(!set.contains(name.as_bytes()), "{name}");
        }
        assert!(!NameSet::default().contains(b"accept"));
    }

    #[test]
    fn a_lone_star_covers_everything() {
        let set = NameSet::new(["*"]);
        assert!(set.contains(b"anything") && set.contains(b""));
    }

    #[test]
    fn the_closest_entry_decides() {
        let rules = rules(
            &["openai-*", "x-request-id", "x-a-b-*"],
            &["openai-project", "x-*", "x-a-*"],
        );
        for (name, verdict) in [
            ("openai-version", Verdict::Pass),
            ("OpenAI-Project", Verdict::Drop),
            ("X-Request-Id", Verdict::Pass),
            ("x-other", Verdict::Drop),
            ("x-a-b-c", Verdict::Pass),
            ("x-a-c", Verdict::Drop),
            ("accept", Verdict::Drop),
        ] {
            assert_eq!(rules.verdict(name.as_bytes()), verdict, "{name}");
        }
    }

    #[test]
    fn remove_wins_between_equals() {
        assert_eq!(
            rules(&["a", "x-*"], &["a", "x-*"]).verdict(b"a"),
            Verdict::Drop
        );
        assert_eq!(
            rules(&["a", "x-*"], &["a", "x-*"]).verdict(b"x-b"),
            Verdict::Drop
        );
    }

    #[test]
    fn a_set_field_replaces_the_one_received() {
        let set = vec![("User-Agent".to_owned(), "relay".to_owned())];
        let rules = Rules::new(
            NameSet::new(["user-agent", "accept"]),
            NameSet::default(),
            set,
        );
        assert_eq!(rules.verdict(b"user-agent"), Verdict::Drop);
        assert_eq!(rules.verdict(b"accept"), Verdict::Pass);
    }

    #[test]
    fn what_is_reserved_does_not_pass_by_any_rule() {
        let rules = rules(&["*", "cookie", "x-relay-*"], &[]);
        for name in ["Cookie", "x-relay-any", "host", "sec-websocket-key"] {
            assert_eq!(rules.verdict(name.as_bytes()), Verdict::Drop, "{name}");
        }
        assert_eq!(rules.verdict(b"any"), Verdict::Pass);
    }

    #[test]
    fn fields_pass_by_their_names_recognised_or_not() {
        let rules = rules(&["accept*", "X-Own", "date", "te"], &["accept-encoding"]);
        let limits = HeadLimits {
            head_bytes_max: 1_000,
            fields_max: 10,
            target_bytes_max: 10,
        };
        let head =
            b"HTTP/1.1 204 No Content\r\nAccept: 1\r\naccept-Encoding: 2\r\naccept-own: 3\r\n\
            x-own: 4\r\nx-other: 5\r\nDATE: 6\r\nTE: 7\r\n\r\n";
        let parsed = ResponseHead::parse(head, &limits, false).unwrap().unwrap();
        let passing = parsed.fields.iter().filter(|field| rules.pass(head, field));
        let values: Vec<_> = passing.map(|field| field.value.of(head)).collect();
        assert_eq!(values, [b"1", b"3", b"4", b"6"]);
    }

    #[test]
    fn reserved_names_are_known_in_any_case() {
        for (name, reason) in [
            ("Authorization", Some(Reserved::Credential)),
            ("X-API-Key", Some(Reserved::Credential)),
            ("Set-Cookie", Some(Reserved::Cookie)),
            ("TE", Some(Reserved::HopByHop)),
            ("Transfer-Encoding", Some(Reserved::Framing)),
            ("X-Relay-Attempts", Some(Reserved::Own)),
            ("Sec-WebSocket-Key", Some(Reserved::HopByHop)),
            ("x-relay", None),
            ("content-type", None),
        ] {
            assert_eq!(reserved(name.as_bytes()), reason, "{name}");
        }
    }
}
