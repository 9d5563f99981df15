//! `cargo xtask`: sets up a clone, runs the quickstart and the tests, and hands longer checks over to `sortie-lab`.

mod check;
mod fuzz;
mod lab;
mod process;
mod quickstart;
mod setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Tasks of the Sortie repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch libtorch, pretrained weights and demo data into the shared cache, and check the tools
    Setup(setup::SetupOptions),
    /// Set up, build, run a first sweep of 96 small trials, and print its results table
    Quickstart,
    /// Run everything that CI runs: format, lints, documentation, tests
    Test,
    /// Feed made-up input to whatever reads the input of others, by libFuzzer
    Fuzz(fuzz::Options),
    /// Check a deployment with real programs: `slurm` for a sweep on a Slurm cluster, `deploy` for the files in deploy/,
    /// `day` for a researcher's day of commands
    #[command(disable_help_flag = true)]
    Acceptance(lab::Options),
    /// Run a sweep while workers, coordinator and database are killed and the network is cut, and check its results
    #[command(disable_help_flag = true)]
    Chaos(lab::Options),
    /// Measure: `dispatch` for the coordinator's full cycles a second, `idle` for workers that wait, `results` for tables and
    /// exports of a million evaluations, `train` for the trainer beside PyTorch
    #[command(disable_help_flag = true)]
    Bench(lab::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options).map(|ready| ready.print()),
        Command::Quickstart => quickstart::run(),
        Command::Test => check::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Acceptance(options) => lab::run(lab::Area::Acceptance, &options),
        Command::Chaos(options) => lab::run(lab::Area::Chaos, &options),
        Command::Bench(options) => lab::run(lab::Area::Bench, &options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
