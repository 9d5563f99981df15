//! Where a trial runs and where it reports. Nothing here may change its numbers, except as a [`Fingerprint`] records.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::keep::Keep;
use sortie_core::keys::AttemptToken;
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::packing::DeviceMemory;
use sortie_core::pipe::Preparation;
use sortie_core::record::Fingerprint;

use super::ComputeDevice;
use crate::error::SinkError;

/// The settings of the machine that runs a trial.
#[derive(Clone, Debug)]
pub struct TrialEnvironment {
    /// The folder that holds the dataset's folder.
    pub data_root: PathBuf,
    /// The folder that `cargo xtask setup` fills: `weights/`, and libtorch's CUDA set.
    pub cache_dir: PathBuf,
    /// The device that computes.
    pub device: ComputeDevice,
    /// CPU threads for libtorch and for decoding; libtorch's own choice if none.
    pub threads: Option<usize>,
    /// The artifact store, and the checkpoints that the trial may continue from.
    pub artifacts: Artifacts,
    /// Set when the trial is asked to stop: it checkpoints and ends as preempted.
    pub stop: Arc<AtomicBool>,
}

/// The artifact store of a trial, and the checkpoints that it may continue from.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The URL of the artifact store; without one nothing is written, and only digests are reported.
    pub store: Option<String>,
    /// The attempt, which names the files that it writes.
    pub token: AttemptToken,
    /// Checkpoints of other attempts, the best first. A missing or damaged one is skipped.
    pub checkpoints: Vec<CheckpointRef>,
    /// What is saved of the trial besides its metrics.
    pub keep: Keep,
    /// The shortest time between two checkpoints. It grows where checkpoints would cost more than a fiftieth of the time.
    pub interval_min: Duration,
    /// Checkpoint three steps before this one and end by SIGKILL after its update, unless resumed: for `sortie verify`.
    pub kill_at: Option<u64>,
}

impl Default for Artifacts {
    fn default() -> Self {
        let (checkpoints, keep) = (Vec::new(), Keep::default());
        Self {
            store: None,
            token: AttemptToken(0),
            checkpoints,
            interval_min: keep.checkpoint_interval(),
            keep,
            kill_at: None,
        }
    }
}

/// Receives the reports of a trial as they happen. An error ends the trial.
pub trait TrialSink: Send {
    /// Something is prepared before the first step, so far. Most receivers need not know.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn preparing(&mut self, preparation: &Preparation) -> Result<(), SinkError> {
        let _ = preparation;
        Ok(())
    }

    /// Data and weights are loaded; the first step follows.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError>;

    /// Memory was not enough: from now on a step is computed in the parts that the fingerprint says. Most receivers need not know.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn adapted(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        let _ = fingerprint;
        Ok(())
    }

    /// The trial has needed more memory of its GPU than it had said. Most receivers need not know.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn needed(&mut self, memory: &DeviceMemory) -> Result<(), SinkError> {
        let _ = memory;
        Ok(())
    }

    /// The trial starts from step 0, because it has no checkpoint that can be read; so many were passed over. Most receivers need not know.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn began(&mut self, passed_over: usize) -> Result<(), SinkError> {
        let _ = passed_over;
        Ok(())
    }

    /// The trial continues where another attempt stopped. The losses and evaluations are those that the other attempt had reported.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn resumed(
        &mut self,
        resumed: &Resumed,
        losses: &[TrainingLoss],
        evaluations: &[Evaluation],
    ) -> Result<(), SinkError>;

    /// One update was made; the loss is the batch's before it.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn trained(&mut self, loss: TrainingLoss) -> Result<(), SinkError>;

    /// The evaluations after the update of `step`: method by method, `out` of each training domain, then `in` and `out` of each held-out
    /// one.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError>;

    /// A file was written into the artifact store, or only its digest was computed.
    ///
    /// # Errors
    /// When the receiver is gone.
    fn artifact(&mut self, artifact: &Artifact) -> Result<(), SinkError>;
}
