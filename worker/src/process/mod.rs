//! The process of an attempt: how it is started, and what its output means.

pub(crate) mod child;
pub(crate) mod escapes;
mod json_objects;
pub(crate) mod launch;
pub(crate) mod lines;
mod metric_line;
pub(crate) mod metric_lines;
pub(crate) mod metrics_record;
mod secrets;
mod unused_output;
pub(crate) mod waiting;
