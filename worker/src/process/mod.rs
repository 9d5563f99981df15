//! The process of an attempt: how it is started, and what its output means.

pub(crate) mod child;
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod metric_lines;
