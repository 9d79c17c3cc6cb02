//! One side of a TLS connection, without a socket: received bytes in, plaintext out, and the other way round.

mod side;

use crate::lease::{LARGE_LEASE_BYTES, Lease, Pool};
use crate::tls::{Alpn, Secured, TlsVersion};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, HandshakeKind, ProtocolVersion, ServerConfig};
use side::{Job, Progress, Side, Sink};
use std::io::IoSlice;
use std::sync::Arc;

/// The header of a record (RFC 8446 section 5.1).
const HEADER_BYTES: usize = 5;

/// What a record may hold.
const PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// What a record adds to what it holds: header, nonce (TLS 1.2), type (TLS 1.3) and tag.
const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES + 8 + 1 + 16;

/// Room for what may have to be said before data: an answer to a KeyUpdate and one of our own.
const SAID_BEFORE_BYTES_MAX: usize = 128;

/// One side of a connection.
pub(crate) struct Session {
    side: Side,
    pool: Pool,
    /// Received and not decrypted yet: the beginning of a record.
    sealed: Option<Lease>,
    /// `sealed` holds pieces of a message that rustls has begun to put together there: it must be given the same bytes whenever
    /// it is called.
    is_pieced: bool,
    /// Decrypted, and not read yet.
    opened: Option<Lease>,
    /// To be sent, before anything else.
    outgoing: Option<Lease>,
    /// The peer has said that it sends no more (close_notify).
    has_ended: bool,
    failure: Option<Error>,
}

