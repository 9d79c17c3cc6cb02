//! WebSocket: what a client says who asks for one, what its provider is told of that, and the tunnel between the two.
//!
//! A request for one is a request like any other until its provider agrees: authenticated, admitted, tried with another account
//! where one does not work out. From then on the bytes of both sides pass as they come ([`tunnel`]), on a connection of this
//! account's that serves nothing else any more. What is asked for and answered in it is read on the way, so that each response
//! is admitted, charged and put on record as if it had been a request of its own (`Talk`).

mod direction;
mod handshake;
mod talk;
mod tunnel;

pub use handshake::{Handshake, asked_for, is_agreed, may_be_tried_again};
pub use tunnel::tunnel;
