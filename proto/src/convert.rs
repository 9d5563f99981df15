//! Wire to core, with every value checked, and core to wire.

use std::fmt::Display;
use std::str::FromStr;

use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::combine::{Combination, Member};
use sortie_core::command::CommandSettings;
use sortie_core::finetune::{Average, AverageEvery, Ensemble, MicroBatch, Settings};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keys::AttemptToken;
use sortie_core::metrics::{Evaluation, Score, TrainingLoss};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, Point, TrialSpec, Work};

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
    /// The peer has another version.
    #[error(
        "{peer} speaks version {theirs} of the protocol, this build version {API_VERSION}: use builds of one version"
    )]
    Version {
        /// What the peer calls itself.
        peer: String,
        /// Its version.
        theirs: u32,
    },
}

pub(crate) fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|error: T::Err| WireError::Value { field, reason: error.to_string() })
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}

impl From<&DatasetSpec> for v1::Dataset {
    fn from(dataset: &DatasetSpec) -> Self {
        let DatasetSpec { name, domains, classes, split_by, layout, missing_classes } = dataset.clone();
        // Empty is the default, as in messages from before these fields.
        let layout = if layout.is_default() { String::new() } else { layout.to_string() };
        let missing_classes = match missing_classes {
            MissingClasses::Refuse => String::new(),
            MissingClasses::Allow => missing_classes.to_string(),
        };
        Self { name, domains, classes, split_by: split_by.to_string(), layout, missing_classes }
    }
}

impl TryFrom<v1::Dataset> for DatasetSpec {
    type Error = WireError;

