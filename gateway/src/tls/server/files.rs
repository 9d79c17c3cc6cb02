//! The files of one listener: what stands in them is in force until something better does.
//!
//! Files are replaced one after the other, so there are moments in which a certificate is new and its key is not, or a chain is
//! written in part. What has changed is therefore read when it has stood still between two looks, unless somebody says that it is
//! complete; and a pair that does not fit, or is not good now while the one in force is, is not taken.

#[cfg(test)]
mod tests;

use super::{Rules, Server};
use crate::config::policy::{CertificateFiles, ClientAuth, Listener, ListenerTls};
use crate::tls::certificates::{self, Fault, Pair, Role, Validity};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The files of one listener, and the server that is made of them.
pub struct Files {
    address: SocketAddr,
    server: Arc<Server>,
    rules: Rules,
    pairs: Vec<Kept<CertificateFiles, Arc<Pair>>>,
    clients: Option<Kept<ClientAuth, Authorities>>,
}

/// Who is trusted for clients' certificates.
struct Authorities {
    roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What stands in this file is in force for new connections.
    Replaced(PathBuf),
    /// It cannot be used; what was in force stays.
    Refused(Fault),
}

/// What a look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What there is to tell.
    pub events: Vec<Event>,
    /// Something is being written: look again soon.
    pub is_unsettled: bool,
}

/// When a file counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody asked: when it is the same as at the look before.
    Nobody,
    /// Somebody did, who knows: now.
    Somebody,
}

/// Files, and what was read from them.
struct Kept<F, T> {
    files: F,
    value: T,
    /// The files as they were when the value was read.
    read: Identity,
    /// The files as they were at the last look.
    seen: Identity,
    /// What was wrong with them, if they have been refused since.
    fault: Option<Fault>,
}

/// Tells files apart from what they were before, without reading them; `None` for one that cannot be found.
type Identity = [Option<[i64; 7]>; 2];

fn identity(paths: [&Path; 2]) -> Identity {
    paths.map(|path| {
        let found = path.metadata().ok()?;
        Some([
            found.dev().cast_signed(),
            found.ino().cast_signed(),
            found.size().cast_signed(),
            found.mtime(),
            found.mtime_nsec(),
            // It changes with the rights too, and nobody can set it.
            found.ctime(),
            found.ctime_nsec(),
        ])
    })
}

/// Readings for somebody who asked, as long as the files change meanwhile.
const READINGS_MAX: u32 = 3;

/// What can be read again.
trait Source {
    /// What is made of it.
    type Value;

    /// What it is for.
    const ROLE: Role;

    fn paths(&self) -> [&Path; 2];

    fn read(&self, now: SystemTime) -> Result<Self::Value, Fault>;

    /// Why this must not take the place of that, although it can be used.
    fn worse(&self, new: &Self::Value, old: &Self::Value, now: SystemTime) -> Option<Fault>;

    fn is_same(new: &Self::Value, old: &Self::Value) -> bool;
}

impl Source for CertificateFiles {
    type Value = Arc<Pair>;

    const ROLE: Role = Role::Certificate;

    fn paths(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    fn read(&self, now: SystemTime) -> Result<Arc<Pair>, Fault> {
        Pair::read(self, now).map(Arc::new)
    }

    fn worse(&self, new: &Arc<Pair>, old: &Arc<Pair>, now: SystemTime) -> Option<Fault> {
        let why = new.valid.fault_at(now)?;
        let is_worse = old.valid.fault_at(now).is_none();
        is_worse.then(|| Fault {
            role: Self::ROLE,
            path: self.certificate.clone(),
            why,
        })
    }

    fn is_same(new: &Arc<Pair>, old: &Arc<Pair>) -> bool {
        new.certified.cert == old.certified.cert
    }
}

impl Source for ClientAuth {
    type Value = Authorities;

    const ROLE: Role = Role::Authorities;

    fn paths(&self) -> [&Path; 2] {
        [&self.ca_file, &self.ca_file]
    }

    fn read(&self, _: SystemTime) -> Result<Authorities, Fault> {
        let roots = Arc::new(certificates::read_authorities(&self.ca_file)?.roots);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider);
        let builder = match self.required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| Fault {
            role: Self::ROLE,
            path: self.ca_file.clone(),
            why: format!("cannot be used: {error}"),
        })?;
        Ok(Authorities { roots, verifier })
    }

    fn worse(&self, _: &Authorities, _: &Authorities, _: SystemTime) -> Option<Fault> {
        None
    }

    fn is_same(new: &Authorities, old: &Authorities) -> bool {
        new.roots.roots == old.roots.roots
    }
}

impl<F: Source> Kept<F, F::Value> {
    fn open(files: F, now: SystemTime) -> Result<Self, Fault> {
        let read = identity(files.paths());
        let value = files.read(now)?;
        Ok(Self {
            files,
            value,
            read,
            seen: read,
            fault: None,
        })
    }

