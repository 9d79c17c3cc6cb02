//! Whether the files of TLS can be used: asked of the configuration that is to be run, not of every one that is read, for
//! whoever reads the journal need not be able to read the keys.

use super::document::{Document, KeyPath};
use super::error::Problem;
use super::policy::{ListenerTls, Policy};
use crate::tls::certificates::{Fault, Pair, Role, read_authorities};
use std::path::Path;
use std::time::SystemTime;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Reads every file that listeners and upstreams name.
pub(super) fn check(policy: &Policy, document: &Document<'_>) -> Found {
    let mut found = Found::default();
    let now = SystemTime::now();
    for (index, listener) in policy.listeners.iter().enumerate() {
        if let Some(tls) = &listener.tls {
            let path = KeyPath::of("listener").index(index).key("tls");
            found.listener(tls, &path, document, now);
        }
    }
    for (index, upstream) in policy.upstreams.iter().enumerate() {
        let ca_file = upstream.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
        if let Some(file) = ca_file {
            let path = KeyPath::of("upstream").index(index).key("ca_file");
            found.authorities(file, &path, document);
        }
    }
    found
}

impl Found {
    fn listener(
        &mut self,
        tls: &ListenerTls,
        path: &KeyPath,
        document: &Document<'_>,
        now: SystemTime,
    ) {
        for (index, files) in tls.certificates.iter().enumerate() {
            let pair = path.key("certificates").index(index);
            let place = |fault: &Fault| match fault.role {
                Role::Key => pair.key("key_file"),
                _ => pair.key("certificate_file"),
            };
            match Pair::read(files, now) {
                Ok(read) => {
                    let warnings = read.warnings.iter();
                    let warnings = warnings.map(|fault| problem(fault, &place(fault), document));
                    self.warnings.extend(warnings);
                }
                Err(fault) => self.errors.push(problem(&fault, &place(&fault), document)),
            }
        }
        if let Some(clients) = &tls.client_auth {
            let place = path.key("client_ca_file");
            self.authorities(&clients.ca_file, &place, document);
        }
    }

    fn authorities(&mut self, file: &Path, key: &KeyPath, document: &Document<'_>) {
        match read_authorities(file) {
            Ok(read) => {
                let warnings = read.warnings.iter();
                let warnings = warnings.map(|fault| problem(fault, key, document));
                self.warnings.extend(warnings);
            }
            Err(fault) => self.errors.push(problem(&fault, key, document)),
        }
    }
}

fn problem(fault: &Fault, path: &KeyPath, document: &Document<'_>) -> Problem {
    document.problem(path, document.locate(path), fault.to_string(), None)
}
