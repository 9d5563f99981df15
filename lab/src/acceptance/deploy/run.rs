//! Checks of the units, the compose file and the scripts.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use sortie_testkit::processes;

use super::settings::KnownVariables;
use super::{compose, units};
use crate::programs::{ProgramOptions, Programs, repository};

/// Where the check finds the programs that it runs.
#[derive(Debug, Args)]
pub struct DeployOptions {
    #[command(flatten)]
    programs: ProgramOptions,
    /// A folder for PYTHONPATH that holds check-jsonschema; `cargo xtask acceptance deploy` installs one
    #[arg(long, value_name = "DIR", env = "SORTIE_LAB_CHECKER")]
    checker: PathBuf,
}

/// Checks units, compose file and scripts, and prints a line for each.
pub fn run(options: &DeployOptions) -> Result<()> {
    let programs = Programs::find(&options.programs)?;
    let deploy = repository().join("deploy");
    let known = KnownVariables::of(&programs)?;
    units::check(&deploy.join("systemd"), &programs, &known)?;
    compose::check(&deploy.join("compose.yaml"), &options.checker, &programs, &known)?;
    for script in ["slurm/submit.sh", "slurm/sortie-workers.sbatch"] {
        processes::run(Command::new("bash").arg("-n").arg(deploy.join(script)))
            .with_context(|| format!("{script} is not a valid script"))?;
        println!("{script}: bash can read it");
    }
    Ok(())
}
