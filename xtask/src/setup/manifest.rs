//! The marker of a complete folder: which recipe made it, and the size and digest of each file in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::digest;

/// Hidden, so that loaders of image folders do not see it.
const FILE_NAME: &str = ".sortie-setup.json";

/// What a folder held when it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Names everything that the folder was made from; another recipe makes the folder stale.
    pub recipe: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// How thoroughly a folder is compared with its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Presence and sizes: milliseconds.
    Sizes,
    /// Every digest: reads every byte.
    Digests,
}

impl Manifest {
    /// Describes the finished `folder`. Links to files are followed, links to folders are not entered.
    pub fn of(folder: &Path, recipe: &str) -> Result<Self> {
        let mut paths = Vec::new();
        collect(folder, folder, &mut paths)?;
        let files = paths
            .into_par_iter()
            .map(|relative| {
                let path = folder.join(&relative);
                let bytes =
                    fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
                Ok((relative, Entry { bytes, sha256: digest::of_file(&path)? }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { recipe: recipe.to_owned(), files })
    }

    /// Writes the marker into `folder`: the last file that goes there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE_NAME);
        let text = serde_json::to_vec(self).context("cannot encode a manifest")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The marker of `folder`, or none where it is missing or of an older form.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join(FILE_NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The first file that differs from its description, with the reason; none when all is well.
    pub fn fault(&self, folder: &Path, check: Check) -> Option<String> {
        self.files.par_iter().find_map_first(|(relative, entry)| {
            let path = folder.join(relative);
            match fs::metadata(&path) {
                Err(_) => Some(format!("{} is missing", path.display())),
                Ok(metadata) if metadata.len() != entry.bytes => {
                    Some(format!("{} has {} bytes, not {}", path.display(), metadata.len(), entry.bytes))
                }
                Ok(_) if check == Check::Sizes => None,
                Ok(_) => match digest::of_file(&path) {
                    Ok(found) if found == entry.sha256 => None,
                    Ok(_) => Some(format!("{} has changed", path.display())),
                    Err(error) => Some(format!("{error:#}")),
                },
            }
        })
    }

    /// One digest over the paths and contents of all files.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for (path, entry) in &self.files {
            text.push_str(&format!("{}  {path}\n", entry.sha256));
        }
        digest::of_bytes(text.as_bytes())
    }

    /// The sum of all file sizes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|entry| entry.bytes).sum()
    }
}

/// The marker of a folder that is whole and was made by a recipe that `accepts`; otherwise none,
/// after a line on stderr if there was something to say.
pub fn intact(folder: &Path, check: Check, accepts: impl Fn(&str) -> bool) -> Option<Manifest> {
    let manifest = Manifest::read(folder)?;
    if !accepts(&manifest.recipe) {
        eprintln!("{} was made from other versions; it will be made again.", folder.display());
        return None;
    }
    match manifest.fault(folder, check) {
        None => Some(manifest),
        Some(fault) => {
            eprintln!("{fault}; {} will be made again.", folder.display());
            None
        }
    }
}

fn collect(root: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path: PathBuf = entry?.path();
        let kind = fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_dir() {
            collect(root, &path, paths)?;
        } else if path.is_file() {
            let relative = path.strip_prefix(root).context("a folder's entry lies outside it")?;
            let relative = relative.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            if relative != FILE_NAME {
                paths.push(relative.to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        fs::write(folder.path().join("deep/b"), "two!").unwrap();
        Manifest::of(folder.path(), "recipe 1").unwrap().write(folder.path()).unwrap();
        folder
    }

    #[test]
    fn an_untouched_folder_is_intact() {
        let folder = folder();
        let manifest = intact(folder.path(), Check::Digests, |recipe| recipe == "recipe 1").unwrap();
        assert_eq!(manifest.bytes(), 7);
        assert_eq!(manifest, Manifest::of(folder.path(), "recipe 1").unwrap());
        assert!(intact(folder.path(), Check::Sizes, |recipe| recipe == "recipe 2").is_none());
    }

    #[test]
    fn missing_short_and_changed_files_are_found() {
        let changed = folder();
        fs::write(changed.path().join("deep/b"), "six!").unwrap();
        let manifest = Manifest::read(changed.path()).unwrap();
        assert_eq!(manifest.fault(changed.path(), Check::Sizes), None);
        assert!(manifest.fault(changed.path(), Check::Digests).unwrap().ends_with("deep/b has changed"));
        fs::write(changed.path().join("deep/b"), "2").unwrap();
        assert!(manifest.fault(changed.path(), Check::Sizes).unwrap().ends_with("has 1 bytes, not 4"));
        fs::remove_file(changed.path().join("deep/b")).unwrap();
        assert!(manifest.fault(changed.path(), Check::Sizes).unwrap().ends_with("deep/b is missing"));
    }

    #[test]
    fn a_folder_without_marker_is_not_intact() {
        let folder = tempfile::tempdir().unwrap();
        assert!(intact(folder.path(), Check::Sizes, |_| true).is_none());
        fs::write(folder.path().join(FILE_NAME), "{\"recipe\":").unwrap();
        assert!(intact(folder.path(), Check::Sizes, |_| true).is_none());
    }
}
