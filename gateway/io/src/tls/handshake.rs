//! Handshakes.

use super::gate::{IN_LINE, Place};
use super::session::Session;
use super::{HandshakeGate, Secured, Tls, TlsError};
use crate::either::{Either, either};
use crate::engine::pause;
use crate::lease::{Lease, Pool};
use crate::socket::{Interrupt, Stream, Tcp};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;

impl Stream {
    /// Takes the connection of a client into TLS. The deadline that is set on the stream bounds it, the time before the client's
    /// first byte included; until then it is idle (`Stream::set_idle`), and ended as such it was interrupted by `Shutdown`. Where it
    /// fails the client was told why, as far as it listens.
    ///
    /// # Errors
    /// See `TlsError`.
    pub async fn accept_tls(
        &self,
        config: Arc<ServerConfig>,
        gate: &HandshakeGate,
        pool: &Pool,
    ) -> Result<Secured, TlsError> {
        self.first_byte().await?;
        let place = self.place(gate).await?;
        let session = Session::server(config, pool)?;
        self.shake_hands(session, gate, Some(&place)).await
    }

    /// Begins TLS with a server, which has to prove to be `name`. The deadline that is set on the stream bounds it.
    ///
    /// # Errors
    /// See `TlsError`.
    pub async fn connect_tls(
        &self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        gate: &HandshakeGate,
        pool: &Pool,
    ) -> Result<Secured, TlsError> {
        let mut session = Session::client(config, name, pool)?;
        let step = gate.connecting.step(|| gate.loop_turn(self.engine())).await;
        session.begin()?;
        drop(step);
        self.send_flight(&mut session).await?;
        self.shake_hands(session, gate, None).await
    }

    /// Waits until the client speaks: who says nothing takes no place, and has nothing to lose.
    async fn first_byte(&self) -> Result<(), TlsError> {
        self.set_idle(true);
        let waited = self.readable().await;
        self.set_idle(false);
        waited?;
        match self.tcp()?.peek_now() {
            Ok(0) if self.receives() => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(0) => Err(TlsError::Interrupted(Interrupt::Shutdown)),
            // A failure is told by the read that comes next.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Waits for a place, and leaves the line once the stream is interrupted.
    async fn place<'a>(&self, gate: &'a HandshakeGate) -> Result<Place<'a>, TlsError> {
        let _waiter = gate.waiter();
        let mut place = pin!(gate.place(self.interrupter()));
        loop {
            gate.give_up_slowest();
            let waited = either(place.as_mut(), pause(IN_LINE)).await;
            self.check()?;
            if let Either::First(place) = waited {
                return Ok(place);
            }
        }
    }

    /// Has the connection been taken into TLS?
    pub fn is_secured(&self) -> bool {
        self.tcp().is_ok_and(|tcp| tcp.tls().is_some())
    }

    async fn shake_hands(
        &self,
        mut session: Session,
        gate: &HandshakeGate,
        place: Option<&Place<'_>>,
    ) -> Result<Secured, TlsError> {
        let tcp = self.tcp()?;
        let line = match place {
            Some(_) => &gate.accepting,
            None => &gate.connecting,
        };
        // Data may come right behind the last flight.
        let mut nothing = session.pool().none();
        while !session.is_established() {
            let received = peer(place, self.receive_flight(tcp, &mut session)).await?;
            let step = line.step(|| gate.loop_turn(self.engine())).await;
            self.check()?;
            let outcome = session.feed(received, &mut nothing);
            drop(step);
            let sent = peer(place, self.send_flight(&mut session)).await;
            outcome?;
            sent?;
        }
        let secured = session.secured();
        tcp.secure(Tls::over(session));
        Ok(secured)
    }

    /// Waits without a buffer: who does not go on costs none.
    async fn receive_flight(&self, tcp: &Tcp, session: &mut Session) -> Result<Lease, TlsError> {
        loop {
            self.readable().await?;
            let mut lease = session.room(Pool::small);
            match tcp.receive_now(&mut lease) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(_) => return Ok(lease),
                Err(error) if error.kind() == ErrorKind::WouldBlock => session.put_back(lease),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what the session has to say.
    async fn send_flight(&self, session: &mut Session) -> Result<(), TlsError> {
        while let Some(mut flight) = session.take_outgoing() {
            self.send_beneath(&mut flight).await?;
        }
        Ok(())
    }
}

/// Waits for the peer, who has a place if it is a client.
async fn peer<T>(place: Option<&Place<'_>>, wait: impl Future<Output = T>) -> T {
    match place {
        Some(place) => place.wait(wait).await,
        None => wait.await,
    }
}
