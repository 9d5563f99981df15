//! `cargo xtask acceptance NAME`: what is promised of a deployment, shown with the real programs around it.
//!
//! These take more than a test may: daemons, packages, minutes. So they are commands of their own, beside `cargo xtask test`.

mod daemon;
mod deploy;
mod offspring;
mod programs;
mod slurm;

use anyhow::Result;
use clap::Subcommand;

/// What can be shown.
#[derive(Debug, Subcommand)]
pub enum Name {
    /// A sweep on a Slurm cluster of this machine's own survives requeues: complete, and nothing twice
    Slurm(programs::Options),
    /// systemd accepts the units, the compose file fits its schema, and the programs know every setting in them
    Deploy(programs::Options),
}

/// Shows it, or fails with one line that says what does not hold.
pub fn run(name: &Name) -> Result<()> {
    match name {
        Name::Slurm(options) => slurm::run(options),
        Name::Deploy(options) => deploy::run(options),
    }
}
