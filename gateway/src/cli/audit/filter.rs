//! Which requests are meant.

use codex_relay::config::policy::ModelPattern;
use codex_relay::journal::Entry;
use codex_relay::request::authenticate::KeyId;
use std::ops::RangeInclusive;

/// Of several values of one filter any will do; several filters have to agree.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters (each may be given several times)")]
pub(in crate::cli) struct Filter {
    /// Of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// With this key: the first 8 hexadecimal digits of its SHA-256
    #[arg(long, value_name = "ID", value_parser = key_id)]
    key: Vec<KeyId>,
    /// For this model; `*` stands for any characters
    #[arg(long, value_name = "MODEL", value_parser = model)]
    model: Vec<ModelPattern>,
    /// Answered by this account
    #[arg(long, value_name = "NAME")]
    account: Vec<String>,
    /// With this status or one of this class: 429, 4xx
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
    /// Refused with this code
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,
    /// Of this name, which the answer carried in `x-relay-request-id`
    #[arg(long, value_name = "ID")]
    request_id: Vec<String>,
}

impl Filter {
    /// Is this one meant?
    pub(super) fn covers(&self, entry: &Entry<&str>) -> bool {
        let models = &self.model;
        is_one_of(&self.tenant, entry.tenant)
            && is_one_of(&self.account, entry.account)
            && is_one_of(&self.code, entry.code)
            && is_one_of(&self.request_id, Some(&entry.request_id))
            && (self.key.is_empty() || entry.key.is_some_and(|key| self.key.contains(&key)))
            && (self.status.is_empty() || self.status.iter().any(|one| one.covers(entry.status)))
            && (models.is_empty()
                || entry
                    .model
                    .is_some_and(|name| models.iter().any(|model| model.covers(name))))
    }

    /// The tenants that are meant; none: all.
    pub(super) fn tenants(&self) -> &[String] {
        &self.tenant
    }

    /// The accounts that are meant; none: all.
    pub(super) fn accounts(&self) -> &[String] {
        &self.account
    }
}

/// A status or a class of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status(RangeInclusive<u16>);

impl Status {
    fn covers(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

fn is_one_of(wanted: &[String], value: Option<&str>) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.iter().any(|one| one == value))
}

fn key_id(text: &str) -> Result<KeyId, &'static str> {
    let is_id = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u32::from_str_radix(text, 16).ok().filter(|_| is_id);
    number
        .map(u32::to_be_bytes)
        .ok_or("expected the first 8 hexadecimal digits of the key's SHA-256")
}

#[allow(clippy::unnecessary_wraps, reason = "the form in which clap wants it")]
fn model(text: &str) -> Result<ModelPattern, &'static str> {
    Ok(ModelPattern(text.to_owned()))
}

fn status(text: &str) -> Result<Status, &'static str> {
    let class = |digit: u16| {
        (1..=5)
            .contains(&digit)
            .then_some(digit * 100..=digit * 100 + 99)
    };
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let range = match text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        Some(digit) => number(digit).and_then(class),
        // 0: there was no answer.
        None => number(text)
            .filter(|status| matches!(status, 0 | 100..=999))
            .map(|status| status..=status),
    };
    range
        .map(Status)
        .ok_or("expected a status such as 429, or a class of them such as 4xx")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_status_is_a_number_or_a_class() {
        for (text, expected) in [
            ("429", Some(429..=429)),
            ("0", Some(0..=0)),
            ("4xx", Some(400..=499)),
            ("5XX", Some(500..=599)),
            ("6xx", None),
            ("0xx", None),
            ("44xx", None),
            ("4x", None),
            ("xx", None),
            ("+429", None),
            ("600", Some(600..=600)),
            ("1000", None),
            ("99", None),
            ("", None),
        ] {
            assert_eq!(status(text).ok(), expected.map(Status), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_named_by_8_digits() {
        assert_eq!(key_id("00c0FFee"), Ok([0x00, 0xc0, 0xff, 0xee]));
        for text in ["0c0ffee", "000c0ffee", "+0c0ffee", "00c0ffeg", ""] {
            assert!(key_id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn several_filters_agree_and_several_values_are_alternatives() {
        let entry = samples::answered();
        let texts = |of: &[&str]| of.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let all = Filter {
            tenant: texts(&["team-b", "team-a"]),
            key: vec![[1, 2, 3, 4], [0xc0, 0xff, 0xee, 0x01]],
            model: vec![ModelPattern("o3".into()), ModelPattern("gpt-*".into())],
            account: texts(&["openai-1"]),
            status: vec![Status(400..=499), Status(200..=200)],
            code: Vec::new(),
            request_id: texts(&["req_0123456789abcdef01234567"]),
        };
        assert!(Filter::default().covers(&entry) && all.covers(&entry));
        let not = |change: &dyn Fn(&mut Filter)| {
            let mut filter = all.clone();
            change(&mut filter);
            assert!(!filter.covers(&entry), "{filter:?}");
        };
        not(&|filter| filter.tenant = texts(&["team"]));
        not(&|filter| filter.key = vec![[1, 2, 3, 4]]);
        not(&|filter| filter.model = vec![ModelPattern("gpt".into())]);
        not(&|filter| filter.account = texts(&["openai-2"]));
        not(&|filter| filter.status = vec![Status(400..=599)]);
        not(&|filter| filter.code = texts(&["tenant_rate_limited"]));
        not(&|filter| filter.request_id = texts(&["req_"]));
    }

    #[test]
    fn what_is_not_known_of_a_request_is_not_what_is_looked_for() {
        let entry = samples::unparsed();
        assert!(Filter::default().covers(&entry));
        for filter in [
            Filter {
                key: vec![[0; 4]],
                ..Filter::default()
            },
            Filter {
                model: vec![ModelPattern("*".into())],
                ..Filter::default()
            },
            Filter {
                tenant: vec![String::new()],
                ..Filter::default()
            },
        ] {
            assert!(!filter.covers(&entry), "{filter:?}");
        }
    }
}
