//! How handshakes with clients have ended, counted by the worker that has made them.

use relay_io::{Interrupt, Secured, TlsError, TlsVersion};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two failures that one worker tells of. Whoever floods it with handshakes does not flood the log.
const TOLD_INTERVAL: Duration = Duration::from_secs(1);

/// Why a handshake has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It took longer than `timeouts.tls_handshake`.
    TimedOut,
    /// The client has left, or its connection broke.
    ClientLeft,
    /// What came is not TLS, or not as TLS has to be.
    Malformed,
    /// Both sides have no version, cipher suite or protocol (ALPN) in common.
    Incompatible,
    /// The client's certificate was missing, or not accepted.
    ClientCertificate,
    /// The client does not like what it was shown: mostly the certificate.
    RefusedByClient,
    /// The gateway ends, or a client that had not said anything has made room for another.
    Ended,
    /// Something else.
    Other,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TimedOut,
        Self::ClientLeft,
        Self::Malformed,
        Self::Incompatible,
        Self::ClientCertificate,
        Self::RefusedByClient,
        Self::Ended,
        Self::Other,
    ];

    /// For metrics and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::ClientLeft => "client_left",
            Self::Malformed => "malformed",
            Self::Incompatible => "incompatible",
            Self::ClientCertificate => "client_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Ended => "ended",
            Self::Other => "other",
        }
    }
}

impl From<&TlsError> for Reason {
    fn from(error: &TlsError) -> Self {
        use rustls::Error as Tls;
        match error {
            TlsError::Interrupted(Interrupt::Deadline) => Self::TimedOut,
            TlsError::Interrupted(Interrupt::PeerGone) | TlsError::Socket(_) => Self::ClientLeft,
            TlsError::Interrupted(_) => Self::Ended,
            TlsError::Rejected(error) => match error {
                Tls::InvalidMessage(_)
                | Tls::InappropriateMessage { .. }
                | Tls::InappropriateHandshakeMessage { .. }
                | Tls::PeerSentOversizedRecord
                | Tls::PeerMisbehaved(_)
                | Tls::DecryptError => Self::Malformed,
                Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => Self::Incompatible,
                Tls::NoCertificatesPresented | Tls::InvalidCertificate(_) => {
                    Self::ClientCertificate
                }
                Tls::AlertReceived(_) => Self::RefusedByClient,
                _ => Self::Other,
            },
        }
    }
}

/// What one worker has counted. The control thread reads it at any time.
#[derive(Default)]
pub struct Handshakes {
    /// By version, and by whether a session was resumed.
    done: [[AtomicU64; 2]; 2],
    failed: [AtomicU64; Reason::ALL.len()],
}

/// The versions, as they are counted.
pub const VERSIONS: [(TlsVersion, &str); 2] =
    [(TlsVersion::Tls12, "1.2"), (TlsVersion::Tls13, "1.3")];

impl Handshakes {
    fn of(&self, version: TlsVersion, resumed: bool) -> &AtomicU64 {
        &self.done[usize::from(version == TlsVersion::Tls13)][usize::from(resumed)]
    }

    /// Those that went well.
    pub fn done(&self, version: TlsVersion, resumed: bool) -> u64 {
        self.of(version, resumed).load(Ordering::Relaxed)
    }

    /// Those that did not.
    pub fn failed(&self, reason: Reason) -> u64 {
        self.failed[reason as usize].load(Ordering::Relaxed)
    }
}

/// Failures that were not told of.
#[derive(Default)]
pub struct Untold {
    last_told: Cell<Option<Instant>>,
    count: Cell<u64>,
}

impl Untold {
    /// One more; `Some`: it may be told of, and how many were not since the last one that was.
    fn note(&self, now: Instant) -> Option<u64> {
        let last = self.last_told.get();
        if last.is_some_and(|last| now.saturating_duration_since(last) < TOLD_INTERVAL) {
            self.count.set(self.count.get() + 1);
            return None;
        }
        self.last_told.set(Some(now));
        Some(self.count.take())
    }
}

