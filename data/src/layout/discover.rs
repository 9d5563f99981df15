//! Finds domains, classes and images in a dataset's folder, as far as a sweep file and the catalogue leave them open.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sortie_core::spec::DatasetRequest;
use sortie_core::trial::{DatasetSpec, SplitBy};

use super::dataset_folder::{self, DatasetFolder, Source};
use super::entries::Ignored;
use super::levels::{list, refuse_other_levels};
use super::listing::{self, descend, levels, list_images};
use super::missing_folder::missing_folder;
use crate::digits::{DigitKind, SOURCE_FOLDER};
use crate::error::DataError;

/// A dataset as found in its folder.
#[derive(Debug)]
pub struct Discovered {
    /// Its domains and classes: those that were asked for, or every folder at their level.
    pub spec: DatasetSpec,
    /// The folder that holds the dataset's folder.
    pub root: PathBuf,
    /// Its images; a domain without a class has none of it.
    pub folder: DatasetFolder,
    /// What else there is.
    pub ignored: Ignored,
    /// `<domain>/<class>` of every class that has no image in some domain.
    pub missing: Vec<String>,
    /// Why no sweep may use it; none if one may.
    pub fault: Option<DataError>,
}

impl Discovered {
    /// The dataset for a sweep.
    ///
    /// # Errors
    /// [`Self::fault`].
    pub fn sound(self) -> Result<Self, DataError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }
}

/// Reads the dataset in a folder `<root>/<name>` by what the catalogue says of that name.
///
/// # Errors
/// As [`read`].
pub fn discover(given: &Path) -> Result<Discovered, DataError> {
    let (root, name) = dataset_at(given)?;
    read(&root, &DatasetRequest::named(&name))
}

/// The data root and the dataset's name of a folder `<root>/<name>`.
///
/// # Errors
/// [`DataError::BadData`] where the path cannot be resolved.
pub fn dataset_at(given: &Path) -> Result<(PathBuf, String), DataError> {
    // A path such as `.` is resolved to find the name. A link is not resolved, because its own name is the dataset's.
    let path = if given.file_name().is_some() { std::path::absolute(given) } else { given.canonicalize() };
    let path = path.map_err(|error| DataError::bad_data(given, error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((path.parent().unwrap_or(&path).to_path_buf(), name))
}

/// Whether a dataset has no folder of its own below this root and is made from the files of another one.
pub fn is_generated(root: &Path, name: &str) -> bool {
    DigitKind::of_dataset(name).is_some() && !root.join(name).is_dir()
}

/// Looks for a dataset's folder below the data root, or for the one that it is made from, without reading what is in it.
///
/// # Errors
/// [`DataError::BadData`] naming the folder, which is missing or cannot be listed.
pub fn find(root: &Path, name: &str) -> Result<(), DataError> {
    let name = if is_generated(root, name) { SOURCE_FOLDER } else { name };
    let folder = root.join(name);
    match std::fs::read_dir(&folder) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing_folder(root, name)),
        Err(error) => Err(DataError::bad_data(&folder, error)),
    }
}

/// Reads a dataset below the data root. Whoever asks what a folder holds, asks here: what a sweep file does not list, its folder shows.
///
/// # Errors
/// [`DataError::BadData`] naming the path: no such folder, a folder that is no domain, images at another level, something that cannot be
/// read, or a `dataset.toml` that says nothing sensible.
pub fn read(root: &Path, request: &DatasetRequest) -> Result<Discovered, DataError> {
    let path = root.join(&request.name);
    if !path.is_dir() {
        let generated = is_generated(root, &request.name).then(|| request.clone().complete(None).ok());
        let Some(spec) = generated.flatten() else { return Err(missing_folder(root, &request.name)) };
        let folder = DatasetFolder::scan(root, &spec)?;
        let (ignored, missing) = (Ignored::default(), Vec::new());
        return Ok(Discovered { spec, root: root.to_path_buf(), folder, ignored, missing, fault: None });
    }
    let spec = complete(&path, request)?;
    let few = too_few(&path, &spec);
    if spec.domains.is_empty() || spec.classes.is_empty() {
        refuse_other_levels(&path)?;
        return Err(few.unwrap_or_else(|| missing_folder(root, &request.name)));
    }
    let mut ignored = Ignored::default();
    let listed = list_images(&path, &spec, &mut ignored)?;
    if request.layout.is_none() && request.classes.is_none() {
        let nested = |name: &str| name.split('/').count() > 3;
        if listed.domains.iter().flatten().all(|file| nested(&file.name)) {
            refuse_other_levels(&path)?;
        }
    }
    let fault = few.or_else(|| {
        let allowed = request.clone().complete(Some(&spec));
        let named = allowed.err().map(|error| DataError::BadConfig(format!("{}: {error}", path.display())));
        let grouped = || dataset_folder::check_dataset_file(&path, spec.split_by).err();
        named.or_else(grouped).or_else(|| listed.check(&path, &spec).err())
    });
    Ok(Discovered {
        spec,
        root: root.to_path_buf(),
        missing: listed.missing.iter().map(|missing| missing.name.clone()).collect(),
        folder: DatasetFolder { domains: listed.domains, source: Source::Files(path) },
        ignored,
        fault,
    })
}

