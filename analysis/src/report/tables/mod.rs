//! The tables of results.

mod accuracy;
mod plain;
mod settings;

pub(super) use settings::{appendix, section};
