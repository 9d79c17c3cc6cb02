use super::*;
use std::time::Duration;

fn scanned(body: &str) -> ErrorReport {
    let mut whole = ErrorScan::new(16);
    whole.observe(body.as_bytes());
    let mut split = ErrorScan::new(16);
    body.as_bytes()
        .chunks(3)
        .for_each(|piece| split.observe(piece));
    assert_eq!(split.report(), whole.report(), "{body}");
    whole.report()
}

#[test]
fn codes_of_error_bodies_in_every_form() {
    for (body, kind) in [
        (
            r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            ErrorKind::QuotaExhausted,
        ),
        (
            r#"{"error":{"type":"usage_limit_reached","message":"m","plan_type":"pro"}}"#,
            ErrorKind::QuotaExhausted,
        ),
        (
            r#"{"error":{"message":"m","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"error":{"type":"server_error","code":"rate_limit_exceeded"}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"error":{"type":"server_error","code":null}}"#,
            ErrorKind::Overloaded,
        ),
        (r#"{"error":{"code":"slow_down"}}"#, ErrorKind::Overloaded),
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            ErrorKind::Overloaded,
        ),
        (
            r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#,
            ErrorKind::RateLimited,
        ),
        (
            r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#,
            ErrorKind::Overloaded,
        ),
        (
            r#"{"error":{"status":"UNAVAILABLE"}}"#,
            ErrorKind::Overloaded,
        ),
        (
            r#"{"detail":{"code":"usage_limit_reached"}}"#,
            ErrorKind::QuotaExhausted,
        ),
        (
            r#"{"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}"#,
            ErrorKind::Other,
        ),
        (r#"{"error":{"code":4290}}"#, ErrorKind::Other),
        (
            r#"{"error":{"message":"rate_limit_exceeded"}}"#,
            ErrorKind::Other,
        ),
        (r#"{"error":"rate_limit_exceeded"}"#, ErrorKind::Other),
        (r#"{"other":{"code":"slow_down"}}"#, ErrorKind::Other),
        // It broke off, but what came is clear.
        (
            r#"{"error":{"code":"slow_down","mess"#,
            ErrorKind::Overloaded,
        ),
        (r#"{"error":{"code":"slow_do"#, ErrorKind::Other),
        // It is not JSON.
        (r#"{"error":{"code":"slow_down"}}}"#, ErrorKind::Other),
        ("<html>429</html>", ErrorKind::Other),
        ("", ErrorKind::Other),
    ] {
        assert_eq!(scanned(body).kind, kind, "{body}");
    }
}

#[test]
fn times_of_error_bodies_in_every_form() {
    let times = |body| {
        let report = scanned(body);
        (report.resets_at, report.resets_after)
    };
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    for (body, at, after) in [
        (
            r#"{"error":{"type":"usage_limit_reached","resets_at":1738888888,"resets_in_seconds":3600}}"#,
            seconds(1_738_888_888.0),
            seconds(3600.0),
        ),
        (
            r#"{"resets_at":1738888888.25,"error":{"code":"x"}}"#,
            seconds(1_738_888_888.25),
            None,
        ),
        (r#"{"resets_in_seconds":"7"}"#, None, seconds(7.0)),
        (
            r#"{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.Help"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"36.5s"}]}}"#,
            None,
            seconds(36.5),
        ),
        (r#"{"error":{"resets_in_seconds":null}}"#, None, None),
        (r#"{"error":{"resets_in_seconds":-5}}"#, None, None),
        (r#"{"error":{"resets_in_seconds":1e300}}"#, None, None),
        (r#"{"error":{"resets_in_seconds":"soon"}}"#, None, None),
        (r#"{"error":{"resets_at":[1738888888]}}"#, None, None),
    ] {
        assert_eq!(times(body), (at, after), "{body}");
    }
}

#[test]
fn error_bodies_are_looked_at_within_bounds() {
    let deep = format!(
        "{{\"a\":{}1{},\"code\":\"slow_down\"}}",
        "[".repeat(20),
        "]".repeat(20)
    );
    assert_eq!(scanned(&deep), ErrorReport::default());
    let long = format!(
        "{{\"error\":{{\"code\":\"slow_down{}\"}}}}",
        " ".repeat(100)
    );
    assert_eq!(scanned(&long), ErrorReport::default());
}
