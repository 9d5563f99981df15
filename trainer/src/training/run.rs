//! The training loop of one trial.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::Method;
use tch::{TchError, Tensor};

use super::checkpoints::CheckpointManager;
use super::evaluation::{EvalSplit, evaluation_logits};
use super::inputs::{BatchRequest, EVALUATION_BATCH, Prefetcher};
use super::reporter::Reporter;
use super::state::TrialState;
use super::{TrialEnvironment, TrialSink};
use crate::error::TrialError;
use crate::libtorch::PendingValue;

/// Runs a trial to its end: `steps + 1` updates, and evaluations after the update of each evaluation step. Everything is reported to
/// `sink`. The trial continues from a checkpoint of another attempt where the environment names one that can be read.
///
/// The same specification gives the same numbers, byte for byte, wherever the [`Fingerprint`](sortie_core::record::Fingerprint) is the
/// same, however often the trial was interrupted. It sets the process's libtorch threads, so a process runs one trial at a time.
///
/// # Errors
/// See [`TrialError`]; [`TrialError::Diverged`] ends the trial at the first training loss that is not finite. A panic of a library
/// becomes [`TrialError::Other`], or out of memory where its text says so. No panic leaves this function.
pub fn run_trial(
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    // Nothing that a panic could leave half-changed outlives the trial: its state is dropped, and the caller ends the process.
    let result = catch_unwind(AssertUnwindSafe(|| Trial::start(spec, environment, sink)?.run()));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the trial panicked without a message")
}

