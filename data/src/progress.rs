//! Progress and cancellation of long work on a dataset.

use crate::error::DataError;

/// Told by whatever reads or writes whole datasets, from several threads.
pub trait Progress: Sync {
    /// A part of the work begins: what it is, as a lower-case fragment, and how many images it has to pass.
    fn begin(&self, what: &str, images: u64);

    /// So many images more are done.
    fn advance(&self, images: u64);

    /// Whether to stop. What was half done then leaves nothing behind.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// What stopped work ends with.
pub(super) fn go_on(progress: &dyn Progress) -> Result<(), DataError> {
    if progress.is_cancelled() {
        Err(DataError::Other("interrupted; nothing half-made was left".into()))
    } else {
        Ok(())
    }
}
