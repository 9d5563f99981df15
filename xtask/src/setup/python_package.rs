//! Tools written in Python that a chore calls, installed into the cache beside nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cache::{Cache, cache_dir};
use super::tools::{self, PYTHON};

/// A folder for PYTHONPATH that holds the package and what it depends on, installed by pip if it is not there.
///
/// # Errors
/// When there is no pip, or it cannot install the package.
pub fn folder(package: &str, version: &str) -> Result<PathBuf> {
    tools::require_pip()?;
    let cache = Cache::open(cache_dir()?)?;
    // Compiled parts fit one version of Python.
    let target = cache.folder(&format!("python{}-{package}-{version}", python_version()?));
    if target.is_dir() {
        return Ok(target);
    }
    let staging = cache.staging()?;
    let folder = staging.path().join(package);
    let wanted = format!("{package}=={version}");
    eprintln!("Installing {wanted} into {}", target.display());
    let output = Command::new(PYTHON)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--root-user-action=ignore",
            "--target",
        ])
        .arg(&folder)
        .arg(&wanted)
        .stdin(Stdio::null())
        .output()
        .context("cannot start python3")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "pip cannot install {wanted}: {}",
        said.lines().last().unwrap_or("no reason given")
    );
    cache.publish(&folder, &target)?;
    Ok(target)
}

fn python_version() -> Result<String> {
    let program = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(PYTHON)
        .args(["-c", program])
        .stdin(Stdio::null())
        .output()
        .context("cannot start python3")?;
    ensure!(output.status.success(), "python3 does not tell its version");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
