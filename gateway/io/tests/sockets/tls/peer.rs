//! What stands at the other end, on blocking sockets; and a worker's streams that are secured.

use crate::certificates::{Authority, server_name};
use crate::rig::{LIMIT, Worker, meanwhile};
use relay_io::{HandshakeGate, Pool, Secured, Stream, TlsError};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned, SupportedProtocolVersion};
use std::net::TcpStream;
use std::sync::Arc;

/// A client over a blocking socket.
pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

/// Every version that is spoken.
pub(crate) const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

pub(crate) fn gate() -> HandshakeGate {
    HandshakeGate::new(512)
}

/// A client that has not begun its handshake.
pub(crate) fn client(config: &Arc<ClientConfig>, tcp: TcpStream) -> Client {
    StreamOwned::new(
        ClientConnection::new(config.clone(), server_name()).unwrap(),
        tcp,
    )
}

/// A handshake between a worker's stream and a client.
pub(crate) async fn handshake(
    worker: &Worker,
    server_config: &Arc<ServerConfig>,
    client_config: &Arc<ClientConfig>,
) -> (
    Result<Secured, TlsError>,
    Stream,
    Result<Client, std::io::Error>,
) {
    let (stream, tcp) = worker.pair().await;
    let mut client = client(client_config, tcp);
    let connecting = std::thread::spawn(move || {
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock)?;
        }
        Ok(client)
    });
    stream.set_deadline(LIMIT);
    let accepted = stream
        .accept_tls(server_config.clone(), &gate(), &Pool::new())
        .await;
    stream.clear_deadline();
    let connected = meanwhile(move || connecting.join().unwrap()).await;
    (accepted, stream, connected)
}

/// A worker's stream that was secured, and its client.
pub(crate) async fn pair(
    worker: &Worker,
    versions: &[&'static SupportedProtocolVersion],
) -> (Stream, Client) {
    let authority = Authority::new();
    let server_config = Arc::new(authority.server(versions));
    let client_config = Arc::new(authority.client());
    let (accepted, stream, connected) = handshake(worker, &server_config, &client_config).await;
    accepted.unwrap();
    (stream, connected.unwrap())
}
