//! What has come on one stream.

use super::hpack::Fields;
use crate::client::Ending;
use crate::http::Head;

/// What has come so far.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// The field sections in order: informational ones, the head, trailers.
    pub heads: Vec<Fields>,
    /// The payload that was not taken out yet.
    pub body: Vec<u8>,
    /// How many bytes of payload have come in all.
    pub body_bytes: usize,
    /// END_STREAM has come.
    pub is_complete: bool,
    /// The code of a RST_STREAM that has come.
    pub reset: Option<u32>,
    /// Flow control: what the other side may still send; negative after a window was made smaller.
    pub(super) window_bytes: i64,
    /// Read, and not yet given back as credit.
    pub(super) owed_bytes: u32,
}

impl Incoming {
    /// Nothing more will come.
    pub fn is_over(&self) -> bool {
        self.is_complete || self.reset.is_some()
    }

    /// The head of the answer, once it is there.
    pub(super) fn answer(&self) -> Option<Head> {
        let heads = self.heads.iter().map(response_head);
        let mut heads = heads.filter(|head| head.status() >= 200);
        heads.next()
    }

    pub(super) fn ending(&self) -> Ending {
        if self.is_complete {
            Ending::Complete
        } else {
            Ending::Truncated
        }
    }

    /// Checks a field section, and adds it.
    pub(super) fn add_head(&mut self, fields: Fields, end: bool, of_answers: bool) {
        let is_trailer = match of_answers {
            true => self.answer().is_some(),
            false => !self.heads.is_empty(),
        };
        check(&fields, is_trailer, of_answers);
        assert!(!is_trailer || end, "trailers that end nothing: {fields:?}");
        self.heads.push(fields);
    }
}

/// The value of a field that is there once.
pub(super) fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|field| field.0 == name);
    let value = values.next()?;
    assert!(values.next().is_none(), "{name} is there twice: {fields:?}");
    Some(std::str::from_utf8(&value.1).expect("a value in UTF-8"))
}

/// RFC 9113, sections 8.2 and 8.3.
fn check(fields: &Fields, is_trailer: bool, of_answers: bool) {
    let is_pseudo = |field: &&(String, Vec<u8>)| field.0.starts_with(':');
    let pseudo: Vec<_> = fields.iter().take_while(is_pseudo).collect();
    let count = fields.iter().filter(is_pseudo).count();
    assert_eq!(pseudo.len(), count, "pseudo-headers behind: {fields:?}");
    let allowed: &[&str] = match (is_trailer, of_answers) {
        (true, _) => &[],
        (false, true) => &[":status"],
        (false, false) => &[":method", ":scheme", ":authority", ":path"],
    };
    for (name, _) in &pseudo {
        assert!(allowed.contains(&name.as_str()), "{name}: {fields:?}");
    }
    for name in allowed {
        assert!(value(fields, name).is_some(), "no {name}: {fields:?}");
    }
    for (name, value) in fields {
        let bare = name.strip_prefix(':').unwrap_or(name);
        let is_token = !bare.is_empty() && bare.bytes().all(is_lower_token);
        assert!(is_token, "field name {name:?}");
        let is_sound = value.iter().all(|byte| *byte == b'\t' || *byte >= 0x20);
        let is_trimmed = value.trim_ascii().len() == value.len();
        assert!(is_sound && is_trimmed, "value of {name}: {value:?}");
        let of_connection = matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
        );
        assert!(!of_connection, "{name} in HTTP/2: {fields:?}");
    }
}

fn is_lower_token(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// As if it had come in HTTP/1.1.
fn response_head(fields: &Fields) -> Head {
    let status = value(fields, ":status").expect("a status");
    let fields = fields.iter().filter(|field| !field.0.starts_with(':'));
    Head {
        start_line: format!("HTTP/2 {status}"),
        fields: fields.cloned().collect(),
        bytes: 0,
    }
}
