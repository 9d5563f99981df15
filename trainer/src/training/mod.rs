//! Runs one trial, from its specification to its last evaluation, exactly as docs/protocol.md says.
//!
//! Reading order: `prepare` makes everything ready, [`run_trial`] is the loop, `inputs` makes batches ahead of their use: `batch` turns
//! images into network inputs, by `augment` (what to do, drawn on the host from counters), `resize` and `colour` (doing it, in tensors on
//! the device). `network` is backbone, dropout and last layer; `parameters` are its trained tensors in one buffer, which `optimiser`
//! updates; `evaluate` counts; `trajectory` averages weights and sums logits. `leave` decides what goes into the artifact store, `saver`
//! writes it, `checkpoint` is the file, and `resume` goes on from one. `combine` evaluates ensembles and averages over trials that have
//! ended. Beside trials, `kept` evaluates networks that they left, and
//! `measure` puts the loop on the clock.

mod augment;
mod batch;
mod checkpoint;
mod colour;
mod combine;
mod device;
mod environment;
mod evaluate;
mod inputs;
mod kept;
mod leave;
mod measure;
mod network;
mod optimiser;
mod parameters;
mod preparation;
mod prepare;
mod resize;
mod resume;
mod run;
mod saver;
mod stopwatch;
mod trajectory;

pub use augment::{Augmentation, Crop, Jitter};
pub use batch::{Normaliser, Sample, draw_batch};
pub use combine::run_combination;
pub use device::ComputeDevice;
pub use environment::{Artifacts, TrialEnvironment, TrialSink};
pub use kept::{DomainLogits, Kept, ReadyNetwork};
pub use measure::{NetworkSpeed, measure_network};
pub use network::{Network, dropout_mask, initial_head};
pub use optimiser::{Optimiser, Update};
pub use parameters::Parameters;
pub use run::run_trial;
