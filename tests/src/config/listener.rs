//! What a listener that speaks TLS is told.

use crate::pki::{Authority, Identity};
use std::fmt::{Display, Write as _};

/// `[listener.tls]`
#[derive(Clone, Debug)]
pub struct ListenerTls {
    certificates: Vec<String>,
    more: Vec<(String, String)>,
    pub(super) files: Vec<(String, String)>,
}

impl ListenerTls {
    /// Shows this certificate, which is in `gateway.pem` and `gateway.key`.
    pub fn new(identity: &Identity) -> Self {
        let empty = Self {
            certificates: Vec::new(),
            more: Vec::new(),
            files: Vec::new(),
        };
        empty.certificate("gateway", identity)
    }

    /// One more certificate, in `NAME.pem` and `NAME.key`.
    pub fn certificate(mut self, name: &str, identity: &Identity) -> Self {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        self.certificates.push(format!(
            "{{ certificate_file = {certificate:?}, key_file = {key:?} }}"
        ));
        self.files.push((certificate, identity.chain_pem()));
        self.files.push((key, identity.key_pem().to_owned()));
        self
    }

    /// Asks clients for certificates of this authority, which is in `clients.pem`: `"required"` or `"optional"`.
    pub fn clients(mut self, authority: &Authority, wanted: &str) -> Self {
        self.files.push(("clients.pem".to_owned(), authority.pem()));
        self.set("client_ca_file", "\"clients.pem\"")
            .set("client_certificates", format!("{wanted:?}"))
    }

    /// Any other key, with its value in TOML.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.more.push((key.to_owned(), value.to_string()));
        self
    }

    pub(super) fn table(&self) -> String {
        let mut table = format!("{{ certificates = [{}]", self.certificates.join(", "));
        for (key, value) in &self.more {
            let _ = write!(table, ", {key} = {value}");
        }
        table + " }"
    }
}
