//! The tables of results.

mod accuracy;
mod limits;
mod plain;
mod settings;

pub(super) use settings::{appendix, section};