impl Session {
    pub(crate) fn server(config: Arc<ServerConfig>, pool: &Pool) -> Result<Self, Error> {
        Ok(Self::over(Side::server(config)?, pool))
    }

    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        pool: &Pool,
    ) -> Result<Self, Error> {
        Ok(Self::over(Side::client(config, name)?, pool))
    }

    fn over(side: Side, pool: &Pool) -> Self {
        Self {
            side,
            pool: pool.clone(),
            sealed: None,
            is_pieced: false,
            opened: None,
            outgoing: None,
            has_ended: false,
            failure: None,
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        !self.side.state().is_handshaking()
    }

    /// What the handshake has brought, once it is over.
    pub(crate) fn secured(&self) -> Secured {
        let state = self.side.state();
        Secured {
            alpn: match state.alpn_protocol() {
                Some(b"h2") => Alpn::Http2,
                Some(b"http/1.1") => Alpn::Http1,
                _ => Alpn::None,
            },
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    pub(crate) fn has_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// There is something to be told without receiving more.
    pub(crate) fn has_news(&self) -> bool {
        self.has_opened() || self.has_ended() || self.failure.is_some()
    }

    /// The beginning of a record is here, but not its end.
    pub(crate) fn has_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Copies what was decrypted before into `lease`, as much as finds room.
    pub(crate) fn take_opened(&mut self, lease: &mut Lease) -> usize {
        let Some(mut opened) = self.opened.take() else {
            return 0;
        };
        let count = opened.len().min(lease.spare_bytes());
        let fits = lease.append(&opened.filled()[..count]);
        debug_assert!(fits, "no more than its spare room");
        opened.consume(count);
        self.opened = Some(opened).filter(|rest| !rest.is_empty());
        count
    }

    /// What is to be sent before anything else.
    pub(crate) fn take_outgoing(&mut self) -> Option<Lease> {
        self.outgoing.take()
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        self.outgoing.is_some()
    }

    /// A lease to read into, to be given to `feed` or `put_back`: `at_hand`, or one with room for all of the record that has begun,
    /// and its beginning in it.
    pub(crate) fn room(&mut self, at_hand: impl FnOnce(&Pool) -> Lease) -> Lease {
        let mut lease = at_hand(&self.pool);
        let wanted_bytes = self.wanted_bytes();
        if self.is_pieced {
            return lease;
        }
        let Some(begun) = self.sealed.take() else {
            return lease;
        };
        if lease.spare_bytes() < wanted_bytes {
            lease = self.pool.fitting(wanted_bytes);
        }
        let fits = lease.append(begun.filled());
        debug_assert!(fits, "less than a record, and a large lease holds several");
        lease
    }

    /// The least that `room` lends.
    pub(crate) fn wanted_bytes(&self) -> usize {
        self.sealed
            .as_ref()
            .filter(|_| !self.is_pieced)
            .map_or(0, |begun| record_bytes(begun.filled()).max(begun.len() + 1))
    }

    /// Gives back what `room` lent, where nothing was read.
    pub(crate) fn put_back(&mut self, lease: Lease) {
        if !self.is_pieced && !lease.is_empty() {
            self.sealed = Some(lease.shrink());
        }
    }

    /// Takes in what was received: `room`'s lease with more bytes behind. Plaintext goes to `into`, and what finds no room there is
    /// kept. What has to be answered is in `take_outgoing` afterwards, also where this fails.
    pub(crate) fn feed(&mut self, received: Lease, into: &mut Lease) -> Result<(), Error> {
        let mut sealed = match self.sealed.take() {
            None => received,
            Some(pieces) => {
                let mut pieces = pieces.widen();
                // Larger than any message that rustls takes (64 KiB).
                if !pieces.append(received.filled()) {
                    return Err(self.fail(Error::General(
                        "a message of the handshake is too large".into(),
                    )));
                }
                pieces
            }
        };
        let (consumed, outcome) = self.open(sealed.filled_mut(), into);
        if let Err(error) = outcome {
            return Err(self.fail(error));
        }
        sealed.consume(consumed);
        self.is_pieced =
            sealed.len() >= HEADER_BYTES && sealed.len() >= record_bytes(sealed.filled());
        if !sealed.is_empty() && !self.has_ended {
            self.sealed = Some(sealed.shrink());
        }
        Ok(())
    }

    /// Begins the handshake, or goes on where nothing was received.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        let mut nothing = self.pool.none();
        let (_, outcome) = self.open(&mut [], &mut nothing);
        outcome.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failure = Some(error.clone());
        error
    }

    /// Decrypts record by record; says how many bytes are done with.
    fn open(&mut self, sealed: &mut [u8], into: &mut Lease) -> (usize, Result<(), Error>) {
        let mut consumed = 0;
        loop {
            let rest = &mut sealed[consumed..];
            let mut sink = Sink {
                pool: &self.pool,
                into: Some(into),
                overflow: &mut self.opened,
                outgoing: &mut self.outgoing,
                has_ended: &mut self.has_ended,
                rest_bytes: rest.len(),
            };
            let (discard, progress) = self.side.process(rest, &mut sink, Job::None);
            consumed += discard;
            match progress {
                // The usual case, without asking once more.
                Ok(Progress::Opened) if consumed == sealed.len() && self.is_established() => {
                    return (consumed, Ok(()));
                }
                Ok(Progress::Goes | Progress::Opened) => {}
                Ok(Progress::Waits) => return (consumed, Ok(())),
                Err(error) => {
                    self.encode_alert(&mut sealed[consumed..]);
                    return (consumed, Err(error));
                }
            }
        }
    }

    /// The peer is told why: rustls has the alert ready, behind what was to be said before.
    fn encode_alert(&mut self, rest: &mut [u8]) {
        let mut sink = Sink {
            pool: &self.pool,
            into: None,
            overflow: &mut self.opened,
            outgoing: &mut self.outgoing,
            has_ended: &mut self.has_ended,
            rest_bytes: 0,
        };
        while self.side.state().wants_write() {
            let (_, progress) = self.side.process(rest, &mut sink, Job::None);
            // The failure itself is told by the caller.
            if progress.is_err() {
                return;
            }
        }
    }

    /// Encrypts the first bytes of a message, as many as fit one lease: all, if they are not more than about 64 KiB. Returns the
    /// lease to be sent, and how many they are.
    pub(crate) fn seal(&mut self, parts: &[IoSlice<'_>]) -> Result<(Lease, usize), Error> {
        let mut message = Message::of(parts);
        let records = message.left_bytes.div_ceil(PLAINTEXT_BYTES_MAX);
        let wanted_bytes =
            message.left_bytes + records * OVERHEAD_BYTES_MAX + SAID_BEFORE_BYTES_MAX;
        let mut out = self.pool.fitting(wanted_bytes);
        let (mut sealed_bytes, mut gathered) = (0, None);
        while message.left_bytes > 0 {
            let fitting_bytes = plaintext_bytes_in(out.spare_bytes());
            if fitting_bytes < message.left_bytes.min(PLAINTEXT_BYTES_MAX) {
                break;
            }
            let piece = message.next(fitting_bytes, &mut gathered, &self.pool);
            out = self.write(out, Job::Encrypt(piece))?;
            sealed_bytes += piece.len();
        }
        Ok((out, sealed_bytes))
    }

    /// Tells the peer that no more comes, and appends that to what is to be sent.
    pub(crate) fn seal_end(&mut self) -> Result<Lease, Error> {
        self.write(self.pool.tiny(), Job::Close)
    }

    /// Appends to `out` what the job brings, and what is to be said before.
    fn write(&mut self, out: Lease, job: Job<'_>) -> Result<Lease, Error> {
        let held = match &mut self.sealed {
            Some(pieces) if self.is_pieced => pieces.filled_mut(),
            _ => &mut [],
        };
        let mut outgoing = Some(out);
        let mut sink = Sink {
            pool: &self.pool,
            into: None,
            overflow: &mut self.opened,
            outgoing: &mut outgoing,
            has_ended: &mut self.has_ended,
            rest_bytes: 0,
        };
        while !matches!(self.side.process(held, &mut sink, job).1?, Progress::Waits) {}
        Ok(outgoing.unwrap_or_else(|| self.pool.none()))
    }
}

/// What is left to encrypt of a message in several parts.
struct Message<'a> {
    parts: &'a [IoSlice<'a>],
    /// Of the first part.
    done_bytes: usize,
    left_bytes: usize,
}

