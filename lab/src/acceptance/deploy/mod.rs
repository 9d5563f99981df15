//! `sortie-lab acceptance deploy`: the files in `deploy/` are what their readers accept.

mod compose;
mod settings;
mod units;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use sortie_testkit::processes;

use crate::programs::{self, Programs, repository};

/// Where the check finds what it needs.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    programs: programs::Options,
    /// A folder for PYTHONPATH that holds check-jsonschema; `cargo xtask acceptance deploy` installs one
    #[arg(long, value_name = "DIR", env = "SORTIE_LAB_CHECKER")]
    checker: PathBuf,
}

/// Checks units, compose file and scripts; prints what was checked, a line each.
pub fn run(options: &Options) -> Result<()> {
    let programs = Programs::find(&options.programs)?;
    let deploy = repository().join("deploy");
    let known = settings::Known::ask(&programs)?;
    units::check(&deploy.join("systemd"), &programs, &known)?;
    compose::check(&deploy.join("compose.yaml"), &options.checker, &programs, &known)?;
    for script in ["slurm/submit.sh", "slurm/sortie-workers.sbatch"] {
        processes::run(Command::new("bash").arg("-n").arg(deploy.join(script)))
            .with_context(|| format!("{script} is no script"))?;
        println!("{script}: bash can read it");
    }
    Ok(())
}
