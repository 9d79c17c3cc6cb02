//! The demo's configuration and what belongs to it, in a directory of its own that is gone afterwards.

use super::ACCOUNTS;
use crate::keys;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};

/// The directory; removed when dropped.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Writes a configuration with one provider, the demo's accounts and one tenant.
    pub(super) fn write(
        port: u16,
        certificate: Option<&(PathBuf, PathBuf)>,
        provider: SocketAddr,
        credentials: &[String],
        tenant_key: &[u8],
    ) -> io::Result<Self> {
        let name = format!("codex-relay-demo-{:016x}", fastrand::u64(..));
        let files = Self {
            dir: std::env::temp_dir().join(name),
        };
        DirBuilder::new().mode(0o700).create(&files.dir)?;
        let mut config = format!(
            "# The configuration of a running demo.\n\
             [node]\nname = \"demo\"\nstate_dir = {state_dir}\n\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\n\
             [kernel]\nmode = \"off\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:{port}\"\nhttp2 = true\n\n\
             [[upstream]]\nname = \"demo-provider\"\nbase_url = \"http://{provider}\"\n\
             websocket = true\n\n",
            state_dir = quoted(&files.dir.join("state")),
        );
        if let Some((certificate, key)) = certificate {
            let _ = write!(
                config,
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n\
                 certificates = [{{ certificate_file = {}, key_file = {} }}]\n\n",
                quoted(&path::absolute(certificate)?),
                quoted(&path::absolute(key)?),
            );
        }
        for ((account, egress), credential) in ACCOUNTS.iter().zip(credentials) {
            files.write_private(account, credential)?;
            let _ = write!(
                config,
                "[[account]]\nname = \"{account}\"\nupstream = \"demo-provider\"\n\
                 credential = {{ file = \"{account}\" }}\negress = [\"{egress}\"]\n\n",
            );
        }
        let _ = write!(
            config,
            "[[tenant]]\nname = \"demo\"\nkeys = [{key}]\nupstreams = [\"demo-provider\"]\n\n\
             [timeouts]\ndrain = \"1s\"\n\n\
             [limits]\nconnections_per_source = 0\n\n\
             [log]\noutput = {log}\n",
            key = keys::entry(tenant_key),
            log = quoted(&files.log()),
        );
        files.write_private("codex-relay.toml", &config)?;
        Ok(files)
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("codex-relay.toml")
    }

    /// The gateway's log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("gateway.log")
    }

    fn write_private(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(self.dir.join(name))?
            .write_all(text.as_bytes())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Nothing depends on it; what is left is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn quoted(path: &Path) -> String {
    toml::Value::from(&*path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, policy::KernelMode};

    #[test]
    fn the_configuration_is_valid_and_gone_afterwards() {
        let provider = SocketAddr::from(([127, 0, 0, 1], 9));
        let credentials = ["first".to_owned(), "second".to_owned()];
        let files = Files::write(0, None, provider, &credentials, b"key").unwrap();
        let loaded = config::load(&files.config()).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        // A demo asks for no privileges and changes nothing on the host.
        assert_eq!(loaded.policy.kernel.mode, KernelMode::Off);
        let accounts = &loaded.policy.accounts;
        assert_eq!(accounts.len(), ACCOUNTS.len());
        assert_eq!(accounts[1].credential.expose(), b"second");
        assert!(loaded.policy.keys.contains_key(&keys::hash(b"key")));
        let dir = files.dir.clone();
        drop(files);
        assert!(!dir.exists());
    }
}