/// The loop of a trial, with its three parts.
pub(super) struct Trial<'a> {
    pub(super) state: TrialState<'a>,
    pub(super) checkpoints: CheckpointManager,
    pub(super) reporter: Reporter<'a>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Trial<'_> {
    fn run(&mut self) -> Result<(), TrialError> {
        let (progress, spec) = (&self.state.progress, self.state.spec);
        let first = progress.step.map_or(0, |step| step + 1);
        let pending = progress.step.filter(|&step| !progress.evaluated && spec.is_evaluation_step(step));
        let requests = self.state.source.requests(first, pending);
        let mut prefetcher = Prefetcher::start(&self.state.source, prefetcher_threads(), requests)?;
        if let Some(step) = pending {
            self.evaluate(step, &mut prefetcher)?;
        }
        for step in first..=spec.settings.steps {
            self.update(step, &mut prefetcher)?;
            self.stop_if_requested()?;
            if spec.is_evaluation_step(step) {
                self.evaluate(step, &mut prefetcher)?;
            }
            self.state.progress.evaluated = true;
            self.checkpoint_if_due(step)?;
        }
        self.report_losses(0)?;
        self.save_results()
    }

    /// Makes one update on a batch from every training domain. Its loss, the batch's mean before the update, is reported after the next
    /// update, so that a GPU does not wait until the host has read it.
    pub(super) fn update(&mut self, step: u64, prefetcher: &mut Prefetcher) -> Result<(), TrialError> {
        let batch = prefetcher.next(BatchRequest::Train { step })?;
        let loss = self.state.loss(&batch)?;
        self.reporter.add_loss(PendingValue::start(&loss)?);
        self.state.update(step, &loss)?;
        self.report_losses(1)
    }

    /// Reports the losses of all updates but the last `pending_max`.
    pub(super) fn report_losses(&mut self, pending_max: usize) -> Result<(), TrialError> {
        self.reporter.report_losses(pending_max, &mut self.state.progress)
    }

    /// Evaluates every method on every split.
    pub(super) fn evaluate(&mut self, step: u64, prefetcher: &mut Prefetcher) -> Result<(), TrialError> {
        self.report_losses(0)?;
        let mut labels = BTreeMap::new();
        let mut logits: BTreeMap<Method, BTreeMap<EvalSplit, Tensor>> = BTreeMap::new();
        for eval_split in self.state.source.eval_splits() {
            let (split_labels, by_method) = self.split_logits(step, eval_split, prefetcher)?;
            labels.insert(eval_split, split_labels);
            for (method, split_logits) in by_method {
                logits.entry(method).or_default().insert(eval_split, split_logits);
            }
        }
        let TrialState { spec, trajectory, .. } = &mut self.state;
        if spec.is_in_ensemble(step) {
            trajectory.ensemble_in(&logits[&Method::Plain])?;
        }
        if spec.settings.ensemble.is_some() && trajectory.ensembled > 0 {
            let mean = 1.0 / trajectory.ensembled as f64;
            let means = trajectory.ensemble.iter().map(|(split, sum)| Ok((*split, sum.f_mul_scalar(mean)?)));
            logits.insert(Method::Ensemble, means.collect::<Result<_, TchError>>()?);
        }
        let evaluations = self.state.evaluate_all(step, &logits, &labels)?;
        self.reporter.report_evaluations(step, &evaluations)?;
        self.state.record_best(step, &evaluations, self.checkpoints.keeps_selected_weights())?;
        self.state.progress.evaluations.extend(evaluations);
        self.state.progress.evaluated = true;
        if step == self.state.spec.settings.steps {
            self.checkpoints.final_logits = logits;
        }
        Ok(())
    }

    /// The labels of a split, and the logits of the current weights and of their average, if there is one.
    pub(super) fn split_logits(
        &mut self,
        step: u64,
        eval_split: EvalSplit,
        prefetcher: &mut Prefetcher,
    ) -> Result<(Tensor, Vec<(Method, Tensor)>), TrialError> {
        let n = self.state.source.indices(eval_split).len();
        let (mut labels, mut plain, mut averaged) = (Vec::new(), Vec::new(), Vec::new());
        for from in (0..n).step_by(EVALUATION_BATCH) {
            let to = n.min(from + EVALUATION_BATCH);
            let batch = prefetcher.next(BatchRequest::Evaluate { step, eval_split, from, to })?;
            let TrialState { network, parameters, trajectory, .. } = &mut self.state;
            plain.push(evaluation_logits(network, &batch.inputs)?);
            if let Some(average) = &trajectory.average {
                averaged.push(parameters.with_values(average, || evaluation_logits(network, &batch.inputs))?);
            }
            labels.push(batch.labels);
            self.stop_if_requested()?;
        }
        let mut by_method = vec![(Method::Plain, Tensor::f_cat(&plain, 0)?)];
        if !averaged.is_empty() {
            by_method.push((Method::Average, Tensor::f_cat(&averaged, 0)?));
        }
        Ok((Tensor::f_cat(&labels, 0)?, by_method))
    }

    /// Writes a checkpoint when one is due. Ends the process where `sortie verify` asks for it.
    fn checkpoint_if_due(&mut self, step: u64) -> Result<(), TrialError> {
        self.checkpoints.report_finished(&mut self.reporter)?;
        // After the last evaluation only the results are written. No checkpoint holds the logits that are among them.
        if self.checkpoints.is_due() && step < self.state.spec.settings.steps {
            self.checkpoint()?;
        }
        if self.checkpoints.is_due_before_kill(step) {
            self.checkpoint()?;
            self.checkpoints.wait_for_writes(&mut self.reporter)?;
        }
        if self.checkpoints.kill_at == Some(step) {
            self.report_losses(0)?;
            // Every report is in the pipe already, so this ends the process as a power cut would, between two steps.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Ok(())
    }

    /// Writes a checkpoint and ends with [`TrialError::Preempted`] where the trial was asked to stop.
    pub(super) fn stop_if_requested(&mut self) -> Result<(), TrialError> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.checkpoints.enabled {
            self.checkpoint()?;
        }
        self.report_losses(0)?;
        self.checkpoints.wait_for_writes(&mut self.reporter)?;
        Err(TrialError::Preempted)
    }

    fn checkpoint(&mut self) -> Result<(), TrialError> {
        self.report_losses(0)?;
        self.checkpoints.save_checkpoint(&self.state)
    }

    /// Writes weights and logits of the end, or computes their digests, and reports them.
    pub(super) fn save_results(&mut self) -> Result<(), TrialError> {
        self.checkpoints.save_weights(&mut self.state)?;
        self.checkpoints.save_logits(self.state.spec);
        self.checkpoints.wait_for_writes(&mut self.reporter)
    }
}

/// A quarter of the threads that train, because making batches is the smaller part of the work.
pub(super) fn prefetcher_threads() -> i32 {
    (tch::get_num_threads() / 4).max(1)
}
