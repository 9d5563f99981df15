//! The programs under test, and the repository that they were built from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

/// Where the programs come from.
#[derive(Debug, Args)]
pub struct ProgramOptions {
    /// The folder that holds `sortie` and `sortie-trainer` [default: the folder of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl ProgramOptions {
    /// The absolute path of that folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = match &self.programs {
            Some(folder) => folder.clone(),
            None => {
                let own = std::env::current_exe().context("cannot tell where this program is")?;
                own.parent().context("this program is in no folder")?.to_owned()
            }
        };
        folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))
    }
}

/// Absolute paths of programs that exist.
#[derive(Debug)]
pub struct Programs {
    /// The program that users type; it is coordinator and worker too.
    pub sortie: PathBuf,
    /// The trainer, which `sortie worker` starts.
    pub trainer: PathBuf,
}

impl Programs {
    /// Finds both programs.
    ///
    /// # Errors
    /// When one is missing.
    pub fn find(options: &ProgramOptions) -> Result<Self> {
        Self::in_folder(&options.folder()?)
    }

    /// Those of this folder.
    ///
    /// # Errors
    /// When one is missing.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        let programs = Self { sortie: folder.join("sortie"), trainer: folder.join("sortie-trainer") };
        for program in [&programs.sortie, &programs.trainer] {
            ensure!(
                program.is_file(),
                "{} is missing; build it, or name the folder of both programs by --programs",
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

/// The repository that this program was built from.
pub fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}
