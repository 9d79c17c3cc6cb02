//! The proxies: how each is configured and started. All of them keep connections to the upstream and buffer no answer.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::process::{Process, pinned};
use super::{PROXY_CORE, Programs};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    Gateway,
    Nginx,
    Haproxy,
    Floor,
    /// None: the load goes straight to the upstream.
    Direct,
}

const PROXIES: [Proxy; 5] = [
    Proxy::Gateway,
    Proxy::Nginx,
    Proxy::Haproxy,
    Proxy::Floor,
    Proxy::Direct,
];

/// The tenant's key in the gateway's configuration, and its hash.
pub(crate) const TENANT_KEY: &str = "relay-bench-tenant-key-0123456789abcdef";
const TENANT_KEY_SHA256: &str = "dc9038faf32692f60afabf809ecf6167ef945ed2d2244892afac1ee739efb705";

/// The proxies of a list of names.
pub(crate) fn named(list: &str) -> Result<Vec<Proxy>, Box<dyn Error>> {
    list.split(',')
        .map(|name| {
            let found = PROXIES.into_iter().find(|proxy| proxy.name() == name);
            found.ok_or_else(|| format!("there is no proxy `{name}`; see --help").into())
        })
        .collect()
}

impl Proxy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Floor => "floor",
            Self::Direct => "direct",
        }
    }

    /// What belongs to a figure of this proxy.
    pub(crate) fn flags(self) -> &'static str {
        match self {
            Self::Gateway => "1 worker; authentication, routing, metrics, request log to a file",
            Self::Nginx => {
                "1 worker; keepalive 1024 to the upstream, proxy_buffering off, access log to a file (buffer 64k)"
            }
            Self::Haproxy => "nbthread 1; http-reuse always, http-no-delay, no log",
            Self::Floor => "blind TCP relay, 1 thread, 1 upstream connection per client connection",
            Self::Direct => "no proxy",
        }
    }

    fn installed_as(self) -> Option<&'static str> {
        match self {
            Self::Nginx => Some("nginx"),
            Self::Haproxy => Some("haproxy"),
            Self::Gateway | Self::Floor | Self::Direct => None,
        }
    }

    /// Why this proxy cannot be measured here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        let program = self.installed_as()?;
        match self.version() {
            Some(_) => None,
            None => Some(format!(
                "`{program}` cannot be run (Debian: apt-get install nginx-light haproxy)"
            )),
        }
    }

    /// What the installed program says of its version.
    pub(crate) fn version(self) -> Option<String> {
        let output = Command::new(self.installed_as()?).arg("-v").output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines().next().map(str::to_owned)
    }

    /// Starts it in an empty directory of its own; returns when it listens. `None` where there is no proxy.
    pub(crate) fn start(
        self,
        programs: &Programs,
        upstream: &str,
        dir: &Path,
    ) -> Result<Option<(Process, String)>, Box<dyn Error>> {
        let free = free_address()?;
        let mut command = match self {
            Self::Direct => return Ok(None),
            Self::Gateway => {
                let config = dir.join("relay.toml");
                let credential = dir.join("credential");
                fs::write(&credential, "sk-bench-upstream")?;
                fs::write(&config, gateway_config(upstream, dir))?;
                let mut command = pinned(PROXY_CORE, &programs.gateway);
                command.args(["run", "-c"]).arg(config);
                command
            }
            Self::Nginx => {
                let config = dir.join("nginx.conf");
                fs::write(&config, nginx_config(&free, upstream, dir))?;
                let mut command = pinned(PROXY_CORE, "nginx");
                command
                    .arg("-e")
                    .arg(dir.join("error.log"))
                    .arg("-p")
                    .arg(dir)
                    .arg("-c")
                    .arg(config);
                command
            }
            Self::Haproxy => {
                let config = dir.join("haproxy.cfg");
                fs::write(&config, haproxy_config(&free, upstream))?;
                let mut command = pinned(PROXY_CORE, "haproxy");
                command.arg("-db").arg("-f").arg(config);
                command
            }
            Self::Floor => {
                let mut command = pinned(PROXY_CORE, &programs.floor);
                command.args(["--upstream", upstream]);
                command
            }
        };
        let mut process = Process::start(self.name(), &mut command, dir)?;
        let address = match self.installed_as() {
            Some(_) => {
                process.wait_for_listener(&free)?;
                free
            }
            None => process.wait_for_address()?,
        };
        Ok(Some((process, address)))
    }
}

/// For programs that cannot say which port they were given.
fn free_address() -> Result<String, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn gateway_config(upstream: &str, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"[node]
name = "bench"
state_dir = "{dir}/state"
workers = 1

[admin]
address = "127.0.0.1:0"

[kernel]
mode = "off"

[[listener]]
address = "127.0.0.1:0"

[[upstream]]
name = "bench"
base_url = "http://{upstream}"

[[account]]
name = "bench"
upstream = "bench"
credential = {{ file = "{dir}/credential" }}
egress = ["127.0.0.1"]
max_concurrent = 100000

[[tenant]]
name = "bench"
keys = [{{ sha256 = "{TENANT_KEY_SHA256}" }}]
upstreams = ["bench"]
models = ["bench-*"]

[limits]
connections_per_source = 0
pool_idle_max = 1024
"#
    )
}

fn nginx_config(listen: &str, upstream: &str, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{
    worker_connections 8192;
}}
http {{
    access_log {dir}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    keepalive_requests 1000000000;
    upstream bench {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"
    )
}

fn haproxy_config(listen: &str, upstream: &str) -> String {
    format!(
        "global
    nbthread 1
    maxconn 8000
defaults
    mode http
    http-reuse always
    # Else events may wait for more bytes to fill a segment.
    option http-no-delay
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend bench
    bind {listen} backlog 4096
    default_backend bench
backend bench
    server upstream {upstream}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_proxies() {
        for proxy in PROXIES {
            assert_eq!(named(proxy.name()).unwrap(), [proxy]);
        }
    }

    #[test]
    fn configurations_name_upstream_address_and_directory() {
        let dir = Path::new("/somewhere/else");
        let gateway = gateway_config("127.0.0.1:4001", dir);
        assert!(gateway.contains("base_url = \"http://127.0.0.1:4001\"\n"));
        assert!(gateway.contains("file = \"/somewhere/else/credential\""));
        assert!(gateway.contains(&format!("sha256 = \"{TENANT_KEY_SHA256}\"")));
        let nginx = nginx_config("127.0.0.1:4000", "127.0.0.1:4001", dir);
        assert!(nginx.contains("listen 127.0.0.1:4000 "));
        assert!(nginx.contains("server 127.0.0.1:4001;"));
        assert_eq!(nginx.matches('{').count(), nginx.matches('}').count());
        assert_eq!(nginx.matches("/somewhere/else/").count(), 8);
        let haproxy = haproxy_config("127.0.0.1:4000", "127.0.0.1:4001");
        assert!(haproxy.contains("bind 127.0.0.1:4000 "));
        assert!(haproxy.contains("server upstream 127.0.0.1:4001\n"));
    }
}
