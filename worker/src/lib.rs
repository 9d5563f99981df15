//! The worker of Sortie: fine-tunes pretrained networks on the images of some domains and measures them on the others.
//!
//! `libtorch` is what tch lacks, `data` reads images, `model` holds pretrained networks, `trainer` runs one trial from its specification to its last evaluation.
//! `agent` takes trials from the coordinator and gives each a process of its own, which is `trial_process`.

pub mod agent;
pub mod data;
pub mod error;
mod libtorch;
pub mod model;
pub mod trainer;
pub mod trial_process;
