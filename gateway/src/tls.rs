//! TLS on either side of the gateway: what rustls is given. The records themselves are the sockets' business (`relay_io`).

pub mod certificates;
pub mod handshakes;
pub mod server;
