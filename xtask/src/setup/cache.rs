//! Where things live outside the clone, and how files and folders get there in one piece.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use directories::ProjectDirs;
use tempfile::TempDir;

/// The cache root: `$SORTIE_CACHE`, else `$XDG_CACHE_HOME/sortie`, else `~/.cache/sortie`.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(root) = env::var_os("SORTIE_CACHE").filter(|root| !root.is_empty()) {
        return std::path::absolute(&root).with_context(|| format!("SORTIE_CACHE={}", root.display()));
    }
    match ProjectDirs::from("", "", "sortie") {
        Some(dirs) => Ok(dirs.cache_dir().to_path_buf()),
        None => {
            bail!("no home folder is known, so there is no place for the cache: set SORTIE_CACHE to a folder")
        }
    }
}

/// The repository that this xtask belongs to.
pub fn repository() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    let parent = manifest.parent().with_context(|| format!("{} has no parent folder", manifest.display()))?;
    Ok(parent.to_path_buf())
}

/// The cache, held by this process alone until it is dropped.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    // Closing the file releases the lock, however the process ends.
    _lock: File,
}

impl Cache {
    /// Opens the cache at `root`, creates what is missing, and waits while another setup holds it.
    pub fn open(root: PathBuf) -> Result<Self> {
        for folder in ["downloads", "staging", "weights", "data"] {
            let path = root.join(folder);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create the cache folder {}", path.display()))?;
        }
        let path = root.join("setup.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("Another setup holds {}; waiting for it to finish.", path.display());
                lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let cache = Self { root, _lock: lock };
        // Whatever an interrupted setup left half-done is garbage: this process alone holds the lock.
        sweep(&cache.root.join("staging"));
        Ok(cache)
    }

    /// Verified downloads by file name; safe to delete, at the price of fetching them again.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Folder of pretrained weights, one `BACKBONE.pth` each; a worker's default.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights")
    }

    /// Folder of datasets, one folder each; what a worker reads when `--data` is not given.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// A folder of the cache by name.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// An empty folder on the cache's own file system, so that a rename out of it is atomic.
    pub fn staging(&self) -> Result<TempDir> {
        let parent = self.root.join("staging");
        tempfile::Builder::new()
            .prefix("setup-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot create a folder in {}", parent.display()))
    }

    /// Moves a finished file or folder out of staging to where it belongs, replacing what lies there.
    pub fn publish(&self, finished: &Path, target: &Path) -> Result<()> {
        if target.is_dir() {
            // A folder cannot be renamed over another one: set the old one aside, to be deleted with staging.
            let aside = self.staging()?;
            rename(target, &aside.path().join("replaced"))?;
            rename(finished, target)?;
            return aside.close().with_context(|| format!("cannot delete the old {}", target.display()));
        }
        rename(finished, target)
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Deletes what it can: a download that outlived a killed setup may still be writing, and is swept up next time.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            eprintln!("Cannot delete the leftover {} yet ({error}).", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_replaces_files_and_folders_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().join("cache")).unwrap();
        let target = cache.folder("thing");
        for text in ["first", "second"] {
            let staging = cache.staging().unwrap();
            let folder = staging.path().join("thing");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(text), text).unwrap();
            cache.publish(&folder, &target).unwrap();
        }
        assert!(!target.join("first").exists());
        assert_eq!(fs::read_to_string(target.join("second")).unwrap(), "second");
        assert_eq!(fs::read_dir(cache.folder("staging")).unwrap().count(), 0);
    }

    #[test]
    fn opening_clears_what_an_interrupted_setup_left() {
        let root = tempfile::tempdir().unwrap();
        let left = root.path().join("staging/setup-old/file");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "half").unwrap();
        let cache = Cache::open(root.path().to_path_buf()).unwrap();
        assert!(!left.exists());
        drop(cache);
        Cache::open(root.path().to_path_buf()).unwrap();
    }
}
