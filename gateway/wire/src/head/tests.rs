use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 32 * 1024,
    fields_max: 100,
    target_bytes_max: 4096,
};

#[test]
fn a_usual_request_is_taken_apart() {
    let buffer = b"POST /v1/responses?a=%2F HTTP/1.1\r\nHost: gw.example:8080\r\nX-Empty:\r\n\
                   Content-Length:  12 \t\r\n\r\nbody";
    let head = RequestHead::parse(buffer, &LIMITS).unwrap().unwrap();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.target.of(buffer), b"/v1/responses?a=%2F");
    assert_eq!(head.path.of(buffer), b"/v1/responses");
    assert_eq!(head.framing, Framing::Length(12));
    assert!(head.keep_alive && !head.expects_continue);
    assert_eq!(&buffer[head.head_bytes..], b"body");
    assert_eq!(head.value(buffer, "x-empty"), Some(&b""[..]));
    assert_eq!(head.value(buffer, "host"), Some(&b"gw.example:8080"[..]));
}
