//! Texts that have a form: names, addresses, hashes, fields. Each form is a `format` of the JSON
//! Schema; `fault` checks a text against one of them, `Text` holds a text that was checked.

use super::check::{closest, did_you_mean};
use super::policy::Network;
use super::units;
use jiff::tz::TimeZone;
use rustls::pki_types::ServerName;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

const NAME_BYTES_MAX: usize = 64;
const MODEL_BYTES_MAX: usize = 256;
const FIELD_BYTES_MAX: usize = 4096;
const REQUEST_PATH_BYTES_MAX: usize = 1024;

/// How a text must look.
pub(super) trait Form {
    /// What the text stands for.
    type Value;
    /// The `format` in the JSON Schema.
    const FORMAT: &'static str;
    /// The same, as far as it goes, for editors, which do not know our formats.
    const PATTERN: Option<&'static str> = None;
    /// Follows "expected" in messages.
    const EXPECTED: &'static str;
    /// The value, where the text has the form.
    fn parse(text: &str) -> Option<Self::Value>;
}

/// A text of some form, kept as what it stands for.
pub(super) struct Text<F: Form>(pub(super) F::Value);

impl<F: Form> Clone for Text<F>
where
    F::Value: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: Form> Serialize for Text<F>
where
    F::Value: Serialize,
{
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de, F: Form> Deserialize<'de> for Text<F> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        F::parse(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format_args!("expected {}", F::EXPECTED)))
    }
}

impl<F: Form> JsonSchema for Text<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        F::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = Map::new();
        schema.insert("type".into(), "string".into());
        schema.insert("format".into(), F::FORMAT.into());
        if let Some(pattern) = F::PATTERN {
            schema.insert("pattern".into(), Value::from(pattern));
        }
        schema.into()
    }
}

/// What is wrong with the text: the rest of the sentence that begins with "expected".
pub(super) fn fault(format: &str, text: &str) -> Option<&'static str> {
    fn of<F: Form>(text: &str) -> Option<&'static str> {
        F::parse(text).is_none().then_some(F::EXPECTED)
    }
    match format {
        Name::FORMAT => of::<Name>(text),
        Ip::FORMAT => of::<Ip>(text),
        Cidr::FORMAT => of::<Cidr>(text),
        Socket::FORMAT => of::<Socket>(text),
        Sha256::FORMAT => of::<Sha256>(text),
        Moment::FORMAT => of::<Moment>(text),
        Model::FORMAT => of::<Model>(text),
        FieldName::FORMAT => of::<FieldName>(text),
        FieldPattern::FORMAT => of::<FieldPattern>(text),
        FieldValue::FORMAT => of::<FieldValue>(text),
        RequestPath::FORMAT => of::<RequestPath>(text),
        TlsName::FORMAT => of::<TlsName>(text),
        FilePath::FORMAT => of::<FilePath>(text),
        AbsolutePath::FORMAT => of::<AbsolutePath>(text),
        Output::FORMAT => of::<Output>(text),
        ZoneName::FORMAT => of::<ZoneName>(text),
        "period" => units::parse_period(text)
            .is_none()
            .then_some("a duration: a whole number and `ms`, `s`, `m`, `h` or `d`, as in \"10s\""),
        "bytes" => units::parse_bytes(text).is_none().then_some(
            "a number of bytes, or a whole number and `KiB`, `MiB` or `GiB`, as in \"32KiB\"",
        ),
        "auto" => (text != "auto").then_some("a number or \"auto\""),
        _ => None,
    }
}

/// What the text was probably meant to be, in a form whose texts are known.
pub(super) fn suggestion(format: &str, text: &str) -> Option<String> {
    if format != ZoneName::FORMAT {
        return None;
    }
    let known: Vec<_> = jiff::tz::db().available().collect();
    closest(text, known.iter().map(jiff::tz::TimeZoneName::as_str)).map(did_you_mean)
}

/// A name that is safe in logs, in metrics and as a part of a path.
pub(super) struct Name;

impl Form for Name {
    type Value = String;
    const FORMAT: &'static str = "name";
    const PATTERN: Option<&'static str> = Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");
    const EXPECTED: &'static str =
        "a name of 1 to 64 letters, digits, `.`, `_` and `-` that begins with a letter or digit";

