//! Tools written in Python that a chore calls, installed into the cache beside nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cache::{Cache, cache_dir};
use super::manifest::{Check, Manifest, intact};
use super::tools::{self, PYTHON};
use super::{digest, fetch};

/// The tool and all that it depends on, in pip's own form.
/// Versions are exact, and each has the digests of all its published files.
const REQUIREMENTS: &str = include_str!("../../python/check-jsonschema.txt");

/// A folder for PYTHONPATH that holds the package and what it depends on; pip installs it if it is not there.
///
/// # Errors
/// When the requirements do not pin the package in this version, when there is no pip, or when pip cannot
/// install exactly what is pinned.
pub fn folder(package: &str, version: &str) -> Result<PathBuf> {
    let wanted = format!("{package}=={version}");
    ensure!(is_pinned(&wanted, REQUIREMENTS), "xtask/python/check-jsonschema.txt does not pin {wanted}");
    tools::require_pip()?;
    let cache = Cache::open(cache_dir()?)?;
    // Compiled parts fit one version of Python.
    let target = cache.folder(&format!("python{}-{package}-{version}", python_version()?));
    let recipe = format!("pip install; requirements sha256:{}", digest::of_bytes(REQUIREMENTS.as_bytes()));
    if intact(&target, Check::Sizes, |made_by| made_by == recipe).is_some() {
        return Ok(target);
    }
    let staging = cache.staging()?;
    let folder = staging.path().join(package);
    let requirements = staging.path().join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    eprintln!("Installing {wanted} into {}", target.display());
    let output = Command::new(PYTHON)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        // What a build from source needs would come without digests.
        // Python rewrites compiled files that it finds outdated, and they would then differ from the manifest.
        .args(["--root-user-action=ignore", "--only-binary=:all:", "--no-compile", "--target"])
        .arg(&folder)
        .args(["--require-hashes", "--requirement"])
        .arg(&requirements)
        .stdin(Stdio::null())
        .output()
        .context("cannot start python3")?;
    ensure!(
        output.status.success(),
        "pip cannot install {wanted}: {}",
        fetch::on_one_line(&String::from_utf8_lossy(&output.stderr))
    );
    Manifest::of(&folder, &recipe)?.write(&folder)?;
    cache.publish(&folder, &target)?;
    Ok(target)
}

/// Whether a line of the requirements is about exactly this package and version.
fn is_pinned(wanted: &str, requirements: &str) -> bool {
    requirements.lines().any(|line| line.split_whitespace().next() == Some(wanted))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_exact_and_has_digests() {
        let mut digests = 1;
        for line in REQUIREMENTS.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with(' ') {
                assert!(line.starts_with("    --hash=sha256:"), "{line}");
                digests += 1;
            } else {
                assert!(digests > 0, "the requirement before {line} has no digest");
                assert!(line.contains("==") && line.ends_with('\\'), "{line}");
                digests = 0;
            }
        }
        assert!(digests > 0);
        assert!(!REQUIREMENTS.contains("://"));
    }

    #[test]
    fn another_version_is_not_pinned() {
        assert!(is_pinned("tool==1.2", "other==1.2 \\\n    --hash=sha256:00\ntool==1.2 \\\n"));
        for requirements in ["tool==1.2.1 \\", "a-tool==1.2 \\", "# tool==1.2"] {
            assert!(!is_pinned("tool==1.2", requirements), "{requirements}");
        }
    }
}
