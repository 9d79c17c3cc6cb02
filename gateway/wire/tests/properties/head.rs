use super::{changed, changes};
use proptest::prelude::*;
use relay_wire::encode::HeadWriter;
use relay_wire::head::{Framing, FramingError, HeadLimits, RequestHead, ResponseHead};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 120,
    fields_max: 4,
    target_bytes_max: 24,
};

const MEANINGFUL: &[u8] = b"\r\n\r\n \t:,\0\x7f\x80%/?#.[]@12eXG";

const REQUESTS: [&str; 7] = [
    "GET /v1/models?a=%20 HTTP/1.1\r\nHost: a.b:80\r\nAccept: */*\r\n\r\n",
    "POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789",
    "POST / HTTP/1.1\r\nhost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    "GET http://a.b:80/%2f HTTP/1.1\r\nHost: A.b:80\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
    "HEAD /x/../y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const RESPONSES: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: µ\r\n\r\nabc",
    "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=b\r\n\r\nHTTP/1.1 204 \r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
];

/// Everything that a head says about what follows it, in a form that can be compared.
fn described(
    parsed: Result<Option<RequestHead>, FramingError>,
) -> Result<Option<String>, FramingError> {
    parsed.map(|head| head.map(|head| format!("{head:?}")))
}

/// The verdict on all beginnings of the input has to be: none for a while, then always the same.
fn assert_final<T>(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, FramingError>,
) -> Result<(), TestCaseError>
where
    T: PartialEq + std::fmt::Debug,
{
    let mut verdict = Ok(None);
    for end in 0..=input.len() {
        let next = parse(&input[..end]);
        if verdict != Ok(None) {
            prop_assert_eq!(&next, &verdict, "after {} bytes", end);
        }
        verdict = next;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_verdict_on_a_request_is_final(
        base in proptest::sample::select(&REQUESTS[..]),
        changes in changes(MEANINGFUL),
    ) {
        let input = changed(base.as_bytes(), &changes);
        assert_final(&input, |input| described(RequestHead::parse(input, &LIMITS)))?;
    }

    #[test]
    fn a_verdict_on_a_response_is_final(
        base in proptest::sample::select(&RESPONSES[..]),
        changes in changes(MEANINGFUL),
        head_request in any::<bool>(),
    ) {
        let input = changed(base.as_bytes(), &changes);
        assert_final(&input, |input| {
            let parsed = ResponseHead::parse(input, &LIMITS, head_request);
            parsed.map(|head| head.map(|head| format!("{head:?}")))
        })?;
    }

    #[test]
    fn no_bytes_make_it_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_final(&input, |input| described(RequestHead::parse(input, &LIMITS)))?;
    }

    /// However the fields of a head came, they are written in the one form.
    #[test]
    fn fields_that_were_received_are_written_like_any_other(
        base in proptest::sample::select(&RESPONSES[..]),
        changes in changes(MEANINGFUL),
    ) {
        let input = changed(base.as_bytes(), &changes);
        let Ok(Some(head)) = ResponseHead::parse(&input, &LIMITS, false) else {
            return Ok(());
        };
        let (mut as_received, mut as_any) = (Vec::new(), Vec::new());
        let mut writer = HeadWriter::response(&mut as_received, 200);
        for field in &head.fields {
            writer.received(&input, field);
        }
        let mut writer = HeadWriter::response(&mut as_any, 200);
        for field in &head.fields {
            writer.field(field.name.of(&input), field.value.of(&input)).unwrap();
        }
        prop_assert_eq!(as_received, as_any);
    }

    /// Whatever is accepted can be written again, and is then read as the same.
    #[test]
    fn accepted_requests_survive_being_written(
        base in proptest::sample::select(&REQUESTS[..]),
        changes in changes(MEANINGFUL),
    ) {
        let input = changed(base.as_bytes(), &changes);
        let Ok(Some(head)) = RequestHead::parse(&input, &LIMITS) else {
            return Ok(());
        };
        let mut written = Vec::new();
        let target = head.target.of(&input);
        let mut writer = HeadWriter::request(&mut written, head.method.as_str(), &[target]);
        for field in &head.fields {
            writer.field(field.name.of(&input), field.value.of(&input)).unwrap();
        }
        if head.value(&input, "host").is_none() {
            writer.known("host", "a");
        }
        writer.finish();
        let limits = HeadLimits { head_bytes_max: 1000, fields_max: 5, ..LIMITS };
        let again = RequestHead::parse(&written, &limits).unwrap().unwrap();
        prop_assert_eq!(again.target.of(&written), target);
        prop_assert_eq!(again.path.of(&written), head.path.of(&input));
        prop_assert_eq!(again.head_bytes, written.len());
        // An HTTP/1.0 message is written as 1.1 here; its framing does not depend on that.
        prop_assert_eq!(again.framing, head.framing);
        prop_assert!(head.framing != Framing::UntilClose && head.framing != Framing::Length(0));
        for (one, other) in head.fields.iter().zip(&again.fields) {
            prop_assert_eq!(one.name.of(&input), other.name.of(&written));
            prop_assert_eq!(one.value.of(&input), other.value.of(&written));
        }
    }
}
