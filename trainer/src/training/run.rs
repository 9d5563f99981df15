//! One trial from start to end.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method, TrainingLoss};
use sortie_core::record::Fingerprint;
use tch::{Reduction, TchError, Tensor, no_grad};

use super::evaluate::judge;
use super::inputs::{Batch, EVALUATION_BATCH, Feeder, Request, Source};
use super::leave::Leaver;
use super::trajectory::{Part, Trajectory};
use super::{Network, Optimiser, Parameters, TrialEnvironment, TrialSink};
use crate::error::TrialError;
use crate::libtorch::Reading;
use crate::model::Pass;

/// Runs a trial to its end: `steps + 1` updates, evaluations after the update of each evaluation step, everything told to `sink`. Goes on
/// from a checkpoint of another attempt where the environment names one that can be read.
///
/// The same specification gives the same numbers, byte for byte, wherever the [`Fingerprint`] is the same, however often the trial was
/// interrupted. It sets the process's libtorch threads, so a process runs one trial at a time.
///
/// # Errors
/// See [`TrialError`]; [`TrialError::Diverged`] ends the trial at the first training loss that is not finite. A panic of a library
/// becomes [`TrialError::Other`], or out of memory where its text says so: none leaves this function.
pub fn run_trial(
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    // Nothing that a panic could leave half-changed outlives the trial: state is dropped with it, and the caller ends its process.
    let result = catch_unwind(AssertUnwindSafe(|| Trial::start(spec, environment, sink)?.run(sink)));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the trial panicked without a message")
}

/// A trial while it runs.
pub(super) struct Trial<'a> {
    pub(super) spec: &'a FinetuneSpec,
    pub(super) source: Arc<Source>,
    pub(super) network: Network,
    pub(super) parameters: Parameters,
    pub(super) optimiser: Optimiser,
    pub(super) trajectory: Trajectory,
    pub(super) fingerprint: Fingerprint,
    pub(super) leaver: Leaver,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Progress,
    /// Losses of the last updates, which are not among the progress yet.
    pub(super) untold: VecDeque<Reading>,
}

/// How far a trial is, and what it told so far.
#[derive(Default)]
pub(super) struct Progress {
    /// The last step whose update is made; none before the first.
    pub(super) step: Option<u64>,
    /// Whether the evaluation after it, if there is one, is made too.
    pub(super) evaluated: bool,
    pub(super) losses: Vec<f64>,
    pub(super) evaluations: Vec<Evaluation>,
}

impl Progress {
    /// The losses with their steps.
    pub(super) fn training_losses(&self) -> Vec<TrainingLoss> {
        (0..).zip(&self.losses).map(|(step, &loss)| TrainingLoss { step, loss }).collect()
    }
}