impl<'a> Message<'a> {
    fn of(parts: &'a [IoSlice<'a>]) -> Self {
        Self {
            parts,
            done_bytes: 0,
            left_bytes: parts.iter().map(|part| part.len()).sum(),
        }
    }

    /// The next bytes, at most so many. What fills whole records, and the last part, is taken where it stands; small parts are
    /// gathered to one record, since each costs more than a copy does.
    fn next<'b>(
        &mut self,
        bytes_max: usize,
        gathered: &'b mut Option<Lease>,
        pool: &Pool,
    ) -> &'b [u8]
    where
        'a: 'b,
    {
        let first = self.first();
        if first.len() == self.left_bytes || first.len() >= PLAINTEXT_BYTES_MAX {
            let whole_records = match first.len() == self.left_bytes {
                true => first.len(),
                false => first.len() - first.len() % PLAINTEXT_BYTES_MAX,
            };
            return self.take(first, whole_records.min(bytes_max));
        }
        let record_bytes = bytes_max.min(PLAINTEXT_BYTES_MAX);
        let gathered = gathered.insert(pool.fitting(self.left_bytes.min(record_bytes)));
        while self.left_bytes > 0 && gathered.len() < record_bytes {
            let first = self.first();
            let piece = self.take(first, first.len().min(record_bytes - gathered.len()));
            let fits = gathered.append(piece);
            debug_assert!(fits, "it was chosen for them");
        }
        gathered.filled()
    }

    /// What is left of the first part that has anything left.
    fn first(&mut self) -> &'a [u8] {
        while let [first, others @ ..] = self.parts {
            if self.done_bytes < first.len() {
                return &first[self.done_bytes..];
            }
            self.parts = others;
            self.done_bytes = 0;
        }
        &[]
    }

    fn take(&mut self, first: &'a [u8], count: usize) -> &'a [u8] {
        self.done_bytes += count;
        self.left_bytes -= count;
        &first[..count]
    }
}

/// How long the record is that begins with these bytes, as far as is known.
fn record_bytes(begun: &[u8]) -> usize {
    match begun {
        [_, _, _, high, low, ..] => HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        _ => HEADER_BYTES,
    }
}

/// How much plaintext fits so much room when encrypted.
fn plaintext_bytes_in(room_bytes: usize) -> usize {
    const RECORD_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES_MAX;
    let room_bytes = room_bytes.saturating_sub(SAID_BEFORE_BYTES_MAX);
    let last_bytes = (room_bytes % RECORD_BYTES_MAX).saturating_sub(OVERHEAD_BYTES_MAX);
    room_bytes / RECORD_BYTES_MAX * PLAINTEXT_BYTES_MAX + last_bytes
}

/// A large lease holds records whole, also before they are decrypted (2,048 bytes more in TLS 1.2, RFC 5246 section 6.2.3).
const _: () = assert!(LARGE_LEASE_BYTES > 2 * (HEADER_BYTES + PLAINTEXT_BYTES_MAX + 2048));

#[cfg(test)]
mod tests;
