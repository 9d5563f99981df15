//! Copies a trial's state into a checkpoint, and restores it from one.

use std::collections::HashMap;

use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Method, TrainingLoss};
use sortie_core::trial::{SpecHash, TrialSpec, Work};
use tch::{Device, Tensor, no_grad};

use super::super::Optimiser;
use super::super::evaluation::{EvalSplit, Snapshot, Trajectory};
use super::super::state::{TrainingProgress, TrialState};
use super::checkpoint_file::{BUFFER, Checkpoint, Header, VALUES};
use crate::error::TrialError;

/// Names of the tensors of a checkpoint.
const OPTIMISER: [&str; 2] = ["optimiser.first", "optimiser.second"];
const AVERAGE: &str = "average";
const LOSSES: &str = "losses";
/// When each step was made, in seconds since training began.
const SECONDS: &str = "seconds";

/// The identity of a trial as files name it.
pub(crate) fn spec_hash(spec: &FinetuneSpec) -> SpecHash {
    TrialSpec { work: Work::Finetune(spec.settings.clone()), point: (&spec.point).into(), combination: None }
        .hash()
}

impl TrialState<'_> {
    /// A copy of everything that another attempt needs to continue from here.
    pub(super) fn to_checkpoint(&self) -> Result<Checkpoint, TrialError> {
        let Trajectory { average, averaged, ensemble, ensembled, best, selected } = &self.trajectory;
        let (updates, optimiser) = self.optimiser.state();
        let mut header =
            Header::new(self.spec.clone(), self.parameters.description(), self.fingerprint.clone());
        header.step = self.progress.step.unwrap_or(0);
        header.evaluated = self.progress.evaluated;
        (header.updates, header.averaged, header.ensembled) = (updates, *averaged, *ensembled);
        header.best = best.iter().map(|(method, (accuracy, step))| (*method, *accuracy, *step)).collect();
        header.evaluations = self.progress.evaluations.clone();

        let mut tensors = vec![(VALUES.to_owned(), self.parameters.values().shallow_clone())];
        tensors.extend(
            OPTIMISER
                .iter()
                .zip(optimiser)
                .filter_map(|(name, state)| Some(((*name).to_owned(), state?.shallow_clone()))),
        );
        tensors.extend(average.as_ref().map(|average| (AVERAGE.to_owned(), average.shallow_clone())));
        tensors.extend(
            self.network
                .live_buffers()
                .into_iter()
                .map(|buffer| (format!("{BUFFER}{}", buffer.name), buffer.tensor)),
        );
        tensors.extend(ensemble.iter().map(|(split, sum)| (ensemble_name(*split), sum.shallow_clone())));
        for (method, Snapshot { values, buffers }) in selected {
            tensors.push((format!("selected.{method}"), values.shallow_clone()));
            let buffers = buffers.iter().enumerate();
            tensors.extend(
                buffers.map(|(index, buffer)| (format!("selected.{method}.{index}"), buffer.shallow_clone())),
            );
        }
        let losses = &self.progress.losses;
        let of_losses = |of: fn(&TrainingLoss) -> f64| losses.iter().map(of).collect::<Vec<f64>>();
        let seconds = of_losses(|loss| loss.seconds.unwrap_or_default());
        tensors.push((LOSSES.to_owned(), Tensor::f_from_slice(&of_losses(|loss| loss.loss))?));
        tensors.push((SECONDS.to_owned(), Tensor::f_from_slice(&seconds)?));
        let tensors = tensors.into_iter().map(|(name, tensor)| {
            // A copy, because training continues while the file is written.
            let mut copy = Tensor::f_empty(tensor.size().as_slice(), (tensor.kind(), Device::Cpu))?;
            no_grad(|| copy.f_copy_(&tensor))?;
            Ok((name, copy))
        });
        Ok(Checkpoint { header, tensors: tensors.collect::<Result<HashMap<_, _>, tch::TchError>>()? })
    }

    /// Restores the state of a checkpoint, all of it or nothing. Returns whether the next steps are those of an uninterrupted run.
    pub(super) fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<bool, String> {
        let header = checkpoint.header.clone();
        let description = self.parameters.description();
        if header.spec != *self.spec {
            return Err(format!("it belongs to trial {}", spec_hash(&header.spec)));
        }
        if header.layout != description {
            return Err("its parameters lie in another order than this build's".to_owned());
        }
        let (theirs, ours) = (&header.fingerprint, &self.fingerprint);
        for (what, theirs, ours) in [
            ("dataset", &theirs.dataset_digest, &ours.dataset_digest),
            ("pretrained weights", &theirs.weights_digest, &ours.weights_digest),
        ] {
            if theirs != ours {
                return Err(format!("it was made with another {what}: {theirs} there, {ours} here"));
            }
        }
        let exact = (&theirs.device, theirs.threads, &theirs.libtorch)
            == (&ours.device, ours.threads, &ours.libtorch);

        let (size, device) = (self.parameters.values().size(), self.parameters.values().device());
        let values = checkpoint.take_values(&self.parameters)?;
        let mut flat = |name: &str| {
            checkpoint.tensors.contains_key(name).then(|| checkpoint.take(name, &size, device)).transpose()
        };
        let [first, second] = [flat(OPTIMISER[0])?, flat(OPTIMISER[1])?];
        let average = flat(AVERAGE)?;
        let mut buffers = Vec::new();
        for buffer in self.network.live_buffers() {
            buffers.push((
                checkpoint.take(&format!("{BUFFER}{}", buffer.name), &buffer.tensor.size(), device)?,
                buffer.tensor,
            ));
        }
        let trajectory = self.trajectory_of(&mut checkpoint, &header, average, device)?;
        let steps = i64::try_from(header.step + 1).map_err(|error| error.to_string())?;
        let mut numbers = |name: &str| {
            let numbers = Vec::<f64>::try_from(checkpoint.take(name, &[steps], Device::Cpu)?);
            numbers.map_err(|error| error.to_string())
        };
        let (losses, seconds) = (numbers(LOSSES)?, numbers(SECONDS)?);
        let losses = (0..).zip(losses).zip(seconds);
        let losses =
            losses.map(|((step, loss), seconds)| TrainingLoss { step, loss, seconds: Some(seconds) });

        let copied = no_grad(|| {
            self.parameters.values().shallow_clone().f_copy_(&values)?;
            buffers.into_iter().try_for_each(|(from, mut to)| to.f_copy_(&from))
        });
        copied.map_err(|error| error.to_string())?;
        self.micro_batches.restore(header.fingerprint.micro_batch);
        self.fingerprint.micro_batch = self.micro_batches.adapted();
        self.optimiser = Optimiser::restored(self.optimiser.update(), header.updates, first, second);
        self.trajectory = trajectory;
        self.progress = TrainingProgress {
            step: Some(header.step),
            evaluated: header.evaluated,
            losses: losses.collect(),
            evaluations: header.evaluations,
        };
        Ok(exact)
    }

    fn trajectory_of(
        &self,
        checkpoint: &mut Checkpoint,
        header: &Header,
        average: Option<Tensor>,
        device: Device,
    ) -> Result<Trajectory, String> {
        let size = self.parameters.values().size();
        let classes = self.spec.settings.dataset.classes.len() as i64;
        let mut trajectory = Trajectory {
            average,
            averaged: header.averaged,
            ensembled: header.ensembled,
            ..Trajectory::default()
        };
        if header.ensembled > 0 {
            for eval_split in self.source.eval_splits() {
                let rows = self.source.indices(eval_split).len() as i64;
                trajectory.ensemble.insert(
                    eval_split,
                    checkpoint.take(&ensemble_name(eval_split), &[rows, classes], device)?,
                );
            }
        }
        trajectory.best =
            header.best.iter().map(|(method, accuracy, step)| (*method, (*accuracy, *step))).collect();
        for &method in Method::ALL {
            let name = format!("selected.{method}");
            if !checkpoint.tensors.contains_key(&name) {
                continue;
            }
            let values = checkpoint.take(&name, &size, device)?;
            let live = self.network.live_buffers().into_iter().enumerate();
            let buffers = live.map(|(index, buffer)| {
                checkpoint.take(&format!("{name}.{index}"), &buffer.tensor.size(), device)
            });
            trajectory
                .selected
                .insert(method, Snapshot { values, buffers: buffers.collect::<Result<_, _>>()? });
        }
        Ok(trajectory)
    }
}

fn ensemble_name(EvalSplit { domain, split }: EvalSplit) -> String {
    format!("ensemble.{domain}.{split}")
}
