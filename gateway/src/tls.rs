//! TLS on either side of the gateway: what rustls is given. The records themselves are the sockets' business (`relay_io`).

pub mod certificates;
pub mod clients;
pub mod handshakes;
pub mod server;

pub use clients::{Clients, Offer};
