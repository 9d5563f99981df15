//! Where a trial runs and to whom it reports: nothing here may change its numbers, except as a [`Fingerprint`] says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::job::Token;
use sortie_core::keep::Keep;
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::pipe::Preparation;
use sortie_core::record::Fingerprint;

use super::ComputeDevice;
use crate::error::SinkError;

/// What a trial is given by the machine that runs it.
#[derive(Clone, Debug)]
pub struct TrialEnvironment {
    /// The folder that holds the dataset's folder.
    pub data_root: PathBuf,
    /// The folder that `cargo xtask setup` fills: `weights/`, and libtorch's CUDA set.
    pub cache_dir: PathBuf,
    /// Where the network computes.
    pub device: ComputeDevice,
    /// CPU threads for libtorch and for decoding; libtorch's own choice if none.
    pub threads: Option<usize>,
    /// Where the trial's files go, and from which it may go on.
    pub artifacts: Artifacts,
    /// Set when the trial is asked to stop: it checkpoints and ends as preempted.
    pub stop: Arc<AtomicBool>,
}

/// Where a trial's files go, and from which it may go on.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The URL of the artifact store; without one nothing is written, and digests alone are told.
    pub store: Option<String>,
    /// The attempt, which names the files that it writes.
    pub token: Token,
    /// What other attempts left to go on from, the best first; any that is missing or damaged is passed over.
    pub checkpoints: Vec<CheckpointRef>,
    /// What is left of the trial besides its metrics.
    pub keep: Keep,
    /// Nothing is checkpointed more often than this, and never so often that it costs more than a fiftieth of the time.
    pub interval_min: Duration,
    /// Checkpoint three steps before this one and end by SIGKILL after its update, unless resumed: for `sortie verify`.
    pub kill_at: Option<u64>,
}

impl Default for Artifacts {
    fn default() -> Self {
        let (checkpoints, interval_min) = (Vec::new(), Duration::from_secs(30));
        Self { store: None, token: Token(0), checkpoints, keep: Keep::default(), interval_min, kill_at: None }
    }
}

/// Receives what a trial has to say, as it happens. An error ends the trial.
pub trait TrialSink: Send {
    /// Data and weights are loaded; the first step follows.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError>;

    /// The trial goes on where another attempt stopped; this is what that one had told up to there.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn resumed(
        &mut self,
        resumed: &Resumed,
        losses: &[TrainingLoss],
        evaluations: &[Evaluation],
    ) -> Result<(), SinkError>;

    /// Something is prepared before the first step, so far. Most receivers need not know.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn preparing(&mut self, preparation: &Preparation) -> Result<(), SinkError> {
        let _ = preparation;
        Ok(())
    }

    /// One update was made; `loss` is the batch's mean cross entropy before it, in nats.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn trained(&mut self, step: u64, loss: f64) -> Result<(), SinkError>;

    /// The evaluations after the update of `step`: method by method, `out` of each training domain, then `in` and `out` of each held-out
    /// one.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError>;

    /// A file was left in the artifact store, or would have been.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn artifact(&mut self, artifact: &Artifact) -> Result<(), SinkError>;
}
