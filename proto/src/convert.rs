//! Wire to core, with every value checked, and core to wire.

use std::fmt::Display;
use std::str::FromStr;

use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::{Fingerprint, TrialRecord};
use sortie_core::trial::{DatasetSpec, Point, Settings, TrialSpec};

use crate::{API_VERSION, v1};

/// A message that breaks the contract.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field's value is not one of those that the contract allows.
    #[error("field {field}: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer speaks another version.
    #[error("{peer} speaks version {theirs} of the protocol, this build version {API_VERSION}: use builds of one version")]
    Version {
        /// What the peer calls itself.
        peer: String,
        /// Its version.
        theirs: u32,
    },
}

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|error: T::Err| WireError::Value { field, reason: error.to_string() })
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}

impl From<&DatasetSpec> for v1::Dataset {
    fn from(dataset: &DatasetSpec) -> Self {
        let DatasetSpec { name, domains, classes, split_by } = dataset.clone();
        Self { name, domains, classes, split_by: split_by.to_string() }
    }
}

impl TryFrom<v1::Dataset> for DatasetSpec {
    type Error = WireError;

    fn try_from(wire: v1::Dataset) -> Result<Self, WireError> {
        let v1::Dataset { name, domains, classes, split_by } = wire;
        Ok(Self { name, domains, classes, split_by: parse("dataset.split_by", &split_by)? })
    }
}

impl From<&Settings> for v1::Settings {
    fn from(settings: &Settings) -> Self {
        Self {
            dataset: Some((&settings.dataset).into()),
            pixels: settings.pixels,
            augment: settings.augment,
            out_transform: settings.out_transform.to_string(),
            backbone: settings.backbone.to_string(),
            finetune: settings.finetune.to_string(),
            precision: settings.precision.to_string(),
            steps: settings.steps,
            batch_per_domain: settings.batch_per_domain,
            evaluate_every: settings.evaluate_every,
            momentum: settings.momentum,
            milestones: settings.milestones.clone(),
            gamma: settings.gamma,
        }
    }
}

impl TryFrom<v1::Settings> for Settings {
    type Error = WireError;

    fn try_from(wire: v1::Settings) -> Result<Self, WireError> {
        Ok(Self {
            dataset: required("settings.dataset", wire.dataset)?.try_into()?,
            pixels: wire.pixels,
            augment: wire.augment,
            out_transform: parse("settings.out_transform", &wire.out_transform)?,
            backbone: parse("settings.backbone", &wire.backbone)?,
            finetune: parse("settings.finetune", &wire.finetune)?,
            precision: parse("settings.precision", &wire.precision)?,
            steps: wire.steps,
            batch_per_domain: wire.batch_per_domain,
            evaluate_every: wire.evaluate_every,
            momentum: wire.momentum,
            milestones: wire.milestones,
            gamma: wire.gamma,
        })
    }
}

impl From<&Point> for v1::Point {
    fn from(point: &Point) -> Self {
        let Point { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed } = point.clone();
        Self { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed }
    }
}

impl From<v1::Point> for Point {
    fn from(wire: v1::Point) -> Self {
        let v1::Point { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed } = wire;
        Self { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed }
    }
}

impl From<&TrialSpec> for v1::TrialSpec {
    fn from(spec: &TrialSpec) -> Self {
        Self { settings: Some((&spec.settings).into()), point: Some((&spec.point).into()) }
    }
}

impl TryFrom<v1::TrialSpec> for TrialSpec {
    type Error = WireError;

    fn try_from(wire: v1::TrialSpec) -> Result<Self, WireError> {
        let settings = required("spec.settings", wire.settings)?.try_into()?;
        Ok(Self { settings, point: required("spec.point", wire.point)?.into() })
    }
}

impl From<&Evaluation> for v1::Evaluation {
    fn from(evaluation: &Evaluation) -> Self {
        let Evaluation { method, step, domain, split, n, correct, loss } = evaluation.clone();
        Self { method: method.to_string(), step, domain, split: split.to_string(), n, correct, loss }
    }
}

impl TryFrom<v1::Evaluation> for Evaluation {
    type Error = WireError;

    fn try_from(wire: v1::Evaluation) -> Result<Self, WireError> {
        let v1::Evaluation { method, step, domain, split, n, correct, loss } = wire;
        if n == 0 || correct > n {
            return Err(WireError::Value {
                field: "evaluation.correct",
                reason: format!("{correct} of {n}; allowed: at most n, n at least 1"),
            });
        }
        if loss.is_nan() {
            return Err(WireError::Value {
                field: "evaluation.loss",
                reason: "NaN; a run whose loss is no number has diverged".to_owned(),
            });
        }
        Ok(Self { method: parse("evaluation.method", &method)?, step, domain, split: parse("evaluation.split", &split)?, n, correct, loss })
    }
}

impl From<TrainingLoss> for v1::TrainingLoss {
    fn from(loss: TrainingLoss) -> Self {
        Self { step: loss.step, loss: loss.loss }
    }
}

impl From<v1::TrainingLoss> for TrainingLoss {
    fn from(wire: v1::TrainingLoss) -> Self {
        Self { step: wire.step, loss: wire.loss }
    }
}

impl From<Fingerprint> for v1::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        let Fingerprint { software, libtorch, device, threads, dataset_digest, weights_digest } = fingerprint;
        Self { software, libtorch, device, threads, dataset_digest, weights_digest }
    }
}

impl From<v1::Fingerprint> for Fingerprint {
    fn from(wire: v1::Fingerprint) -> Self {
        let v1::Fingerprint { software, libtorch, device, threads, dataset_digest, weights_digest } = wire;
        Self { software, libtorch, device, threads, dataset_digest, weights_digest }
    }
}

impl From<&Outcome> for v1::complete_request::Outcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded(v1::Succeeded {}),
            Outcome::Diverged { step } => Self::Diverged(v1::Diverged { step: *step }),
            Outcome::Failed { class, message } => Self::Failed(v1::Failed { error_class: class.to_string(), message: message.clone() }),
        }
    }
}

impl TryFrom<v1::complete_request::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(wire: v1::complete_request::Outcome) -> Result<Self, WireError> {
        use v1::complete_request::Outcome as Wire;
        Ok(match wire {
            Wire::Succeeded(v1::Succeeded {}) => Self::Succeeded,
            Wire::Diverged(v1::Diverged { step }) => Self::Diverged { step },
            Wire::Failed(v1::Failed { error_class, message }) => {
                let class: ErrorClass = parse("failed.error_class", &error_class)?;
                Self::Failed { class, message }
            }
        })
    }
}

impl From<&TrialRecord> for v1::TrialResult {
    fn from(record: &TrialRecord) -> Self {
        Self {
            trial_id: record.id.to_string(),
            point: Some((&record.point).into()),
            state: record.state.to_string(),
            validation: record.validation.iter().map(Into::into).collect(),
            held_out: record.held_out.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::TrialResult> for TrialRecord {
    type Error = WireError;

    fn try_from(wire: v1::TrialResult) -> Result<Self, WireError> {
        let state: StateName = parse("result.state", &wire.state)?;
        Ok(Self {
            id: parse("result.trial_id", &wire.trial_id)?,
            point: required("result.point", wire.point)?.into(),
            state,
            validation: wire.validation.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            held_out: wire.held_out.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}
