//! The name of one request.

use crate::worker::Worker;

/// Bytes of a client's own `x-request-id` that are kept.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The name of one request.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; REQUEST_ID_BYTES_MAX],
    length: u8,
    given_by_client: bool,
}

impl RequestId {
    /// The client's own, cut and only if it is made of harmless characters; else a fresh one.
    pub fn of(given: Option<&[u8]>, worker: &Worker) -> Self {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        match given {
            Some(id) if !id.is_empty() && id.iter().all(harmless) => {
                let length = id.len().min(REQUEST_ID_BYTES_MAX);
                let mut bytes = [0; REQUEST_ID_BYTES_MAX];
                bytes[..length].copy_from_slice(&id[..length]);
                Self {
                    bytes,
                    length: length as u8,
                    given_by_client: true,
                }
            }
            _ => Self::fresh(worker),
        }
    }

    /// A fresh one: `req_` and 96 random bits.
    pub fn fresh(worker: &Worker) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        bytes[..4].copy_from_slice(b"req_");
        let mut random = worker.random_u128();
        for byte in &mut bytes[4..28] {
            *byte = DIGITS[(random & 15) as usize];
            random >>= 4;
        }
        Self {
            bytes,
            length: 28,
            given_by_client: false,
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// As it goes into a head: harmless characters of ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The client sent it, and gets it back.
    pub fn is_given_by_client(&self) -> bool {
        self.given_by_client
    }
}

#[cfg(test)]
impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        bytes[..id.len()].copy_from_slice(id.as_bytes());
        Self {
            bytes,
            length: id.len() as u8,
            given_by_client: true,
        }
    }
}
