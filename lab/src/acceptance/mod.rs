//! `sortie-lab acceptance NAME`: checks of a deployment with the real programs around it. They take more than a test may: daemons,
//! packages, minutes.

mod daemon;
mod deploy;
mod offspring;
mod slurm;

use anyhow::Result;
use clap::Subcommand;

use crate::programs;

/// What can be shown.
#[derive(Debug, Subcommand)]
pub enum Name {
    /// A sweep on a Slurm cluster of this machine's own survives requeues: complete, and nothing twice
    Slurm(programs::Options),
    /// systemd accepts the units, the compose file fits its schema, and the programs know every setting in them
    Deploy(deploy::Options),
}

/// Shows it, or fails with one line that says what does not hold.
pub fn run(name: &Name) -> Result<()> {
    match name {
        Name::Slurm(options) => slurm::run(options),
        Name::Deploy(options) => deploy::run(options),
    }
}
