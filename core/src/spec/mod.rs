//! A sweep: a user's file, checked and with all defaults.
//!
//! [`mod@file`] reads the TOML strictly; this module checks every value, names what is wrong in one line, and turns the file into a
//! [`SweepSpec`], from which [`crate::plan`] plans trials.

mod alone;
mod axis;
mod check;
mod combine;
mod dataset;
mod differences;
mod error;
pub mod file;
mod grid;
mod grow;
mod imported;
mod one_or_many;
mod random;
mod resubmission;
mod sweep;
mod syntax;
mod text;
mod train;
mod values;
mod varied;
mod verification;
mod warnings;
mod written;

pub use axis::Axis;
pub use dataset::DatasetRequest;
pub use error::{Change, SpecError};
pub use imported::{FurtherRecord, FurtherRecords, Imported, SkippedRun};
pub use resubmission::Resubmission;
pub use sweep::{Grid, SweepSpec};
pub use verification::{CHECKPOINT_STEPS_BEFORE, Verification};
