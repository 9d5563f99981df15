//! `cargo xtask acceptance deploy`: the files in `deploy/` are what their readers accept.

mod compose;
mod settings;
mod units;

use std::process::Command;

use anyhow::{Context, Result};

use super::programs::{Options, Programs};
use crate::process;
use crate::setup::{self, packages};

/// Checks units, compose file and scripts; prints what was checked, a line each.
pub fn run(options: &Options) -> Result<()> {
    packages::require(&[("systemd-analyze", "systemd"), ("systemd-sysusers", "systemd"), ("bash", "bash")])?;
    let programs = Programs::ready(options)?;
    let deploy = setup::repository()?.join("deploy");
    let known = settings::Known::ask(&programs)?;
    units::check(&deploy.join("systemd"), &programs, &known)?;
    compose::check(&deploy.join("compose.yaml"), &programs, &known)?;
    for script in ["slurm/submit.sh", "slurm/sortie-workers.sbatch"] {
        process::run(Command::new("bash").arg("-n").arg(deploy.join(script)))
            .with_context(|| format!("{script} is no script"))?;
        println!("{script}: bash can read it");
    }
    Ok(())
}
