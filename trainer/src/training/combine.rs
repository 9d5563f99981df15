//! Ensembles and averages over trials that have ended: nothing is trained, only evaluated, at the members' last step.
//!
//! Sums are taken in double precision in the order of the members, so the same members give the same numbers. One that is interrupted
//! begins again: it is a matter of evaluations.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sortie_core::artifact::ArtifactKind;
use sortie_core::combine::{Choice, CombinationKind, Member};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::pipe::CombinationOrder;
use sortie_core::selection::mean;
use tch::{Device, Kind, Tensor, no_grad};

use super::checkpoint;
use super::evaluate::judge;
use super::inputs::{Feeder, Request};
use super::kept::fill;
use super::run::{Trial, panic_text};
use super::saver::Place;
use super::trajectory::Part;
use super::{TrialEnvironment, TrialSink};
use crate::error::TrialError;

/// Evaluates a combination at its members' last step, on everything that they are evaluated on, and tells it as the plain model.
///
/// # Errors
/// See [`TrialError`]; a member's file that is missing or damaged is named with the member.
pub fn run_combination(
    order: &CombinationOrder,
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
        let place = Place::open(store, order.trial_id.to_string(), environment.artifacts.token.0)?;
        let mut trial = Trial::start_as(order.trial_id, spec, environment, sink)?;
        // There is nothing to go on from.
        trial.leaver.can_save = false;
        Blend { order, place, trial }.run(sink)
    }));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

/// A combination while it is made. What is summed is a list of tensors: the logits of each part, or the weights.
struct Blend<'a> {
    order: &'a CombinationOrder,
    place: Place,
    /// Its network is that of the members; its weights are whatever is evaluated.
    trial: Trial<'a>,
}

