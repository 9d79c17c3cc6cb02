//! TLS over sockets: one side is a worker's, the other one a client or server over a blocking socket.

mod bytes;
mod ends;
mod flood;
mod handshakes;
mod peer;
