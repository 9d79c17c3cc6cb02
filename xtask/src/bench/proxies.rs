//! The proxies: how each is configured and started. All of them keep connections to the upstream and buffer no answer.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, pinned};
use super::scenarios::Scenario;
use super::{PROXY_CORE, Programs};
use crate::tools;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// With everything but its kernel programs.
    Gateway,
    /// With everything.
    GatewayKernel,
    /// Without limits, prices and journal, to see what these cost.
    GatewayBare,
    Nginx,
    Haproxy,
    Floor,
    /// None: the load goes straight to the upstream.
    Direct,
}

const PROXIES: [Proxy; 7] = [
    Proxy::Gateway,
    Proxy::GatewayKernel,
    Proxy::GatewayBare,
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
            Self::GatewayKernel => "gateway-kernel",
            Self::GatewayBare => "gateway-bare",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Floor => "floor",
            Self::Direct => "direct",
        }
    }

    /// What belongs to a figure of this proxy.
    pub(crate) fn flags(self) -> &'static str {
        match self {
            Self::Gateway => {
                "1 worker; authentication, all limits of tenant and key, prices, journal, routing, caps on connections in user space, metrics, request log to a file"
            }
            Self::GatewayKernel => {
                "1 worker; the same, with egress pin, caps and steering in the kernel and the egress log to a file"
            }
            Self::GatewayBare => "1 worker; the first one without limits, prices and journal",
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
            Self::Gateway
            | Self::GatewayKernel
            | Self::GatewayBare
            | Self::Floor
            | Self::Direct => None,
        }
    }

    /// Does it serve this scenario in the way that is meant? The others would keep connections to the upstream.
    pub(crate) fn suits(self, scenario: &Scenario) -> bool {
        !(scenario.is_fresh() && matches!(self, Self::Nginx | Self::Haproxy))
    }

    /// Why this proxy cannot be measured here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        if self == Self::GatewayKernel && !tools::is_root() {
            return Some("loading programs into the kernel needs root".to_owned());
        }
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
        scenario: &Scenario,
        upstream: &str,
        dir: &Path,
    ) -> Result<Option<(Process, String)>, Box<dyn Error>> {
        let free = free_address()?;
        let mut command = match self {
            Self::Direct => return Ok(None),
            Self::Gateway | Self::GatewayBare => {
                let books = match self {
                    Self::Gateway => &BOOKS,
                    _ => &NO_BOOKS,
                };
                let mut command = pinned(PROXY_CORE, &programs.gateway);
                let config = gateway_config(KERNEL_OFF, books, scenario, upstream, dir);
                command.args(gateway_arguments(&config, dir)?);
                command
            }
            Self::GatewayKernel => {
                let pins = dir.join("bpffs");
                fs::create_dir(&pins)?;
                let kernel = format!(
                    "mode = \"required\"\ncgroup = \"{}\"\nbpffs = \"{}\"",
                    cgroup()?.display(),
                    pins.join("pins").display()
                );
                let config = gateway_config(&kernel, &BOOKS, scenario, upstream, dir);
                let mut command = pinned(PROXY_CORE, "unshare");
                command
                    .args(["--mount", "sh", "-c", WITH_BPFFS, "sh"])
                    .args([&pins, &programs.gateway])
                    .args(gateway_arguments(&config, dir)?);
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

/// Runs a command with a file system of the kernel's for pins, which goes with it and takes the pinned programs along.
const WITH_BPFFS: &str = "mount -t bpf bpf \"$1\" && shift && exec \"$@\"";

/// The cgroup in which the gateway's connections are governed, below our own one.
fn cgroup() -> Result<PathBuf, Box<dyn Error>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| place.to_owned())
    });
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    match (root, own) {
        (Some(root), Some(own)) => Ok(Path::new(&root).join(own).join("relay-bench")),
        _ => Err("no cgroup2 is mounted".into()),
    }
}

