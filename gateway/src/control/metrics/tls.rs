//! TLS handshakes with clients, and the certificates that they are made with.

use crate::tls::handshakes::{Reason, VERSIONS};
use crate::worker::Figures;
use metrics::{Counter, Unit, counter, describe_counter, describe_gauge};

pub(super) fn describe() {
    describe_counter!(
        "relay_tls_handshakes_total",
        "TLS handshakes with clients that went well, by version and by whether a session was resumed"
    );
    describe_counter!(
        "relay_tls_handshake_failures_total",
        "TLS handshakes with clients that did not, by reason"
    );
    describe_counter!(
        "relay_tls_reloads_total",
        "Files of TLS that were replaced while the gateway ran, or refused"
    );
    describe_gauge!(
        "relay_tls_certificate_expiry_seconds",
        Unit::Seconds,
        "Time until a certificate in force expires; negative once it has"
    );
    describe_gauge!(
        "relay_tls_file_refused",
        "1 while what stands in a file cannot be used, so that what stood there before stays in force"
    );
}

/// Replaced and refused files, there from the start: what must stay zero is shown as that.
pub(in crate::control) struct Reloads {
    pub(in crate::control) replaced: Counter,
    pub(in crate::control) refused: Counter,
}

impl Default for Reloads {
    fn default() -> Self {
        let of = |result: &'static str| {
            let counter = counter!("relay_tls_reloads_total", "result" => result);
            counter.increment(0);
            counter
        };
        Self {
            replaced: of("replaced"),
            refused: of("refused"),
        }
    }
}

pub(super) fn read(figures: &[&'static Figures]) {
    let handshakes = || figures.iter().map(|figures| &figures.handshakes);
    for (version, name) in VERSIONS {
        for resumed in [false, true] {
            let done = handshakes().map(|one| one.done(version, resumed)).sum();
            let resumed = if resumed { "true" } else { "false" };
            counter!("relay_tls_handshakes_total", "version" => name, "resumed" => resumed)
                .absolute(done);
        }
    }
    for reason in Reason::ALL {
        let failed = handshakes().map(|one| one.failed(reason)).sum();
        counter!("relay_tls_handshake_failures_total", "reason" => reason.as_str())
            .absolute(failed);
    }
}
