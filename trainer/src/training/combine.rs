//! Ensembles and averages over trials that have ended. Nothing is trained; the combination is evaluated at the members' last step.
//!
//! Sums are taken in double precision in the order of the members, so the same members give the same numbers. An interrupted
//! combination starts from the beginning, because it only evaluates.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sortie_core::artifact::ArtifactKind;
use sortie_core::combine::{Choice, CombinationKind, Member};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::pipe::CombinationAssignment;
use sortie_core::selection::mean;
use tch::{Device, Kind, Tensor, no_grad};

use super::checkpoints::{ArtifactFolder, fill, read_tensors};
use super::evaluation::{EvalSplit, evaluate};
use super::inputs::{BatchRequest, Prefetcher};
use super::run::{Trial, panic_text, prefetcher_threads};
use super::{TrialEnvironment, TrialSink};
use crate::error::TrialError;

/// Evaluates a combination at its members' last step, on everything that they are evaluated on. The result is reported as the plain model.
///
/// # Errors
/// See [`TrialError`]; a member's file that is missing or damaged is named with the member.
pub fn run_combination(
    order: &CombinationAssignment,
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    // As for a trial that trains: see `run_trial`.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let store = environment.artifacts.store.as_ref();
        let store = store.ok_or_else(|| {
            TrialError::Other(
                "a combination needs an artifact store, and this worker reaches none".to_owned(),
            )
        })?;
        let folder = ArtifactFolder::open(store, order.trial_id.to_string(), environment.artifacts.token.0)?;
        let mut trial = Trial::start_as(order.trial_id, spec, environment, sink)?;
        // A combination writes no checkpoints.
        trial.checkpoints.enabled = false;
        Combiner { order, folder, trial }.run()
    }));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

/// A combination in the making. The terms of its sum are lists of tensors: the logits of each split, or the weights.
struct Combiner<'a> {
    order: &'a CombinationAssignment,
    folder: ArtifactFolder,
    /// Its network is that of the members. Its weights are those that are being evaluated.
    trial: Trial<'a>,
}

