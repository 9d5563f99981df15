//! Decides when a trial writes a checkpoint, from which one it continues, and which weights and logits it saves at its end.

use std::time::{Duration, Instant};

use sortie_core::artifact::{ArtifactKind, CheckpointRef, Resumed};
use sortie_core::keep::Keep;
use sortie_core::metrics::Method;

use super::super::environment::Artifacts;
use super::super::evaluation::{EvalSplit, SavedModel, Snapshot};
use super::super::reporter::Reporter;
use super::super::state::TrialState;
use super::super::stopwatch::now;
use super::artifact_writer::{ArtifactWriter, WriteJob, WriteResult};
use super::{ArtifactFolder, Checkpoint};
use crate::error::TrialError;

/// Checkpoints take at most this share of the time.
const COST_SHARE_MAX: f64 = 0.02;
/// A trial that `sortie verify` kills is checkpointed this many steps earlier, so that the next attempt repeats some steps.
const STEPS_BEFORE_KILL: u64 = 3;

/// When and what a trial writes, and what it continues from.
pub(crate) struct CheckpointManager {
    /// Without an artifact store there is none, and no checkpoint is written.
    folder: Option<ArtifactFolder>,
    writer: ArtifactWriter,
    keep: Keep,
    interval_min: Duration,
    /// When the last checkpoint was taken, or the trial resumed.
    last: Instant,
    /// Seconds that the last checkpoint took.
    cost: f64,
    /// See [`Artifacts::kill_at`]; none once resumed.
    kill_at: Option<u64>,
}

impl CheckpointManager {
    /// Starts the thread that writes. Without a folder nothing is written.
    pub(crate) fn new(folder: Option<ArtifactFolder>, artifacts: &Artifacts) -> Result<Self, TrialError> {
        Ok(Self {
            writer: ArtifactWriter::start(folder.clone(), &artifacts.checkpoints)?,
            folder,
            keep: artifacts.keep,
            interval_min: artifacts.interval_min,
            last: now(),
            cost: 0.0,
            kill_at: artifacts.kill_at,
        })
    }

    /// Restores the state of the first of these checkpoints that can be read, and reports what it had reported. Without one the trial
    /// starts from step 0. A trial that is resumed is not killed.
    pub(crate) fn resume(
        &mut self,
        candidates: &[CheckpointRef],
        state: &mut TrialState,
        reporter: &mut Reporter,
    ) -> Result<(), TrialError> {
        let Some(folder) = &self.folder else { return reporter.report_beginning(0) };
        for reference in candidates {
            let restored = folder
                .read(&reference.key, &reference.digest)
                .and_then(|bytes| Checkpoint::from_bytes(&bytes))
                .and_then(|checkpoint| state.restore(checkpoint));
            match restored {
                Ok(exact) => {
                    let resumed = Resumed { token: reference.token, step: reference.step, exact };
                    (self.kill_at, self.last) = (None, now());
                    if state.fingerprint.micro_batch.is_some() {
                        reporter.report_micro_batch(&state.fingerprint)?;
                    }
                    return reporter.report_resumed(&resumed, &state.progress);
                }
                Err(reason) => {
                    eprintln!("warning: the checkpoint {} is passed over: {reason}", reference.key)
                }
            }
        }
        reporter.report_beginning(candidates.len())
    }

    /// Whether the weights of the best step are saved too.
    pub(crate) fn keeps_selected_weights(&self) -> bool {
        self.keep.weights.selected()
    }

    /// Writes a checkpoint when one is due. Ends the process where `sortie verify` asks for it.
    pub(crate) fn save_if_due(
        &mut self,
        step: u64,
        state: &mut TrialState,
        reporter: &mut Reporter,
    ) -> Result<(), TrialError> {
        self.report_finished(reporter)?;
        // After the last evaluation only the results are written. No checkpoint holds the logits that are among them.
        if self.is_due() && step < state.spec.settings.steps {
            self.save_checkpoint(state, reporter)?;
        }
        if self.is_due_before_kill(step) {
            self.save_checkpoint(state, reporter)?;
            self.wait_for_writes(reporter)?;
        }
        if self.kill_at == Some(step) {
            reporter.report_losses(0, &mut state.progress)?;
            // Every report is in the pipe already, so this ends the process as a power cut would, between two steps.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        let interval = self.interval_min.as_secs_f64().max(self.cost / COST_SHARE_MAX);
        self.folder.is_some() && self.writer.is_free() && self.last.elapsed().as_secs_f64() >= interval
    }

    /// Whether this step is the one before a planned kill at which a checkpoint is written.
    fn is_due_before_kill(&self, step: u64) -> bool {
        self.folder.is_some() && self.kill_at == Some(step + STEPS_BEFORE_KILL)
    }

    /// Reports all losses, copies the state and starts to write it.
    fn save_checkpoint(&mut self, state: &mut TrialState, reporter: &mut Reporter) -> Result<(), TrialError> {
        reporter.report_losses(0, &mut state.progress)?;
        let begun = now();
        let checkpoint = state.to_checkpoint()?;
        self.writer.write(WriteJob::Checkpoint(Box::new(checkpoint)));
        self.last = now();
        self.cost = begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// Writes a checkpoint for the attempt after this one, which was asked to stop.
    pub(crate) fn save_before_stop(
        &mut self,
        state: &mut TrialState,
        reporter: &mut Reporter,
    ) -> Result<(), TrialError> {
        if self.folder.is_some() {
            self.save_checkpoint(state, reporter)?;
        }
        reporter.report_losses(0, &mut state.progress)?;
        self.wait_for_writes(reporter)
    }

    /// Writes weights and logits of the end, or computes their digests, and reports them.
    pub(crate) fn save_results(
        &mut self,
        state: &mut TrialState,
        reporter: &mut Reporter,
    ) -> Result<(), TrialError> {
        self.save_weights(state)?;
        self.save_logits(state, reporter)
    }

    /// Writes the final and the selected weights, or computes their digests.
    fn save_weights(&mut self, state: &mut TrialState) -> Result<(), TrialError> {
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

    /// Writes the logits of the last evaluation, or computes their digests, and reports all results.
    pub(crate) fn save_logits(
        &mut self,
        state: &mut TrialState,
        reporter: &mut Reporter,
    ) -> Result<(), TrialError> {
        let settings = &state.spec.settings;
        for (method, by_split) in std::mem::take(&mut state.final_logits) {
            let name = |split: EvalSplit| split.logits_name(&settings.dataset);
            let tensors = by_split.into_iter().map(|(split, logits)| (name(split), logits)).collect();
            self.writer.write(WriteJob::Tensors {
                kind: ArtifactKind::FinalLogits,
                method,
                step: settings.steps,
                tensors,
                saved_model: None,
                keep: self.keep.logits,
            });
        }
        self.wait_for_writes(reporter)
    }

    /// Reports the files that were written since the last call.
    fn report_finished(&mut self, reporter: &mut Reporter) -> Result<(), TrialError> {
        self.writer.finished().into_iter().try_for_each(|result| self.report(result, reporter))
    }

    /// Waits until all files are written, and reports them.
    fn wait_for_writes(&mut self, reporter: &mut Reporter) -> Result<(), TrialError> {
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
                Err(TrialError::Machine(format!("the trial's results could not be written: {reason}")))
            }
        }
    }
}
