//! Where an upstream is: a URL (RFC 3986) cut down to what a relay can use.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A `base_url` taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BaseUrl {
    pub(super) tls: bool,
    /// Host name or address literal (IPv6 without brackets), lower case.
    pub(super) host: String,
    pub(super) port: u16,
    /// As in the `Host` field.
    pub(super) authority: String,
    /// Begins with `/` and does not end with it, or is empty.
    pub(super) path_prefix: String,
}

const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const PATH_BYTES_MAX: usize = 1024;

impl BaseUrl {
    /// The parts, or what is wrong. The message never repeats the URL, which may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("expected a URL, as in \"http://host\"")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("the scheme must be `http` or `https`"),
        };
        if rest.contains('#') {
            return Err("a fragment (`#…`) has no meaning here");
        }
        if rest.contains('?') {
            return Err("a query (`?…`) has no meaning here: the request brings its own");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("no user name or password here: they belong in `credential` of an account");
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host)?;
        let default_port = if tls { 443 } else { 80 };
        let port = port.unwrap_or(default_port);
        let literal = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let authority = if port == default_port {
            literal
        } else {
            format!("{literal}:{port}")
        };
        Ok(Self {
            tls,
            host,
            port,
            authority,
            path_prefix: parse_path(path)?.to_owned(),
        })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let colon = match authority.rfind(']') {
        Some(bracket) if authority.len() > bracket + 1 => Some(bracket + 1),
        Some(_) => None,
        None => authority.find(':'),
    };
    let Some(colon) = colon else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(colon);
    let digits = port.strip_prefix(':').unwrap_or_default();
    let port = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok());
    match port.flatten() {
        Some(port) if port > 0 => Ok((host, Some(port))),
        _ => Err("the port must be a number from 1 to 65535"),
    }
}

fn parse_host(host: &str) -> Result<String, &'static str> {
    if let Some(literal) = host.strip_prefix('[') {
        let address: Option<Ipv6Addr> = literal
            .strip_suffix(']')
            .and_then(|literal| literal.parse().ok());
        return address
            .map(|address| address.to_string())
            .ok_or("no IPv6 address in the brackets");
    }
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err("the host name must have 1 to 253 characters");
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err("this is not a host name");
    }
    // RFC 3986 section 3.2.2: what ends in a number would be taken for an address by some and for a
    // name by others.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if host.rsplit('.').next().is_some_and(numeric) && host.parse::<Ipv4Addr>().is_err() {
        return Err("this is neither an IPv4 address nor a host name");
    }
    Ok(host.to_ascii_lowercase())
}

fn parse_path(path: &str) -> Result<&str, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    if path.len() > PATH_BYTES_MAX || !path.bytes().all(allowed) {
        return Err("the path holds characters that a URL must not hold, or is too long");
    }
    let whole = |escape: &str| {
        escape
            .as_bytes()
            .get(..2)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !path.split('%').skip(1).all(whole) {
        return Err("a `%` in the path must be followed by two hexadecimal digits");
    }
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    if path.split('/').skip(1).any(odd) {
        return Err("the path must not hold `//`, `.` or `..`");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        for (text, host, port, authority, prefix) in [
            ("http://api.example", "api.example", 80, "api.example", ""),
            ("HTTP://API.Example/", "api.example", 80, "api.example", ""),
            (
                "http://api.example:80/v1/",
                "api.example",
                80,
                "api.example",
                "/v1",
            ),
            (
                "http://api.example:8080/a/b%20c",
                "api.example",
                8080,
                "api.example:8080",
                "/a/b%20c",
            ),
            ("https://api.example", "api.example", 443, "api.example", ""),
            (
                "https://api.example:80",
                "api.example",
                80,
                "api.example:80",
                "",
            ),
            ("http://127.0.0.1:9", "127.0.0.1", 9, "127.0.0.1:9", ""),
            ("http://[::1]:9/x", "::1", 9, "[::1]:9", "/x"),
            (
                "http://[2001:DB8::1]",
                "2001:db8::1",
                80,
                "[2001:db8::1]",
                "",
            ),
        ] {
            let url = BaseUrl::parse(text).unwrap();
            assert_eq!(
                (
                    url.host.as_str(),
                    url.port,
                    url.authority.as_str(),
                    url.path_prefix.as_str()
                ),
                (host, port, authority, prefix),
                "{text}"
            );
            assert_eq!(url.tls, text.to_lowercase().starts_with("https"), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "api.example",
            "//api.example",
            "ftp://api.example",
            "http:///v1",
            "http://",
            "http://a?b",
            "http://a/b?c",
            "http://a/#c",
            "http://user@a",
            "http://user:password@a",
            "http://a:0",
            "http://a:65536",
            "http://a:",
            "http://a:+80",
            "http://a:b",
            "http://a:80:80",
            "http://[::1",
            "http://[::1]x",
            "http://[127.0.0.1]",
            "http://::1",
            "http://a..b",
            "http://-a",
            "http://a b",
            "http://ä.example",
            "http://1.2.3",
            "http://1.2.3.256",
            "http://0x7f.1",
            "http://a/b//c",
            "http://a//",
            "http://a/../b",
            "http://a/%2",
            "http://a/%zz",
            "http://a/b c",
            "http://a/ä",
            "http://a\r\nb",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text:?}");
        }
    }
}
