//! `sortie-lab`: see the library.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use sortie_lab::{acceptance, chaos, dispatch, idle, results, train};
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
    /// Images a second of training, beside a plain PyTorch program
    Train(train::Options),
    /// A sweep whose workers, coordinator, database and network are killed and cut, compared with one that is left in peace
    Chaos(chaos::Arguments),
    /// Check with real programs that a deployment works
    #[command(subcommand)]
    Acceptance(acceptance::Name),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dispatch(arguments) => block_on(dispatch::run(&arguments)),
        Command::Idle(arguments) => block_on(idle::run(&arguments)),
        Command::Results(arguments) => block_on(results::run(&arguments)),
        Command::Chaos(arguments) => block_on(chaos::run(&arguments)),
        // These two block and handle signals themselves.
        Command::Train(options) => train::run(&options),
        Command::Acceptance(name) => acceptance::run(&name),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end or a signal. A signal drops what runs, and its processes with it.
fn block_on(run: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    runtime.block_on(async {
        tokio::select! {
            outcome = run => outcome,
            interrupted = interruption() => interrupted,
        }
    })
}

async fn interruption() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    bail!("interrupted")
}
