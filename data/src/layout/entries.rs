//! What is in a folder. Nothing else lists one, so that no reader sees what the others ignore.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::DataError;

/// What systems and programs leave in folders of images, in lower case. Other names that begin with a dot are hidden.
const CLUTTER: [&str; 11] = [
    ".ds_store",
    ".ipynb_checkpoints",
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "lost+found",
    "#recycle",
    "$recycle.bin",
    "system volume information",
];
/// macOS keeps the attributes of `x` beside it, in `._x`, on disks of other systems.
const APPLE_DOUBLE: &str = "._";

/// How many entries of a dataset's folder were ignored, by what they are: an extension such as `.txt`, empty for none, a name such as
/// `Thumbs.db`, a folder that is not asked for such as `test/`, or words such as `hidden`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ignored(BTreeMap<String, u64>);

impl Ignored {
    /// How many of what.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    /// A file that is no image by its name.
    pub(super) fn add_file(&mut self, file: &Path) {
        let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        self.add(if extension.is_empty() { extension } else { format!(".{extension}") });
    }
}

impl fmt::Display for Ignored {
    /// Such as `3 .DS_Store, 1 .txt, 2 hidden`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, count)) in self.0.iter().enumerate() {
            let what = if what.is_empty() { "without extension" } else { what };
            write!(f, "{}{count} {what}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A file or a folder.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// What is not UTF-8 in it is replaced.
    pub(super) name: String,
    pub(super) is_folder: bool,
}

/// The entries of a folder, sorted by name, but for what is ignored at every level, which is counted.
pub(super) fn entries(folder: &Path, ignored: &mut Ignored) -> Result<Vec<Entry>, DataError> {
    let bad = |error: std::io::Error| DataError::bad_data(folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(bad)? {
        let entry = entry.map_err(bad)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(bad)?);
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(what) = clutter(&name) {
            ignored.add(what);
            continue;
        }
        // Only links need another system call.
        let is_folder = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
        found.push(Entry { path, name, is_folder });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What an entry is that is ignored wherever it lies; none for any other.
fn clutter(name: &str) -> Option<&str> {
    if CLUTTER.contains(&name.to_ascii_lowercase().as_str()) {
        return Some(name);
    }
    if name.starts_with(APPLE_DOUBLE) {
        return Some("._*");
    }
    name.starts_with('.').then_some("hidden")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systems_leave_is_counted_and_the_rest_is_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["b.png", "._b.png", ".DS_Store", "Thumbs.db", "Desktop.ini", ".hidden.png"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        for inner in ["a", "__MACOSX", ".ipynb_checkpoints", "@eaDir", "lost+found", ".git"] {
            fs::create_dir(folder.path().join(inner)).unwrap();
        }
        let mut ignored = Ignored::default();
        let found = entries(folder.path(), &mut ignored).unwrap();
        let found: Vec<_> = found.iter().map(|entry| (entry.name.as_str(), entry.is_folder)).collect();
        assert_eq!(found, [("a", true), ("b.png", false)]);
        assert_eq!(
            ignored.to_string(),
            "1 .DS_Store, 1 ._*, 1 .ipynb_checkpoints, 1 @eaDir, 1 Desktop.ini, 1 Thumbs.db, 1 __MACOSX, 2 hidden, 1 lost+found"
        );
    }
}
