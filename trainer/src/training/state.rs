//! The state of a trial while it trains.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method, TrainingLoss};
use sortie_core::record::Fingerprint;
use tch::{Reduction, TchError, Tensor};

use super::evaluation::{EvalSplit, Snapshot, Trajectory, evaluate};
use super::inputs::{Batch, BatchSource};
#[cfg(debug_assertions)]
use super::micro_batches::allocate_as_tests_ask;
use super::micro_batches::{MicroBatches, Part};
use super::{Network, Optimiser, Parameters};
use crate::error::TrialError;
use crate::model::Pass;

/// Everything that decides a trial's numbers. A checkpoint holds all of it that training changes.
pub(super) struct TrialState<'a> {
    pub(super) spec: &'a FinetuneSpec,
    pub(super) source: Arc<BatchSource>,
    pub(super) network: Network,
    pub(super) parameters: Parameters,
    pub(super) optimiser: Optimiser,
    pub(super) micro_batches: MicroBatches,
    pub(super) trajectory: Trajectory,
    pub(super) fingerprint: Fingerprint,
    pub(super) progress: TrainingProgress,
    /// The logits of the last evaluation of a trial. No checkpoint holds them, because only results are written after that evaluation.
    pub(super) final_logits: BTreeMap<Method, BTreeMap<EvalSplit, Tensor>>,
}

/// How far a trial is, and what it has reported so far.
#[derive(Default)]
pub(super) struct TrainingProgress {
    /// The last step whose update is made; none before the first.
    pub(super) step: Option<u64>,
    /// Whether the evaluation after it, if there is one, is made too.
    pub(super) evaluated: bool,
    /// One for each step up to the last.
    pub(super) losses: Vec<TrainingLoss>,
    pub(super) evaluations: Vec<Evaluation>,
}

impl TrainingProgress {
    /// When the latest number was made, in seconds since training began.
    pub(super) fn seconds(&self) -> f64 {
        let losses = self.losses.iter().filter_map(|loss| loss.seconds);
        losses.chain(self.evaluations.iter().filter_map(|evaluation| evaluation.seconds)).fold(0.0, f64::max)
    }
}

impl TrialState<'_> {
    /// The mean loss of a training batch before an update, and its gradient. What memory made of the parts is in the fingerprint.
    pub(super) fn gradient(&mut self, batch: &Batch) -> Result<(Tensor, Tensor), TrialError> {
        let Self { network, parameters, micro_batches, .. } = self;
        let compute = |Part { from, count }| -> Result<_, TrialError> {
            #[cfg(debug_assertions)]
            allocate_as_tests_ask(count)?;
            let of_part = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let mask = batch.mask.as_ref().map(of_part).transpose()?;
            let logits = network.logits(&of_part(&batch.inputs)?, mask.as_ref(), Pass::Train)?;
            let labels = of_part(&batch.labels)?;
            let loss = logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
            let gradient = parameters.gradient(&loss)?;
            Ok((loss.f_detach()?, gradient))
        };
        let result = micro_batches.compute(batch.labels.size1()?, compute);
        self.fingerprint.micro_batch = micro_batches.adapted();
        result
    }

    /// The update of a step, and the average of weights that it may enter.
    pub(super) fn update(&mut self, step: u64, gradient: Tensor) -> Result<(), TchError> {
        self.optimiser.step(&self.parameters, gradient, self.spec.lr_at(step))?;
        if self.spec.is_averaged(step) {
            self.trajectory.average_in(self.parameters.values())?;
        }
        (self.progress.step, self.progress.evaluated) = (Some(step), false);
        Ok(())
    }

    /// One evaluation for each method and split, made after so many seconds. A method without logits of its own has the evaluations of the plain model.
    pub(super) fn evaluate_all(
        &self,
        step: u64,
        logits: &BTreeMap<Method, BTreeMap<EvalSplit, Tensor>>,
        labels: &BTreeMap<EvalSplit, Tensor>,
        seconds: f64,
    ) -> Result<Vec<Evaluation>, TrialError> {
        let mut evaluations: Vec<Evaluation> = Vec::new();
        for method in self.spec.methods() {
            match logits.get(&method) {
                Some(by_split) => {
                    for eval_split in self.source.eval_splits() {
                        let (score, loss) = evaluate(&by_split[&eval_split], &labels[&eval_split])?;
                        let EvalSplit { domain, split } = eval_split;
                        let domain = self.spec.settings.dataset.domains[domain].clone();
                        evaluations.push(Evaluation {
                            method,
                            step,
                            domain,
                            split,
                            score: Some(score),
                            loss: Some(loss),
                            metrics: Default::default(),
                            seconds: Some(seconds),
                        });
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

    /// Records the best step of each method, and its weights where `keep_weights` asks for them.
    pub(super) fn record_best(
        &mut self,
        step: u64,
        evaluations: &[Evaluation],
        keep_weights: bool,
    ) -> Result<(), TrialError> {
        for method in self.spec.methods() {
            let is_best = self.trajectory.is_best(method, step, evaluations, &self.spec.point.held_out);
            if is_best && keep_weights && method != Method::Ensemble {
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

    /// The flat buffer of a method's weights. An average that has not begun is the plain model.
    fn values_of(&self, method: Method) -> &Tensor {
        let average = self.trajectory.average.as_ref().filter(|_| method == Method::Average);
        average.unwrap_or(self.parameters.values())
    }

    /// The weights of a method as they are now; they share storage with the network.
    pub(super) fn snapshot(&self, method: Method) -> Snapshot {
        let buffers = self.network.live_buffers().into_iter().map(|buffer| buffer.tensor).collect();
        Snapshot { values: self.values_of(method).shallow_clone(), buffers }
    }

    /// All tensors of a network by name: trained tensors, moving statistics and frozen tensors.
    pub(super) fn network_tensors(&self, snapshot: &Snapshot) -> Result<HashMap<String, Tensor>, TchError> {
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
