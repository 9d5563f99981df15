//! What a trial leaves: checkpoints while it runs, weights and logits at its end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sortie_core::artifact::ArtifactKind;
use sortie_core::keep::Keep;
use sortie_core::metrics::{Evaluation, Method};
use tch::{TchError, Tensor};

use super::TrialSink;
use super::kept::Kept;
use super::run::Trial;
use super::saver::{Job, Saved, Saver};
use super::stopwatch::now;
use super::trajectory::{Part, Snapshot};
use crate::error::TrialError;

/// Checkpoints take at most this share of the time.
const COST_SHARE_MAX: f64 = 0.02;
/// How long before its end a trial that `sortie verify` kills is checkpointed: steps, so that some of them are made twice.
const STEPS_BEFORE_KILL: u64 = 3;

/// When and what a trial leaves.
pub(super) struct Leaver {
    pub(super) saver: Saver,
    /// Whether there is a store at all.
    pub(super) can_save: bool,
    pub(super) keep: Keep,
    pub(super) interval_min: Duration,
    /// When the last checkpoint was taken.
    pub(super) last: Instant,
    /// What it cost, in seconds.
    pub(super) cost: f64,
    /// See [`super::Artifacts::kill_at`]; none once resumed.
    pub(super) kill_at: Option<u64>,
    /// Of the last evaluation.
    pub(super) final_logits: BTreeMap<Method, BTreeMap<Part, Tensor>>,
}

impl Leaver {
    fn is_due(&self) -> bool {
        let interval = self.interval_min.as_secs_f64().max(self.cost / COST_SHARE_MAX);
        self.can_save && self.saver.is_free() && self.last.elapsed().as_secs_f64() >= interval
    }

    fn tell(&mut self, saved: Saved, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        match saved.result {
            Ok(artifact) => {
                if saved.is_checkpoint {
                    self.cost += saved.seconds;
                }
                sink.artifact(&artifact).map_err(TrialError::Sink)
            }
            // Training goes on without this checkpoint; the next may be written.
            Err(reason) if saved.is_checkpoint => {
                eprintln!("warning: a checkpoint could not be written: {reason}");
                Ok(())
            }
            Err(reason) => {
                Err(TrialError::Other(format!("what the trial leaves could not be written: {reason}")))
            }
        }
    }

    fn tell_finished(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        self.saver.finished().into_iter().try_for_each(|saved| self.tell(saved, sink))
    }

    fn tell_all(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        while let Some(saved) = self.saver.wait() {
            self.tell(saved, sink)?;
        }
        Ok(())
    }
}

