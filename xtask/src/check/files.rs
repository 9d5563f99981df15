//! The rules of form that neither the compiler nor the formatter knows.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::circles;

/// The longest file of Rust that we accept, in lines.
const LINES_MAX: usize = 500;

/// Holds every file of Rust to them.
pub fn check(repository: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "*.rs"])
        .current_dir(repository)
        .output()
        .context("cannot ask git for the files")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let read = |name: &str| fs::read_to_string(repository.join(name)).ok();
    for name in listed.lines() {
        // A file that was removed but not committed yet is listed too.
        let Some(text) = read(name) else { continue };
        let lines = text.lines().count();
        ensure!(lines <= LINES_MAX, "{name} has {lines} lines; at most {LINES_MAX} are allowed");
        if let Some(item) = item_in_table_of_contents(name, &text) {
            bail!(
                "{name} may only declare modules and re-export: move `{item}` into a file that says what it is"
            );
        }
    }
    circles::refuse(listed.lines(), &read)
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
