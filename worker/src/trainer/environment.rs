//! Where a trial runs and to whom it reports: nothing here may change its numbers, except as a [`Fingerprint`] says.

use std::path::PathBuf;

use sortie_core::metrics::Evaluation;
use sortie_core::record::Fingerprint;

use super::ComputeDevice;
use crate::error::SinkError;

/// What a trial is given by the machine that runs it.
#[derive(Clone, Debug)]
pub struct TrialEnvironment {
    /// The folder that holds the dataset's folder.
    pub data_root: PathBuf,
    /// The folder that `cargo xtask setup` fills: `weights/`, and libtorch's CUDA set. Decoded images go to its `images/`.
    pub cache_dir: PathBuf,
    /// Where the network computes.
    pub device: ComputeDevice,
    /// CPU threads for libtorch and for decoding; libtorch's own choice if none.
    pub threads: Option<usize>,
}

/// Receives what a trial has to say, as it happens. An error ends the trial.
pub trait TrialSink {
    /// Data and weights are loaded; the first step follows.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError>;

    /// One update was made; `loss` is the batch's mean cross entropy before it, in nats.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn trained(&mut self, step: u64, loss: f64) -> Result<(), SinkError>;

    /// The evaluations after the update of `step`: `out` of each training domain, then `in` and `out` of each held-out domain.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError>;
}
