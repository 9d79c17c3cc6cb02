//! A connection's bytes, as they are or in TLS records.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::net::would_block;
use crate::tls;

/// A non-blocking connection.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

/// Where a thread's connections read to, one after the other.
#[derive(Debug)]
pub struct Buffers {
    wire: Box<[u8]>,
    plain: Vec<u8>,
}

impl Buffers {
    /// Buffers that take so many bytes in one read.
    #[must_use]
    pub fn new(read_bytes: usize) -> Self {
        Self {
            wire: vec![0; read_bytes].into(),
            plain: Vec::new(),
        }
    }
}

impl Channel {
    /// A connection to a server, in TLS if there is a configuration.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn to_server(stream: TcpStream, config: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let begin = |config| ClientConnection::new(config, tls::server_name());
        let tls = config.map(|config| begin(Arc::clone(config)).map_err(broken));
        let tls = tls.transpose()?;
        Ok(Self {
            stream,
            tls: tls.map(|tls| Box::new(tls.into())),
        })
    }

    /// A connection of a client, in TLS if there is a configuration.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn of_client(stream: TcpStream, config: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let begin = |config| ServerConnection::new(config).map_err(broken);
        let tls = config.map(|config| begin(Arc::clone(config))).transpose()?;
        Ok(Self {
            stream,
            tls: tls.map(|tls| Box::new(tls.into())),
        })
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads the socket once; nothing is the end. Where TLS needs an answer for the handshake, it is sent.
    ///
    /// # Errors
    /// As read(2), also where only a part of a record is there, and what is wrong with the records.
    pub fn read<'a>(&mut self, buffers: &'a mut Buffers) -> io::Result<&'a [u8]> {
        let read = self.stream.read(&mut buffers.wire)?;
        let Some(tls) = &mut self.tls else {
            return Ok(&buffers.wire[..read]);
        };
        if read == 0 {
            return Ok(&[]);
        }
        buffers.plain.clear();
        let ended = open_records(tls, &buffers.wire[..read], &mut buffers.plain);
        self.flush()?;
        match ended? {
            false if buffers.plain.is_empty() => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(&buffers.plain),
        }
    }

    /// Writes, and returns how much was taken; of that some may wait for room, see [`Self::wants_write`].
    ///
    /// # Errors
    /// As writev(2).
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        match &mut self.tls {
            None => (&self.stream).write_vectored(pieces),
            Some(tls) if tls.wants_write() => Err(ErrorKind::WouldBlock.into()),
            Some(tls) => {
                let taken = tls.writer().write_vectored(pieces)?;
                self.flush()?;
                Ok(taken)
            }
        }
    }

    /// Do records wait for room?
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Is the handshake still going on?
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Sends the records that are waiting, as many as there is room for.
    ///
    /// # Errors
    /// As writev(2).
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.wants_write() {
            match tls.write_tls(&mut &self.stream) {
                Ok(_) => {}
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more is sent; without that, what was sent may have been cut short (RFC 8446, 6.1).
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The other side may have gone.
            let _ = self.flush();
        }
    }
}

/// Takes the plaintext out of records; returns whether the other side has said that no more follow.
fn open_records(tls: &mut Connection, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
    while !wire.is_empty() {
        if tls.read_tls(&mut wire)? == 0 {
            return Ok(true);
        }
        let state = tls.process_new_packets().map_err(broken)?;
        let from = plain.len();
        plain.resize(from + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut plain[from..])?;
        if state.peer_has_closed() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
