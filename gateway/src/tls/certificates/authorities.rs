//! Authorities that are trusted, and whether what stands in their file can be meant as that.
//!
//! Of a certificate that is trusted nothing counts but its name, its key and its name constraints (RFC 5280 section 6.1.1 (d)), so
//! rustls takes any. One that was put there by mistake, mostly the other side's own, shows only with the first handshake, as an unknown
//! issuer. One that somebody has issued to himself is no mistake, though it be no authority's: it is trusted when it is shown. Whoever
//! else is not marked as an authority must not issue any (section 4.2.1.9), but rustls trusts what he has issued all the same, and there
//! are private authorities that are not marked. So nothing is refused but what is plainly a server's or a client's.

#[cfg(test)]
mod tests;

use super::{Fault, Role, parse, read_certificates};
use rustls::RootCertStore;
use std::path::Path;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Name;

/// Of a name that stands in a certificate so much is shown, in characters.
const NAME_CHARACTERS_MAX: usize = 100;

/// The authorities of a file.
pub struct Authorities {
    /// What is trusted.
    pub roots: RootCertStore,
    /// What is probably not meant.
    pub warnings: Vec<Fault>,
}

/// What a certificate is good for where authorities are expected.
enum Use {
    /// Something.
    Some,
    /// Something, or else nothing: what is said of it.
    Doubtful(String),
    /// Nothing.
    None(String),
}

/// The certificates of authorities that are trusted.
///
/// # Errors
/// The file cannot be read, holds something else, or no certificate with which anything could be verified.
pub fn read_authorities(path: &Path) -> Result<Authorities, Fault> {
    let fault = |why: String| Fault {
        role: Role::Authorities,
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    let (mut warnings, mut useless) = (Vec::new(), Vec::new());
    for (number, certificate) in (1..).zip(read_certificates(path, Role::Authorities)?) {
        let number: usize = number;
        let about = |what: &str| format!("holds a certificate, number {number}{what}");
        match Use::of(&certificate) {
            Use::Some => {}
            Use::Doubtful(what) => warnings.push(fault(about(&what))),
            Use::None(what) => useless.push(fault(about(&what))),
        }
        roots
            .add(certificate)
            .map_err(|error| fault(about(&format!(", that cannot be used: {error}"))))?;
    }
    if useless.len() == roots.len() && !useless.is_empty() {
        return Err(useless.swap_remove(0));
    }
    warnings.extend(useless);
    Ok(Authorities { roots, warnings })
}

impl Use {
    fn of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Self {
        // rustls has the last word on what cannot be read here.
        let Ok(certificate) = parse(certificate) else {
            return Self::Some;
        };
        let subject = shown(certificate.subject());
        let issuer = shown(certificate.issuer());
        let is_own = certificate.issuer().as_raw() == certificate.subject().as_raw();
        let is_authority = says_of_authority(&certificate) == Some(true);
        if is_authority && is_own && names_host(&certificate) && !may_sign(&certificate) {
            // `openssl req -x509` makes every certificate an authority's, servers' too, but does not say that it may sign others
            // (section 4.2.1.3). Some authorities do name hosts.
            return Self::Doubtful(format!(
                " ({subject}), that is marked as an authority's and names a host: where the other side shows this very one it is \
                 refused, and has to be made anew with `basicConstraints = CA:FALSE`"
            ));
        }
        if is_authority || is_own {
            return Self::Some;
        }
        if is_end_entity(&certificate) {
            return Self::None(format!(
                " ({subject}), that is not an authority's, so the other side cannot be verified with it: what belongs here is that \
                 of its issuer ({issuer})"
            ));
        }
        Self::Doubtful(format!(
            " ({subject}), that is not marked as an authority's; if it is none, that of its issuer ({issuer}) belongs here"
        ))
    }
}

/// What it says of being an authority's, if it says anything.
fn says_of_authority(certificate: &X509Certificate<'_>) -> Option<bool> {
    let constraints = certificate.basic_constraints().ok()?;
    constraints.map(|constraints| constraints.value.ca)
}

/// Of one that somebody else has issued and that is not marked as an authority's: is it plainly a server's or a client's?
fn is_end_entity(certificate: &X509Certificate<'_>) -> bool {
    let is_denied = says_of_authority(certificate) == Some(false);
    !may_sign(certificate) && (names_host(certificate) || is_denied && is_for_tls(certificate))
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.key_cert_sign())
}

fn names_host(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        let mut names = names.value.general_names.iter();
        names.any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
    })
}

/// It is for servers or clients (RFC 5280 section 4.2.1.12).
fn is_for_tls(certificate: &X509Certificate<'_>) -> bool {
    let purposes = certificate.extended_key_usage().ok().flatten();
    purposes.is_some_and(|purposes| purposes.value.server_auth || purposes.value.client_auth)
}

/// Whatever stands in a name, it does not break the line that it is shown in.
fn shown(name: &X509Name<'_>) -> String {
    let name = name.to_string();
    let kept: String = name.chars().take(NAME_CHARACTERS_MAX).collect();
    let more = if kept.len() < name.len() { "…" } else { "" };
    format!("{kept:?}{more}")
}
