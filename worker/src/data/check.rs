//! Reads every image of a dataset and says what is there and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::progress::{Progress, go_on};
use super::{Discovered, contents, discover};
use crate::error::TrialError;

/// Broken files that are listed; all are counted.
const BROKEN_LISTED_MAX: usize = 1_000;

/// What is in a dataset's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The folder's name.
    pub dataset: String,
    /// What the `in`/`out` split deals out: image or stem.
    pub split_by: &'static str,
    /// Images of each class of each domain.
    pub domains: BTreeMap<String, DomainCount>,
    /// All images.
    pub n: u64,
    /// Files that are no images by their name, by extension.
    pub ignored: BTreeMap<String, u64>,
    /// `<domain>/<class>` without any image.
    pub missing: Vec<String>,
    /// Images that cannot be read or decoded: the first 1,000.
    pub broken: Vec<Broken>,
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
pub struct Broken {
    /// Relative to the dataset's folder.
    pub path: String,
    /// In one line.
    pub reason: String,
}

impl CheckReport {
    /// Whether trials can run on it.
    pub fn is_sound(&self) -> bool {
        self.broken_count == 0 && self.missing.is_empty()
    }
}

/// Checks the dataset in a folder `<root>/<name>`, in the current rayon pool. No cache is read or written.
///
/// # Errors
/// As [`discover`], and when it is cancelled.
pub fn check(path: &Path, progress: &dyn Progress) -> Result<CheckReport, TrialError> {
    let Discovered { spec, folder, ignored, missing, .. } = discover(path)?;
    let mut domains = BTreeMap::new();
    for (name, files) in spec.domains.iter().zip(&folder.domains) {
        let mut count = DomainCount { n: files.len() as u64, classes: spec.classes.iter().map(|class| (class.clone(), 0)).collect() };
        for file in files {
            *count.classes.entry(spec.classes[file.label].clone()).or_default() += 1;
        }
        domains.insert(name.clone(), count);
    }
    let images: Vec<_> = folder.domains.iter().enumerate().flat_map(|(d, files)| (0..files.len()).map(move |i| (d, i))).collect();
    progress.begin("checking", images.len() as u64);
    let fault = |&(domain, index): &(usize, usize)| {
        go_on(progress)?;
        let result = folder.decode(domain, index, None);
        progress.advance(1);
        let name = &folder.domains[domain][index].name;
        Ok(result.err().map(|error| Broken { path: name.clone(), reason: reason(error) }))
    };
    let broken: Vec<Broken> = images.par_iter().map(fault).filter_map(Result::transpose).collect::<Result<_, TrialError>>()?;
    let (_, inputs) = folder.inputs();
    let digests: Result<Vec<_>, TrialError> = inputs.par_iter().map(|input| Ok(blake3::hash(&contents::read(input.path)?))).collect();
    Ok(CheckReport {
        dataset: spec.name,
        split_by: spec.split_by.as_str(),
        n: images.len() as u64,
        domains,
        ignored,
        missing,
        broken_count: broken.len() as u64,
        broken: broken.into_iter().take(BROKEN_LISTED_MAX).collect(),
        digest: digests.ok().map(|digests| folder.digest(&inputs, &digests)),
    })
}

/// The path is told beside it.
fn reason(error: TrialError) -> String {
    match error {
        TrialError::BadData { reason, .. } => reason,
        other => other.to_string(),
    }
}
