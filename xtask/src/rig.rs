//! `cargo xtask chaos` and `cargo xtask bench`: build what `sortie-lab` runs, and become it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::{Args, Parser as _};

use crate::{process, setup, train_bench};

/// Options of ours, and those that are passed on.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Take an unoptimised build, which is made more quickly
    #[arg(long)]
    dev: bool,
    /// What `sortie-lab` is told; --help shows what that may be
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the chaos run in place of this process; returns only if that fails.
pub fn chaos(options: &Options) -> Result<()> {
    setup::run(&setup::SetupOptions::default())?;
    let mut rig = build(options, &["sortie", "sortie-trainer", "sortie-lab"])?;
    rig.arg("chaos").args(passed_on(options));
    become_it(rig)
}

/// Runs a benchmark of the coordinator in place of this process, which returns only if that fails, or one of the trainer.
pub fn bench(options: &Options) -> Result<()> {
    if options.arguments.first().is_some_and(|name| name == "train") {
        return train_bench::run(&train_bench::Options::parse_from(&options.arguments));
    }
    let mut rig = build(options, &["sortie", "sortie-lab"])?;
    let program = std::path::Path::new(rig.get_program()).with_file_name("sortie");
    rig.args(passed_on(options)).env("SORTIE_PROGRAM", program);
    become_it(rig)
}

/// `--dev` may stand behind what is passed on, too.
fn passed_on(options: &Options) -> impl Iterator<Item = &OsString> {
    options.arguments.iter().filter(|argument| *argument != "--dev")
}

fn build(options: &Options, packages: &[&str]) -> Result<Command> {
    let repository = setup::repository()?;
    let dev = options.dev || options.arguments.iter().any(|argument| argument == "--dev");
    let mut cargo = process::cargo();
    cargo.args(["build", "--locked"]).current_dir(&repository);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if !dev {
        cargo.arg("--release");
    }
    // Standard output belongs to the results.
    process::run(cargo.stdout(Stdio::null()))?;
    let folder = process::target(&repository).join(if dev { "debug" } else { "release" });
    Ok(Command::new(folder.join("sortie-lab")))
}

/// The rig hears our terminal's Ctrl-C itself.
fn become_it(mut rig: Command) -> Result<()> {
    Err(rig.exec()).with_context(|| format!("cannot start {}", rig.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn everything_but_our_own_option_is_passed_on() {
        for words in
            ["--dev --store sqlite --json", "--store sqlite --json --dev", "--store sqlite --dev --json"]
        {
            let options =
                Program::try_parse_from(["chaos"].into_iter().chain(words.split(' '))).unwrap().options;
            assert_eq!(passed_on(&options).collect::<Vec<_>>(), ["--store", "sqlite", "--json"], "{words}");
        }
        let help = Program::try_parse_from(["chaos", "--help"]).unwrap().options;
        assert_eq!(passed_on(&help).collect::<Vec<_>>(), ["--help"]);
    }
}
