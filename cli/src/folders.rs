//! Where files and programs lie unless told.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The folder of weights, decoded datasets and logs: `given` (a flag or SORTIE_CACHE), else `sortie/` in the XDG cache folder.
///
/// # Errors
/// One line where there is no home folder, or no working directory to resolve a relative path.
pub fn cache(given: Option<&PathBuf>) -> Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder.clone(),
        None => {
            let folders = directories::BaseDirs::new()
                .context("there is no home folder; name a cache folder by --cache DIR")?;
            folders.cache_dir().join("sortie")
        }
    };
    absolute(&folder)
}

/// The same path, whatever the working directory becomes.
///
/// # Errors
/// One line where the working directory cannot be told.
pub fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}

/// The trainer's program: SORTIE_TRAINER, else the one beside this program.
///
/// # Errors
/// One line where there is none.
pub fn trainer() -> Result<PathBuf> {
    let named = std::env::var_os("SORTIE_TRAINER").filter(|path| !path.is_empty()).map(PathBuf::from);
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let trainer = named.unwrap_or_else(|| own.with_file_name("sortie-trainer"));
    anyhow::ensure!(
        trainer.is_file(),
        "{} is missing: it is built and installed with sortie; SORTIE_TRAINER names another place",
        trainer.display()
    );
    Ok(trainer)
}

/// This very program, even if its file was replaced or removed since it was started.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
