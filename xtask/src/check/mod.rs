//! `cargo xtask test`: everything that CI runs.

mod circles;
mod features;
mod files;
mod run;

pub use run::run;
