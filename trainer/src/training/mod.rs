//! Runs one trial, from its specification to its last evaluation, exactly as docs/protocol.md says.
//!
//! Reading order: `prepare` loads everything that a trial needs, and `run` is the training loop ([`run_trial`]). The loop borrows three
//! parts: `state` is what training changes, `checkpoints` writes files and restores the state, `reporter` passes results on.
//! `micro_batches` computes a step in parts.
//! `inputs` makes batches ahead of their use, `network` is backbone, dropout and last layer, `optimisation` updates the trained tensors,
//! `evaluation` scores logits, averages weights and reads saved models. `combine` evaluates ensembles and averages of ended trials.
//! `measure` times the loop, `warm_up` does what a process does once.

mod checkpoints;
mod combine;
mod device;
mod environment;
mod evaluation;
mod inputs;
mod measure;
mod micro_batches;
mod network;
mod optimisation;
mod preparation;
mod prepare;
mod reporter;
mod run;
mod state;
mod stopwatch;
mod warm_up;

#[cfg(feature = "fuzzing")]
pub(crate) use checkpoints::check_checkpoint;
pub use combine::run_combination;
pub use device::ComputeDevice;
pub use environment::{Artifacts, TrialEnvironment, TrialSink};
pub use evaluation::{DomainLogits, LoadedNetwork, SavedModel};
pub use inputs::{Augmentation, Crop, Jitter, Normaliser, Sample, draw_batch};
pub use measure::{NetworkSpeed, measure_network};
pub use network::{Network, dropout_mask, initial_head};
pub use optimisation::{Optimiser, Parameters, Update};
pub use run::run_trial;
pub(crate) use stopwatch::now;
pub use warm_up::warm_up;