/// Where a client came from, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Where the listener listens.
    pub listener: SocketAddr,
    /// Who it was.
    pub source: IpAddr,
}

/// A failure that is told of.
pub struct Failed {
    /// Whose handshake it was.
    pub arrived: Arrived,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub error: String,
    /// Failures of this worker, since the last one that was told of, that were not.
    pub untold: u64,
}

impl Handshakes {
    /// Counts one. `Some`: it failed, and may be told of.
    pub fn note(
        &self,
        untold: &Untold,
        arrived: Arrived,
        outcome: &Result<Secured, TlsError>,
        now: Instant,
    ) -> Option<Failed> {
        let error = match outcome {
            Ok(secured) => {
                add_one(self.of(secured.version, secured.resumed));
                return None;
            }
            Err(error) => error,
        };
        let reason = Reason::from(error);
        add_one(&self.failed[reason as usize]);
        let untold = untold.note(now)?;
        Some(Failed {
            arrived,
            reason,
            error: error.to_string(),
            untold,
        })
    }
}

/// Only the worker writes, so a load and a store do, without a locked instruction.
fn add_one(figure: &AtomicU64) {
    figure.store(figure.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
    use std::net::Ipv4Addr;

    const ARRIVED: Arrived = Arrived {
        listener: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443),
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };

    fn failed(error: TlsError) -> Result<Secured, TlsError> {
        Err(error)
    }

    #[test]
    fn reasons_stand_where_they_are_counted() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }

    #[test]
    fn each_end_is_counted_as_what_it_is() {
        let (counts, now) = (Handshakes::default(), Instant::now());
        let rejected = TlsError::Rejected;
        for (error, reason) in [
            (TlsError::Interrupted(Interrupt::Deadline), Reason::TimedOut),
            (
                TlsError::Interrupted(Interrupt::PeerGone),
                Reason::ClientLeft,
            ),
            (
                TlsError::Socket(std::io::ErrorKind::UnexpectedEof.into()),
                Reason::ClientLeft,
            ),
            (
                rejected(InvalidMessage::InvalidContentType.into()),
                Reason::Malformed,
            ),
            (
                rejected(PeerIncompatible::NoCipherSuitesInCommon.into()),
                Reason::Incompatible,
            ),
            (
                rejected(rustls::Error::NoApplicationProtocol),
                Reason::Incompatible,
            ),
            (
                rejected(rustls::Error::NoCertificatesPresented),
                Reason::ClientCertificate,
            ),
            (
                rejected(CertificateError::Expired.into()),
                Reason::ClientCertificate,
            ),
            (
                rejected(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
                Reason::RefusedByClient,
            ),
            (
                rejected(rustls::Error::FailedToGetCurrentTime),
                Reason::Other,
            ),
        ] {
            let before = counts.failed(reason);
            let told = counts.note(&Untold::default(), ARRIVED, &failed(error), now);
            assert_eq!(told.map(|told| told.reason), Some(reason));
            assert_eq!(counts.failed(reason), before + 1);
        }
        let secured = Secured {
            alpn: relay_io::Alpn::None,
            version: TlsVersion::Tls13,
            resumed: true,
        };
        let told = counts.note(&Untold::default(), ARRIVED, &Ok(secured), now);
        assert!(told.is_none());
        let done = |version, resumed| counts.done(version, resumed);
        assert_eq!(done(TlsVersion::Tls13, true), 1);
        assert_eq!(
            done(TlsVersion::Tls13, false) + done(TlsVersion::Tls12, true),
            0
        );
    }

    #[test]
    fn of_many_failures_one_a_second_is_told_with_how_many_were_not() {
        let (untold, begin) = (Untold::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(untold.note(at(0)), Some(0));
        assert_eq!(untold.note(at(1)), None);
        assert_eq!(untold.note(at(999)), None);
        assert_eq!(untold.note(at(1_000)), Some(2));
        assert_eq!(untold.note(at(1_001)), None);
        assert_eq!(untold.note(at(5_000)), Some(1));
    }
}
