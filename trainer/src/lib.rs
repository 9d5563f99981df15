//! The trainer: fine-tunes pretrained networks on the images of some domains and measures them on the others. The only crate that links
//! libtorch.
//!
//! `libtorch` is what tch lacks, `model` holds pretrained networks, `training` runs one trial from its specification to its last
//! evaluation, `process` is the program's side of a worker's agent, `commands` answers users' requests.

pub mod commands;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod libtorch;
pub mod model;
pub mod process;
pub mod training;
