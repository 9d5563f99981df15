//! `[data]`: which images, as far as the file and the catalogue say; a folder may say the rest.

use super::error::{SpecError, wrong};
use super::file::{DataTable, SweepFile};
use super::values::no_plus;
use crate::catalogue;
use crate::names::is_folder_name;
use crate::trial::{DatasetSpec, Layout, MissingClasses, SplitBy};

/// What a sweep file and the catalogue say of a dataset. Whoever reads its folder, reads it by this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRequest {
    /// The folder below the data root.
    pub name: String,
    /// Its domains, if they are listed.
    pub domains: Option<Vec<String>>,
    /// Its classes, if they are listed.
    pub classes: Option<Vec<String>>,
    /// What the `in`/`out` split divides, if that is said.
    pub split_by: Option<SplitBy>,
    /// Where images lie; none leaves it at `{domain}/{class}`, unless the folder looks like something else.
    pub layout: Option<Layout>,
    /// What to do about a class that has no image in some domain.
    pub missing_classes: MissingClasses,
}

impl DatasetRequest {
    /// What the catalogue says of a dataset that is only named; nothing of one that it does not have.
    pub fn named(name: &str) -> Self {
        let request = Self {
            name: name.to_owned(),
            domains: None,
            classes: None,
            split_by: None,
            layout: None,
            missing_classes: MissingClasses::default(),
        };
        request.with_catalogue()
    }

    /// The catalogue fills what is not listed. It knows datasets as `{domain}/{class}`: it says nothing of another layout.
    fn with_catalogue(mut self) -> Self {
        let layout_is_default = self.layout.as_ref().is_none_or(Layout::is_default);
        if let Some(known) = catalogue::find(&self.name).filter(|_| layout_is_default) {
            self.domains.get_or_insert(known.domains);
            self.classes.get_or_insert(known.classes);
            self.split_by.get_or_insert(known.split_by);
        }
        self
    }

    /// Whether no folder has to be read for the domains and classes.
    pub fn is_complete(&self) -> bool {
        self.domains.is_some() && self.classes.is_some()
    }

    /// The dataset, with what its folder shows where nothing else says it.
    ///
    /// # Errors
    /// [`SpecError`] where domains or classes are still unknown, or a name cannot be one.
    pub fn complete(self, found: Option<&DatasetSpec>) -> Result<DatasetSpec, SpecError> {
        let Self { name, domains, classes, split_by, layout, missing_classes } = self;
        check_dataset_name(&name)?;
        let domains = domains.or_else(|| found.map(|found| found.domains.clone()));
        let classes = classes.or_else(|| found.map(|found| found.classes.clone()));
        let (Some(domains), Some(classes)) = (domains, classes) else {
            return Err(SpecError::UnknownDataset { name, known: catalogue::names().join(", ") });
        };
        Ok(DatasetSpec {
            name,
            domains: domain_names(domains)?,
            classes: sorted_names("data.classes", classes)?,
            split_by: split_by.or(found.map(|found| found.split_by)).unwrap_or(SplitBy::Image),
            layout: layout.unwrap_or_default(),
            missing_classes,
        })
    }
}

impl SweepFile {
    /// What it and the catalogue say of its dataset; none without one.
    ///
    /// # Errors
    /// [`SpecError`], one line that names the key, the value and what is allowed.
    pub fn dataset(&self) -> Result<Option<DatasetRequest>, SpecError> {
        self.data.as_ref().map(DataTable::request).transpose()
    }

    /// Whether it runs a command, which reads the folder of its dataset in its own way.
    pub fn is_command(&self) -> bool {
        self.run.is_some()
    }
}

impl DataTable {
    pub(super) fn request(&self) -> Result<DatasetRequest, SpecError> {
        check_dataset_name(&self.dataset)?;
        let layout = match &self.layout {
            None => None,
            Some(text) => match text.parse::<Layout>() {
                Ok(layout) => Some(layout),
                Err(allowed) => return wrong("data.layout", text, allowed.to_string()),
            },
        };
        let request = DatasetRequest {
            name: self.dataset.clone(),
            domains: self.domains.clone(),
            classes: self.classes.clone(),
            split_by: self.group,
            layout,
            missing_classes: self.missing_classes.unwrap_or_default(),
        };
        Ok(request.with_catalogue())
    }
}

fn check_dataset_name(name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with(['.', '-', '+']) {
        let allowed = "1 to 100 letters, digits, '.', '_', '-' and '+', not starting with '.', '-' or '+'";
        return wrong("data.dataset", name, allowed);
    }
    Ok(())
}

/// Names of domains, sorted. Tables and columns join the names of held-out domains by `+`, so no name may have one.
pub(super) fn domain_names(names: Vec<String>) -> Result<Vec<String>, SpecError> {
    no_plus("data.domains", &names)?;
    sorted_names("data.domains", names)
}

/// Names of folders, sorted as the loader sorts them: the order decides domain indices and class labels.
fn sorted_names(key: &str, mut names: Vec<String>) -> Result<Vec<String>, SpecError> {
    names.sort();
    let distinct = names.is_sorted_by(|a, b| a < b);
    // Only names of domains are joined by '+'.
    if !(2..=100_000).contains(&names.len())
        || !distinct
        || !names.iter().all(|name| is_folder_name(&name.replace('+', "_")))
    {
        let allowed =
            "2 or more different folder names without '/', '\\', control characters, or a leading '.'";
        return wrong(key, names, allowed);
    }
    Ok(names)
}
