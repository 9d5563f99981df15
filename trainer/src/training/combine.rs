//! Ensembles and averages over trials that have ended. Nothing is trained; the combination is evaluated at the members' last step.
//!
//! Sums are taken in double precision in the order of the members, so the same members give the same numbers. An interrupted
//! combination starts from the beginning, because it only evaluates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use sortie_core::artifact::ArtifactKind;
use sortie_core::combine::{Choice, CombinationKind, Member};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::pipe::CombinationAssignment;
use sortie_core::selection::mean;
use tch::{Device, Kind, Tensor, no_grad};

use super::checkpoints::{ArtifactFolder, CheckpointManager, fill, read_tensors};
use super::evaluation::{EvalSplit, evaluate};
use super::inputs::{BatchRequest, Prefetcher};
use super::prepare::prepare;
use super::reporter::Reporter;
use super::run::{check_stop, evaluate_step, panic_text, prefetcher_threads, split_logits};
use super::state::TrialState;
use super::{TrialEnvironment, TrialSink};
use crate::error::TrialError;
use crate::model;

/// Evaluates a combination at its members' last step, on everything that they are evaluated on. The result is reported as the plain model.
///
/// # Errors
/// See [`TrialError`]; a member's file that is missing or damaged is named with the member.
pub fn run_combination(
    assignment: &CombinationAssignment,
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    // As for a trial that trains: see `run_trial`.
    let result = catch_unwind(AssertUnwindSafe(|| run(assignment, spec, environment, sink)));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

fn run(
    assignment: &CombinationAssignment,
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<(), TrialError> {
    let (artifacts, stop) = (&environment.artifacts, environment.stop.as_ref());
    let store = artifacts.store.as_ref().ok_or_else(|| {
        TrialError::Machine("a combination needs an artifact store, and this worker reaches none".to_owned())
    })?;
    let folder = ArtifactFolder::open(store, assignment.spec_hash.to_string(), artifacts.token.0)?;
    let mut state = prepare(model::load, spec, environment, sink)?;
    let mut checkpoints = CheckpointManager::new(Some(folder.clone()), artifacts)?;
    let mut reporter = Reporter::new(sink);
    let mean = Combiner { assignment, folder, state: &mut state, stop }.mean()?;
    let step = spec.settings.steps;
    match assignment.combination.kind {
        CombinationKind::Average => {
            set_weights(&state, &mean)?;
            let mut prefetcher = prefetcher(&state, |_| true)?;
            let keep_selected = checkpoints.keeps_selected_weights();
            evaluate_step(step, &mut state, &mut prefetcher, &mut reporter, keep_selected, stop)?;
            checkpoints.save_results(&mut state, &mut reporter)
        }
        CombinationKind::Ensemble => {
            let logits: Vec<(EvalSplit, Tensor)> = state.source.eval_splits().into_iter().zip(mean).collect();
            let evaluations = logits
                .iter()
                .map(|(split, logits)| evaluation_of(&state, *split, logits))
                .collect::<Result<Vec<_>, _>>()?;
            reporter.report_evaluations(step, &evaluations)?;
            reporter.report_memory(state.parameters.values().device())?;
            let single =
                logits.into_iter().map(|(split, logits)| Ok((split, logits.f_to_kind(Kind::Float)?)));
            state.final_logits.insert(Method::Plain, single.collect::<Result<_, TrialError>>()?);
            checkpoints.save_logits(&mut state, &mut reporter)
        }
    }
}

/// Computes the mean of a combination's members. The terms of its sum are lists of tensors: the logits of each split, or the weights.
struct Combiner<'a, 'spec> {
    assignment: &'a CombinationAssignment,
    folder: ArtifactFolder,
    /// Its network is that of the members. Its weights are those that are being evaluated.
    state: &'a mut TrialState<'spec>,
    stop: &'a AtomicBool,
}

impl Combiner<'_, '_> {
    /// The mean of the members that the combination takes, in double precision.
    fn mean(mut self) -> Result<Vec<Tensor>, TrialError> {
        let members = &self.assignment.members;
        let (sum, count) = match self.assignment.combination.choice {
            Choice::Uniform => {
                let mut sum = self.terms(&members[0])?;
                for member in &members[1..] {
                    sum = added(&sum, &self.terms(member)?)?;
                    check_stop(self.stop)?;
                }
                (sum, members.len())
            }
            Choice::Greedy => self.greedy()?,
        };
        divided(&sum, count)
    }

    /// The sum over the members that a greedy choice takes, and their count. It reads training domains only.
    fn greedy(&mut self) -> Result<(Vec<Tensor>, usize), TrialError> {
        let members = &self.assignment.members;
        let mut ranked = Vec::with_capacity(members.len());
        for (position, member) in members.iter().enumerate() {
            let logits = self.logits(member)?;
            ranked.push((self.iid_of_logits(&logits)?, position));
            check_stop(self.stop)?;
        }
        // The best member first; of equal members the earlier one.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut taken: Option<(Vec<Tensor>, usize, f64)> = None;
        for (own, position) in ranked {
            let terms = self.terms(&members[position])?;
            let (sum, count) = match &taken {
                None => (terms, 1),
                Some((sum, count, _)) => (added(sum, &terms)?, count + 1),
            };
            let accuracy = self.iid(&divided(&sum, count)?)?;
            let takes = taken.as_ref().is_none_or(|(_, _, best)| accuracy >= *best);
            let (decision, id) =
                (if takes { "taken" } else { "left out" }, members[position].spec_hash.short());
            eprintln!(
                "member {id}: i.i.d. accuracy {own:.4} alone, {accuracy:.4} with it as one of {count}: {decision}"
            );
            if takes {
                taken = Some((sum, count, accuracy));
            }
            check_stop(self.stop)?;
        }
        let (sum, count, _) =
            taken.ok_or_else(|| TrialError::BadConfig("a combination without members".to_owned()))?;
        Ok((sum, count))
    }

    /// What a member adds to the sum, in double precision.
    fn terms(&mut self, member: &Member) -> Result<Vec<Tensor>, TrialError> {
        match self.assignment.combination.kind {
            CombinationKind::Ensemble => self.logits(member),
            CombinationKind::Average => {
                let mut tensors = read_tensors(&self.read(member, ArtifactKind::FinalWeights)?)
                    .map_err(|reason| damaged(member, &reason))?;
                let network = &self.state.network;
                let own = network
                    .body_parameters()
                    .into_iter()
                    .chain(network.head_parameters())
                    .chain(network.live_buffers());
                fill(own, &mut tensors).map_err(|reason| damaged(member, &reason))?;
                no_grad(|| {
                    weights(self.state).iter().map(|tensor| Ok(tensor.f_to_kind(Kind::Double)?)).collect()
                })
            }
        }
    }

    /// A member's final logits of every split, in double precision.
    fn logits(&self, member: &Member) -> Result<Vec<Tensor>, TrialError> {
        let mut tensors = read_tensors(&self.read(member, ArtifactKind::FinalLogits)?)
            .map_err(|reason| damaged(member, &reason))?;
        let source = &self.state.source;
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
        let id = member.spec_hash.short();
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
        if self.assignment.combination.kind == CombinationKind::Ensemble {
            return self.iid_of_logits(mean);
        }
        set_weights(self.state, mean)?;
        let mut prefetcher = prefetcher(self.state, |split| self.is_training(split))?;
        let mut evaluations = Vec::new();
        let step = self.state.spec.settings.steps;
        for eval_split in self.training_splits() {
            let (_, logits) = split_logits(step, eval_split, self.state, &mut prefetcher, self.stop)?;
            for (_, logits) in logits {
                evaluations.push(evaluation_of(self.state, eval_split, &logits)?);
            }
        }
        Ok(iid_of(&evaluations))
    }

    fn iid_of_logits(&self, logits: &[Tensor]) -> Result<f64, TrialError> {
        let eval_splits = self.state.source.eval_splits();
        let training = eval_splits.into_iter().zip(logits).filter(|(split, _)| self.is_training(*split));
        Ok(iid_of(
            &training
                .map(|(split, logits)| evaluation_of(self.state, split, logits))
                .collect::<Result<Vec<_>, _>>()?,
        ))
    }

    fn training_splits(&self) -> Vec<EvalSplit> {
        let eval_splits = self.state.source.eval_splits().into_iter();
        eval_splits.filter(|split| self.is_training(*split)).collect()
    }

    fn is_training(&self, EvalSplit { domain, .. }: EvalSplit) -> bool {
        let spec = self.state.spec;
        !spec.is_held_out(&spec.settings.dataset.domains[domain])
    }
}

fn evaluation_of(
    state: &TrialState,
    eval_split: EvalSplit,
    logits: &Tensor,
) -> Result<Evaluation, TrialError> {
    let source = &state.source;
    let EvalSplit { domain, split } = eval_split;
    let labels: Vec<i64> =
        source.indices(eval_split).iter().map(|&index| source.images.label(domain, index) as i64).collect();
    let (score, loss) = evaluate(&logits.f_to_device(Device::Cpu)?, &Tensor::f_from_slice(&labels)?)?;
    let (settings, method) = (&source.spec.settings, Method::Plain);
    Ok(Evaluation {
        method,
        step: settings.steps,
        domain: settings.dataset.domains[domain].clone(),
        split,
        score: Some(score),
        loss: Some(loss),
        metrics: Default::default(),
        seconds: None,
    })
}

/// Everything that training moved. Of networks that are averaged, BatchNorm statistics are among it only in linear fine-tuning, where
/// they are those of the pretrained features: every member estimates the same ones, independent of its training.
fn weights(state: &TrialState) -> Vec<Tensor> {
    let buffers = state.network.live_buffers().into_iter().map(|buffer| buffer.tensor);
    std::iter::once(state.parameters.values().shallow_clone()).chain(buffers).collect()
}

fn set_weights(state: &TrialState, mean: &[Tensor]) -> Result<(), TrialError> {
    weights(state).iter_mut().zip(mean).try_for_each(|(tensor, mean)| no_grad(|| tensor.f_copy_(mean)))?;
    Ok(())
}

/// Makes the batches of the evaluation of some splits.
fn prefetcher(state: &TrialState, wanted: impl Fn(EvalSplit) -> bool) -> Result<Prefetcher, TrialError> {
    let mut requests = state.source.evaluation(state.spec.settings.steps);
    requests.retain(
        |request| matches!(request, BatchRequest::Evaluate { eval_split, .. } if wanted(*eval_split)),
    );
    Prefetcher::start(&state.source, prefetcher_threads(), requests.into_iter())
}

fn iid_of(evaluations: &[Evaluation]) -> f64 {
    mean(&evaluations.iter().filter_map(Evaluation::accuracy).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

fn added(sum: &[Tensor], terms: &[Tensor]) -> Result<Vec<Tensor>, TrialError> {
    no_grad(|| sum.iter().zip(terms).map(|(sum, term)| Ok(sum.f_add(term)?)).collect())
}

fn divided(sum: &[Tensor], count: usize) -> Result<Vec<Tensor>, TrialError> {
    no_grad(|| sum.iter().map(|sum| Ok(sum.f_div_scalar(count as f64)?)).collect())
}

fn damaged(member: &Member, reason: &str) -> TrialError {
    TrialError::Other(format!("the file of member {} cannot be used: {reason}", member.spec_hash.short()))
}