impl Combiner<'_> {
    fn run(mut self) -> Result<(), TrialError> {
        let order = self.order;
        let (sum, count) = match order.combination.choice {
            Choice::Uniform => {
                let mut sum = self.terms(&order.members[0])?;
                for member in &order.members[1..] {
                    sum = added(&sum, &self.terms(member)?)?;
                    self.trial.stop_if_requested()?;
                }
                (sum, order.members.len())
            }
            Choice::Greedy => self.greedy()?,
        };
        let mean = divided(&sum, count)?;
        let step = self.trial.state.spec.settings.steps;
        match order.combination.kind {
            CombinationKind::Average => {
                self.set_weights(&mean)?;
                let mut prefetcher = self.prefetcher(|_| true)?;
                self.trial.evaluate(step, &mut prefetcher)?;
                self.trial.save_results()
            }
            CombinationKind::Ensemble => {
                let eval_splits = self.trial.state.source.eval_splits();
                let logits: Vec<(EvalSplit, Tensor)> = eval_splits.into_iter().zip(mean).collect();
                let evaluations = logits
                    .iter()
                    .map(|(split, logits)| self.evaluation_of(*split, logits))
                    .collect::<Result<Vec<_>, _>>()?;
                self.trial.reporter.report_evaluations(step, &evaluations)?;
                let single =
                    logits.into_iter().map(|(split, logits)| Ok((split, logits.f_to_kind(Kind::Float)?)));
                self.trial
                    .checkpoints
                    .final_logits
                    .insert(Method::Plain, single.collect::<Result<_, TrialError>>()?);
                self.trial.checkpoints.save_logits(self.trial.state.spec);
                self.trial.checkpoints.wait_for_writes(&mut self.trial.reporter)
            }
        }
    }

    /// The sum over the members that a greedy choice takes, and their count. It reads training domains only.
    fn greedy(&mut self) -> Result<(Vec<Tensor>, usize), TrialError> {
        let order = self.order;
        let mut ranked = Vec::with_capacity(order.members.len());
        for (position, member) in order.members.iter().enumerate() {
            let logits = self.logits(member)?;
            ranked.push((self.iid_of_logits(&logits)?, position));
            self.trial.stop_if_requested()?;
        }
        // The best member first; of equal members the earlier one.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut taken: Option<(Vec<Tensor>, usize, f64)> = None;
        for (own, position) in ranked {
            let terms = self.terms(&order.members[position])?;
            let (sum, count) = match &taken {
                None => (terms, 1),
                Some((sum, count, _)) => (added(sum, &terms)?, count + 1),
            };
            let accuracy = self.iid(&divided(&sum, count)?)?;
            let takes = taken.as_ref().is_none_or(|(_, _, best)| accuracy >= *best);
            let (decision, id) =
                (if takes { "taken" } else { "left out" }, order.members[position].trial_id.short());
            eprintln!(
                "member {id}: i.i.d. accuracy {own:.4} alone, {accuracy:.4} with it as one of {count}: {decision}"
            );
            if takes {
                taken = Some((sum, count, accuracy));
            }
            self.trial.stop_if_requested()?;
        }
        let (sum, count, _) =
            taken.ok_or_else(|| TrialError::BadConfig("a combination without members".to_owned()))?;
        Ok((sum, count))
    }

    /// What a member adds to the sum, in double precision.
    fn terms(&mut self, member: &Member) -> Result<Vec<Tensor>, TrialError> {
        match self.order.combination.kind {
            CombinationKind::Ensemble => self.logits(member),
            CombinationKind::Average => {
                let mut tensors = read_tensors(&self.read(member, ArtifactKind::FinalWeights)?)
                    .map_err(|reason| damaged(member, &reason))?;
                let network = &self.trial.state.network;
                let own = network
                    .body_parameters()
                    .into_iter()
                    .chain(network.head_parameters())
                    .chain(network.live_buffers());
                fill(own, &mut tensors).map_err(|reason| damaged(member, &reason))?;
                no_grad(|| self.weights().iter().map(|tensor| Ok(tensor.f_to_kind(Kind::Double)?)).collect())
            }
        }
    }

    /// A member's final logits of every split, in double precision.
    fn logits(&self, member: &Member) -> Result<Vec<Tensor>, TrialError> {
        let mut tensors = read_tensors(&self.read(member, ArtifactKind::FinalLogits)?)
            .map_err(|reason| damaged(member, &reason))?;
        let source = &self.trial.state.source;
        let dataset = &source.spec.settings.dataset;
        let mut found = Vec::new();
        for eval_split in source.eval_splits() {
            let name = eval_split.logits_name(dataset);
            let size = [source.indices(eval_split).len() as i64, dataset.classes.len() as i64];
            let logits = tensors
                .remove(&name)
                .ok_or_else(|| damaged(member, &format!("it lacks the logits of {name}")))?;
            if logits.size() != size {
                return Err(damaged(
                    member,
                    &format!("the logits of {name} are {:?} where {size:?} belongs", logits.size()),
                ));
            }
            found.push(logits.f_to_kind(Kind::Double)?);
        }
        Ok(found)
    }

    fn read(&self, member: &Member, kind: ArtifactKind) -> Result<Vec<u8>, TrialError> {
        let id = member.trial_id.short();
        let Some(file) = member.file(kind) else {
            let reason = format!(
                "member {id} left no {kind}: `[keep]` of the sweep that ran it kept none; submit this one under another name with --no-reuse"
            );
            return Err(TrialError::BadConfig(reason));
        };
        self.folder.read(&file.key, &file.digest).map_err(|reason| match member.host.as_str() {
            "" => TrialError::Other(format!("cannot read the {kind} of member {id}: {reason}")),
            // The worker is not at fault, and an attempt on another host would not find the file either.
            host => TrialError::BadConfig(format!(
                "cannot read the {kind} of member {id}, which lies on {host}'s own disk: combinations need a store that all workers share \
                 (docs/artifacts.md)"
            )),
        })
    }

    /// The i.i.d. accuracy of what is evaluated with this mean of the terms.
    fn iid(&mut self, mean: &[Tensor]) -> Result<f64, TrialError> {
        if self.order.combination.kind == CombinationKind::Ensemble {
            return self.iid_of_logits(mean);
        }
        self.set_weights(mean)?;
        let mut prefetcher = self.prefetcher(|split| self.is_training(split))?;
        let mut evaluations = Vec::new();
        for eval_split in self.training_splits() {
            let (_, logits) =
                self.trial.split_logits(self.trial.state.spec.settings.steps, eval_split, &mut prefetcher)?;
            for (_, logits) in logits {
                evaluations.push(self.evaluation_of(eval_split, &logits)?);
            }
        }
        Ok(iid_of(&evaluations))
    }

    fn iid_of_logits(&self, logits: &[Tensor]) -> Result<f64, TrialError> {
        let eval_splits = self.trial.state.source.eval_splits();
        let training = eval_splits.into_iter().zip(logits).filter(|(split, _)| self.is_training(*split));
        Ok(iid_of(
            &training
                .map(|(split, logits)| self.evaluation_of(split, logits))
                .collect::<Result<Vec<_>, _>>()?,
        ))
    }

    fn training_splits(&self) -> Vec<EvalSplit> {
        let eval_splits = self.trial.state.source.eval_splits().into_iter();
        eval_splits.filter(|split| self.is_training(*split)).collect()
    }

    fn is_training(&self, EvalSplit { domain, .. }: EvalSplit) -> bool {
        !self.trial.state.spec.is_held_out(&self.trial.state.spec.settings.dataset.domains[domain])
    }

    fn evaluation_of(&self, eval_split: EvalSplit, logits: &Tensor) -> Result<Evaluation, TrialError> {
        let source = &self.trial.state.source;
        let EvalSplit { domain, split } = eval_split;
        let labels: Vec<i64> = source
            .indices(eval_split)
            .iter()
            .map(|&index| source.images.label(domain, index) as i64)
            .collect();
        let (score, loss) = evaluate(&logits.f_to_device(Device::Cpu)?, &Tensor::f_from_slice(&labels)?)?;
        let (settings, method) = (&source.spec.settings, Method::Plain);
        Ok(Evaluation {
            method,
            step: settings.steps,
            domain: settings.dataset.domains[domain].clone(),
            split,
            score,
            loss: Some(loss),
        })
    }

    /// Everything that training moved. Of networks that are averaged, BatchNorm statistics are among it only in linear fine-tuning, where
    /// they are those of the pretrained features: every member estimates the same ones, independent of its training.
    fn weights(&self) -> Vec<Tensor> {
        let buffers = self.trial.state.network.live_buffers().into_iter().map(|buffer| buffer.tensor);
        std::iter::once(self.trial.state.parameters.values().shallow_clone()).chain(buffers).collect()
    }

    fn set_weights(&self, mean: &[Tensor]) -> Result<(), TrialError> {
        self.weights()
            .iter_mut()
            .zip(mean)
            .try_for_each(|(tensor, mean)| no_grad(|| tensor.f_copy_(mean)))?;
        Ok(())
    }

    /// Makes the batches of the evaluation of some splits.
    fn prefetcher(&self, wanted: impl Fn(EvalSplit) -> bool) -> Result<Prefetcher, TrialError> {
        let mut requests = self.trial.state.source.evaluation(self.trial.state.spec.settings.steps);
        requests.retain(
            |request| matches!(request, BatchRequest::Evaluate { eval_split, .. } if wanted(*eval_split)),
        );
        Prefetcher::start(&self.trial.state.source, prefetcher_threads(), requests.into_iter())
    }
}

fn iid_of(evaluations: &[Evaluation]) -> f64 {
    mean(&evaluations.iter().map(Evaluation::accuracy).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

fn added(sum: &[Tensor], terms: &[Tensor]) -> Result<Vec<Tensor>, TrialError> {
    no_grad(|| sum.iter().zip(terms).map(|(sum, term)| Ok(sum.f_add(term)?)).collect())
}

fn divided(sum: &[Tensor], count: usize) -> Result<Vec<Tensor>, TrialError> {
    no_grad(|| sum.iter().map(|sum| Ok(sum.f_div_scalar(count as f64)?)).collect())
}

fn damaged(member: &Member, reason: &str) -> TrialError {
    TrialError::Other(format!("the file of member {} cannot be used: {reason}", member.trial_id.short()))
}