    /// True: the value is another one now.
    fn look(&mut self, asked: Asked, now: SystemTime, found: &mut Look) -> bool {
        let here = identity(self.files.paths());
        let stands_still = here == self.seen;
        self.seen = here;
        if here == self.read && self.fault.is_none() && asked == Asked::Nobody {
            return false;
        }
        if !stands_still && asked == Asked::Nobody {
            found.is_unsettled = true;
            return false;
        }
        let Some(read) = self.read_whole(asked, now) else {
            found.is_unsettled = true;
            if asked == Asked::Somebody {
                // Nothing to keep as a fault: the next look tells what has become of it.
                found.events.push(Event::Refused(Fault {
                    role: F::ROLE,
                    path: self.files.paths()[0].to_owned(),
                    why: BEING_WRITTEN.to_owned(),
                }));
            }
            return false;
        };
        let read = read.and_then(|value| match self.files.worse(&value, &self.value, now) {
            None => Ok(value),
            Some(fault) => Err(fault),
        });
        match read {
            Ok(value) => {
                self.read = self.seen;
                let was_refused = self.fault.take().is_some();
                let is_new = !F::is_same(&value, &self.value);
                self.value = value;
                if is_new || was_refused {
                    let path = self.files.paths()[0].to_owned();
                    found.events.push(Event::Replaced(path));
                }
                is_new
            }
            Err(fault) => {
                // As long as it stays as it is, it is told once, and to whoever asks.
                if asked == Asked::Somebody || self.fault.as_ref() != Some(&fault) {
                    found.events.push(Event::Refused(fault.clone()));
                }
                self.fault = Some(fault);
                false
            }
        }
    }

    /// Reads the files as they were seen last; `None` if they were written meanwhile. For somebody who asked they are read again
    /// then, as they are by now.
    fn read_whole(&mut self, asked: Asked, now: SystemTime) -> Option<Result<F::Value, Fault>> {
        let readings = match asked {
            Asked::Nobody => 1,
            Asked::Somebody => READINGS_MAX,
        };
        (0..readings).find_map(|_| {
            let read = self.files.read(now);
            let before = std::mem::replace(&mut self.seen, identity(self.files.paths()));
            (before == self.seen).then_some(read)
        })
    }
}

const BEING_WRITTEN: &str = "is being written, or its key is: it has changed while it was read";

impl Files {
    /// Reads the files of a listener; `None`: it speaks plaintext. `address`: where it listens, for whoever reads of it.
    ///
    /// # Errors
    /// Something in them cannot be used.
    pub fn open(
        listener: &Listener,
        address: SocketAddr,
        now: SystemTime,
    ) -> Result<Option<Self>, OpenError> {
        let Some(tls) = &listener.tls else {
            return Ok(None);
        };
        let ListenerTls {
            certificates,
            min_version,
            client_auth,
        } = tls;
        let pairs: Result<Vec<_>, _> = certificates
            .iter()
            .map(|files| Kept::open(files.clone(), now))
            .collect();
        let pairs = pairs?;
        let clients = client_auth.clone();
        let clients = clients.map(|files| Kept::open(files, now)).transpose()?;
        let rules = Rules::new(*min_version, listener.http2, clients.is_some())?;
        let server = Arc::new(Server::new(
            address,
            config(&rules, &pairs, clients.as_ref()),
        ));
        Ok(Some(Self {
            address,
            server,
            rules,
            pairs,
            clients,
        }))
    }

    /// What the workers shake hands with.
    pub fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// Where the listener listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What cannot be read again with the rights that the process has now.
    pub fn unreadable(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let roles = self.pairs.iter().flat_map(|kept| {
            [
                (Role::Certificate, &kept.files.certificate),
                (Role::Key, &kept.files.key),
            ]
        });
        let authorities = self.clients.iter();
        let authorities = authorities.map(|kept| (Role::Authorities, &kept.files.ca_file));
        for (role, path) in roles.chain(authorities) {
            if let Err(error) = std::fs::File::open(path) {
                found.push(Fault {
                    role,
                    path: path.clone(),
                    why: format!("cannot be read again after the start, so it cannot be replaced without a restart: {error}"),
                });
            }
        }
        found
    }

    /// The certificates in force, and when they are good.
    pub fn in_force(&self) -> impl Iterator<Item = (&Path, Validity)> {
        let pairs = self.pairs.iter();
        pairs.map(|kept| (kept.files.certificate.as_path(), kept.value.valid))
    }

    /// All files that can be replaced (of a pair, the certificate), and whether what stands there now was refused.
    pub fn refusals(&self) -> impl Iterator<Item = (&Path, bool)> {
        let pairs = self.pairs.iter();
        let pairs = pairs.map(|kept| (kept.files.certificate.as_path(), kept.fault.is_some()));
        let clients = self.clients.iter();
        pairs.chain(clients.map(|kept| (kept.files.ca_file.as_path(), kept.fault.is_some())))
    }

    /// Looks whether files have changed, and puts in force what is better.
    pub fn look(&mut self, asked: Asked, now: SystemTime) -> Look {
        let mut found = Look::default();
        let mut is_new = false;
        for kept in &mut self.pairs {
            is_new |= kept.look(asked, now, &mut found);
        }
        if let Some(kept) = &mut self.clients {
            is_new |= kept.look(asked, now, &mut found);
        }
        if is_new {
            self.server
                .publish(config(&self.rules, &self.pairs, self.clients.as_ref()));
        }
        found
    }
}

fn config(
    rules: &Rules,
    pairs: &[Kept<CertificateFiles, Arc<Pair>>],
    clients: Option<&Kept<ClientAuth, Authorities>>,
) -> Arc<rustls::ServerConfig> {
    let pairs: Vec<_> = pairs.iter().map(|kept| kept.value.clone()).collect();
    rules.config(&pairs, clients.map(|kept| kept.value.verifier.clone()))
}

/// Why a listener cannot be opened.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenError {
    /// One of its files cannot be used.
    File(Fault),
    /// rustls does not take what it was given.
    Rustls(rustls::Error),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::File(fault)
    }
}

impl From<rustls::Error> for OpenError {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error)
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(fault) => fault.fmt(out),
            Self::Rustls(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for OpenError {}
