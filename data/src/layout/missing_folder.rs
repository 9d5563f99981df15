//! A dataset's folder that is not there, perhaps because it is spelled in another way.

use std::path::Path;

use super::entries::{Ignored, entries};
use crate::error::DataError;

/// The error, with the folder beside it whose name differs only in case and signs.
pub(super) fn missing_folder(root: &Path, name: &str) -> DataError {
    let reason = match similar(root, name) {
        Some(other) => format!("the dataset's folder is missing; there is {other}"),
        None => "the dataset's folder is missing".to_owned(),
    };
    DataError::bad_data(&root.join(name), reason)
}

fn similar(root: &Path, name: &str) -> Option<String> {
    let letters = |name: &str| -> String {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    // A root that cannot be read has no folder to propose.
    let there = entries(root, &mut Ignored::default()).unwrap_or_default();
    let mut folders = there.into_iter().filter(|entry| entry.is_folder).map(|entry| entry.name);
    folders.find(|other| letters(other) == letters(name))
}
