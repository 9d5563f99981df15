//! What fuzz targets need of this crate: its readers of files that others made.

use std::path::Path;

use crate::error::TrialError;

/// Reads every tensor of a weights file, whatever its format. Gives how many there are.
///
/// # Errors
/// One line that names the file.
pub fn read_weights(path: &Path) -> Result<usize, TrialError> {
    crate::model::read_all(path)
}

/// Reads the bytes of a checkpoint.
///
/// # Errors
/// One line.
pub fn read_checkpoint(bytes: &[u8]) -> Result<(), String> {
    crate::training::check_checkpoint(bytes)
}
