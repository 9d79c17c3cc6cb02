//! `[node]`, `[admin]`, `[[listener]]` and `[log]`.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::forms::{Form, Name, Text};
use crate::config::policy::{Listener, Log, LogOutput, Node};
use crate::config::raw::{self, File, WORKERS_MAX};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::available_parallelism;

const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

impl Meaning<'_> {
    pub(super) fn node(&mut self, node: &raw::Node) -> Node {
        let name = node.name.as_ref().map(|Text(name)| name.clone());
        let cores = || {
            available_parallelism()
                .map_or(1, usize::from)
                .min(WORKERS_MAX)
        };
        Node {
            name: name.unwrap_or_else(host_name),
            region: node.region.0.clone(),
            state_dir: self.document.resolve(&node.state_dir.0),
            workers: node.workers.get().unwrap_or_else(cores),
        }
    }

    pub(super) fn listeners(&mut self, file: &File) -> Vec<Listener> {
        let admin_path = KeyPath::of("admin.address");
        let admin = file.admin.address.0;
        if !admin.ip().is_loopback() {
            let message = "the admin API asks for no credential, and this address is not loopback";
            self.warn(&admin_path, message, None);
        }
        let mut taken = vec![(admin, admin_path)];
        let mut listeners = Vec::new();
        for (index, listener) in file.listener.iter() {
            let table = KeyPath::of("listener").index(index);
            let tls = listener.tls.as_ref();
            let tls = tls.map(|tls| self.listener_tls(tls, &table.key("tls")));
            let Some(Text(address)) = listener.address else {
                continue;
            };
            let path = table.key("address");
            if let Some((other, first)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
                let place = self.place(first);
                self.error(
                    &path,
                    format!("{address} is in use by {place}, which is {other}"),
                    None,
                );
            }
            taken.push((address, path));
            listeners.push(Listener {
                address,
                http2: listener.http2.unwrap_or(tls.is_some()),
                tls,
            });
        }
        listeners
    }

    pub(super) fn log(&self, log: &raw::knobs::Log) -> Log {
        let output = match log.output.0.as_str() {
            "stdout" => LogOutput::Stdout,
            "stderr" => LogOutput::Stderr,
            path => LogOutput::File(self.document.resolve(Path::new(path))),
        };
        Log {
            output,
            requests: log.requests,
        }
    }
}

/// Would both want the same connections? A port 0 becomes a free port, which is never the same.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || any(one) || any(other))
}

/// The host's name in the form of a name of ours.
fn host_name() -> String {
    let name = fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
    Name::parse(name.trim()).unwrap_or_else(|| "codex-relay".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_when_they_would_get_the_same_connections() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn there_is_always_a_host_name() {
        assert!(Name::parse(&host_name()).is_some());
    }
}
