//! Whether all crates use third-party packages with the same features.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process;

/// Built before everything else, with few packages, so they have features of their own.
const FIRST: [&str; 2] = ["sortie-testkit", "xtask"];

/// What we read of `cargo metadata`.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// What we read of a line that cargo prints.
#[derive(Deserialize)]
struct Message {
    package_id: Option<String>,
    fresh: Option<bool>,
}

/// Builds each crate alone, after all were built together: no third-party package may have to be compiled again.
pub fn check(repository: &Path) -> Result<()> {
    let workspace = output(repository, &["metadata", "--no-deps", "--format-version", "1", "--locked"])?;
    let workspace: Workspace =
        serde_json::from_str(&workspace).context("cargo's description of the workspace is not valid")?;
    for Package { name } in workspace.packages {
        if FIRST.contains(&name.as_str()) {
            continue;
        }
        println!("cargo build --package {name}");
        let arguments = ["build", "--package", &name, "--locked", "--quiet", "--message-format", "json"];
        let compiled = compiled_again(&output(repository, &arguments)?);
        ensure!(
            compiled.is_empty(),
            "cargo build --package {name} compiled packages again, with other features: {}; run `cargo hakari generate`",
            compiled.join(", ")
        );
    }
    Ok(())
}

fn output(repository: &Path, arguments: &[&str]) -> Result<String> {
    let mut cargo = process::cargo();
    cargo.args(arguments).current_dir(repository).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo {} failed: {}", arguments.join(" "), output.status);
    String::from_utf8(output.stdout).context("cargo printed what is no text")
}

/// The packages from a registry that cargo had to compile.
fn compiled_again(messages: &str) -> Vec<String> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let compiled = messages.filter(|message| message.fresh == Some(false));
    let packages = compiled.filter_map(|message| message.package_id);
    let names = packages.filter_map(|id| Some(id.strip_prefix("registry+")?.rsplit('#').next()?.to_owned()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_a_registry_that_were_compiled_count() {
        let lines = r#"{"reason":"compiler-artifact","package_id":"registry+https://index#serde@1.0.2","fresh":true}
{"reason":"compiler-artifact","package_id":"registry+https://index#tokio@1.5.0","fresh":false}
{"reason":"compiler-artifact","package_id":"path+file:///clone/core#sortie-core@0.1.0","fresh":false}
{"reason":"build-finished","success":true}"#;
        assert_eq!(compiled_again(lines), ["tokio@1.5.0"]);
    }
}
