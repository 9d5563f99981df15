//! Default folders of files and programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use sortie_access::State;

use crate::settings;

/// The folder of weights, decoded datasets and logs: `given` (a flag or SORTIE_CACHE), else `sortie/` in the XDG cache folder.
///
/// # Errors
/// One line where there is no home folder, or no working directory to resolve a relative path.
pub fn cache(given: Option<&PathBuf>) -> Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder.clone(),
        None => {
            let folders = directories::BaseDirs::new()
                .context("there is no home folder for the cache; name a cache folder by --cache DIR")?;
            folders.cache_dir().join("sortie")
        }
    };
    absolute(&folder)
}

/// The folder of the identity and of access files: `sortie/` in the XDG state folder. Without a home folder there is none, and what looks
/// for a file names a relative one.
pub fn access() -> State {
    let folders = directories::BaseDirs::new();
    let folder = folders.as_ref().and_then(directories::BaseDirs::state_dir);
    State::new(folder.map_or_else(|| PathBuf::from(".local/state"), Path::to_owned).join("sortie"))
}

/// The same path, whatever the working directory becomes.
///
/// # Errors
/// One line where the working directory cannot be read.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot make {} an absolute path", path.display()))
}

/// The trainer's program: SORTIE_TRAINER, else the one beside this program.
///
/// # Errors
/// One line where this program's own path cannot be read, or SORTIE_TRAINER is no path.
pub fn trainer() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    Ok(settings::variable("SORTIE_TRAINER")?.unwrap_or_else(|| own.with_file_name("sortie-trainer")))
}

/// The folders that `cargo xtask setup` may have filled: the given cache folder, that of SORTIE_CACHE, and the XDG one.
///
/// # Errors
/// One line where SORTIE_CACHE is no path.
pub fn setup_folders(cache: &Path) -> Result<Vec<PathBuf>> {
    let named = settings::variable("SORTIE_CACHE")?;
    let user = directories::BaseDirs::new().map(|folders| folders.cache_dir().join("sortie"));
    Ok([Some(cache.to_path_buf()), named, user].into_iter().flatten().collect())
}

/// This very program, even if its file was replaced or removed since it was started.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