impl Trial<'_> {
    /// Checkpoints when the time has come; ends the process where `sortie verify` wants it.
    pub(super) fn checkpoint_if_due(
        &mut self,
        step: u64,
        sink: &mut dyn TrialSink,
    ) -> Result<(), TrialError> {
        self.leaver.tell_finished(sink)?;
        // After the last evaluation only what is left of the trial is to be written, logits among it, which no checkpoint has.
        if self.leaver.is_due() && step < self.spec.settings.steps {
            self.checkpoint(sink)?;
        }
        if let Some(kill_at) = self.leaver.kill_at {
            if self.leaver.can_save && step + STEPS_BEFORE_KILL == kill_at {
                self.checkpoint(sink)?;
                self.leaver.tell_all(sink)?;
            }
            if step == kill_at {
                self.tell_losses(0, sink)?;
                // What was said went into the pipe at once, so this ends the process as a power cut would, between two steps.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        }
        Ok(())
    }

    /// Checkpoints and ends where the trial was asked to stop.
    pub(super) fn leave_if_asked(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.leaver.can_save {
            self.checkpoint(sink)?;
        }
        self.tell_losses(0, sink)?;
        self.leaver.tell_all(sink)?;
        Err(TrialError::Preempted)
    }

    fn checkpoint(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        self.tell_losses(0, sink)?;
        let begun = now();
        let checkpoint = self.to_checkpoint()?;
        self.leaver.saver.save(Job::Checkpoint(Box::new(checkpoint)));
        self.leaver.last = now();
        self.leaver.cost = begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// Notes which step is each method's best, and its weights where they are kept.
    pub(super) fn note_best(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), TrialError> {
        for method in self.spec.methods() {
            let is_best = self.trajectory.is_best(method, step, evaluations, &self.spec.point.held_out);
            if is_best && self.leaver.keep.weights.selected() && method != Method::Ensemble {
                let values = self.values_of(method).f_detach_copy()?;
                let buffers = self
                    .network
                    .live_buffers()
                    .iter()
                    .map(|buffer| buffer.tensor.f_detach_copy())
                    .collect::<Result<_, _>>()?;
                self.trajectory.selected.insert(method, Snapshot { values, buffers });
            }
        }
        Ok(())
    }

    /// The flat buffer of a method's weights; an average that has not begun is the plain model.
    fn values_of(&self, method: Method) -> &Tensor {
        let average = self.trajectory.average.as_ref().filter(|_| method == Method::Average);
        average.unwrap_or(self.parameters.values())
    }

    /// Writes, or digests, what is left at the end.
    pub(super) fn leave_results(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        let (last, keep) = (self.spec.settings.steps, self.leaver.keep);
        for method in self.spec.methods().into_iter().filter(|&method| method != Method::Ensemble) {
            let buffers = self.network.live_buffers().into_iter().map(|buffer| buffer.tensor).collect();
            let snapshot = Snapshot { values: self.values_of(method).shallow_clone(), buffers };
            self.leave_weights(ArtifactKind::FinalWeights, method, last, &snapshot, keep.weights.last())?;
            let best = self.trajectory.best.get(&method).map_or(last, |(_, step)| *step);
            if let Some(snapshot) = self.trajectory.selected.remove(&method) {
                self.leave_weights(ArtifactKind::SelectedWeights, method, best, &snapshot, true)?;
            }
        }
        self.leave_logits();
        self.leave_all(sink)
    }

    /// Waits until everything is written, and tells it.
    pub(super) fn leave_all(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        self.leaver.tell_all(sink)
    }

    /// Writes, or digests, the logits of the last evaluation.
    pub(super) fn leave_logits(&mut self) {
        let (last, keep) = (self.spec.settings.steps, self.leaver.keep);
        for (method, parts) in std::mem::take(&mut self.leaver.final_logits) {
            let domains = &self.spec.settings.dataset.domains;
            let tensors = parts
                .into_iter()
                .map(|((domain, split), logits)| (format!("{}/{split}", domains[domain]), logits))
                .collect();
            self.leaver.saver.save(Job::Tensors {
                kind: ArtifactKind::FinalLogits,
                method,
                step: last,
                tensors,
                about: None,
                keep: keep.logits,
            });
        }
    }

    fn leave_weights(
        &mut self,
        kind: ArtifactKind,
        method: Method,
        step: u64,
        snapshot: &Snapshot,
        keep: bool,
    ) -> Result<(), TrialError> {
        let about = Some(Box::new(Kept { spec: self.spec.clone(), method, step }));
        let tensors = self.network_tensors(snapshot)?;
        self.leaver.saver.save(Job::Tensors { kind, method, step, tensors, about, keep });
        Ok(())
    }

    /// A whole network by the names of its tensors: what was trained, what moved, what stayed.
    fn network_tensors(&self, snapshot: &Snapshot) -> Result<HashMap<String, Tensor>, TchError> {
        let trained =
            self.parameters.named(&snapshot.values)?.into_iter().map(|named| (named.name, named.tensor));
        let buffers = self.network.live_buffers().into_iter().zip(&snapshot.buffers);
        let moved = buffers.map(|(named, tensor)| (named.name, tensor.shallow_clone()));
        let frozen = self.network.frozen_tensors().into_iter().map(|named| (named.name, named.tensor));
        trained
            .chain(moved)
            .chain(frozen)
            .map(|(name, tensor)| Ok((name, tensor.f_detach()?.f_contiguous()?)))
            .collect()
    }
}
