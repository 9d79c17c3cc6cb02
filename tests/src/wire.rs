//! A connection as the two ends of the gateway see it: TCP, or TLS over it.

use crate::signal::DEADLINE;
use rustls::pki_types::CertificateDer;
use rustls::{Connection, HandshakeKind, ProtocolVersion};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// One end of a connection. Dropped, it ends with no more than FIN: over TLS that is a cut, as by a process that died; an end
/// in order is [`Wire::finish_sending`].
#[derive(Debug)]
pub struct Wire {
    socket: Arc<TcpStream>,
    tls: Option<Box<Connection>>,
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The name that the client asked for; of a server's end only.
    pub server_name: Option<String>,
    /// The protocol that was agreed on.
    pub alpn: Option<String>,
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// An earlier session went on: no certificate was sent.
    pub was_resumed: bool,
    /// The other side's certificate, and what it sent along.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address);
        Self::over(stream.unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    /// TCP that is connected, with this harness' patience.
    ///
    /// # Panics
    /// If the socket is not connected.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connected socket");
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream, Some(DEADLINE)).expect("a connected socket");
        }
        Self {
            socket: Arc::new(stream),
            tls: None,
        }
    }

    /// TCP that somebody else may want to end.
    pub(crate) fn shared(socket: Arc<TcpStream>) -> Self {
        Self { socket, tls: None }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Whatever the other side, the connection or the certificates have against it; what came of it until then was sent.
    pub(crate) fn secure(mut self, mut tls: Connection) -> io::Result<Self> {
        while tls.is_handshaking() {
            flush(&mut tls, &self.socket)?;
            if tls.is_handshaking() {
                receive(&mut tls, &self.socket)?;
            }
        }
        flush(&mut tls, &self.socket)?;
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// What the handshake came to; `None` without TLS.
    ///
    /// # Panics
    /// Never: a handshake that is over has a version.
    pub fn secured(&self) -> Option<Secured> {
        let tls = self.tls.as_deref()?;
        let server_name = match tls {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        let alpn = tls.alpn_protocol();
        Some(Secured {
            server_name,
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
            version: tls.protocol_version().expect("hands were shaken"),
            was_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_certificates: tls.peer_certificates().unwrap_or_default().to_vec(),
        })
    }

    /// The socket itself, past TLS.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Waits for so long when it reads.
    ///
    /// # Panics
    /// If the kernel does not allow it.
    pub fn set_patience(&self, patience: Duration) {
        let set = self.socket.set_read_timeout(Some(patience));
        set.expect("a connected socket");
    }

    /// Says that nothing more will be sent (close_notify, then FIN); reading goes on.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            flush(tls, &self.socket)?;
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset as soon as it is dropped.
    ///
    /// # Panics
    /// If the kernel does not allow it.
    pub fn reset_on_drop(&self) {
        let socket = SockRef::from(&*self.socket);
        let set = socket.set_linger(Some(Duration::ZERO));
        set.expect("a connected socket");
    }

    /// What can be read without waiting: `None` if there is nothing.
    ///
    /// # Errors
    /// As for [`Read::read`].
    pub fn read_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.socket.set_nonblocking(true)?;
        let read = self.read(into);
        self.socket.set_nonblocking(false)?;
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }
}

impl Read for Wire {
    /// Over TLS an end without close_notify is [`ErrorKind::UnexpectedEof`].
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return (&*self.socket).read(into);
        };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    receive(tls, &self.socket)?;
                }
                read => return read,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return (&*self.socket).write(bytes);
        };
        let taken = tls.writer().write(bytes)?;
        flush(tls, &self.socket)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One read of the socket; what rustls has to say about it is sent.
fn receive(tls: &mut Connection, mut socket: &TcpStream) -> io::Result<()> {
    let count = tls.read_tls(&mut socket)?;
    if count == 0 && tls.is_handshaking() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let processed = tls.process_new_packets();
    // An alert, when that failed; it is what the other side then has to see.
    flush(tls, socket)?;
    match processed {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
    }
}

fn flush(tls: &mut Connection, mut socket: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    Ok(())
}
