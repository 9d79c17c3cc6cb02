//! Where tenants connect: accepting, and the life of a connection.

pub mod accept;
pub mod connection;
pub mod http2;
