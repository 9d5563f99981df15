//! Reads the domains and classes of a dataset from its folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sortie_core::finetune::SplitBy;
use sortie_core::trial::DatasetSpec;

/// The part of `dataset.toml`, beside the domains, that a sweep needs.
#[derive(Debug, Default, Deserialize)]
struct DatasetFile {
    group: Option<SplitBy>,
}

/// Reads `<root>/<dataset>/<domain>/<class>`.
///
/// # Errors
/// One line that names the folder.
pub fn discover(root: &Path, dataset: &str) -> Result<DatasetSpec> {
    let name = dataset.to_owned();
    let folder = root.join(&name);
    let domains = folders(&folder)?;
    let mut classes = BTreeSet::new();
    for domain in &domains {
        classes.extend(folders(&folder.join(domain))?);
    }
    if domains.len() < 2 || classes.len() < 2 {
        bail!(
            "{}: expected at least 2 domains with at least 2 classes, as folders DOMAIN/CLASS",
            folder.display()
        );
    }
    let card = folder.join("dataset.toml");
    let card: DatasetFile = match fs::read_to_string(&card) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}: {}", card.display(), error.message()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => DatasetFile::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", card.display())),
    };
    let split_by = card.group.unwrap_or(SplitBy::Image);
    Ok(DatasetSpec {
        name,
        domains: domains.into_iter().collect(),
        classes: classes.into_iter().collect(),
        split_by,
    })
}

/// The folders in a folder, sorted, without hidden ones.
fn folders(path: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read the folder {}", path.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { bail!("{}: its name is not UTF-8", entry.path().display()) };
        if entry.path().is_dir() && !name.starts_with('.') {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}