    fn parse(text: &str) -> Option<String> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = text.len() <= NAME_BYTES_MAX
            && text.bytes().all(inner)
            && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        good.then(|| text.to_owned())
    }
}

/// An IP address.
pub(super) struct Ip;

impl Form for Ip {
    type Value = IpAddr;
    const FORMAT: &'static str = "ip";
    const EXPECTED: &'static str =
        "an IP address without port or prefix length, as in \"203.0.113.10\" or \"2001:db8::10\"";

    fn parse(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }
}

/// A network in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3).
pub(super) struct Cidr;

impl Form for Cidr {
    type Value = Network;
    const FORMAT: &'static str = "cidr";
    const PATTERN: Option<&'static str> = Some("^[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})$");
    const EXPECTED: &'static str =
        "a network with the length of its prefix, as in \"203.0.113.0/24\" or \"2001:db8::/32\"";

    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix_bits: u8 = bits.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        // `parse` takes `+8` and `08` as well, which other programs read in other ways.
        let good = prefix_bits <= bits_max && prefix_bits.to_string() == bits;
        good.then_some(Network {
            address,
            prefix_bits,
        })
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// An IP address and a port.
pub(super) struct Socket;

impl Form for Socket {
    type Value = SocketAddr;
    const FORMAT: &'static str = "socket-address";
    const EXPECTED: &'static str =
        "an IP address and a port, as in \"127.0.0.1:8080\" or \"[::1]:8080\"";

    fn parse(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }
}

/// A SHA-256 hash in hexadecimal digits.
pub(super) struct Sha256;

impl Form for Sha256 {
    type Value = [u8; 32];
    const FORMAT: &'static str = "sha256";
    const PATTERN: Option<&'static str> = Some("^[0-9A-Fa-f]{64}$");
    const EXPECTED: &'static str =
        "the SHA-256 of the key as 64 hexadecimal digits, as `codex-relay keys hash` prints it";

    fn parse(text: &str) -> Option<[u8; 32]> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let bytes: Vec<u8> = digits?
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |a, b| a << 4 | b))
            .collect();
        (text.len() == 64).then(|| bytes.try_into().ok())?
    }
}

/// A point in time; without an offset it would mean something else on each host.
pub(super) struct Moment;

impl Form for Moment {
    type Value = SystemTime;
    const FORMAT: &'static str = "date-time";
    const EXPECTED: &'static str =
        "a date and time with its offset from UTC, as in 2027-01-31T00:00:00Z";

    fn parse(text: &str) -> Option<SystemTime> {
        text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    }
}

/// A model name in which `*` stands for any characters.
pub(super) struct Model;

impl Form for Model {
    type Value = String;
    const FORMAT: &'static str = "model-pattern";
    const PATTERN: Option<&'static str> = Some("^[!-~]{1,256}$");
    const EXPECTED: &'static str =
        "a model name of 1 to 256 visible ASCII characters, `*` for any characters";

    fn parse(text: &str) -> Option<String> {
        let good = (1..=MODEL_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| text.to_owned())
    }
}

/// The name of a header field (RFC 9110 section 5.1), in lower case.
pub(super) struct FieldName;

impl Form for FieldName {
    type Value = String;
    const FORMAT: &'static str = "field-name";
    const PATTERN: Option<&'static str> = Some("^[!#$%&'+.^_`|~0-9A-Za-z-]{1,256}$");
    const EXPECTED: &'static str = "the name of a header field";

    fn parse(text: &str) -> Option<String> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
        let good = (1..=NAME_BYTES_MAX * 4).contains(&text.len()) && text.bytes().all(token);
        good.then(|| text.to_ascii_lowercase())
    }
}

/// The name of a header field, or its beginning and a `*`.
pub(super) struct FieldPattern;

impl Form for FieldPattern {
    type Value = String;
    const FORMAT: &'static str = "field-pattern";
    const PATTERN: Option<&'static str> = Some("^[!#$%&'+.^_`|~0-9A-Za-z-]{0,256}[*]?$");
    const EXPECTED: &'static str =
        "the name of a header field, or its beginning and a `*`, as in \"x-codex-*\"";

    fn parse(text: &str) -> Option<String> {
        if text == "*" {
            return Some(text.to_owned());
        }
        FieldName::parse(text.strip_suffix('*').unwrap_or(text))?;
        Some(text.to_ascii_lowercase())
    }
}

