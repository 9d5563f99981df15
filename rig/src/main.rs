//! What is run beside a build rather than in its tests: benchmarks of the coordinator, with real processes and real databases.
//! `cargo xtask bench` builds and calls it.

mod crowd;
mod dispatch;
mod floor;
mod idle;
mod place;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "sortie-rig", about = "Benchmarks of the coordinator; called by `cargo xtask`")]
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dispatch(arguments) => dispatch::run(&arguments).await,
        Command::Idle(arguments) => idle::run(&arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie-rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}
