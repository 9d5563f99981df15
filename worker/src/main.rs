//! `sortie-worker`: runs trials on this machine.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use sortie_worker::agent::AgentError;
use sortie_worker::trainer::BenchWork;
use sortie_worker::trial_process;

use commands::{BenchCommand, Command, bench_data, bench_network, data, evaluate, run, weights};

fn main() -> ExitCode {
    match commands::Cli::parse().command {
        Command::Trial => trial_process::run(),
        Command::Data(command) => data::run(&command),
        Command::Bench(BenchCommand::Data(args)) => bench_data::run(&args),
        Command::Bench(BenchCommand::Train(args)) => bench_network::run(BenchWork::Train, &args),
        Command::Bench(BenchCommand::Evaluate(args)) => bench_network::run(BenchWork::Evaluate, &args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Weights(args) => weights::run(&args),
        Command::Run(args) => match run::run(&args) {
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
