//! Reads every image of a dataset and reports counts and errors.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::cache::content_digests;
use super::progress::{Progress, go_on};
use super::{Discovered, Ignored};
use crate::error::DataError;

/// Broken files that are listed; all are counted.
const BROKEN_LISTED_MAX: usize = 1_000;

/// What is in a dataset's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The folder's name.
    pub dataset: String,
    /// The unit of the `in`/`out` split: image or stem.
    pub split_by: &'static str,
    /// Images of each class of each domain.
    pub domains: BTreeMap<String, DomainCount>,
    /// All images.
    pub n: u64,
    /// How many files and folders were not read, by what they are.
    pub ignored: Ignored,
    /// `<domain>/<class>` without any image.
    pub missing: Vec<String>,
    /// Why no sweep may use it, in one line: what `sortie submit` refuses it with.
    pub fault: Option<String>,
    /// Images that cannot be read or decoded: the first 1,000.
    pub broken: Vec<BrokenImage>,
    /// How many there are.
    pub broken_count: u64,
    /// The dataset's digest as trials record it, unless a file cannot be read.
    pub digest: Option<String>,
}

/// The images of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DomainCount {
    /// All of them.
    pub n: u64,
    /// By class.
    pub classes: BTreeMap<String, u64>,
}

/// An image that trials would fail on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenImage {
    /// Relative to the dataset's folder.
    pub path: String,
    /// In one line.
    pub reason: String,
}

impl CheckReport {
    /// Whether trials can run on it.
    pub fn is_sound(&self) -> bool {
        self.broken_count == 0 && self.fault.is_none()
    }
}

/// Checks a dataset that was found, in the current rayon pool. No cache is read or written.
///
/// # Errors
/// When it is cancelled.
pub fn check(found: Discovered, progress: &dyn Progress) -> Result<CheckReport, DataError> {
    let Discovered { spec, folder, ignored, missing, fault, .. } = found;
    let mut domains = BTreeMap::new();
    for (name, files) in spec.domains.iter().zip(&folder.domains) {
        let mut count = DomainCount {
            n: files.len() as u64,
            classes: spec.classes.iter().map(|class| (class.clone(), 0)).collect(),
        };
        for file in files {
            *count.classes.entry(spec.classes[file.label].clone()).or_default() += 1;
        }
        domains.insert(name.clone(), count);
    }
    let images: Vec<_> = folder
        .domains
        .iter()
        .enumerate()
        .flat_map(|(d, files)| (0..files.len()).map(move |i| (d, i)))
        .collect();
    progress.begin("checking", images.len() as u64);
    let broken = |&(domain, index): &(usize, usize)| {
        go_on(progress)?;
        let result = folder.decode(domain, index, None);
        progress.advance(1);
        let name = &folder.domains[domain][index].name;
        Ok(result.err().map(|error| BrokenImage { path: name.clone(), reason: reason(error) }))
    };
    let broken: Vec<BrokenImage> =
        images.par_iter().map(broken).filter_map(Result::transpose).collect::<Result<_, DataError>>()?;
    let (_, inputs) = folder.inputs();
    let digests: Result<Vec<_>, DataError> =
        inputs.par_iter().map(|input| Ok(blake3::hash(&content_digests::read(input.path)?))).collect();
    Ok(CheckReport {
        dataset: spec.name,
        split_by: spec.split_by.as_str(),
        n: images.len() as u64,
        domains,
        ignored,
        missing,
        fault: fault.map(|fault| fault.to_string()),
        broken_count: broken.len() as u64,
        broken: broken.into_iter().take(BROKEN_LISTED_MAX).collect(),
        digest: digests.ok().map(|digests| folder.digest(&inputs, &digests)),
    })
}

/// The reason without the path, which the report gives beside it.
fn reason(error: DataError) -> String {
    match error {
        DataError::BadData { reason, .. } | DataError::Damaged { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatasetFolder, Images, NoProgress, discover};
    use std::fs;
    use std::path::Path;

    fn check_at(path: &Path) -> Result<CheckReport, DataError> {
        check(discover(path)?, &NoProgress)
    }

    fn write(root: &Path, name: &str) {
        let path = root.join("T").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(3, 2).save(path).unwrap();
    }

    #[test]
    fn a_sound_dataset_has_the_digest_that_trials_record() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/x/1.png", "b/y/1.png", "a/y/2.png", "a/x/2.png", "a/x/deep/1.png"] {
            write(root.path(), name);
        }
        fs::write(root.path().join("T/a/x/notes.TXT"), "").unwrap();
        fs::write(root.path().join("T/README"), "").unwrap();
        fs::write(root.path().join("T/dataset.toml"), "group = \"stem\"").unwrap();
        let report = check_at(&root.path().join("T")).unwrap();
        assert!(report.is_sound());
        assert_eq!(
            (report.n, report.split_by, report.domains["a"].n, report.domains["a"].classes["x"]),
            (5, "stem", 3, 2)
        );
        assert_eq!(report.ignored.to_string(), "1 without extension, 1 .txt");
        let found = discover(&root.path().join("T/")).unwrap();
        let folder = DatasetFolder::scan(&found.root, &found.spec).unwrap();
        let images = Images::open(folder, &root.path().join("cache"), None, &NoProgress).unwrap();
        assert_eq!(report.digest.as_deref(), Some(images.digest()));
    }

    #[test]
    fn everything_that_is_wrong_is_listed() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/x/1.png");
        write(root.path(), "b/y/1.png");
        fs::write(root.path().join("T/b/y/2.jpg"), "no picture").unwrap();
        fs::write(root.path().join("T/a/x/0.webp"), "").unwrap();
        let report = check_at(&root.path().join("T")).unwrap();
        assert!(!report.is_sound());
        assert_eq!(report.missing, ["a/y", "b/x"]);
        let fault = report.fault.unwrap();
        assert!(fault.contains("T/a/y: the class is missing in this domain (so are b/x)"), "{fault}");
        let paths: Vec<&str> = report.broken.iter().map(|broken| broken.path.as_str()).collect();
        assert_eq!((paths, report.broken_count), (vec!["a/x/0.webp", "b/y/2.jpg"], 2));
        assert!(report.broken[1].reason.contains("no image format"), "{:?}", report.broken);
        assert!(check_at(&root.path().join("T/a/x")).is_err());
        assert!(
            check_at(&root.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("none: the dataset's folder is missing")
        );
    }
}
