//! `[listener.tls]`, and what an upstream behind `https` is asked for.

use super::Meaning;
use super::base_url::BaseUrl;
use crate::config::document::KeyPath;
use crate::config::forms::Text;
use crate::config::policy::{
    CertificateFiles, ClientAuth, ListenerTls, Protocol, TlsVersion, UpstreamTls,
};
use crate::config::raw::{self, tls as form};
use rustls::pki_types::ServerName;

impl Meaning<'_> {
    pub(super) fn listener_tls(&mut self, tls: &form::ListenerTls, path: &KeyPath) -> ListenerTls {
        ListenerTls {
            certificates: self.certificate_files(tls, &path.key("certificates")),
            min_version: match tls.min_version {
                form::TlsVersion::Tls12 => TlsVersion::Tls12,
                form::TlsVersion::Tls13 => TlsVersion::Tls13,
            },
            client_auth: self.client_auth(tls, path),
        }
    }

    fn certificate_files(
        &mut self,
        tls: &form::ListenerTls,
        path: &KeyPath,
    ) -> Vec<CertificateFiles> {
        let mut files: Vec<CertificateFiles> = Vec::new();
        for (index, pair) in tls.certificates.iter() {
            let (Some(certificate), Some(key)) = (&pair.certificate_file, &pair.key_file) else {
                continue;
            };
            let pair = CertificateFiles {
                certificate: self.document.resolve(&certificate.0),
                key: self.document.resolve(&key.0),
            };
            if files.iter().any(|one| one.certificate == pair.certificate) {
                let at = path.index(index).key("certificate_file");
                let shown = pair.certificate.display();
                self.error(&at, format!("{shown} is named twice"), None);
            }
            files.push(pair);
        }
        files
    }

    fn client_auth(&mut self, tls: &form::ListenerTls, path: &KeyPath) -> Option<ClientAuth> {
        let Some(Text(ca_file)) = &tls.client_ca_file else {
            let refused = self.is_refused(&path.key("client_ca_file"));
            if tls.client_certificates.is_some() && !refused {
                let message = "without `client_ca_file` there is nothing to verify clients' certificates with";
                let hint = "add `client_ca_file`, or leave this out: no client is asked for a certificate then";
                let at = path.key("client_certificates");
                self.error(&at, message, Some(hint.to_owned()));
            }
            return None;
        };
        Some(ClientAuth {
            ca_file: self.document.resolve(ca_file),
            required: !matches!(
                tls.client_certificates,
                Some(form::ClientCertificates::Optional)
            ),
        })
    }

    pub(super) fn upstream_tls(
        &mut self,
        upstream: &raw::Upstream,
        url: &BaseUrl,
        path: &KeyPath,
    ) -> Option<UpstreamTls> {
        if !url.tls {
            self.no_tls(upstream, path);
            return None;
        }
        let named = upstream.server_name.as_ref();
        let name = named.map_or(&url.host, |Text(name)| name);
        let Ok(server_name) = ServerName::try_from(name.clone()) else {
            let message = "no certificate can have a host name of this form";
            let hint = "`server_name` can be set to the name that the certificate has";
            self.error(&path.key("base_url"), message, Some(hint.to_owned()));
            return None;
        };
        let ca_file = upstream.ca_file.as_ref();
        Some(UpstreamTls {
            server_name,
            ca_file: ca_file.map(|Text(file)| self.document.resolve(file)),
        })
    }

    /// What only means something with TLS, where there is none.
    fn no_tls(&mut self, upstream: &raw::Upstream, path: &KeyPath) {
        let hint = || Some("write `https://` in `base_url`, or leave this out".to_owned());
        if upstream.ca_file.is_some() {
            let message = "there is no certificate to verify over `http://`";
            self.error(&path.key("ca_file"), message, hint());
        }
        if upstream.server_name.is_some() {
            let message =
                "there is no certificate to verify, and no name to ask for, over `http://`";
            self.error(&path.key("server_name"), message, hint());
        }
        if upstream.protocol == raw::Protocol::Auto {
            let message =
                "over `http://` nothing tells that the upstream speaks HTTP/2, so this is HTTP/1.1";
            let hint = "\"http2\" begins with HTTP/2 without asking";
            self.warn(&path.key("protocol"), message, Some(hint.to_owned()));
        }
        if upstream.protocol == raw::Protocol::Http2 && upstream.websocket {
            let message = "WebSocket is spoken over HTTP/1.1, which is sent to this port as well: over `http://` \
                           nothing tells whether the upstream takes both";
            self.warn(&path.key("websocket"), message, None);
        }
    }
}

pub(super) fn protocol(raw: raw::Protocol) -> Protocol {
    match raw {
        raw::Protocol::Http1 => Protocol::Http1,
        raw::Protocol::Http2 => Protocol::Http2,
        raw::Protocol::Auto => Protocol::Auto,
    }
}