/// Removes what measuring has left outside of its directory.
pub(crate) fn clean_up() {
    if let Ok(cgroup) = cgroup()
        && cgroup.exists()
        && let Err(error) = fs::remove_dir(&cgroup)
    {
        eprintln!("{}: {error}", cgroup.display());
    }
}

/// Writes a configuration and gives back the arguments that name it.
fn gateway_arguments(config: &str, dir: &Path) -> std::io::Result<[OsString; 3]> {
    let file = dir.join("relay.toml");
    fs::write(dir.join("credential"), "sk-bench-upstream")?;
    fs::write(&file, config)?;
    Ok(["run".into(), "-c".into(), file.into()])
}

const KERNEL_OFF: &str = "mode = \"off\"";

/// What is counted and kept of requests.
struct Books {
    /// Limits of the tenant, and of its key.
    limits: &'static str,
    journal: &'static str,
    price: &'static str,
}

/// Every limit that there is, none of which is reached; that of tokens per minute, which a saturated gateway could exceed, refuses
/// nothing.
const BOOKS: Books = Books {
    limits: "{ requests_per_second = 1000000, burst = 1000000, requests_per_minute = 60000000, \
             tokens_per_minute = 1000000000, concurrent_requests = 1000000, requests_per_day = 1000000000000, \
             tokens_per_day = 1000000000000000, requests_per_month = 1000000000000, \
             tokens_per_month = 1000000000000000, budget_per_month = 1000000000, shadow = [\"tokens_per_minute\"] }",
    journal: "mode = \"best_effort\"",
    price: "[[price]]\nmodels = [\"bench-*\"]\ninput = 1.25\ncached_input = 0.125\noutput = 10.0\n",
};

const NO_BOOKS: Books = Books {
    limits: "{}",
    journal: "mode = \"off\"",
    price: "",
};

fn gateway_config(
    kernel: &str,
    books: &Books,
    scenario: &Scenario,
    upstream: &str,
    dir: &Path,
) -> String {
    let Books {
        limits,
        journal,
        price,
    } = books;
    let dir = dir.display();
    // One address would run out of ports, since those of closed connections wait.
    let (egress, pool_idle_max) = match scenario.is_fresh() {
        true => ((1..=32).map(|it| format!("\"127.0.8.{it}\"")).collect(), 0),
        false => (vec!["\"127.0.0.1\"".to_owned()], 1024),
    };
    let egress = egress.join(", ");
    format!(
        r#"[node]
name = "bench"
state_dir = "{dir}/state"
workers = 1

[admin]
address = "127.0.0.1:0"

[kernel]
{kernel}

[journal]
{journal}

{price}
[[listener]]
address = "127.0.0.1:0"

[[upstream]]
name = "bench"
base_url = "http://{upstream}"

[[account]]
name = "bench"
upstream = "bench"
credential = {{ file = "{dir}/credential" }}
egress = [{egress}]
max_concurrent = 100000
max_connections = 100000

[[tenant]]
name = "bench"
keys = [{{ sha256 = "{TENANT_KEY_SHA256}", limits = {limits} }}]
limits = {limits}
upstreams = ["bench"]
models = ["bench-*"]
connections = 100000

[limits]
pool_idle_max = {pool_idle_max}
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
    use crate::bench::scenarios;

    #[test]
    fn names_lead_back_to_the_proxies() {
        for proxy in PROXIES {
            assert_eq!(named(proxy.name()).unwrap(), [proxy]);
        }
    }

    #[test]
    fn configurations_name_upstream_address_and_directory() {
        let dir = Path::new("/somewhere/else");
        let of_scenario = |name| {
            let scenario = scenarios::named(name).unwrap()[0];
            gateway_config(KERNEL_OFF, &BOOKS, scenario, "127.0.0.1:4001", dir)
        };
        let gateway = of_scenario("json");
        assert!(gateway.contains("\n[kernel]\nmode = \"off\"\n"));
        assert!(gateway.contains("\negress = [\"127.0.0.1\"]\n"));
        assert!(of_scenario("json-fresh").contains("\npool_idle_max = 0\n"));
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
