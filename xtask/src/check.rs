//! `cargo xtask test`: everything that CI runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::setup::{self, packages};

/// The longest file of Rust that we accept, in lines.
const LINES_MAX: usize = 500;
/// Programs that the tests run beside ours; some tests skip themselves where they are missing, which must not happen here.
const NEEDS: [packages::Need; 1] = [("initdb", "postgresql")];

/// Formats, lints, documents and tests the whole workspace; stops at the first thing that is wrong.
pub fn run() -> Result<()> {
    packages::require(&NEEDS)?;
    setup::run(&setup::SetupOptions::default())?;
    let repository = setup::repository()?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = process::cargo();
        cargo.args(arguments).current_dir(&repository);
        println!("cargo {}", arguments.join(" "));
        cargo
    };
    process::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    check_lengths(&repository)?;
    process::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))?;
    process::run(
        cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    process::run(&mut cargo(&["test", "--workspace", "--locked"]))
}

/// A file that nobody can read in one sitting is two files.
fn check_lengths(repository: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "*.rs"])
        .current_dir(repository)
        .output()
        .context("cannot ask git for the files")?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        // A file that was removed but not committed yet is listed too.
        let Ok(text) = fs::read_to_string(repository.join(name)) else { continue };
        let lines = text.lines().count();
        ensure!(lines <= LINES_MAX, "{name} has {lines} lines; at most {LINES_MAX} are allowed");
    }
    Ok(())
}
