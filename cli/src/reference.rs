//! `docs/cli.md`, the reference of all commands: generated from their definitions, which a test compares.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

/// Columns of the help texts, whatever terminal the test runs in.
const WIDTH: usize = 100;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
/// Set to write the file instead of comparing it.
const UPDATE: &str = "SORTIE_UPDATE_DOCS";

fn reference() -> String {
    let mut root = crate::Arguments::command().term_width(WIDTH);
    root.build();
    let mut text = "# The commands of sortie\n\nMade from the program's own help by `SORTIE_UPDATE_DOCS=1 cargo test -p sortie --bins reference`.\n"
        .to_owned();
    describe(root, &mut text);
    text
}

fn describe(command: Command, text: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    // Options of all commands are described once, at the top; values of the environment are left out.
    let is_root = command.get_name() == "sortie";
    let mut shown = command.clone().mut_args(|arg| {
        let hidden = !is_root && arg.is_global_set() || arg.get_id() == "help";
        arg.hide_env_values(true).hide(hidden)
    });
    // The root has no name of a binary.
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{title}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for subcommand in command.get_subcommands() {
        describe(subcommand.clone(), text);
    }
}

#[test]
fn the_reference_of_commands_is_what_the_program_says() {
    let now = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(FILE, &now).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let first = now.lines().zip(written.lines()).find(|(now, written)| now != written);
    assert!(
        now == written,
        "docs/cli.md is not what the program says; first difference: {first:?}; {UPDATE}=1 writes it anew"
    );
}
