//! `sortie-worker`: runs trials on this machine.

mod bench_data;
mod bench_train;
mod cli;
mod data_commands;
mod deadline;
mod evaluate_command;
mod weights_command;

use std::process::ExitCode;

use clap::Parser as _;
use sortie_worker::agent::AgentError;
use sortie_worker::trial_process;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Trial => trial_process::run(),
        cli::Command::Data(command) => data_commands::run(&command),
        cli::Command::Bench(cli::BenchCommand::Data(args)) => bench_data::run(&args),
        cli::Command::Bench(cli::BenchCommand::Train(args)) => bench_train::run(&args),
        cli::Command::Evaluate(args) => evaluate_command::run(&args),
        cli::Command::Weights(args) => weights_command::run(&args),
        cli::Command::Run(args) => match cli::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                match error {
                    AgentError::Address(_) | AgentError::Devices(_) | AgentError::Usage(_) => ExitCode::from(2),
                    _ => ExitCode::FAILURE,
                }
            }
        },
    }
}
