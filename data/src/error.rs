//! Why a dataset cannot be read.

use std::path::{Path, PathBuf};

/// Why a dataset cannot be read or prepared. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// This machine's images are missing, unreadable, or not what the specification says.
    #[error("{}: {reason}", path.display())]
    BadData {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that cannot be understood: it is the same wherever the dataset is.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine lacks something besides the images: room on a disk, a permission.
    #[error("{0}")]
    Machine(String),
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
        Self::BadData { path: path.to_path_buf(), reason: first_line(&reason.to_string()) }
    }

    /// A [`DataError::Damaged`] at this path.
    pub fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: first_line(&reason.to_string()) }
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no reason was given").to_owned()
}
