//! The acceptance checks by name.

use anyhow::Result;
use clap::Subcommand;

use super::{day, deploy, network, slurm};
use crate::programs::ProgramOptions;

/// An acceptance check.
#[derive(Debug, Subcommand)]
pub enum AcceptanceCommand {
    /// Run a sweep on a Slurm cluster of this machine and requeue its jobs: every trial must complete exactly once
    Slurm(ProgramOptions),
    /// Check that systemd accepts the units, that the compose file fits its schema, and that the programs know every setting
    Deploy(deploy::DeployOptions),
    /// Check what is said between hosts, whom the coordinator refuses, and that a flood stops nobody: in network namespaces, as root
    Network(ProgramOptions),
    /// Do a researcher's day: eight jobs of commands as users type them, each with what it must print
    Day(day::DayOptions),
}

/// Runs the check.
///
/// # Errors
/// When it fails, with one line that says what is wrong.
pub fn run(command: &AcceptanceCommand) -> Result<()> {
    match command {
        AcceptanceCommand::Slurm(options) => slurm::run(options),
        AcceptanceCommand::Deploy(options) => deploy::run(options),
        AcceptanceCommand::Network(options) => network::run(options),
        AcceptanceCommand::Day(options) => day::run(options),
    }
}
