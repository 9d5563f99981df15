//! A sweep as one HTML page that loads nothing: no script, no font, no picture. Pure: the caller asks the coordinator, writes the file and
//! knows the time.

mod build;
mod data;
mod document;
mod figures;
mod joint;
mod noise;
mod origin;
mod page;
mod progress;
mod question;
mod selection;
mod setup;
mod tables;

pub use build::report;
pub use joint::joint_report;
pub use question::{ReportQuestion, ReportSubject};

use data::Report;
