//! The command line of `sortie-worker`: one file for each command.

pub mod bench_data;
pub mod bench_network;
pub mod data;
mod deadline;
pub mod evaluate;
pub mod run;
pub mod weights;

use clap::{Parser, Subcommand};

/// Runs trials of Sortie sweeps on this machine: asks a coordinator for trials, fine-tunes and evaluates each one in a process of its
/// own, and reports the results.
#[derive(Debug, Parser)]
#[command(
    name = "sortie-worker",
    version,
    after_help = "Options can be set by the variables named with them; the option wins. SORTIE_LOG chooses what is logged, such as debug or sortie_worker=trace.\nExit codes: 0 done, 1 stopped with one line that says why, 2 wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take trials from a coordinator and run them until stopped
    ///
    /// Takes one trial per GPU, or one on the CPU where there is no GPU. SIGTERM or Ctrl-C hands the running trials back and ends
    /// within the grace and two seconds; a second one ends at once. While the coordinator cannot be reached, running trials train on and their
    /// results are delivered later.
    Run(Box<run::RunArgs>),
    /// Say how well a pretrained network, or one that a trial left, does on a folder of images
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Look after the datasets on this machine
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Measure how fast this machine is
    #[command(subcommand)]
    Bench(BenchCommand),
    /// List pretrained weights, or get some into the cache folder
    Weights(weights::WeightsArgs),
    /// Run the one trial that is assigned on standard input
    #[command(hide = true)]
    Trial,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Images that a core decodes and resizes in a second
    Data(bench_data::BenchDataArgs),
    /// Images that this machine trains in a second
    Train(Box<bench_network::BenchNetworkArgs>),
    /// Images that this machine evaluates in a second
    Evaluate(Box<bench_network::BenchNetworkArgs>),
}
