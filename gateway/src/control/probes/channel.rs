//! What a probe speaks over: TCP, TLS, or a stream of HTTP/2. It sees none of that: as on the path of a request, what it sends and
//! reads is HTTP/1.1, and over HTTP/2 a task stands in between.

use crate::config::Policy;
use crate::config::policy::{Limits, Protocol, Upstream};
use crate::request::egress::Failure;
use crate::tls::clients::reason;
use bytes::Bytes;
use http::uri::Scheme;
use relay_wire::translate::{BodyWriter, RequestEvent, RequestReader, response_head};
use rustls::ClientConfig;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What the task in between holds of an answer that is not read.
const BUFFER_BYTES: usize = 16 * 1024;

/// What no parser takes for an answer.
const NO_ANSWER: &[u8] = b"HTTP/2 malformed\r\n\r\n";

/// Something to send to and to read from.
pub(super) trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// Why there is none.
pub(super) struct Refused {
    pub(super) failure: Failure,
    /// For the operator.
    pub(super) reason: Cow<'static, str>,
}

/// Begins to speak to the upstream what it wants to be spoken to. `config`: what its account calls with from this address.
pub(super) async fn begin(
    policy: &Policy,
    upstream: &Upstream,
    stream: TcpStream,
    config: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Channel>, Refused> {
    let Some(tls) = &upstream.tls else {
        return Ok(match upstream.protocol {
            Protocol::Http2 => over_http2(stream, Scheme::HTTP, &policy.limits),
            Protocol::Http1 | Protocol::Auto => Box::new(stream),
        });
    };
    let config = config.ok_or(Refused {
        failure: Failure::Egress,
        reason: "the address is not the account's".into(),
    })?;
    let shaking = TlsConnector::from(config).connect(tls.server_name.clone(), stream);
    let secured = match timeout(policy.timeouts.upstream_tls, shaking).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => {
            return Err(Refused {
                failure: Failure::Tls,
                reason: why(&error),
            });
        }
        Err(_) => {
            return Err(Refused {
                failure: Failure::TlsTimeout,
                reason: "the handshake took too long".into(),
            });
        }
    };
    match (secured.get_ref().1.alpn_protocol(), upstream.protocol) {
        (Some(b"h2"), _) => Ok(over_http2(secured, Scheme::HTTPS, &policy.limits)),
        (_, Protocol::Http2) => Err(Refused {
            failure: Failure::Tls,
            reason: "HTTP/2 was not agreed on (ALPN)".into(),
        }),
        _ => Ok(Box::new(secured)),
    }
}

fn why(error: &io::Error) -> Cow<'static, str> {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => reason(error),
        None => "the connection ended in the handshake".into(),
    }
}

/// The near end of a stream of HTTP/2, the only one on its connection.
fn over_http2(
    connection: impl Channel + 'static,
    scheme: Scheme,
    limits: &Limits,
) -> Box<dyn Channel> {
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    let header_list_bytes = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    tokio::spawn(carry(connection, far, scheme, header_list_bytes));
    Box::new(near)
}

/// Ends with the near end, or as soon as there is nothing more to pass on to it.
async fn carry(
    connection: impl Channel,
    far: DuplexStream,
    scheme: Scheme,
    header_list_bytes: u32,
) {
    let begun = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(header_list_bytes)
        .handshake(connection)
        .await;
    let Ok((requests, connection)) = begun else {
        return;
    };
    let (read, write) = tokio::io::split(far);
    let mut driving = std::pin::pin!(connection);
    tokio::select! {
        // What has come before the connection ended is passed on first.
        biased;
        () = ask(requests, read, write, scheme) => {}
        _ = &mut driving => {}
    }
}

async fn ask(
    mut requests: h2::client::SendRequest<Bytes>,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    scheme: Scheme,
) {
    let Some(request) = read_request(&mut read, scheme).await else {
        return;
    };
    let Ok((answer, _)) = requests.send_request(request, true) else {
        return;
    };
    let mut nothing = [0];
    tokio::select! {
        // A probe sends nothing more: what can still be read there is its end.
        _ = read.read(&mut nothing) => {}
        passed = pass_on(answer, &mut write) => drop(passed),
    }
}

async fn read_request(
    read: &mut (impl AsyncRead + Unpin),
    scheme: Scheme,
) -> Option<http::Request<()>> {
    let mut reader = RequestReader::new(scheme);
    let mut piece = vec![0; BUFFER_BYTES];
    loop {
        let count = read
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        let mut bytes = Bytes::copy_from_slice(&piece[..count]);
        match reader.next(&mut bytes) {
            Ok(Some(RequestEvent::Head(request))) => return Some(request),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

async fn pass_on(
    answer: h2::client::ResponseFuture,
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) if error.is_library() && error.is_reset() => {
            return write.write_all(NO_ANSWER).await;
        }
        Err(_) => return Ok(()),
    };
    let (parts, mut body) = answer.into_parts();
    let mut text = Vec::new();
    let Ok(framing) = response_head(&parts, body.is_end_stream(), false, &mut text) else {
        return write.write_all(NO_ANSWER).await;
    };
    write.write_all(&text).await?;
    let mut writer = BodyWriter::new(framing, text.len());
    while let Some(Ok(payload)) = body.data().await {
        let bytes = payload.len();
        let Ok(pieces) = writer.data(payload) else {
            return Ok(());
        };
        for piece in &pieces {
            write.write_all(piece).await?;
        }
        // Only more than was received would be refused.
        let _ = body.flow_control().release_capacity(bytes);
    }
    match writer.end() {
        Ok(last) => write.write_all(&last).await,
        Err(_) => Ok(()),
    }
}
