//! `sortie-lab`: see the library.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use sortie_lab::{chaos, dispatch, idle, results};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "sortie-lab",
    about = "Benchmarks and failures with real processes; called by `cargo xtask`"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Full cycles - lease, one evaluation, complete - through real gRPC, beside the floor by plain SQL
    Dispatch(dispatch::Arguments),
    /// What workers cost that wait for work
    Idle(idle::Arguments),
    /// Tables and exports of a sweep of a million evaluations, compared with plain SQL
    Results(results::Arguments),
    /// A sweep whose workers, coordinator, database and network are killed and cut, compared with one that is left in peace
    Chaos(chaos::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let run = async {
        match Cli::parse().command {
            Command::Dispatch(arguments) => dispatch::run(&arguments).await,
            Command::Idle(arguments) => idle::run(&arguments).await,
            Command::Results(arguments) => results::run(&arguments).await,
            Command::Chaos(arguments) => chaos::run(&arguments).await,
        }
    };
    // Whatever runs is dropped when we are interrupted, and its processes with it.
    let outcome = tokio::select! {
        outcome = run => outcome,
        interrupted = interruption() => interrupted,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interruption() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    bail!("interrupted")
}
