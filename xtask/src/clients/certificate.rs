//! A certificate for `localhost` and the authority that vouches for it, made anew each time.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cache;

/// What the gateway is given, and what clients trust.
pub(super) struct Certificate {
    /// The authority's certificate.
    pub(super) authority: PathBuf,
    /// The gateway's.
    pub(super) certificate: PathBuf,
    /// Its key.
    pub(super) key: PathBuf,
}

impl Certificate {
    /// Makes both.
    pub(super) fn make(cache: &Cache) -> Result<Self, Box<dyn Error>> {
        let dir = cache.dir.join("certificates");
        std::fs::create_dir_all(&dir)?;
        let file = |name: &str| dir.join(name);
        let made = Self {
            authority: file("authority.pem"),
            certificate: file("localhost.pem"),
            key: file("localhost.key"),
        };
        let authority_key = file("authority.key");
        openssl(
            &made.authority,
            &authority_key,
            "/CN=Authority of the clients",
            &[
                "basicConstraints=critical,CA:TRUE",
                "keyUsage=critical,keyCertSign",
            ],
            &[],
        )?;
        openssl(
            &made.certificate,
            &made.key,
            "/CN=localhost",
            &[
                "basicConstraints=critical,CA:FALSE",
                "keyUsage=critical,digitalSignature",
                "extendedKeyUsage=serverAuth",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
            ],
            &[
                Path::new("-CA"),
                &made.authority,
                Path::new("-CAkey"),
                &authority_key,
            ],
        )?;
        Ok(made)
    }
}

fn openssl(
    certificate: &Path,
    key: &Path,
    subject: &str,
    extensions: &[&str],
    issuer: &[&Path],
) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", subject])
        .args(issuer)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate);
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    // What it writes besides is of interest only where it fails.
    let output = command
        .output()
        .map_err(|error| format!("openssl: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
