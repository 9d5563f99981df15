//! The steps, in order.

use anyhow::Result;

use super::{features, files};
use crate::process;
use crate::setup::{self, packages};

/// Programs that the tests run beside ours. Some tests skip themselves where they are missing, which must not
/// happen here.
const NEEDS: [packages::Need; 3] =
    [("initdb", "postgresql"), ("pgbouncer", "pgbouncer"), ("openssl", "openssl")];

/// Formats, lints, documents and tests the whole workspace; stops at the first of these that is wrong, after all of
/// its tests.
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
    // The fuzz targets are no part of the workspace: to build them takes as long as all else.
    process::run(&mut cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    files::check(&repository)?;
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
    process::run(&mut cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]))?;
    features::check(&repository)
}
