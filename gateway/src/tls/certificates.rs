//! Certificates and keys in their files: read, checked, and made into what rustls signs and verifies with.

mod authorities;
#[cfg(test)]
mod tests;

pub use authorities::{Authorities, read_authorities};

use crate::config::policy::CertificateFiles;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A larger file holds something else.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Permission bits that let everybody read or change a file.
const OPEN_TO_ALL: u32 = 0o006;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A certificate, and those that lead to its authority.
    Certificate,
    /// A private key.
    Key,
    /// Authorities that are trusted.
    Authorities,
}

/// Why a file cannot be used, or what the operator should know of it. Of what stands in the file it never holds more than the names
/// and times of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the file is for.
    pub role: Role,
    /// The file.
    pub path: PathBuf,
    /// What is wrong, behind the file's name.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.path.display(), self.why)
    }
}

/// A certificate with the key that fits it. It can sign, so it has no `Debug`.
pub struct Pair {
    /// What rustls shows and signs with.
    pub certified: Arc<CertifiedKey>,
    /// The host names that it stands for, in lower case, perhaps with `*` as their first label.
    pub names: Vec<String>,
    /// When it is good. Those behind it in the file may end before: clients look for a way of their own to an authority that they
    /// trust (RFC 8446 section 4.4.2), and some files hold one that only old clients need.
    pub valid: Validity,
    /// What is probably not meant.
    pub warnings: Vec<Fault>,
}

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub from: SystemTime,
    /// Its end.
    pub until: SystemTime,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            from: moment(validity.not_before.timestamp()),
            until: moment(validity.not_after.timestamp()),
        }
    }

    /// What is wrong with it at this time, behind the file's name.
    pub fn fault_at(&self, now: SystemTime) -> Option<String> {
        if now > self.until {
            return Some(format!("has expired: it ended at {}", shown(self.until)));
        }
        (now < self.from).then(|| format!("is not valid yet: it begins at {}", shown(self.from)))
    }
}

impl Pair {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// A file cannot be read or holds something else, or the key is that of another certificate.
    pub fn read(files: &CertificateFiles, now: SystemTime) -> Result<Self, Fault> {
        let fault = |why: String| Fault {
            role: Role::Certificate,
            path: files.certificate.clone(),
            why,
        };
        let chain = read_certificates(&files.certificate, Role::Certificate)?;
        let (key, key_warning) = read_key(&files.key)?;
        let facts = Facts::of(&chain).map_err(fault)?;
        let certified = CertifiedKey::new(chain, key);
        certified
            .keys_match()
            .map_err(|error| mismatch(files, &error))?;
        let warnings = facts.warnings(now).into_iter().map(fault);
        Ok(Self {
            warnings: warnings.chain(key_warning).collect(),
            certified: Arc::new(certified),
            names: facts.names,
            valid: facts.valid,
        })
    }
}

fn mismatch(files: &CertificateFiles, error: &rustls::Error) -> Fault {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return Fault {
            role: Role::Key,
            path: files.key.clone(),
            why: format!(
                "is not the key of the certificate in {}",
                files.certificate.display()
            ),
        };
    }
    Fault {
        role: Role::Certificate,
        path: files.certificate.clone(),
        why: format!("cannot be used: {error}"),
    }
}

/// All certificates of a file; at least one.
fn read_certificates(path: &Path, role: Role) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |why: String| Fault {
        role,
        path: path.to_owned(),
        why,
    };
    let (bytes, _) = read(path).map_err(fault)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(fault(
            "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into(),
        )),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(fault(BROKEN_PEM.into())),
    }
}

/// What rustls has against it may repeat a line of the file, which may be one of a key.
const BROKEN_PEM: &str = "is not whole, or not in PEM form";

type SigningKey = Arc<dyn rustls::sign::SigningKey>;

