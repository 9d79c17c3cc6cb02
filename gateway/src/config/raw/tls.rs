//! `[listener.tls]`

use super::super::forms::{FilePath, Text};
use super::List;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS towards clients.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    inline,
    extend(
        "required" = ["certificates"],
        "x-hint" = "write `[listener.tls]` below the listener, with `certificates = [{ certificate_file = \"…\", key_file = \"…\" }]`"
    )
)]
pub(in crate::config) struct ListenerTls {
    /// Certificates with their keys, chosen by the name that the client asks for (SNI); the first one for everybody else.
    #[schemars(length(min = 1, max = 1_000))]
    pub(in crate::config) certificates: List<Certificate>,
    /// The oldest version of TLS that is spoken.
    pub(in crate::config) min_version: TlsVersion,
    /// Authorities (PEM) of clients' certificates; with it, clients are asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) client_ca_file: Option<Text<FilePath>>,
    /// Whether a client without a certificate is refused; without this key, it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) client_certificates: Option<ClientCertificates>,
}

/// A certificate and its key.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend(
    "required" = ["certificate_file", "key_file"],
    "x-hint" = "write `{ certificate_file = \"…\", key_file = \"…\" }`"
))]
pub(in crate::config) struct Certificate {
    /// The certificate (PEM), followed by those that lead to its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) certificate_file: Option<Text<FilePath>>,
    /// Its private key (PEM), not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) key_file: Option<Text<FilePath>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub(in crate::config) enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ClientCertificates {
    /// A client without one is refused.
    Required,
    /// A client without one is served, a client with one that does not verify is refused.
    Optional,
}
