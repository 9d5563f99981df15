//! Image files, and where they are found in a folder. Nothing is decoded here.

use std::path::{Path, PathBuf};

use super::entries::{Ignored, entries};
use crate::error::DataError;

/// Other files are ignored (docs/protocol.md, "Data protocol").
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];
/// Folders below a class folder are searched as torchvision does. The limit ends a cycle of links.
const DEPTH_MAX: usize = 8;

/// One image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its location.
    pub path: PathBuf,
    /// Its path below the dataset's folder, usually `<domain>/<class>/<file>`, with forward slashes: its name in the dataset's digest.
    pub name: String,
    /// Index of its class in the sorted list of classes.
    pub label: usize,
    /// The file's name without its extension: the object that the image shows, where the dataset splits by stem.
    pub stem: String,
}

pub(super) fn image_file(dataset: &Path, path: PathBuf, label: usize) -> ImageFile {
    let inside = path.strip_prefix(dataset).unwrap_or(&path);
    let name = inside.to_string_lossy().replace('\\', "/");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    ImageFile { path, name, label, stem }
}

/// The image files in and below a class folder, in the order that splits count in; the others are counted.
pub(super) fn image_paths(class_folder: &Path, ignored: &mut Ignored) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    collect(class_folder, 0, &mut paths, ignored)?;
    // By folder first, then by name, both in byte order: the order of torchvision's `sorted(os.walk(...))`.
    // Paths as texts, for `Path` compares by component and would put `a/c` before `a-b`.
    paths.sort_by_cached_key(|path| {
        (path.parent().map(|parent| parent.as_os_str().to_owned()), path.file_name().map(ToOwned::to_owned))
    });
    Ok(paths)
}

fn collect(
    folder: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    ignored: &mut Ignored,
) -> Result<(), DataError> {
    check_depth(folder, depth)?;
    for entry in entries(folder, ignored)? {
        if entry.is_folder {
            collect(&entry.path, depth + 1, paths, ignored)?;
        } else if is_image(&entry.path) {
            paths.push(entry.path);
        } else {
            ignored.add_file(&entry.path);
        }
    }
    Ok(())
}

/// The folders in and below a folder that hold images themselves, each as the names of the folders on the way to it.
pub(super) fn image_folders(folder: &Path) -> Result<Vec<Vec<String>>, DataError> {
    let mut found = Vec::new();
    let mut left = vec![(folder.to_path_buf(), Vec::new())];
    while let Some((folder, names)) = left.pop() {
        check_depth(&folder, names.len())?;
        let entries = entries(&folder, &mut Ignored::default())?;
        for entry in entries.iter().filter(|entry| entry.is_folder) {
            let mut names: Vec<String> = names.clone();
            names.push(entry.name.clone());
            left.push((entry.path.clone(), names));
        }
        if entries.iter().any(|entry| !entry.is_folder && is_image(&entry.path)) {
            found.push(names);
        }
    }
    found.sort();
    Ok(found)
}

fn check_depth(folder: &Path, depth: usize) -> Result<(), DataError> {
    if depth > DEPTH_MAX {
        return Err(DataError::bad_data(folder, format!("folders are nested more than {DEPTH_MAX} deep")));
    }
    Ok(())
}

pub(super) fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}
