use super::*;

const UNTIL: Moment = Moment::from_unix_ms(1_800_000_007_000);
const RESETS: Option<Reset> = Some(Reset {
    until: UNTIL,
    after: Duration::from_millis(6_500),
});

fn status(status: u16) -> Failure {
    told(status, ErrorKind::Other)
}

fn told(status: u16, kind: ErrorKind) -> Failure {
    Failure::Status {
        status,
        kind,
        resets: RESETS,
    }
}

fn stream(kind: ErrorKind) -> Failure {
    Failure::FailedStream {
        kind,
        resets: RESETS,
    }
}

/// A failure, what the client is told if nobody else can be asked, whose fault it is, whether another account is asked, and
/// whether that is done at once.
type Row = (Failure, u16, &'static str, Option<Fault>, bool, bool);

#[test]
fn every_failure_has_its_row() {
    use ErrorKind::{Other, Overloaded, QuotaExhausted, RateLimited};
    let until = Some(UNTIL);
    let rate_limited = Some(Fault::RateLimited { until });
    let quota_exhausted = Some(Fault::QuotaExhausted { until });
    let server_error = Some(Fault::ServerError { until });
    let rows: [Row; 42] = [
        (
            Failure::Egress,
            503,
            "egress_unavailable",
            Some(Fault::AddressMissing),
            true,
            true,
        ),
        (
            Failure::EgressMismatch,
            503,
            "egress_unavailable",
            Some(Fault::ForeignAddress),
            true,
            true,
        ),
        (
            Failure::PortsShort,
            503,
            "egress_ports_exhausted",
            Some(Fault::PortsShort),
            true,
            true,
        ),
        (
            Failure::TenantConnectionsFull,
            429,
            "tenant_connection_limit",
            None,
            false,
            false,
        ),
        (
            Failure::AccountConnectionsFull,
            503,
            "no_account_available",
            None,
            true,
            true,
        ),
        (
            Failure::NoDestination,
            502,
            "upstream_error",
            Some(Fault::NoDestination),
            true,
            false,
        ),
        (
            Failure::Connect,
            502,
            "upstream_error",
            Some(Fault::Unreachable),
            true,
            false,
        ),
        (
            Failure::Tls,
            502,
            "upstream_error",
            Some(Fault::TlsRefused),
            true,
            false,
        ),
        (
            Failure::TlsTimeout,
            504,
            "upstream_timeout",
            Some(Fault::ConnectTimedOut),
            true,
            false,
        ),
        (
            Failure::ConnectTimeout,
            504,
            "upstream_timeout",
            Some(Fault::ConnectTimedOut),
            true,
            false,
        ),
        (
            Failure::Broken,
            502,
            "upstream_error",
            Some(Fault::Reset),
            true,
            false,
        ),
        (Failure::NotBegun, 502, "upstream_error", None, true, false),
        (
            Failure::Broken.on_record(),
            502,
            "upstream_error",
            None,
            true,
            false,
        ),
        (
            Failure::Egress.on_record(),
            503,
            "egress_unavailable",
            None,
            true,
            true,
        ),
        (
            Failure::Timeout,
            504,
            "upstream_timeout",
            Some(Fault::TimedOut),
            true,
            false,
        ),
        (
            Failure::Malformed(FramingError::Malformed),
            502,
            "upstream_error",
            Some(Fault::Malformed),
            false,
            false,
        ),
        (
            Failure::Unexpected,
            502,
            "upstream_error",
            Some(Fault::Malformed),
            false,
            false,
        ),
        (
            status(401),
            503,
            "no_account_available",
            Some(Fault::Refused),
            true,
            true,
        ),
        (
            told(401, QuotaExhausted),
            503,
            "no_account_available",
            quota_exhausted,
            true,
            true,
        ),
        (
            status(402),
            503,
            "no_account_available",
            Some(Fault::Refused),
            true,
            true,
        ),
        (
            told(402, QuotaExhausted),
            503,
            "no_account_available",
            quota_exhausted,
            true,
            true,
        ),
        (
            status(403),
            503,
            "no_account_available",
            Some(Fault::Refused),
            true,
            true,
        ),
        (
            told(403, RateLimited),
            503,
            "no_account_available",
            Some(Fault::Refused),
            true,
            true,
        ),
        (
            told(403, QuotaExhausted),
            503,
            "no_account_available",
            quota_exhausted,
            true,
            true,
        ),
        (
            status(429),
            429,
            "upstream_rate_limited",
            rate_limited,
            true,
            true,
        ),
        (
            told(429, Overloaded),
            429,
            "upstream_rate_limited",
            rate_limited,
            true,
            true,
        ),
        (
            told(429, RateLimited),
            429,
            "upstream_rate_limited",
            rate_limited,
            true,
            true,
        ),
        (
            told(429, QuotaExhausted),
            429,
            "upstream_rate_limited",
            quota_exhausted,
            true,
            true,
        ),
        (
            status(500),
            502,
            "upstream_error",
            server_error,
            true,
            false,
        ),
        (
            told(500, QuotaExhausted),
            502,
            "upstream_error",
            server_error,
            true,
            false,
        ),
        (
            status(502),
            502,
            "upstream_error",
            server_error,
            true,
            false,
        ),
        (
            status(503),
            503,
            "upstream_overloaded",
            server_error,
            true,
            false,
        ),
        (
            status(529),
            503,
            "upstream_overloaded",
            server_error,
            true,
            false,
        ),
        (
            stream(Overloaded),
            503,
            "upstream_overloaded",
            server_error,
            true,
            false,
        ),
        (
            stream(Other),
            503,
            "upstream_overloaded",
            server_error,
            true,
            false,
        ),
        (
            stream(RateLimited),
            429,
            "upstream_rate_limited",
            rate_limited,
            true,
            true,
        ),
        (
            stream(QuotaExhausted),
            429,
            "upstream_rate_limited",
            quota_exhausted,
            true,
            true,
        ),
        (
            Failure::IncompleteStream,
            502,
            "upstream_stream_incomplete",
            Some(Fault::Reset),
            true,
            false,
        ),
        (
            Failure::OutOfResources,
            503,
            "gateway_overloaded",
            None,
            false,
            false,
        ),
        (
            Failure::Abandoned(Unpassed::default()),
            499,
            "client_gone",
            None,
            false,
            false,
        ),
        (
            Failure::Client(Refusal::ClientGone),
            499,
            "client_gone",
            None,
            false,
            false,
        ),
        (
            Failure::Shutdown,
            503,
            "gateway_shutting_down",
            None,
            false,
            false,
        ),
    ];
    for (failure, told, code, fault, is_retried, at_once) in rows {
        let name = format!("{failure:?}");
        assert_eq!(failure.fault(), fault, "{name}");
        assert_eq!(failure.may_be_retried(), is_retried, "{name}");
        assert_eq!(failure.blames_account(), at_once, "{name}");
        let shape = failure.into_refusal().shape(1);
        assert_eq!((shape.status, shape.code), (told, code), "{name}");
    }
}

#[test]
fn failures_are_told_apart_in_metrics() {
    for (failure, kind) in [
        (status(401), "account_refused"),
        (status(402), "account_refused"),
        (told(402, ErrorKind::QuotaExhausted), "quota_exhausted"),
        (status(403), "account_refused"),
        (status(429), "rate_limited"),
        (told(429, ErrorKind::QuotaExhausted), "quota_exhausted"),
        (status(500), "status_5xx"),
        (status(529), "status_5xx"),
        (stream(ErrorKind::Overloaded), "overloaded_stream"),
        (stream(ErrorKind::RateLimited), "rate_limited"),
        (stream(ErrorKind::QuotaExhausted), "quota_exhausted"),
        (Failure::IncompleteStream, "incomplete_stream"),
        (Failure::Connect, "connect"),
        (Failure::ConnectTimeout, "connect_timeout"),
        (Failure::Tls, "tls"),
        (Failure::TlsTimeout, "tls"),
        (Failure::Timeout, "timeout"),
    ] {
        assert_eq!(failure.kind(), kind, "{failure:?}");
    }
}

#[test]
fn the_provider_s_status_is_kept_for_the_record() {
    assert_eq!(status(529).status(), Some(529));
    assert_eq!(stream(ErrorKind::Overloaded).status(), None);
    assert_eq!(Failure::Broken.status(), None);
}

#[test]
fn the_client_is_not_told_to_come_too_early_nor_in_a_year() {
    let told = |after| {
        let resets = Some(Reset {
            until: UNTIL,
            after,
        });
        let kind = ErrorKind::Other;
        let failure = Failure::Status {
            status: 429,
            kind,
            resets,
        };
        failure.into_refusal().shape(1).retry_after_seconds
    };
    assert_eq!(told(Duration::from_millis(6_001)), Some(7));
    assert_eq!(told(Duration::from_secs(7)), Some(7));
    assert_eq!(told(Duration::from_secs(365 * 86_400)), Some(120));
}
