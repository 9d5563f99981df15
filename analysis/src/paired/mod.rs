//! Compares two settings trial by trial, and the difference with the noise across seeds.

mod compare;
mod comparison;
mod keys;
mod noise;
mod text;

pub use compare::paired;
pub use comparison::{Comparison, DomainDifference, Paired, PairedError, SideChoice};