impl Trial<'_> {
    fn run(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        let first = self.progress.step.map_or(0, |step| step + 1);
        let pending =
            self.progress.step.filter(|&step| !self.progress.evaluated && self.spec.is_evaluation_step(step));
        let mut feeder =
            Feeder::start(&self.source, self.feeder_threads(), self.source.requests(first, pending))?;
        if let Some(step) = pending {
            self.evaluate(step, &mut feeder, sink)?;
        }
        for step in first..=self.spec.settings.steps {
            self.update(step, &mut feeder, sink)?;
            self.leave_if_asked(sink)?;
            if self.spec.is_evaluation_step(step) {
                self.evaluate(step, &mut feeder, sink)?;
            }
            self.progress.evaluated = true;
            self.checkpoint_if_due(step, sink)?;
        }
        self.tell_losses(0, sink)?;
        self.leave_results(sink)
    }

    /// A quarter of the threads that train: making batches is the smaller part of the work.
    pub(super) fn feeder_threads(&self) -> i32 {
        (tch::get_num_threads() / 4).max(1)
    }

    /// One update on a batch from every training domain. Its loss, the batch's mean before the update, is told after the next one: a GPU
    /// need not stand still until the host has read it.
    pub(super) fn update(
        &mut self,
        step: u64,
        feeder: &mut Feeder,
        sink: &mut dyn TrialSink,
    ) -> Result<(), TrialError> {
        let batch = feeder.next(Request::Train { step })?;
        let logits = self.network.logits(&batch.inputs, batch.mask.as_ref(), Pass::Train)?;
        let loss = logits.f_cross_entropy_loss(&batch.labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
        self.untold.push_back(Reading::start(&loss)?);
        self.optimiser.step(&self.parameters, &loss, self.spec.lr_at(step))?;
        if self.spec.is_averaged(step) {
            self.trajectory.average_in(self.parameters.values())?;
        }
        (self.progress.step, self.progress.evaluated) = (Some(step), false);
        self.tell_losses(1, sink)
    }

    /// Tells the losses of all updates but the last `untold` ones. One that is not finite ends the trial.
    pub(super) fn tell_losses(&mut self, untold: usize, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        while self.untold.len() > untold {
            let Some(reading) = self.untold.pop_front() else { break };
            let (step, loss) = (self.progress.losses.len() as u64, reading.value()?);
            if !loss.is_finite() {
                return Err(TrialError::Diverged { step, loss });
            }
            self.progress.losses.push(loss);
            sink.trained(step, loss).map_err(TrialError::Sink)?;
        }
        Ok(())
    }

    /// Judges every model of the trajectory on every part.
    pub(super) fn evaluate(
        &mut self,
        step: u64,
        feeder: &mut Feeder,
        sink: &mut dyn TrialSink,
    ) -> Result<(), TrialError> {
        self.tell_losses(0, sink)?;
        let mut labels = BTreeMap::new();
        let mut logits: BTreeMap<Method, BTreeMap<Part, Tensor>> = BTreeMap::new();
        for part in self.source.parts() {
            let (part_labels, by_method) = self.part_logits(step, part, feeder, sink)?;
            labels.insert(part, part_labels);
            for (method, part_logits) in by_method {
                logits.entry(method).or_default().insert(part, part_logits);
            }
        }
        if self.spec.is_in_ensemble(step) {
            self.trajectory.ensemble_in(&logits[&Method::Plain])?;
        }
        if self.spec.settings.ensemble.is_some() && self.trajectory.ensembled > 0 {
            let mean = 1.0 / self.trajectory.ensembled as f64;
            let means =
                self.trajectory.ensemble.iter().map(|(part, sum)| Ok((*part, sum.f_mul_scalar(mean)?)));
            logits.insert(Method::Ensemble, means.collect::<Result<_, TchError>>()?);
        }
        let evaluations = self.judge_all(step, &logits, &labels)?;
        sink.evaluated(step, &evaluations).map_err(TrialError::Sink)?;
        self.note_best(step, &evaluations)?;
        self.progress.evaluations.extend(evaluations);
        self.progress.evaluated = true;
        if step == self.spec.settings.steps {
            self.leaver.final_logits = logits;
        }
        Ok(())
    }

    /// The labels of a part, and the logits of the weights as they stand and of their average, if there is one.
    pub(super) fn part_logits(
        &mut self,
        step: u64,
        part: Part,
        feeder: &mut Feeder,
        sink: &mut dyn TrialSink,
    ) -> Result<(Tensor, Vec<(Method, Tensor)>), TrialError> {
        let n = self.source.indices(part).len();
        let (mut labels, mut plain, mut averaged) = (Vec::new(), Vec::new(), Vec::new());
        for from in (0..n).step_by(EVALUATION_BATCH) {
            let request = Request::Evaluate { step, part, from, to: n.min(from + EVALUATION_BATCH) };
            let batch = feeder.next(request)?;
            plain.push(self.plain_logits(&batch)?);
            if let Some(average) = &self.trajectory.average {
                let network = &self.network;
                averaged.push(self.parameters.with_values(average, || evaluated(network, &batch.inputs))?);
            }
            labels.push(batch.labels);
            self.leave_if_asked(sink)?;
        }
        let mut by_method = vec![(Method::Plain, Tensor::f_cat(&plain, 0)?)];
        if !averaged.is_empty() {
            by_method.push((Method::Average, Tensor::f_cat(&averaged, 0)?));
        }
        Ok((Tensor::f_cat(&labels, 0)?, by_method))
    }

    /// The logits of an evaluation batch, of the weights as they stand.
    pub(super) fn plain_logits(&self, batch: &Batch) -> Result<Tensor, TrialError> {
        Ok(evaluated(&self.network, &batch.inputs)?)
    }

    /// One evaluation for each method and part. A method that has nothing of its own yet is the plain model.
    fn judge_all(
        &self,
        step: u64,
        logits: &BTreeMap<Method, BTreeMap<Part, Tensor>>,
        labels: &BTreeMap<Part, Tensor>,
    ) -> Result<Vec<Evaluation>, TrialError> {
        let mut evaluations: Vec<Evaluation> = Vec::new();
        for method in self.spec.methods() {
            match logits.get(&method) {
                Some(parts) => {
                    for part @ (domain, split) in self.source.parts() {
                        let (score, loss) = judge(&parts[&part], &labels[&part])?;
                        let domain = self.spec.settings.dataset.domains[domain].clone();
                        evaluations.push(Evaluation { method, step, domain, split, score, loss: Some(loss) });
                    }
                }
                None => {
                    let plain = evaluations.iter().filter(|evaluation| evaluation.method == Method::Plain);
                    let same: Vec<_> =
                        plain.map(|evaluation| Evaluation { method, ..evaluation.clone() }).collect();
                    evaluations.extend(same);
                }
            }
        }
        Ok(evaluations)
    }
}

/// The logits of an evaluation batch.
///
/// On a GPU, a batch that is smaller than others is filled up by repeating its first image: a GPU's libraries prepare for each size of batch
/// that they meet, which takes longer than the images do.
fn evaluated(network: &Network, inputs: &Tensor) -> Result<Tensor, TchError> {
    let mut size = inputs.size();
    let n = size[0];
    no_grad(|| {
        if n >= EVALUATION_BATCH as i64 || !inputs.device().is_cuda() {
            return network.logits(inputs, None, Pass::Evaluate);
        }
        size[0] = EVALUATION_BATCH as i64 - n;
        let whole =
            Tensor::f_cat(&[inputs.shallow_clone(), inputs.f_narrow(0, 0, 1)?.f_expand(size, false)?], 0)?;
        network.logits(&whole, None, Pass::Evaluate)?.f_narrow(0, 0, n)
    })
}
