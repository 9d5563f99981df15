//! `cargo xtask test`: everything that CI runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

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
    check_files(&repository)?;
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

/// Holds every file of Rust to the rules of form that neither the compiler nor the formatter knows.
fn check_files(repository: &Path) -> Result<()> {
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
        if let Some(item) = item_in_table_of_contents(name, &text) {
            bail!(
                "{name} may only declare modules and re-export: move `{item}` into a file that says what it is"
            );
        }
    }
    Ok(())
}

/// The first item that a `mod.rs` or `lib.rs` defines itself. Modules that tests share are code, by cargo's custom.
fn item_in_table_of_contents<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let is_contents = ["mod.rs", "lib.rs"].contains(&name.rsplit('/').next().unwrap_or_default());
    if !is_contents || name.contains("/tests/") {
        return None;
    }
    let starts = ["fn", "impl", "struct", "enum", "trait", "static", "const", "type", "union"];
    text.lines().map(str::trim).find(|line| {
        let mut words = line.split([' ', '<']).skip_while(|word| {
            word.starts_with("pub")
                || ["async", "unsafe", "extern", "\"C\"", "super)", "crate)"].contains(word)
        });
        words.next().is_some_and(|word| starts.contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_contents_defines_nothing() {
        fn found<'a>(name: &str, text: &'a str) -> Option<&'a str> {
            item_in_table_of_contents(name, text)
        }
        let contents =
            "//! What it is for.\n\nmod one;\npub(crate) mod two;\n\npub use one::{Constant, first};\n";
        assert_eq!(found("core/src/lib.rs", contents), None);
        for item in [
            "pub fn first() {",
            "pub(crate) async fn f() {",
            "impl<T> One<T> {",
            "const N: u8 = 1;",
            "enum E {",
        ] {
            let text = format!("{contents}{item}\n");
            assert_eq!(found("core/src/plan/mod.rs", &text), Some(item));
            assert_eq!(found("core/src/plan/grid.rs", &text), None);
            assert_eq!(found("cli/tests/support/mod.rs", &text), None);
        }
    }
}
