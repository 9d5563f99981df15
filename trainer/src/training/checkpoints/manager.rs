//! Decides when a trial writes a checkpoint, and which weights and logits it saves at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sortie_core::artifact::ArtifactKind;
use sortie_core::finetune::FinetuneSpec;
use sortie_core::keep::Keep;
use sortie_core::metrics::Method;
use tch::Tensor;

use super::super::environment::Artifacts;
use super::super::evaluation::{EvalSplit, SavedModel, Snapshot};
use super::super::reporter::Reporter;
use super::super::state::TrialState;
use super::super::stopwatch::now;
use super::ArtifactFolder;
use super::artifact_writer::{ArtifactWriter, WriteJob, WriteResult};
use crate::error::TrialError;

/// Checkpoints take at most this share of the time.
const COST_SHARE_MAX: f64 = 0.02;
/// A trial that `sortie verify` kills is checkpointed this many steps earlier, so that the next attempt repeats some steps.
const STEPS_BEFORE_KILL: u64 = 3;

/// When and what a trial writes.
pub(crate) struct CheckpointManager {
    writer: ArtifactWriter,
    /// Whether checkpoints are written. They need an artifact store.
    pub(crate) enabled: bool,
    keep: Keep,
    interval_min: Duration,
    /// When the last checkpoint was taken, or the trial resumed.
    last: Instant,
    /// Seconds that the last checkpoint took.
    cost: f64,
    /// See [`Artifacts::kill_at`]; none once resumed.
    pub(crate) kill_at: Option<u64>,
    /// The logits of the last evaluation.
    pub(crate) final_logits: BTreeMap<Method, BTreeMap<EvalSplit, Tensor>>,
}

impl CheckpointManager {
    /// Starts the thread that writes. Without a folder nothing is written.
    pub(crate) fn new(folder: Option<ArtifactFolder>, artifacts: &Artifacts) -> Result<Self, TrialError> {
        Ok(Self {
            enabled: folder.is_some(),
            writer: ArtifactWriter::start(folder, &artifacts.checkpoints)?,
            keep: artifacts.keep,
            interval_min: artifacts.interval_min,
            last: now(),
            cost: 0.0,
            kill_at: artifacts.kill_at,
            final_logits: BTreeMap::new(),
        })
    }

    /// Whether the weights of the best step are saved too.
    pub(crate) fn keeps_selected_weights(&self) -> bool {
        self.keep.weights.selected()
    }

    /// Whether it is time for a checkpoint.
    pub(crate) fn is_due(&self) -> bool {
        let interval = self.interval_min.as_secs_f64().max(self.cost / COST_SHARE_MAX);
        self.enabled && self.writer.is_free() && self.last.elapsed().as_secs_f64() >= interval
    }

    /// Whether this step is the one before a planned kill at which a checkpoint is written.
    pub(crate) fn is_due_before_kill(&self, step: u64) -> bool {
        self.enabled && self.kill_at == Some(step + STEPS_BEFORE_KILL)
    }

    /// Restarts the interval after a resume, and cancels the planned kill.
    pub(crate) fn resumed(&mut self) {
        self.kill_at = None;
        self.last = now();
    }

    /// Copies the state and starts to write it.
    pub(crate) fn save_checkpoint(&mut self, state: &TrialState) -> Result<(), TrialError> {
        let begun = now();
        let checkpoint = state.to_checkpoint()?;
        self.writer.write(WriteJob::Checkpoint(Box::new(checkpoint)));
        self.last = now();
        self.cost = begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// Reports the files that were written since the last call.
    pub(crate) fn report_finished(&mut self, reporter: &mut Reporter) -> Result<(), TrialError> {
        self.writer.finished().into_iter().try_for_each(|result| self.report(result, reporter))
    }

    /// Waits until all files are written, and reports them.
    pub(crate) fn wait_for_writes(&mut self, reporter: &mut Reporter) -> Result<(), TrialError> {
        while let Some(result) = self.writer.wait() {
            self.report(result, reporter)?;
        }
        Ok(())
    }

    fn report(&mut self, written: WriteResult, reporter: &mut Reporter) -> Result<(), TrialError> {
        match written.result {
            Ok(artifact) => {
                if written.is_checkpoint {
                    self.cost += written.seconds;
                }
                reporter.report_artifact(&artifact)
            }
            // Training continues without this checkpoint. The next one may succeed.
            Err(reason) if written.is_checkpoint => {
                eprintln!("warning: a checkpoint could not be written: {reason}");
                Ok(())
            }
            Err(reason) => {
                Err(TrialError::Other(format!("the trial's results could not be written: {reason}")))
            }
        }
    }

    /// Writes the final and the selected weights, or computes their digests.
    pub(crate) fn save_weights(&mut self, state: &mut TrialState) -> Result<(), TrialError> {
        let (spec, last) = (state.spec, state.spec.settings.steps);
        let keep_last = self.keep.weights.last();
        for method in spec.methods().into_iter().filter(|&method| method != Method::Ensemble) {
            let snapshot = state.snapshot(method);
            self.save_snapshot(state, ArtifactKind::FinalWeights, method, last, &snapshot, keep_last)?;
            let best = state.trajectory.best.get(&method).map_or(last, |(_, step)| *step);
            if let Some(snapshot) = state.trajectory.selected.remove(&method) {
                self.save_snapshot(state, ArtifactKind::SelectedWeights, method, best, &snapshot, true)?;
            }
        }
        Ok(())
    }

    fn save_snapshot(
        &mut self,
        state: &TrialState,
        kind: ArtifactKind,
        method: Method,
        step: u64,
        snapshot: &Snapshot,
        keep: bool,
    ) -> Result<(), TrialError> {
        let saved_model = Some(Box::new(SavedModel { spec: state.spec.clone(), method, step }));
        let tensors = state.network_tensors(snapshot)?;
        self.writer.write(WriteJob::Tensors { kind, method, step, tensors, saved_model, keep });
        Ok(())
    }

    /// Writes the logits of the last evaluation, or computes their digests.
    pub(crate) fn save_logits(&mut self, spec: &FinetuneSpec) {
        for (method, by_split) in std::mem::take(&mut self.final_logits) {
            let name = |split: EvalSplit| split.logits_name(&spec.settings.dataset);
            let tensors = by_split.into_iter().map(|(split, logits)| (name(split), logits)).collect();
            self.writer.write(WriteJob::Tensors {
                kind: ArtifactKind::FinalLogits,
                method,
                step: spec.settings.steps,
                tensors,
                saved_model: None,
                keep: self.keep.logits,
            });
        }
    }
}
