//! rustls' two kinds of connection behind one.

use crate::lease::{Lease, Pool};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use std::sync::Arc;

/// Either side of a connection.
#[allow(clippy::large_enum_variant, reason = "its owner is on the heap")]
pub(super) enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What is to be done once rustls has nothing else to do.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    None,
    Encrypt(&'a [u8]),
    Close,
}

/// How far rustls has come.
pub(super) enum Progress {
    /// It is to be called again.
    Goes,
    /// The same; all that the records before have brought was plaintext.
    Opened,
    /// The job is done, or more bytes of the peer are needed.
    Waits,
}

/// Where things go.
pub(super) struct Sink<'a> {
    pub(super) pool: &'a Pool,
    /// Plaintext, where it is wanted now.
    pub(super) into: Option<&'a mut Lease>,
    /// Plaintext that finds no room there.
    pub(super) overflow: &'a mut Option<Lease>,
    /// Records for the peer.
    pub(super) outgoing: &'a mut Option<Lease>,
    pub(super) has_ended: &'a mut bool,
    /// The most that may overflow.
    pub(super) rest_bytes: usize,
}

impl Side {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::Server)
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::Client)
    }

    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }

    /// One step of rustls. Returns how many bytes of `sealed` are done with, too.
    pub(super) fn process(
        &mut self,
        sealed: &mut [u8],
        sink: &mut Sink<'_>,
        job: Job<'_>,
    ) -> (usize, Result<Progress, Error>) {
        match self {
            Self::Server(server) => handle(server.process_tls_records(sealed), sink, job),
            Self::Client(client) => handle(client.process_tls_records(sealed), sink, job),
        }
    }
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    sink: &mut Sink<'_>,
    job: Job<'_>,
) -> (usize, Result<Progress, Error>) {
    let mut discard = status.discard;
    let progress = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                sink.open(record.payload)?;
            }
            Ok(Progress::Opened)
        }
        ConnectionState::EncodeTlsData(mut message) => {
            sink.encode(&mut message)?;
            Ok(Progress::Goes)
        }
        // It is sent in this order, before anything else.
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            Ok(Progress::Goes)
        }
        ConnectionState::PeerClosed => {
            *sink.has_ended = true;
            Ok(Progress::Goes)
        }
        ConnectionState::WriteTraffic(mut writer) => {
            sink.write(&mut writer, job)?;
            Ok(Progress::Waits)
        }
        ConnectionState::BlockedHandshake | ConnectionState::Closed => match job {
            Job::None => Ok(Progress::Waits),
            Job::Encrypt(_) | Job::Close => Err(Error::HandshakeNotComplete),
        },
        // Early data can be replayed (RFC 8446 section 8); no configuration allows it.
        other => Err(Error::General(format!("not expected: {other:?}"))),
    });
    (discard, progress)
}

impl Sink<'_> {
    fn open(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        if self.overflow.is_none() {
            let mut rest = plaintext;
            if let Some(into) = &mut self.into {
                if into.append(plaintext) {
                    return Ok(());
                }
                let (fitting, others) = plaintext.split_at(into.spare_bytes());
                let fits = into.append(fitting);
                debug_assert!(fits, "no more than its spare room");
                rest = others;
            }
            if rest.is_empty() {
                return Ok(());
            }
            *self.overflow = Some(self.pool.fitting(self.rest_bytes));
            return self.open(rest);
        }
        let fits = self
            .overflow
            .as_mut()
            .is_some_and(|overflow| overflow.append(plaintext));
        // Nothing that was received is ever left out.
        fits.then_some(())
            .ok_or_else(|| Error::General("plaintext finds no room".into()))
    }

    fn encode<Data>(&mut self, message: &mut EncodeTlsData<'_, Data>) -> Result<(), Error> {
        let out = self.outgoing.get_or_insert_with(|| self.pool.small());
        loop {
            match message.encode(out.spare_mut()) {
                Ok(count) => {
                    out.grow(count);
                    return Ok(());
                }
                Err(EncodeError::InsufficientSize(wanted)) if can_grow(out, wanted) => {
                    *out = out.take().widen();
                }
                Err(error) => return Err(Error::General(error.to_string())),
            }
        }
    }

    fn write<Data>(
        &mut self,
        writer: &mut WriteTraffic<'_, Data>,
        job: Job<'_>,
    ) -> Result<(), Error> {
        if matches!(job, Job::None) {
            return Ok(());
        }
        let out = self.outgoing.get_or_insert_with(|| self.pool.small());
        loop {
            let room = out.spare_mut();
            let written = match job {
                Job::None => Ok(0),
                Job::Encrypt(plaintext) => writer.encrypt(plaintext, room),
                Job::Close => writer.queue_close_notify(room),
            };
            match written {
                Ok(count) => {
                    out.grow(count);
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(wanted)) if can_grow(out, wanted) => {
                    *out = out.take().widen();
                }
                Err(EncryptError::InsufficientSize(_)) => {
                    return Err(Error::General("a record finds no room".into()));
                }
                Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
            }
        }
    }
}

fn can_grow(out: &Lease, wanted: InsufficientSizeError) -> bool {
    out.len() + wanted.required_size <= crate::lease::LARGE_LEASE_BYTES
        && out.spare_bytes() < wanted.required_size
}