impl Blend<'_> {
    fn run(mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        let order = self.order;
        let (sum, count) = match order.combination.choice {
            Choice::Uniform => {
                let mut sum = self.terms(&order.members[0])?;
                for member in &order.members[1..] {
                    sum = added(&sum, &self.terms(member)?)?;
                    self.trial.leave_if_asked(sink)?;
                }
                (sum, order.members.len())
            }
            Choice::Greedy => self.greedy(sink)?,
        };
        let mean = divided(&sum, count)?;
        let step = self.trial.spec.settings.steps;
        match order.combination.kind {
            CombinationKind::Average => {
                self.set_weights(&mean)?;
                let mut feeder = self.feeder(|_| true)?;
                self.trial.evaluate(step, &mut feeder, sink)?;
                self.trial.leave_results(sink)
            }
            CombinationKind::Ensemble => {
                let parts = self.trial.source.parts();
                let logits: Vec<(Part, Tensor)> = parts.into_iter().zip(mean).collect();
                let evaluations = logits
                    .iter()
                    .map(|(part, logits)| self.judged(*part, logits))
                    .collect::<Result<Vec<_>, _>>()?;
                sink.evaluated(step, &evaluations).map_err(TrialError::Sink)?;
                let single =
                    logits.into_iter().map(|(part, logits)| Ok((part, logits.f_to_kind(Kind::Float)?)));
                self.trial
                    .leaver
                    .final_logits
                    .insert(Method::Plain, single.collect::<Result<_, TrialError>>()?);
                self.trial.leave_logits();
                self.trial.leave_all(sink)
            }
        }
    }

    /// The sum over the members that a greedy choice takes, and how many those are. It reads nothing but training domains.
    fn greedy(&mut self, sink: &mut dyn TrialSink) -> Result<(Vec<Tensor>, usize), TrialError> {
        let order = self.order;
        let mut ranked = Vec::with_capacity(order.members.len());
        for (place, member) in order.members.iter().enumerate() {
            let logits = self.logits(member)?;
            ranked.push((self.iid_of_logits(&logits)?, place));
            self.trial.leave_if_asked(sink)?;
        }
        // The best first; of equals the earlier.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut taken: Option<(Vec<Tensor>, usize, f64)> = None;
        for (own, place) in ranked {
            let terms = self.terms(&order.members[place])?;
            let (sum, count) = match &taken {
                None => (terms, 1),
                Some((sum, count, _)) => (added(sum, &terms)?, count + 1),
            };
            let accuracy = self.iid(&divided(&sum, count)?, sink)?;
            let takes = taken.as_ref().is_none_or(|(_, _, best)| accuracy >= *best);
            let (verdict, id) =
                (if takes { "taken" } else { "left out" }, order.members[place].trial_id.short());
            eprintln!(
                "member {id}: i.i.d. accuracy {own:.4} alone, {accuracy:.4} with it as one of {count}: {verdict}"
            );
            if takes {
                taken = Some((sum, count, accuracy));
            }
            self.trial.leave_if_asked(sink)?;
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
                let mut tensors = checkpoint::read(&self.read(member, ArtifactKind::FinalWeights)?)
                    .map_err(|reason| damaged(member, &reason))?;
                let network = &self.trial.network;
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

    /// A member's final logits of every part, in double precision.
    fn logits(&self, member: &Member) -> Result<Vec<Tensor>, TrialError> {
        let mut tensors = checkpoint::read(&self.read(member, ArtifactKind::FinalLogits)?)
            .map_err(|reason| damaged(member, &reason))?;
        let source = &self.trial.source;
        let dataset = &source.spec.settings.dataset;
        let mut found = Vec::new();
        for part @ (domain, split) in source.parts() {
            let name = format!("{}/{split}", dataset.domains[domain]);
            let size = [source.indices(part).len() as i64, dataset.classes.len() as i64];
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
        self.place.read(&file.key, &file.digest).map_err(|reason| match member.host.as_str() {
            "" => TrialError::Other(format!("cannot read the {kind} of member {id}: {reason}")),
            // No fault of this worker's, and no other attempt would find it but there.
            host => TrialError::BadConfig(format!(
                "cannot read the {kind} of member {id}, which lies on {host}'s own disk: combinations need a store that all workers share \
                 (docs/artifacts.md)"
            )),
        })
    }

    /// The i.i.d. accuracy of what is evaluated with this mean of the terms.
    fn iid(&mut self, mean: &[Tensor], sink: &mut dyn TrialSink) -> Result<f64, TrialError> {
        if self.order.combination.kind == CombinationKind::Ensemble {
            return self.iid_of_logits(mean);
        }
        self.set_weights(mean)?;
        let mut feeder = self.feeder(|part| self.is_training(part))?;
        let mut evaluations = Vec::new();
        for part in self.training_parts() {
            let (_, logits) =
                self.trial.part_logits(self.trial.spec.settings.steps, part, &mut feeder, sink)?;
            for (_, logits) in logits {
                evaluations.push(self.judged(part, &logits)?);
            }
        }
        Ok(iid_of(&evaluations))
    }

    fn iid_of_logits(&self, logits: &[Tensor]) -> Result<f64, TrialError> {
        let parts = self.trial.source.parts();
        let training = parts.into_iter().zip(logits).filter(|(part, _)| self.is_training(*part));
        Ok(iid_of(&training.map(|(part, logits)| self.judged(part, logits)).collect::<Result<Vec<_>, _>>()?))
    }

    fn training_parts(&self) -> Vec<Part> {
        self.trial.source.parts().into_iter().filter(|part| self.is_training(*part)).collect()
    }

    fn is_training(&self, (domain, _): Part) -> bool {
        !self.trial.spec.is_held_out(&self.trial.spec.settings.dataset.domains[domain])
    }

    fn judged(&self, part @ (domain, split): Part, logits: &Tensor) -> Result<Evaluation, TrialError> {
        let source = &self.trial.source;
        let labels: Vec<i64> =
            source.indices(part).iter().map(|&index| source.images.label(domain, index) as i64).collect();
        let (score, loss) = judge(&logits.f_to_device(Device::Cpu)?, &Tensor::f_from_slice(&labels)?)?;
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
    /// they are those of the pretrained features: every member estimates the same ones, whatever it learned.
    fn weights(&self) -> Vec<Tensor> {
        let buffers = self.trial.network.live_buffers().into_iter().map(|buffer| buffer.tensor);
        std::iter::once(self.trial.parameters.values().shallow_clone()).chain(buffers).collect()
    }

    fn set_weights(&self, mean: &[Tensor]) -> Result<(), TrialError> {
        self.weights()
            .iter_mut()
            .zip(mean)
            .try_for_each(|(tensor, mean)| no_grad(|| tensor.f_copy_(mean)))?;
        Ok(())
    }

    /// Makes the batches of the evaluation of some parts.
    fn feeder(&self, wanted: impl Fn(Part) -> bool) -> Result<Feeder, TrialError> {
        let mut requests = self.trial.source.evaluation(self.trial.spec.settings.steps);
        requests.retain(|request| matches!(request, Request::Evaluate { part, .. } if wanted(*part)));
        Feeder::start(&self.trial.source, self.trial.feeder_threads(), requests.into_iter())
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
