//! The check itself.

use anyhow::{Result, ensure};

use super::dependencies::{Dependencies, dependencies};
use super::graph;
use super::tree::{Read, Tree};

/// Fails if files of one crate need each other. `files` are those of the repository.
pub fn refuse<'a>(files: impl IntoIterator<Item = &'a str>, read: Read<'_>) -> Result<()> {
    let complaints = complaints(files, read)?;
    ensure!(
        complaints.is_empty(),
        "files of a crate must not need each other in a circle:\n{}",
        complaints.join("\n")
    );
    Ok(())
}

/// What is wrong, a line each.
pub(super) fn complaints<'a>(
    files: impl IntoIterator<Item = &'a str>,
    read: Read<'_>,
) -> Result<Vec<String>> {
    let mut needs = Dependencies::new();
    for root in files.into_iter().filter(|file| is_root(file) && read(file).is_some()) {
        needs.extend(dependencies(&Tree::read(root, read)?));
    }
    Ok(graph::complaints(&needs))
}

/// Whether a crate begins with this file.
fn is_root(file: &str) -> bool {
    let Some((_, inside)) = file.split_once("/src/") else { return false };
    let program = inside.strip_prefix("bin/");
    ["lib.rs", "main.rs"].contains(&inside)
        || program.is_some_and(|program| program.ends_with("/main.rs") || !program.contains('/'))
}
