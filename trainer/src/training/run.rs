//! The training loop of one trial.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::Method;
use tch::{TchError, Tensor};

use super::checkpoints::{ArtifactFolder, CheckpointManager, spec_hash};
use super::evaluation::{EvalSplit, evaluation_logits};
use super::inputs::{BatchRequest, EVALUATION_BATCH, Prefetcher};
use super::prepare::prepare;
use super::reporter::Reporter;
use super::state::TrialState;
use super::{TrialEnvironment, TrialSink};
use crate::error::TrialError;
use crate::libtorch::PendingValue;
use crate::model;

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
    let result = catch_unwind(AssertUnwindSafe(|| run(spec, environment, sink)));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the trial panicked without a message")
}

fn run(
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    let mut state = prepare(model::load, spec, environment, sink)?;
    let artifacts = &environment.artifacts;
    let open = |url: &String| ArtifactFolder::open(url, spec_hash(spec).to_string(), artifacts.token.0);
    let folder = artifacts.store.as_ref().map(open).transpose()?;
    let mut checkpoints = CheckpointManager::new(folder, artifacts)?;
    let mut reporter = Reporter::new(sink);
    checkpoints.resume(&artifacts.checkpoints, &mut state, &mut reporter)?;
    let result = train(&mut state, &mut checkpoints, &mut reporter, &environment.stop);
    if matches!(result, Err(TrialError::Preempted)) {
        checkpoints.save_before_stop(&mut state, &mut reporter)?;
    }
    result
}

/// The training loop. It ends with [`TrialError::Preempted`] where the trial is asked to stop.
fn train(
    state: &mut TrialState,
    checkpoints: &mut CheckpointManager,
    reporter: &mut Reporter,
    stop: &AtomicBool,
) -> Result<(), TrialError> {
    let (progress, spec) = (&state.progress, state.spec);
    let keep_selected = checkpoints.keeps_selected_weights();
    let first = progress.step.map_or(0, |step| step + 1);
    let pending = progress.step.filter(|&step| !progress.evaluated && spec.is_evaluation_step(step));
    let requests = state.source.requests(first, pending);
    let mut prefetcher = Prefetcher::start(&state.source, prefetcher_threads(), requests)?;
    if let Some(step) = pending {
        evaluate_step(step, state, &mut prefetcher, reporter, keep_selected, stop)?;
    }
    for step in first..=spec.settings.steps {
        update(step, state, &mut prefetcher, reporter)?;
        check_stop(stop)?;
        if spec.is_evaluation_step(step) {
            evaluate_step(step, state, &mut prefetcher, reporter, keep_selected, stop)?;
        }
        state.progress.evaluated = true;
        checkpoints.save_if_due(step, state, reporter)?;
    }
    reporter.report_losses(0, &mut state.progress)?;
    checkpoints.save_results(state, reporter)
}

/// Makes one update on a batch from every training domain. Its loss, the batch's mean before the update, is reported after the next
/// update, so that a GPU does not wait until the host has read it.
pub(super) fn update(
    step: u64,
    state: &mut TrialState,
    prefetcher: &mut Prefetcher,
    reporter: &mut Reporter,
) -> Result<(), TrialError> {
    let batch = prefetcher.next(BatchRequest::Train { step })?;
    let before = state.fingerprint.micro_batch;
    let (loss, gradient) = state.gradient(&batch)?;
    if state.fingerprint.micro_batch != before {
        reporter.report_micro_batch(&state.fingerprint)?;
    }
    reporter.add_loss(PendingValue::start(&loss)?);
    state.update(step, gradient)?;
    reporter.report_losses(1, &mut state.progress)
}

/// Evaluates every method on every split after the update of a step, and reports it. `keep_selected`: whether the weights of a method's
/// best step are kept in memory until they are saved.
pub(super) fn evaluate_step(
    step: u64,
    state: &mut TrialState,
    prefetcher: &mut Prefetcher,
    reporter: &mut Reporter,
    keep_selected: bool,
    stop: &AtomicBool,
) -> Result<(), TrialError> {
    reporter.report_losses(0, &mut state.progress)?;
    let mut labels = BTreeMap::new();
    let mut logits: BTreeMap<Method, BTreeMap<EvalSplit, Tensor>> = BTreeMap::new();
    for eval_split in state.source.eval_splits() {
        let (split_labels, by_method) = split_logits(step, eval_split, state, prefetcher, stop)?;
        labels.insert(eval_split, split_labels);
        for (method, split_logits) in by_method {
            logits.entry(method).or_default().insert(eval_split, split_logits);
        }
    }
    let TrialState { spec, trajectory, .. } = &mut *state;
    if spec.is_in_ensemble(step) {
        trajectory.ensemble_in(&logits[&Method::Plain])?;
    }
    if spec.settings.ensemble.is_some() && trajectory.ensembled > 0 {
        let mean = 1.0 / trajectory.ensembled as f64;
        let means = trajectory.ensemble.iter().map(|(split, sum)| Ok((*split, sum.f_mul_scalar(mean)?)));
        logits.insert(Method::Ensemble, means.collect::<Result<_, TchError>>()?);
    }
    let evaluations = state.evaluate_all(step, &logits, &labels, reporter.seconds())?;
    reporter.report_evaluations(step, &evaluations)?;
    reporter.report_memory(state.parameters.values().device())?;
    state.record_best(step, &evaluations, keep_selected)?;
    state.progress.evaluations.extend(evaluations);
    state.progress.evaluated = true;
    if step == state.spec.settings.steps {
        state.final_logits = logits;
    }
    Ok(())
}

/// The labels of a split, and the logits of the current weights and of their average, if there is one.
pub(super) fn split_logits(
    step: u64,
    eval_split: EvalSplit,
    state: &mut TrialState,
    prefetcher: &mut Prefetcher,
    stop: &AtomicBool,
) -> Result<(Tensor, Vec<(Method, Tensor)>), TrialError> {
    let TrialState { source, network, parameters, trajectory, .. } = state;
    let n = source.indices(eval_split).len();
    let (mut labels, mut plain, mut averaged) = (Vec::new(), Vec::new(), Vec::new());
    for from in (0..n).step_by(EVALUATION_BATCH) {
        let to = n.min(from + EVALUATION_BATCH);
        let batch = prefetcher.next(BatchRequest::Evaluate { step, eval_split, from, to })?;
        plain.push(evaluation_logits(network, &batch.inputs)?);
        if let Some(average) = &trajectory.average {
            averaged.push(parameters.with_values(average, || evaluation_logits(network, &batch.inputs))?);
        }
        labels.push(batch.labels);
        check_stop(stop)?;
    }
    let mut by_method = vec![(Method::Plain, Tensor::f_cat(&plain, 0)?)];
    if !averaged.is_empty() {
        by_method.push((Method::Average, Tensor::f_cat(&averaged, 0)?));
    }
    Ok((Tensor::f_cat(&labels, 0)?, by_method))
}

/// Fails with [`TrialError::Preempted`] where the trial was asked to stop.
pub(super) fn check_stop(stop: &AtomicBool) -> Result<(), TrialError> {
    if stop.load(Ordering::Relaxed) { Err(TrialError::Preempted) } else { Ok(()) }
}

/// A quarter of the threads that train, because making batches is the smaller part of the work.
pub(super) fn prefetcher_threads() -> i32 {
    (tch::get_num_threads() / 4).max(1)
}
