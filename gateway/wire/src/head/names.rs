//! Names of fields that are recognised once, while a head is parsed, so that nobody who asks about them later compares text.

use super::grammar::is_token_byte;

macro_rules! known_names {
    ($($variant:ident = $text:literal,)*) => {
        /// A field's name that is met often, or that means something here. Any other name is as good, and only takes longer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum KnownName {
            $($variant,)*
        }

        impl KnownName {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

known_names! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AltSvc = "alt-svc",
    AnthropicBeta = "anthropic-beta",
    AnthropicVersion = "anthropic-version",
    ApiKey = "api-key",
    Authorization = "authorization",
    CacheControl = "cache-control",
    CfCacheStatus = "cf-cache-status",
    CfRay = "cf-ray",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Cookie2 = "cookie2",
    Date = "date",
    Expect = "expect",
    Host = "host",
    Http2Settings = "http2-settings",
    KeepAlive = "keep-alive",
    OpenaiBeta = "openai-beta",
    OpenaiModel = "openai-model",
    OpenaiOrganization = "openai-organization",
    OpenaiProcessingMs = "openai-processing-ms",
    OpenaiProject = "openai-project",
    OpenaiVersion = "openai-version",
    Originator = "originator",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    RetryAfter = "retry-after",
    RetryAfterMs = "retry-after-ms",
    Server = "server",
    SessionId = "session-id",
    SetCookie = "set-cookie",
    SetCookie2 = "set-cookie2",
    StrictTransportSecurity = "strict-transport-security",
    Te = "te",
    ThreadId = "thread-id",
    Traceparent = "traceparent",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Version = "version",
    Via = "via",
    XApiKey = "x-api-key",
    XClientRequestId = "x-client-request-id",
    XContentTypeOptions = "x-content-type-options",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XGoogApiKey = "x-goog-api-key",
    XRatelimitLimitRequests = "x-ratelimit-limit-requests",
    XRatelimitLimitTokens = "x-ratelimit-limit-tokens",
    XRatelimitRemainingRequests = "x-ratelimit-remaining-requests",
    XRatelimitRemainingTokens = "x-ratelimit-remaining-tokens",
    XRatelimitResetRequests = "x-ratelimit-reset-requests",
    XRatelimitResetTokens = "x-ratelimit-reset-tokens",
    XRequestId = "x-request-id",
    XShouldRetry = "x-should-retry",
    XStainlessArch = "x-stainless-arch",
    XStainlessLang = "x-stainless-lang",
    XStainlessOs = "x-stainless-os",
    XStainlessPackageVersion = "x-stainless-package-version",
    XStainlessRetryCount = "x-stainless-retry-count",
    XStainlessRuntime = "x-stainless-runtime",
    XStainlessRuntimeVersion = "x-stainless-runtime-version",
    XStainlessTimeout = "x-stainless-timeout",
}

/// More than there are names, so that their places can all be different ones.
const PLACES: usize = 512;

/// Which name, if any, is recognised by what stands in this place.
static BY_PLACE: [Option<KnownName>; PLACES] = {
    let mut places = [None; PLACES];
    let mut at = 0;
    while at < KnownName::ALL.len() {
        let known = KnownName::ALL[at];
        let name = known.as_str().as_bytes();
        let place = place(name);
        // Where a new name ends up on another's place, the factors in `place` have to be other ones: try all below 64 in
        // nested loops (a throwaway test) until the places of `KnownName::ALL` are as many as the names.
        assert!(places[place].is_none(), "two names have the same place");
        let mut byte = 0;
        while byte < name.len() {
            // What `is` relies on.
            assert!(matches!(name[byte], b'a'..=b'z' | b'0'..=b'9' | b'-'));
            byte += 1;
        }
        places[place] = Some(known);
        at += 1;
    }
    places
};

impl KnownName {
    /// The name that these bytes are in any case. They have to be a token.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        debug_assert!(!name.is_empty() && name.iter().all(|&byte| is_token_byte(byte)));
        let known = BY_PLACE[place(name)]?;
        is(name, known.as_str().as_bytes()).then_some(known)
    }
}

/// Found by trial: they tell the names apart.
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let (first, middle, last) = (name[0], name[length / 2], name[length - 1]);
    (6 * length + 16 * folded(first) + 53 * folded(middle) + 8 * folded(last)) % PLACES
}

const fn folded(byte: u8) -> usize {
    (byte | 0x20) as usize
}

/// Is it the same but for case? `lower` is made of lower-case letters, digits and hyphens: of all bytes of a token only these
/// and their upper case become the same when the bit is set that tells the cases apart.
fn is(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    let (Some(last), Some(lower_last)) = (name.last_chunk(), lower.last_chunk()) else {
        let mut pairs = name.iter().zip(lower);
        return pairs.all(|(byte, lower)| byte | 0x20 == *lower);
    };
    let (mut rest, mut lower_rest) = (name, lower);
    while let (Some((word, after)), Some((lower_word, lower_after))) =
        (rest.split_first_chunk(), lower_rest.split_first_chunk())
    {
        if !is_word(word, lower_word) {
            return false;
        }
        (rest, lower_rest) = (after, lower_after);
    }
    // It overlaps the one before it.
    is_word(last, lower_last)
}

#[inline]
fn is_word(word: &[u8; 8], lower: &[u8; 8]) -> bool {
    u64::from_ne_bytes(*word) | 0x2020_2020_2020_2020 == u64::from_ne_bytes(*lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plainly(name: &[u8]) -> Option<KnownName> {
        let mut all = KnownName::ALL.iter().copied();
        all.find(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()))
    }

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for &known in KnownName::ALL {
            let lower = known.as_str();
            assert_eq!(KnownName::of(lower.as_bytes()), Some(known));
            assert_eq!(
                KnownName::of(lower.to_ascii_uppercase().as_bytes()),
                Some(known)
            );
        }
    }

    #[test]
    fn one_byte_makes_another_name() {
        for &known in KnownName::ALL {
            for at in 0..known.as_str().len() {
                for byte in (0..=255).filter(|&byte| is_token_byte(byte)) {
                    let mut name = known.as_str().as_bytes().to_vec();
                    name[at] = byte;
                    assert_eq!(KnownName::of(&name), plainly(&name), "{name:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_token_is_what_it_plainly_is(name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}") {
            prop_assert_eq!(KnownName::of(name.as_bytes()), plainly(name.as_bytes()));
        }
    }
}
