//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

pub use sortie_testkit::processes::run;

/// `cargo`, the one that runs us.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo puts what it builds.
pub fn target(repository: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository.join("target"), |target| repository.join(target))
}
