//! HTTP/2 messages as HTTP/1.1 text and back.
//!
//! The path of a request speaks HTTP/1.1 (`head`, `body`). Where a peer speaks HTTP/2, each of its streams is translated:
//!
//! - a client's request: [`request_head`], then [`BodyWriter`] for its DATA;
//! - the answer to it: [`AnswerReader`];
//! - a request to a provider: [`RequestReader`];
//! - the provider's answer: [`response_head`], then [`BodyWriter`].
//!
//! What is written here is read again by the parsers of `head` and `body`. So the rules about messages stand there, once, for
//! all protocols; here stand those about HTTP/2's own form, and those about what would not survive the way: no value that gets
//! through can be read as anything but itself. Trailers are dropped, as they are between two HTTP/1.1 peers.

mod body;
mod fields;
mod reader;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::{BodyWriter, LengthMismatch};
pub use reader::{AnswerEvent, AnswerReader, Broken, RequestEvent, RequestReader};
pub use request::{RequestError, request_head};
pub use response::{ResponseError, response_head};
