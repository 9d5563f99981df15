//! Finds domains, classes and images in a dataset's folder without a specification.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sortie_core::catalogue;
use sortie_core::trial::{DatasetSpec, SplitBy};

use super::dataset_folder::{self, DatasetFolder, Source};
use super::image_files;
use crate::digits::DigitKind;
use crate::error::DataError;

/// A dataset as found in its folder.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// Its domains and classes: every folder, and every folder below any of these, whose name does not begin with a dot.
    pub spec: DatasetSpec,
    /// The folder that holds the dataset's folder.
    pub root: PathBuf,
    /// Its images; a domain without a class has none of it.
    pub folder: DatasetFolder,
    /// How many other files there are, by extension (`.txt`, or the empty text), and where images lie that are in no class.
    pub ignored: BTreeMap<String, u64>,
    /// `<domain>/<class>` of every class that has no image in some domain.
    pub missing: Vec<String>,
}

/// Finds the domains, classes and images of a dataset in its folder, `<root>/<name>`.
///
/// # Errors
/// [`DataError::BadData`] naming the path: no such folder, no domains, one that cannot be read, or a `dataset.toml` that says nothing
/// sensible.
pub fn discover(given: &Path) -> Result<Discovered, DataError> {
    let path = given;
    // A path such as `.` is resolved to find the name. A link is not resolved, because its own name is the dataset's.
    let path = if path.file_name().is_some() { std::path::absolute(path) } else { path.canonicalize() };
    let path = path.map_err(|error| DataError::bad_data(given, error))?;
    let root = path.parent().unwrap_or(&path).to_path_buf();
    let name = image_files::file_name(&path);
    if !path.is_dir() {
        return match catalogue::find(&name).filter(|_| DigitKind::of_dataset(&name).is_some()) {
            Some(spec) => {
                let folder = DatasetFolder::scan(&root, &spec)?;
                let missing = missing(&spec, &folder);
                Ok(Discovered { missing, folder, spec, root, ignored: BTreeMap::new() })
            }
            None => Err(DataError::bad_data(&path, "there is no such folder")),
        };
    }
    let mut ignored = BTreeMap::new();
    let domains = folders(&path, &mut ignored)?;
    let mut classes = BTreeSet::new();
    for domain in &domains {
        classes.extend(folders(&path.join(domain), &mut ignored)?);
    }
    if domains.is_empty() || classes.is_empty() {
        return Err(DataError::bad_data(&path, "there are no folders <domain>/<class> in it"));
    }
    let spec =
        DatasetSpec { name, domains, classes: classes.into_iter().collect(), split_by: split_by(&path)? };
    let mut files = Vec::new();
    for domain in &spec.domains {
        let mut of_domain = Vec::new();
        for (label, class) in spec.classes.iter().enumerate() {
            let class_folder = path.join(domain).join(class);
            if class_folder.is_dir() {
                let found = image_files::image_paths(&class_folder, &mut |file| count(&mut ignored, file))?;
                of_domain.extend(found.into_iter().map(|file| image_files::image_file(&path, file, label)));
            }
        }
        files.push(of_domain);
    }
    let folder = DatasetFolder { domains: files, source: Source::Files(path) };
    Ok(Discovered { missing: missing(&spec, &folder), spec, root, folder, ignored })
}

/// The names of the folders in a folder, sorted; files beside them are counted as ignored.
fn folders(folder: &Path, ignored: &mut BTreeMap<String, u64>) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for (path, is_folder) in image_files::entries(folder)? {
        let name = image_files::file_name(&path);
        if !is_folder {
            // It belongs to the dataset.
            if name != "dataset.toml" {
                count(ignored, &path);
            }
        } else if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn count(ignored: &mut BTreeMap<String, u64>, file: &Path) {
    let extension =
        file.extension().map(|extension| format!(".{}", extension.to_string_lossy().to_ascii_lowercase()));
    *ignored.entry(extension.unwrap_or_default()).or_default() += 1;
}

fn split_by(dataset: &Path) -> Result<SplitBy, DataError> {
    let file = dataset.join("dataset.toml");
    if !file.exists() {
        return Ok(SplitBy::Image);
    }
    let group = dataset_folder::group(&file)?;
    group.parse().map_err(|error: sortie_core::names::UnknownName| DataError::bad_data(&file, error))
}

fn missing(spec: &DatasetSpec, folder: &DatasetFolder) -> Vec<String> {
    let mut missing = Vec::new();
    for (domain, files) in spec.domains.iter().zip(&folder.domains) {
        let present: BTreeSet<usize> = files.iter().map(|file| file.label).collect();
        let absent = spec.classes.iter().enumerate().filter(|(label, _)| !present.contains(label));
        missing.extend(absent.map(|(_, class)| format!("{domain}/{class}")));
    }
    missing
}