    fn try_from(wire: v1::Dataset) -> Result<Self, WireError> {
        let v1::Dataset { name, domains, classes, split_by, layout, missing_classes } = wire;
        let layout = if layout.is_empty() { Layout::default() } else { parse("dataset.layout", &layout)? };
        let missing_classes = if missing_classes.is_empty() {
            MissingClasses::default()
        } else {
            parse("dataset.missing_classes", &missing_classes)?
        };
        let split_by = parse("dataset.split_by", &split_by)?;
        Ok(Self { name, domains, classes, split_by, layout, missing_classes })
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
            block_norm: settings.block_norm.to_string(),
            batch_norm: settings.batch_norm.to_string(),
            precision: settings.precision.to_string(),
            steps: settings.steps,
            batch_per_domain: settings.batch_per_domain,
            micro_batch: settings.micro_batch.map(|micro_batch| match micro_batch {
                MicroBatch::Images(images) => images,
                MicroBatch::Auto => 0,
            }),
            evaluate_every: settings.evaluate_every,
            momentum: settings.momentum,
            milestones: settings.milestones.clone(),
            gamma: settings.gamma,
            cache_pixels: settings.cache_pixels,
            weights: settings.weights.clone(),
            optimizer: settings.optimizer.to_string(),
            schedule: settings.schedule.to_string(),
            average: settings.average.map(|Average { from, every }| v1::Average {
                from,
                every_steps: if let AverageEvery::Steps(steps) = every { steps } else { 0 },
            }),
            ensemble_from: settings.ensemble.map(|ensemble| ensemble.from),
            following: settings.following.iter().map(ToString::to_string).collect(),
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
            block_norm: parse("settings.block_norm", &wire.block_norm)?,
            batch_norm: parse("settings.batch_norm", &wire.batch_norm)?,
            precision: parse("settings.precision", &wire.precision)?,
            steps: wire.steps,
            batch_per_domain: wire.batch_per_domain,
            micro_batch: wire.micro_batch.map(|images| match images {
                0 => MicroBatch::Auto,
                images => MicroBatch::Images(images),
            }),
            evaluate_every: wire.evaluate_every,
            momentum: wire.momentum,
            milestones: wire.milestones,
            gamma: wire.gamma,
            cache_pixels: wire.cache_pixels,
            weights: wire.weights,
            optimizer: parse("settings.optimizer", &wire.optimizer)?,
            schedule: parse("settings.schedule", &wire.schedule)?,
            average: wire.average.map(|v1::Average { from, every_steps }| Average {
                from,
                every: if every_steps == 0 {
                    AverageEvery::Evaluation
                } else {
                    AverageEvery::Steps(every_steps)
                },
            }),
            ensemble: wire.ensemble_from.map(|from| Ensemble { from }),
            following: wire
                .following
                .iter()
                .map(|name| parse("settings.following", name))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Artifact> for v1::Artifact {
    fn from(artifact: &Artifact) -> Self {
        let Artifact { kind, method, step, key, digest, bytes } = artifact.clone();
        Self { kind: kind.to_string(), method: method.to_string(), step, key, digest, bytes }
    }
}

impl TryFrom<v1::Artifact> for Artifact {
    type Error = WireError;

    fn try_from(wire: v1::Artifact) -> Result<Self, WireError> {
        let v1::Artifact { kind, method, step, key, digest, bytes } = wire;
        Ok(Self {
            kind: parse("artifact.kind", &kind)?,
            method: parse("artifact.method", &method)?,
            step,
            key,
            digest,
            bytes,
        })
    }
}

impl From<&CheckpointRef> for v1::Checkpoint {
    fn from(checkpoint: &CheckpointRef) -> Self {
        let CheckpointRef { token, step, key, digest } = checkpoint.clone();
        Self { token: token.0, step, key, digest }
    }
}

impl From<v1::Checkpoint> for CheckpointRef {
    fn from(wire: v1::Checkpoint) -> Self {
        let v1::Checkpoint { token, step, key, digest } = wire;
        Self { token: AttemptToken(token), step, key, digest }
    }
}

impl From<Resumed> for v1::Resumed {
    fn from(Resumed { token, step, exact }: Resumed) -> Self {
        Self { token: token.0, step, exact }
    }
}

impl From<v1::Resumed> for Resumed {
    fn from(v1::Resumed { token, step, exact }: v1::Resumed) -> Self {
        Self { token: AttemptToken(token), step, exact }
    }
}

impl From<&Work> for v1::Work {
    fn from(work: &Work) -> Self {
        use v1::work::Kind;
        let kind = match work {
            Work::Finetune(settings) => Kind::Finetune(settings.into()),
            Work::Command(settings) => {
                let CommandSettings { command, dataset, domains, steps, complete_at } = settings.clone();
                Kind::Command(v1::Command { words: command, dataset, domains, steps, complete_at })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Work> for Work {
    type Error = WireError;

    fn try_from(wire: v1::Work) -> Result<Self, WireError> {
        use v1::work::Kind;
        Ok(match required("work.kind", wire.kind)? {
            Kind::Finetune(settings) => Self::Finetune(settings.try_into()?),
            Kind::Command(v1::Command { words, dataset, domains, steps, complete_at }) => {
                Self::Command(CommandSettings { command: words, dataset, domains, steps, complete_at })
            }
        })
    }
}

impl From<&Scalar> for v1::Scalar {
    fn from(scalar: &Scalar) -> Self {
        use v1::scalar::Value;
        let value = match scalar {
            Scalar::Number(number) => Value::Number(number.get()),
            Scalar::Text(text) => Value::Text(text.clone()),
            Scalar::Flag(flag) => Value::Flag(*flag),
        };
        Self { value: Some(value), written: scalar.written().unwrap_or_default().to_owned() }
    }
}

impl TryFrom<v1::Scalar> for Scalar {
    type Error = WireError;

    fn try_from(wire: v1::Scalar) -> Result<Self, WireError> {
        use v1::scalar::Value;
        let v1::Scalar { value, written } = wire;
        let scalar = match required("scalar.value", value)? {
            Value::Number(number) => {
                let wrong =
                    || WireError::Value { field: "scalar.number", reason: format!("{number} is not finite") };
                Self::number(number).ok_or_else(wrong)?
            }
            Value::Text(text) => Self::Text(text),
            Value::Flag(flag) => Self::Flag(flag),
        };
        if written.is_empty() {
            return Ok(scalar);
        }
        // A program would be given another number than the trial is named after.
        let scalar = scalar.with_written(&written);
        let reason = || format!("{written:?} is not the number {scalar}");
        if scalar.written().is_none() {
            return Err(WireError::Value { field: "scalar.written", reason: reason() });
        }
        Ok(scalar)
    }
}

impl From<&Point> for v1::Point {
    fn from(point: &Point) -> Self {
        let Point { held_out, parameters, seed, split_seed } = point;
        let parameters = parameters.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        Self { held_out: held_out.clone(), parameters, seed: *seed, split_seed: *split_seed }
    }
}

impl TryFrom<v1::Point> for Point {
    type Error = WireError;

    fn try_from(wire: v1::Point) -> Result<Self, WireError> {
        let v1::Point { held_out, parameters, seed, split_seed } = wire;
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| Ok((name, value.try_into()?)))
            .collect::<Result<_, WireError>>()?;
        Ok(Self { held_out, parameters, seed, split_seed })
    }
}

impl From<&TrialSpec> for v1::TrialSpec {
    fn from(spec: &TrialSpec) -> Self {
        let combination = spec.combination.as_ref().map(Into::into);
        Self { work: Some((&spec.work).into()), point: Some((&spec.point).into()), combination }
    }
}

impl TryFrom<v1::TrialSpec> for TrialSpec {
    type Error = WireError;

    fn try_from(wire: v1::TrialSpec) -> Result<Self, WireError> {
        let work = required("spec.work", wire.work)?.try_into()?;
        let combination = wire.combination.map(TryInto::try_into).transpose()?;
        Ok(Self { work, point: required("spec.point", wire.point)?.try_into()?, combination })
    }
}

impl From<&Combination> for v1::Combination {
    fn from(combination: &Combination) -> Self {
        let Combination { kind, choice, method, members } = combination;
        let members = members.iter().map(ToString::to_string).collect();
        Self { kind: kind.to_string(), choice: choice.to_string(), method: method.to_string(), members }
    }
}

impl TryFrom<v1::Combination> for Combination {
    type Error = WireError;

    fn try_from(wire: v1::Combination) -> Result<Self, WireError> {
        let v1::Combination { kind, choice, method, members } = wire;
        let members = members.iter().map(|id| parse("combination.members", id)).collect::<Result<_, _>>()?;
        let (kind, choice) = (parse("combination.kind", &kind)?, parse("combination.choice", &choice)?);
        Ok(Self { kind, choice, method: parse("combination.method", &method)?, members })
    }
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        let Member { spec_hash, files, host } = member;
        Self {
            trial_id: spec_hash.to_string(),
            files: files.iter().map(Into::into).collect(),
            host: host.clone(),
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = WireError;

    fn try_from(wire: v1::Member) -> Result<Self, WireError> {
        let v1::Member { trial_id, files, host } = wire;
        let files = files.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { spec_hash: parse("member.trial_id", &trial_id)?, files, host })
    }
}

impl From<&Evaluation> for v1::Evaluation {
    fn from(evaluation: &Evaluation) -> Self {
        evaluation.clone().into()
    }
}

impl From<Evaluation> for v1::Evaluation {
    fn from(evaluation: Evaluation) -> Self {
        let Evaluation { method, step, domain, split, score, loss, metrics, seconds } = evaluation;
        let (n, correct, value) = match score {
            Some(Score::Counts { n, correct }) => (Some(n), correct, None),
            Some(Score::Value { value, n }) => (Some(n).filter(|n| *n > 0), 0, Some(value)),
            None => (None, 0, None),
        };
        Self {
            method: method.as_str().to_owned(),
            step,
            domain,
            split: split.as_str().to_owned(),
            n,
            correct,
            loss,
            value,
            metrics: metrics.into_iter().collect(),
            seconds,
        }
    }
}

impl TryFrom<v1::Evaluation> for Evaluation {
    type Error = WireError;

    fn try_from(wire: v1::Evaluation) -> Result<Self, WireError> {
        let v1::Evaluation { method, step, domain, split, n, correct, loss, value, metrics, seconds } = wire;
        let score = match (n, value) {
            (n, Some(value)) => Some(Score::Value { value, n: n.unwrap_or(0) }),
            (Some(n), None) => Some(Score::Counts { n, correct }),
            (None, None) => None,
        };
        let (method, split) = (parse("evaluation.method", &method)?, parse("evaluation.split", &split)?);
        let metrics = metrics.into_iter().collect();
        let evaluation = Self { method, step, domain, split, score, loss, metrics, seconds };
        match evaluation.fault() {
            Some(reason) => Err(WireError::Value { field: "evaluation", reason }),
            None => Ok(evaluation),
        }
    }
}

impl From<TrainingLoss> for v1::TrainingLoss {
    fn from(loss: TrainingLoss) -> Self {
        Self { step: loss.step, loss: loss.loss, seconds: loss.seconds }
    }
}

impl From<v1::TrainingLoss> for TrainingLoss {
    fn from(wire: v1::TrainingLoss) -> Self {
        Self { step: wire.step, loss: wire.loss, seconds: wire.seconds }
    }
}

impl From<&Outcome> for v1::complete_request::Outcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded(v1::Succeeded {}),
            Outcome::Diverged { step } => Self::Diverged(v1::Diverged { step: *step }),
            Outcome::Failed { class, message } => {
                Self::Failed(v1::Failed { error_class: class.to_string(), message: message.clone() })
            }
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
                // Only the coordinator decides that a worker was lost.
                if class == ErrorClass::Lost {
                    return Err(WireError::Value {
                        field: "failed.error_class",
                        reason: "\"lost\"; a worker that says so is not".to_owned(),
                    });
                }
                Self::Failed { class, message }
            }
        })
    }
}

impl From<TrialRecord> for v1::TrialResult {
    fn from(record: TrialRecord) -> Self {
        Self {
            trial_id: record.id.to_string(),
            point: Some((&record.point).into()),
            state: v1::TrialState::number(record.state),
            validation: record.validation.into_iter().map(Into::into).collect(),
            held_out: record.held_out.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::TrialResult> for TrialRecord {
    type Error = WireError;

    fn try_from(wire: v1::TrialResult) -> Result<Self, WireError> {
        let state = v1::TrialState::read("result.state", wire.state)?;
        Ok(Self {
            id: parse("result.trial_id", &wire.trial_id)?,
            point: required("result.point", wire.point)?.try_into()?,
            state,
            validation: wire.validation.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            held_out: wire.held_out.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}
