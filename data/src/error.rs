//! Why a dataset cannot be read.

use std::path::{Path, PathBuf};

/// Why a dataset cannot be read or prepared. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Images are missing, unreadable, or not what the specification says.
    #[error("{}: {reason}", path.display())]
    BadData {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The specification is invalid whatever the images are.
    #[error("{0}")]
    BadConfig(String),
    /// Any other error. Another attempt may succeed.
    #[error("{0}")]
    Other(String),
}

impl DataError {
    /// A [`DataError::BadData`] at this path.
    pub fn bad_data(path: &Path, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        let line = reason.lines().map(str::trim).find(|line| !line.is_empty());
        Self::BadData { path: path.to_path_buf(), reason: line.unwrap_or("no reason was given").to_owned() }
    }
}
