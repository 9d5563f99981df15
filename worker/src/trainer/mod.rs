//! Runs one trial, from its specification to its last evaluation, exactly as docs/protocol.md says.
//!
//! Reading order: [`run_trial`] is the loop; `batch` turns image indices into network inputs, by `augment` (what to do, drawn on the
//! host from counters), `resize` and `colour` (doing it, in tensors on the device); `network` is backbone, dropout and last layer; `sgd`
//! updates; `evaluate` counts.

mod augment;
mod batch;
mod colour;
mod device;
mod environment;
mod evaluate;
mod network;
mod resize;
mod run;
mod sgd;

pub use augment::{Augmentation, Crop, Jitter};
pub use batch::{Normaliser, Sample, draw_batch};
pub use device::ComputeDevice;
pub use environment::{TrialEnvironment, TrialSink};
pub use network::{Network, dropout_mask, initial_head};
pub use run::run_trial;
pub use sgd::{Group, Sgd};
