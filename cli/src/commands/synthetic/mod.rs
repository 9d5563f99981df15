//! `sortie synthetic`: a program that looks like a trainer and trains nothing, for demonstrations and tests.

mod curve;
mod run;

pub use run::{Arguments, run};
