//! Certificates of a test's own, made by the program `openssl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{processes, programs};

/// A root certificate, and its key, by which it signs others.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Whether there is an `openssl`; a test that needs one and finds none says so and ends.
    pub fn is_installed() -> bool {
        programs::find("openssl").is_some()
    }

    /// Makes one.
    ///
    /// # Errors
    /// When `openssl` is missing or refuses.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let authority = Self { folder };
        let (root, key) = (authority.root(), authority.folder.path().join("root.key"));
        openssl(request("/CN=a test's root", &key, &root))?;
        Ok(authority)
    }

    /// The file of the root certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// Makes a certificate for these names, such as `DNS:localhost,IP:127.0.0.1`, and its key.
    ///
    /// # Errors
    /// When `openssl` refuses.
    pub fn sign(&self, names: &str, certificate: &Path, key: &Path) -> Result<()> {
        let mut request = request("/CN=a test's server", key, certificate);
        request.arg("-CA").arg(self.root()).arg("-CAkey").arg(self.folder.path().join("root.key"));
        request.args([
            "-addext",
            &format!("subjectAltName={names}"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        openssl(request)
    }
}

/// A request for a certificate with a new key, which signs itself unless told otherwise.
fn request(subject: &str, key: &Path, certificate: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
        "-days",
        "365",
    ]);
    command.args(["-subj", subject, "-keyout"]).arg(key).arg("-out").arg(certificate);
    command
}

fn openssl(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("cannot start openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl failed ({}): {}", output.status, processes::last_line(&said));
    Ok(())
}
