//! Finds a trainer and a libtorch that fit together.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use sortie_core::finetune::Precision;
use sortie_core::libtorch::RELEASE;
use sortie_core::pipe::Probe;

use super::candidates::{Candidate, SearchPaths};
use super::environment::environment;
use super::probe;

/// Why no trainer can be started. One line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The trainer's program is not there.
    #[error("{} is missing: it is built and installed with sortie; SORTIE_TRAINER names another place", .0.display())]
    NoTrainer(PathBuf),
    /// The trainer was built from other sources than this program: only one of them was upgraded.
    #[error("{} is of build {theirs} and this program of build {ours}: install both from one build", trainer.display())]
    OtherBuild {
        /// The trainer's program.
        trainer: PathBuf,
        /// Its build.
        theirs: String,
        /// This program's build.
        ours: String,
    },
    /// The folder that the user named is not usable.
    #[error("--libtorch: {0}")]
    Named(String),
    /// No usable libtorch was found.
    #[error(
        "no libtorch {RELEASE} was found{0}: install torch {RELEASE} into the active Python environment, run `cargo xtask setup`, or name a folder by --libtorch"
    )]
    NoLibtorch(String),
}

/// Finds a trainer, once, and keeps the result.
#[derive(Debug)]
pub struct Launcher {
    search_paths: SearchPaths,
    build: String,
    found: Mutex<Option<Trainer>>,
}

/// A trainer that answered, and the libtorch that it answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainer {
    /// The program.
    pub program: PathBuf,
    /// The folder of libtorch_cpu.so.
    pub libraries: PathBuf,
    /// Where the folder was named, such as `VIRTUAL_ENV`.
    pub source: String,
    /// Its answer about itself and this machine.
    pub probe: Probe,
}

impl Launcher {
    /// For this trainer program, whose build must be `build`. `libtorch` is the folder that the user names; without one, the active Python
    /// environment and the folders of the set-up are searched.
    pub fn new(trainer: PathBuf, build: &str, libtorch: Option<PathBuf>, setup: Vec<PathBuf>) -> Self {
        let search_paths = SearchPaths::here(libtorch, trainer, setup);
        Self { search_paths, build: build.to_owned(), found: Mutex::new(None) }
    }

    /// The trainer's program.
    pub fn program(&self) -> &Path {
        &self.search_paths.trainer
    }

    /// The build that trainers must be of.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The first candidate that answers. Takes a second or more the first time, so it must not run on a thread of the runtime.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn find(&self) -> Result<Trainer, LaunchError> {
        // A panic of another holder cannot leave this half changed: it is set by one assignment.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trainer) = &*found {
            return Ok(trainer.clone());
        }
        let trainer = self.look()?;
        *found = Some(trainer.clone());
        Ok(trainer)
    }

    fn look(&self) -> Result<Trainer, LaunchError> {
        let program = &self.search_paths.trainer;
        if !program.is_file() {
            return Err(LaunchError::NoTrainer(program.clone()));
        }
        let mut passed_over = Vec::new();
        for candidate in self.search_paths.candidates() {
            match self.try_candidate(&candidate) {
                Ok(probe) if probe.trainer.build != self.build => {
                    let (trainer, theirs) = (program.clone(), probe.trainer.build);
                    return Err(LaunchError::OtherBuild { trainer, theirs, ours: self.build.clone() });
                }
                Ok(probe) => {
                    let Candidate { source, libraries } = candidate;
                    return Ok(Trainer { program: program.clone(), libraries, source, probe });
                }
                Err(reason) if self.search_paths.named.is_some() => return Err(LaunchError::Named(reason)),
                Err(reason) => passed_over.push(format!("{}: {reason}", candidate.source)),
            }
        }
        let passed_over = passed_over.join("; ");
        Err(LaunchError::NoLibtorch(if passed_over.is_empty() {
            passed_over
        } else {
            format!(" ({passed_over})")
        }))
    }

    fn try_candidate(&self, candidate: &Candidate) -> Result<Probe, String> {
        candidate.check()?;
        probe::ask(&self.search_paths.trainer, &candidate.libraries)
    }
}

/// Finds a trainer that runs here. On a blocking thread, because the first call loads libtorch to check that it fits.
///
/// # Errors
/// [`LaunchError`].
pub(crate) async fn find_in_background(launcher: &Arc<Launcher>) -> Result<Trainer, LaunchError> {
    let launcher = Arc::clone(launcher);
    let program = launcher.program().to_path_buf();
    // A thread that panicked found nothing.
    tokio::task::spawn_blocking(move || launcher.find()).await.unwrap_or(Err(LaunchError::NoTrainer(program)))
}

impl Trainer {
    /// A trainer of this precision, ready to be given arguments and started. Only it gets these variables, not this process.
    pub fn command(&self, precision: Precision) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", probe::loader_path(&self.libraries));
        for (name, value) in environment(precision) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}
