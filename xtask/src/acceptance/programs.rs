//! The programs that are deployed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::process;
use crate::setup;

/// Where the programs come from.
#[derive(Debug, Args)]
pub struct Options {
    /// Take `sortie` and `sortie-trainer` from this folder, instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Absolute paths of programs that are there.
#[derive(Debug)]
pub struct Programs {
    /// What users type; coordinator and worker, too.
    pub sortie: PathBuf,
    /// The trainer, which `sortie worker` starts.
    pub trainer: PathBuf,
}

impl Programs {
    /// Finds or builds them.
    pub fn ready(options: &Options) -> Result<Self> {
        let folder = match &options.programs {
            Some(folder) => folder.clone(),
            None => build()?,
        };
        let folder = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        let programs = Self { sortie: folder.join("sortie"), trainer: folder.join("sortie-trainer") };
        for program in [&programs.sortie, &programs.trainer] {
            ensure!(
                program.is_file(),
                "{} is not there; name the folder that holds both programs by --programs",
                program.display()
            );
        }
        Ok(programs)
    }

    /// The program that is installed under this name.
    pub fn by_name(&self, name: &str) -> Option<&Path> {
        match name {
            "sortie" => Some(&self.sortie),
            "sortie-trainer" => Some(&self.trainer),
            _ => None,
        }
    }
}

/// A debug build: the tests have made most of it already, and the trials here compute nothing.
fn build() -> Result<PathBuf> {
    setup::run(&setup::SetupOptions::default())?;
    let repository = setup::repository()?;
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--locked", "--package", "sortie", "--package", "sortie-trainer"])
        .current_dir(&repository);
    // Standard output belongs to the summary.
    process::run(cargo.stdout(Stdio::null()))?;
    Ok(process::target(&repository).join("debug"))
}
