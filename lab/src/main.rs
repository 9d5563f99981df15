//! The program `sortie-lab`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use sortie_lab::{acceptance, chaos, cycle_cost, dispatch, idle, results, train, turnaround};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "sortie-lab",
    about = "Benchmarks, fault injection and deployment checks with real processes; `cargo xtask` runs it"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure full cycles (lease, one evaluation, complete) through gRPC, beside a baseline in plain SQL
    Dispatch(dispatch::DispatchOptions),
    /// Measure the coordinator's processor time for a cycle, in turns with another version
    CycleCost(cycle_cost::CycleCostOptions),
    /// Measure the cost of workers that wait for trials
    Idle(idle::IdleOptions),
    /// Measure tables and exports of a million evaluations, and compare their numbers with plain SQL
    Results(results::ResultsOptions),
    /// Measure the training speed in images a second, beside a plain PyTorch program
    Train(train::TrainOptions),
    /// Measure how long a slot idles between trials, and linear trials, in turns with another version
    Turnaround(turnaround::TurnaroundOptions),
    /// What `turnaround` makes a worker start instead of a trainer
    #[command(hide = true)]
    TimedTrainer(turnaround::TimedTrainerOptions),
    /// Run a sweep while workers, coordinator and database are killed and the network is cut, and compare it with a run without faults
    Chaos(chaos::ChaosOptions),
    /// What a host of `acceptance network` does to the coordinator
    #[command(hide = true)]
    NetworkPeer(acceptance::PeerOptions),
    /// Check with real programs that a deployment works
    #[command(subcommand)]
    Acceptance(acceptance::AcceptanceCommand),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dispatch(arguments) => block_on(dispatch::run(&arguments)),
        Command::CycleCost(arguments) => block_on(cycle_cost::run(&arguments)),
        Command::Idle(arguments) => block_on(idle::run(&arguments)),
        Command::Results(arguments) => block_on(results::run(&arguments)),
        Command::Chaos(arguments) => block_on(chaos::run(&arguments)),
        Command::NetworkPeer(arguments) => block_on(acceptance::run_peer(&arguments)),
        // These block and handle signals themselves.
        Command::Train(arguments) => train::run(&arguments),
        Command::Turnaround(arguments) => turnaround::run(&arguments),
        Command::TimedTrainer(arguments) => turnaround::run_timed_trainer(&arguments),
        Command::Acceptance(command) => acceptance::run(&command),
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
