//! Lists the images of a dataset whose domains and classes are known.

use std::path::{Path, PathBuf};

use sortie_core::trial::{DatasetSpec, LayoutPart, MissingClasses};

use super::entries::{Ignored, entries};
use super::image_files::{ImageFile, image_file, image_paths, is_image};
use super::levels::{list, refuse_other_levels};
use crate::error::DataError;

/// Classes without any image that a message names.
const MISSING_LISTED_MAX: usize = 4;

/// The images of a dataset, and the classes that some domain lacks.
#[derive(Debug)]
pub(super) struct Listed {
    /// `domains[d]`, in class order, then in file order.
    pub(super) domains: Vec<Vec<ImageFile>>,
    pub(super) missing: Vec<MissingClass>,
}

/// A class that has no image in some domain.
#[derive(Debug)]
pub(super) struct MissingClass {
    /// `<domain>/<class>`.
    pub(super) name: String,
    folder: PathBuf,
}

/// Lists the images. What is neither an image nor on the way to one is counted.
///
/// # Errors
/// [`DataError::BadData`] naming the path: a domain is missing, or has a class that is not among those of the dataset.
pub(super) fn list_images(
    dataset: &Path,
    spec: &DatasetSpec,
    ignored: &mut Ignored,
) -> Result<Listed, DataError> {
    let found = list_as_laid_out(dataset, spec, ignored);
    // A folder of another layout is one fault, not that of the first domain that it lacks.
    if found.is_err() && spec.layout.is_default() {
        refuse_other_levels(dataset)?;
    }
    found
}

fn list_as_laid_out(dataset: &Path, spec: &DatasetSpec, ignored: &mut Ignored) -> Result<Listed, DataError> {
    let [above, between, below] = levels(spec.layout.parts());
    let domains_folder = descend(dataset, above, ignored)?;
    let there = level(&domains_folder, ignored)?;
    for name in there.iter().filter(|name| !spec.domains.contains(name)) {
        ignored.add(format!("{name}/"));
    }
    let mut listed = Listed { domains: Vec::new(), missing: Vec::new() };
    for domain in &spec.domains {
        let folder = domains_folder.join(domain);
        if !folder.is_dir() {
            let reason = format!("the domain's folder is missing; there {}", are(&there));
            return Err(DataError::bad_data(&folder, reason));
        }
        let classes_folder = descend(&folder, between, ignored)?;
        let there = level(&classes_folder, ignored)?;
        if let Some(unknown) = there.iter().find(|name| !spec.classes.contains(name)) {
            let reason = "this class is not among those of the trial's dataset";
            return Err(DataError::bad_data(&classes_folder.join(unknown), reason));
        }
        let mut files = Vec::new();
        for (label, class) in spec.classes.iter().enumerate() {
            let folder = classes_folder.join(class);
            let paths = if folder.is_dir() {
                image_paths(&descend(&folder, below, ignored)?, ignored)?
            } else {
                Vec::new()
            };
            if paths.is_empty() {
                listed.missing.push(MissingClass { name: format!("{domain}/{class}"), folder });
            }
            files.extend(paths.into_iter().map(|path| image_file(dataset, path, label)));
        }
        listed.domains.push(files);
    }
    Ok(listed)
}

/// The fixed folders above the domains, between domains and classes, and below the classes.
pub(super) fn levels(parts: &[LayoutPart]) -> [&[LayoutPart]; 3] {
    let position = |wanted| parts.iter().position(|part| *part == wanted).unwrap_or(parts.len());
    let (domain, class) = (position(LayoutPart::Domain), position(LayoutPart::Class));
    let from = |start: usize| parts.get(start..).unwrap_or_default();
    [&parts[..domain], parts.get(domain + 1..class).unwrap_or_default(), from(class + 1)]
}

/// The folder that some fixed folders lead to.
pub(super) fn descend(
    folder: &Path,
    parts: &[LayoutPart],
    ignored: &mut Ignored,
) -> Result<PathBuf, DataError> {
    let mut folder = folder.to_path_buf();
    for part in parts {
        let LayoutPart::Folder(name) = part else { continue };
        let there = level(&folder, ignored)?;
        for other in there.iter().filter(|other| *other != name) {
            ignored.add(format!("{other}/"));
        }
        folder = folder.join(name);
        if !folder.is_dir() {
            let reason = format!("the layout's folder is missing; there {}", are(&there));
            return Err(DataError::bad_data(&folder, reason));
        }
    }
    Ok(folder)
}

/// The names of the folders in a folder, sorted; files beside them are counted.
pub(super) fn level(folder: &Path, ignored: &mut Ignored) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in entries(folder, ignored)? {
        if entry.is_folder {
            names.push(entry.name);
        } else if is_image(&entry.path) {
            ignored.add("images in no class");
        } else if entry.name != "dataset.toml" {
            ignored.add_file(&entry.path);
        }
    }
    Ok(names)
}

fn are(names: &[String]) -> String {
    if names.is_empty() { "are no folders".to_owned() } else { format!("are {}", list(names)) }
}

impl Listed {
    /// Refuses a dataset that trials cannot use: one with a class that some domain lacks, unless that is allowed, or a domain without
    /// images.
    ///
    /// # Errors
    /// [`DataError::BadData`] naming the classes.
    pub(super) fn check(&self, dataset: &Path, spec: &DatasetSpec) -> Result<(), DataError> {
        let empty = spec.domains.iter().zip(&self.domains).find(|(_, files)| files.is_empty());
        if let Some((domain, _)) = empty {
            return Err(DataError::bad_data(&dataset.join(domain), "the domain has no image"));
        }
        let Some(first) = self.missing.first().filter(|_| spec.missing_classes == MissingClasses::Refuse)
        else {
            return Ok(());
        };
        let what = if first.folder.is_dir() {
            "the class has no image in this domain"
        } else {
            "the class is missing in this domain"
        };
        let more: Vec<&str> = self.missing.iter().skip(1).map(|missing| missing.name.as_str()).collect();
        let more = match more.len() {
            0 => String::new(),
            count if count <= MISSING_LISTED_MAX => format!(" (so are {})", more.join(", ")),
            count => format!(
                " (so are {} and {} more)",
                more[..MISSING_LISTED_MAX].join(", "),
                count - MISSING_LISTED_MAX
            ),
        };
        let reason = format!("{what}{more}; missing_classes = \"allow\" under [data] permits that");
        Err(DataError::bad_data(&first.folder, reason))
    }
}