/// The private key of a file, and what should be known of the file.
fn read_key(path: &Path) -> Result<(SigningKey, Option<Fault>), Fault> {
    let fault = |why: &str| Fault {
        role: Role::Key,
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let (bytes, mode) = read(path).map_err(|why| fault(&why))?;
    if ENCRYPTED_MARKS
        .iter()
        .any(|mark| memchr::memmem::find(&bytes, mark).is_some())
    {
        return Err(fault(ENCRYPTED));
    }
    let key = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Zeroizing::new(key),
        Err(pem::Error::NoItemsFound) => return Err(fault(NO_KEY)),
        Err(_) => return Err(fault(BROKEN_PEM)),
    };
    let Ok(signing) = any_supported_type(&key) else {
        let why = "holds a private key that cannot be used: RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, and \
                   Ed25519 can";
        return Err(fault(why));
    };
    let open = mode & OPEN_TO_ALL != 0;
    let warning = open.then(|| {
        fault("holds a private key that everybody on this host may read or change (chmod o-rw)")
    });
    Ok((signing, warning))
}

const ENCRYPTED: &str = "holds a private key that is encrypted: nobody is there to be asked for its password (`openssl pkey` takes it off)";

/// In the new form (RFC 7468 section 11), and in the old one (RFC 1421 section 4.6.1.1).
const ENCRYPTED_MARKS: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"Proc-Type: 4,ENCRYPTED",
];

const NO_KEY: &str = "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)";

/// The file's bytes and permission bits, or what is wrong with it.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be read: permission denied".to_owned(),
        _ => format!("cannot be read: {}", error.kind()),
    };
    // Asked before opening: opening a FIFO would wait for its other end.
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    // Room for more than is read: a buffer that grows leaves copies of the key behind.
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let room = expected.min(FILE_BYTES_MAX) + 4096;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let file = File::open(path).map_err(failed)?;
    file.take(room as u64 - 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err("is too large to be a certificate or a key".into());
    }
    Ok((bytes, metadata.permissions().mode()))
}

/// What a chain says of itself.
struct Facts {
    names: Vec<String>,
    valid: Validity,
    /// Of the certificates behind the first one, in their order.
    rest_valid: Vec<Validity>,
    has_address: bool,
    is_for_servers: bool,
    is_in_order: bool,
}

impl Facts {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let parsed: Result<Vec<_>, _> = chain.iter().map(parse).collect();
        let parsed = parsed?;
        let leaf = parsed.first().ok_or("holds no certificate")?;
        let broken = |_| "has an extension that cannot be read".to_owned();
        let alternatives = leaf.subject_alternative_name().map_err(broken)?;
        let general = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        let names = general.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let purposes = leaf.extended_key_usage().map_err(broken)?;
        Ok(Self {
            names: names.collect(),
            valid: Validity::of(leaf),
            rest_valid: parsed.iter().skip(1).map(Validity::of).collect(),
            has_address: general
                .iter()
                .any(|name| matches!(name, GeneralName::IPAddress(_))),
            is_for_servers: purposes
                .is_none_or(|purposes| purposes.value.any || purposes.value.server_auth),
            is_in_order: parsed
                .windows(2)
                .all(|pair| pair[0].issuer().as_raw() == pair[1].subject().as_raw()),
        })
    }

    fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.valid.fault_at(now));
        for (index, valid) in self.rest_valid.iter().enumerate() {
            let fault = valid.fault_at(now);
            let number = index + 2;
            found.extend(
                fault.map(|why| format!("holds a certificate, number {number}, that {why}")),
            );
        }
        if self.names.is_empty() && !self.has_address {
            found.push("names no host (subjectAltName), so no client will accept it".to_owned());
        }
        if !self.is_for_servers {
            found.push(
                "is not meant for servers (extendedKeyUsage), so no client will accept it"
                    .to_owned(),
            );
        }
        if !self.is_in_order {
            let why = "holds certificates that do not lead from one to the next, from the server's upwards";
            found.push(why.to_owned());
        }
        found
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("holds a certificate that cannot be read".to_owned()),
    }
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moment.unwrap_or(UNIX_EPOCH)
}

fn shown(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}
