//! Image files, and where they are found in a folder. Nothing is decoded here.

use std::fs;
use std::path::{Path, PathBuf};

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
    /// `<domain>/<class>/<file>` with forward slashes: its name in the dataset's digest.
    pub name: String,
    /// Index of its class in the sorted list of classes.
    pub label: usize,
    /// The file's name without its extension: the object that the image shows, where the dataset splits by stem.
    pub stem: String,
}

pub(crate) fn image_file(dataset: &Path, path: PathBuf, label: usize) -> ImageFile {
    let inside = path.strip_prefix(dataset).unwrap_or(&path);
    let name = inside.to_string_lossy().replace('\\', "/");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    ImageFile { path, name, label, stem }
}

/// The image files in and below a class folder, in the order that splits count in; `ignored` gets the others.
pub(crate) fn image_paths(
    class_folder: &Path,
    ignored: &mut dyn FnMut(&Path),
) -> Result<Vec<PathBuf>, DataError> {
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
    ignored: &mut dyn FnMut(&Path),
) -> Result<(), DataError> {
    if depth > DEPTH_MAX {
        return Err(DataError::bad_data(folder, format!("folders are nested more than {DEPTH_MAX} deep")));
    }
    for (path, is_folder) in entries(folder)? {
        if is_folder {
            collect(&path, depth + 1, paths, ignored)?;
        } else if is_image(&path) {
            paths.push(path);
        } else {
            ignored(&path);
        }
    }
    Ok(())
}

/// The entries of a folder, and whether each is a folder. Only links need another system call.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, DataError> {
    let bad = |error: std::io::Error| DataError::bad_data(folder, error);
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let is_folder = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
        Ok((path, is_folder))
    };
    fs::read_dir(folder).map_err(bad)?.map(|found| entry(found).map_err(bad)).collect()
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}