/// The value of a header field (RFC 9110 section 5.5), visible ASCII with single blanks inside.
pub(super) struct FieldValue;

impl Form for FieldValue {
    type Value = String;
    const FORMAT: &'static str = "field-value";
    const PATTERN: Option<&'static str> = Some("^[ -~]{1,4096}$");
    const EXPECTED: &'static str =
        "a field value: 1 to 4096 visible ASCII characters, blanks only between them";

    fn parse(text: &str) -> Option<String> {
        let good = (1..=FIELD_BYTES_MAX).contains(&text.len())
            && text.trim_ascii() == text
            && text
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        good.then(|| text.to_owned())
    }
}

/// What is asked for in a request: a path and perhaps a query (RFC 3986 sections 3.3 and 3.4).
pub(super) struct RequestPath;

impl Form for RequestPath {
    type Value = String;
    const FORMAT: &'static str = "request-path";
    const PATTERN: Option<&'static str> = Some("^/[A-Za-z0-9/._~!$&'()*+,;=:@%?-]{0,1023}$");
    const EXPECTED: &'static str =
        "a path as it stands in a request, which begins with `/`, as in \"/v1/models\"";

    fn parse(text: &str) -> Option<String> {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"/._~!$&'()*+,;=:@%?-".contains(&byte);
        let good = text.starts_with('/')
            && text.len() <= REQUEST_PATH_BYTES_MAX
            && text.bytes().all(allowed);
        good.then(|| text.to_owned())
    }
}

/// A name that stands in a certificate (RFC 6125 section 1.7.2): of a host, or an IP address.
pub(super) struct TlsName;

impl Form for TlsName {
    type Value = String;
    const FORMAT: &'static str = "tls-name";
    const PATTERN: Option<&'static str> = Some("^[A-Za-z0-9._:-]{1,253}$");
    const EXPECTED: &'static str =
        "a host name without port, as in \"api.example.com\", or an IP address";

    fn parse(text: &str) -> Option<String> {
        let good = ServerName::try_from(text).is_ok();
        good.then(|| text.to_ascii_lowercase())
    }
}

/// A path of a file or directory.
pub(super) struct FilePath;

impl Form for FilePath {
    type Value = PathBuf;
    const FORMAT: &'static str = "file-path";
    const EXPECTED: &'static str = "a path, not empty";

    fn parse(text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }
}

/// A path that does not depend on where the file is or where the gateway was started.
pub(super) struct AbsolutePath;

impl Form for AbsolutePath {
    type Value = PathBuf;
    const FORMAT: &'static str = "absolute-path";
    const PATTERN: Option<&'static str> = Some("^/");
    const EXPECTED: &'static str = "an absolute path, which begins with `/`";

    fn parse(text: &str) -> Option<PathBuf> {
        FilePath::parse(text).filter(|path| path.is_absolute())
    }
}

/// Where log lines go. A file needs a `/` in its path, so that a misspelt word is not taken for one.
pub(super) struct Output;

impl Form for Output {
    type Value = String;
    const FORMAT: &'static str = "log-output";
    const PATTERN: Option<&'static str> = Some("^(stdout|stderr|.*/.*)$");
    const EXPECTED: &'static str =
        "\"stdout\", \"stderr\" or the path of a file, with at least one `/` in it";

    fn parse(text: &str) -> Option<String> {
        let path = text.contains('/') && FilePath::parse(text).is_some();
        (text == "stdout" || text == "stderr" || path).then(|| text.to_owned())
    }
}

/// The name of a time zone in the IANA database.
pub(super) struct ZoneName;

/// A time zone that has a name.
#[derive(Clone)]
pub(super) struct Zone(pub(super) TimeZone);

impl Form for ZoneName {
    type Value = Zone;
    const FORMAT: &'static str = "time-zone";
    const PATTERN: Option<&'static str> = Some("^[A-Za-z][A-Za-z0-9_+/-]*$");
    const EXPECTED: &'static str =
        "the name of a time zone in the IANA database, as in \"UTC\" or \"Europe/Berlin\"";

    fn parse(text: &str) -> Option<Zone> {
        // `Etc/Unknown` has a name and no meaning.
        TimeZone::get(text)
            .ok()
            .filter(|zone| !zone.is_unknown())
            .map(Zone)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.iana_name().unwrap_or("UTC"))
    }
}