/// The dataset with the folders at the level of its domains and classes, where these are not listed.
fn complete(path: &Path, request: &DatasetRequest) -> Result<DatasetSpec, DataError> {
    let layout = request.layout.clone().unwrap_or_default();
    let [above, between, _] = levels(layout.parts());
    // Listing the images counts all that is ignored.
    let uncounted = &mut Ignored::default();
    let folder = descend(path, above, uncounted)?;
    let level = |folder: &Path| -> Result<Vec<String>, DataError> {
        let names = listing::level(folder, &mut Ignored::default())?;
        // What is not UTF-8 was replaced, so that the name leads nowhere.
        match names.iter().find(|name| !folder.join(name).is_dir()) {
            Some(name) => Err(DataError::bad_data(&folder.join(name), "its name is not UTF-8")),
            None => Ok(names),
        }
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let domains = match &request.domains {
        Some(domains) => sorted(domains.clone()),
        None => {
            let domains = level(&folder)?;
            for domain in &domains {
                refuse_no_domain(path, &folder, domain, &domains)?;
            }
            domains
        }
    };
    let classes = match &request.classes {
        Some(classes) => sorted(classes.clone()),
        None => {
            let mut classes = BTreeSet::new();
            for domain in domains.iter().filter(|domain| folder.join(domain).is_dir()) {
                let classes_folder = descend(&folder.join(domain), between, uncounted)?;
                classes.extend(level(&classes_folder)?);
            }
            classes.into_iter().collect()
        }
    };
    let split_by = match request.split_by {
        Some(split_by) => split_by,
        None => split_by(path)?,
    };
    let missing_classes = request.missing_classes;
    Ok(DatasetSpec { name: request.name.clone(), domains, classes, split_by, layout, missing_classes })
}

/// A folder beside the domains that has no folder itself, such as one of all test images.
fn refuse_no_domain(
    dataset: &Path,
    domains_folder: &Path,
    domain: &str,
    all: &[String],
) -> Result<(), DataError> {
    let folder = domains_folder.join(domain);
    let mut inside = Ignored::default();
    if !listing::level(&folder, &mut inside)?.is_empty() {
        return Ok(());
    }
    refuse_other_levels(dataset)?;
    let what = if inside.is_empty() {
        "it is empty".to_owned()
    } else {
        format!("it holds no folders of classes ({inside})")
    };
    let others: Vec<String> =
        all.iter().filter(|other| *other != domain).map(|other| format!("{other:?}")).collect();
    let reason = format!(
        "{what}, so it is no domain: move it away, or list the domains under [data]: domains = [{}]",
        list(&others)
    );
    Err(DataError::bad_data(&folder, reason))
}

fn too_few(path: &Path, spec: &DatasetSpec) -> Option<DataError> {
    let DatasetSpec { domains, classes, layout, .. } = spec;
    if domains.len() >= 2 && classes.len() >= 2 {
        return None;
    }
    let shown = |names: &[String], what: &str| match names.len() {
        0 => format!("no {what}"),
        1 => format!("only one of the {what} ({})", names[0]),
        count => format!("{count} {what} ({})", list(names)),
    };
    let reason = format!(
        "expected at least 2 domains with at least 2 classes, as folders {layout}; found {} and {}",
        shown(domains, "domains"),
        shown(classes, "classes")
    );
    Some(DataError::bad_data(path, reason))
}

fn split_by(dataset: &Path) -> Result<SplitBy, DataError> {
    let file = dataset.join("dataset.toml");
    if !file.exists() {
        return Ok(SplitBy::Image);
    }
    let group = dataset_folder::group(&file)?;
    group.parse().map_err(|error: sortie_core::names::UnknownName| DataError::bad_data(&file, error))
}
