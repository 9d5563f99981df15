//! Sortie's own chores: `cargo xtask setup` fetches what a clone needs and git does not hold.

mod acceptance;
mod check;
mod process;
mod quickstart;
mod rig;
mod setup;
mod train_bench;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Chores of the Sortie repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch libtorch, pretrained weights and demo data into the shared cache, and check the tools
    Setup(setup::SetupOptions),
    /// Set up, build, run a first sweep of eight trials, and print its results table
    Quickstart,
    /// Run everything that CI runs: format, lints, documentation, tests
    Test,
    /// Show with real programs that a deployment does what is promised of it
    #[command(subcommand)]
    Acceptance(acceptance::Name),
    /// Run a sweep while workers, coordinator, database and network are killed and cut, and compare what came of it
    #[command(disable_help_flag = true)]
    Chaos(rig::Options),
    /// Measure: `dispatch` for the coordinator's full cycles a second, `idle` for workers that wait, `results` for tables and
    /// exports of a million evaluations, `train` for the trainer beside PyTorch
    #[command(disable_help_flag = true)]
    Bench(rig::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options).map(|ready| ready.print()),
        Command::Quickstart => quickstart::run(),
        Command::Test => check::run(),
        Command::Acceptance(name) => acceptance::run(&name),
        Command::Chaos(options) => rig::chaos(&options),
        Command::Bench(options) => rig::bench(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
