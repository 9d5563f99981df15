//! How long tables may become.

/// Settings that a table lists.
pub(super) const ROWS_MAX: usize = 60;
