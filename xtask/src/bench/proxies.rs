//! The proxies: how each is configured and started. All of them keep connections to the upstream and buffer no answer.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::configs::{self, BOOKS, KERNEL_OFF, NO_BOOKS, Setting};
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

    /// Does it serve this scenario in the way that is meant?
    pub(crate) fn suits(self, scenario: &Scenario) -> bool {
        match self {
            // They would keep connections to the upstream.
            Self::Nginx | Self::Haproxy => !scenario.is_fresh(),
            Self::Floor | Self::Direct => scenario.suits_blind(),
            Self::Gateway | Self::GatewayKernel | Self::GatewayBare => true,
        }
    }

    /// Is it ours, with whichever parts?
    pub(crate) fn is_gateway(self) -> bool {
        matches!(
            self,
            Self::Gateway | Self::GatewayKernel | Self::GatewayBare
        )
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
        setting: &Setting<'_>,
    ) -> Result<Option<(Process, String)>, Box<dyn Error>> {
        let free = free_address()?;
        let dir = setting.dir;
        let mut command = match self {
            Self::Direct => return Ok(None),
            Self::Gateway | Self::GatewayBare => {
                let books = match self {
                    Self::Gateway => &BOOKS,
                    _ => &NO_BOOKS,
                };
                let mut command = pinned(PROXY_CORE, &programs.gateway);
                let config = configs::gateway(KERNEL_OFF, books, setting);
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
                let config = configs::gateway(&kernel, &BOOKS, setting);
                let mut command = pinned(PROXY_CORE, "unshare");
                command
                    .args(["--mount", "sh", "-c", WITH_BPFFS, "sh"])
                    .args([&pins, &programs.gateway])
                    .args(gateway_arguments(&config, dir)?);
                command
            }
            Self::Nginx => {
                let config = dir.join("nginx.conf");
                fs::write(&config, configs::nginx(&free, setting))?;
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
                fs::write(&config, configs::haproxy(&free, setting))?;
                let mut command = pinned(PROXY_CORE, "haproxy");
                command.arg("-db").arg("-f").arg(config);
                command
            }
            Self::Floor => {
                let mut command = pinned(PROXY_CORE, &programs.floor);
                command.args(["--upstream", setting.upstream]);
                command
            }
        };
        let mut process = Process::start(self.name(), &mut command, dir)?;
        let address = match self.installed_as() {
            Some(_) => {
                process.wait_for_listener(&free)?;
                if self == Self::Nginx {
                    process.wait_for_child()?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_proxies() {
        for proxy in PROXIES {
            assert_eq!(named(proxy.name()).unwrap(), [proxy]);
        }
    }
}
