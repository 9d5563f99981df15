//! `[data]`, `[model]` and `[train]`: the settings of fine-tuning.

use std::fmt;
use std::ops::RangeInclusive;

use super::error::{SpecError, misplaced, wrong};
use super::file::{AverageTable, DataTable, ModelTable, TrainTable};
use super::values::check_name;
use crate::finetune::{
    Average, AverageEvery, Backbone, BatchNorm, BlockNorm, Ensemble, Finetune, MicroBatch, Optimizer,
    OutTransform, Precision, Schedule, Settings,
};
use crate::parameters::Scalar;
use crate::trial::DatasetSpec;

/// Far above any real training, and low enough that arithmetic on steps cannot overflow.
pub(super) const STEPS_MAX: u64 = 100_000_000;
/// Images of a training domain at a step.
const BATCH_MAX: u32 = 65_536;

/// Sets every default and checks every range.
pub(super) fn settings(
    data: DataTable,
    model: ModelTable,
    train: TrainTable,
    discovered: Option<&DatasetSpec>,
) -> Result<Settings, SpecError> {
    let ModelTable { backbone, finetune, block_norm, batch_norm, weights } = model;
    let finetune = finetune.unwrap_or(Finetune::Full);
    let block_norm = checked_block_norm(block_norm, finetune)?;
    let batch_norm = checked_batch_norm(batch_norm, finetune, backbone)?;
    let weights = network(backbone, finetune, weights)?;
    let pixels = pixels(data.pixels, backbone)?;
    let cache_pixels =
        data.cache_pixels.map(|side| within("data.cache_pixels", side, 16..=16_384)).transpose()?;
    let digits = backbone == Backbone::MnistCnn;
    if digits && data.augment == Some(true) {
        return wrong("data.augment", true, "the training transform is for photographs; mnist-cnn has none");
    }
    let (augment, out_transform) =
        (data.augment.unwrap_or(!digits), data.out_transform.unwrap_or(OutTransform::Train));
    let dataset = data.request()?.complete(discovered)?;

    let TrainTable { steps, batch_per_domain, evaluate_every, precision, optimizer, momentum, .. } = train;
    let steps = steps.unwrap_or(10_000);
    if steps > STEPS_MAX {
        return wrong("train.steps", steps, format!("at most {STEPS_MAX}"));
    }
    let batch_per_domain = within("train.batch_per_domain", batch_per_domain.unwrap_or(32), 1..=BATCH_MAX)?;
    let micro_batch = train.micro_batch.map(micro_batch).transpose()?;
    let evaluate_every = within("train.evaluate_every", evaluate_every.unwrap_or(300), 1..=STEPS_MAX)?;
    let optimizer = optimizer.unwrap_or(Optimizer::Sgd);
    let momentum = checked_momentum(momentum, optimizer)?;
    let Rate { schedule, milestones, gamma } = rate(train.schedule, train.milestones, train.gamma, steps)?;
    let ensemble = train.ensemble;
    if let Some(Ensemble { from }) = ensemble.filter(|ensemble| ensemble.from > steps) {
        return wrong("train.ensemble.from", from, format!("at most train.steps, {steps}"));
    }
    let average = train.average.map(|table| average(table, steps)).transpose()?;
    if average.is_some() && batch_norm == BatchNorm::Live {
        let reason = "the statistics of live BatchNorm layers do not average; model.batch_norm = \"frozen\" has none, nor has a pretrained network";
        return misplaced("train.average", reason);
    }
    if micro_batch.is_some() && (batch_norm == BatchNorm::Live || block_norm == BlockNorm::Batch) {
        let reason = "BatchNorm normalises by the whole batch here, which a part of it does not show; model.batch_norm = \"frozen\" and model.block_norm = \"none\" do not";
        return misplaced("train.micro_batch", reason);
    }
    Ok(Settings {
        dataset,
        pixels,
        augment,
        out_transform,
        cache_pixels,
        backbone,
        weights,
        finetune,
        block_norm,
        batch_norm,
        precision: precision.unwrap_or(Precision::Fp32),
        steps,
        batch_per_domain,
        micro_batch,
        evaluate_every,
        optimizer,
        momentum,
        schedule,
        milestones,
        gamma,
        average,
        ensemble,
    })
}

fn within<T: PartialOrd + fmt::Display + fmt::Debug>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<T, SpecError> {
    if !allowed.contains(&value) {
        return wrong(key, value, format!("{} to {}", allowed.start(), allowed.end()));
    }
    Ok(value)
}

/// Only linear fine-tuning mixes blocks.
fn checked_block_norm(block_norm: Option<BlockNorm>, finetune: Finetune) -> Result<BlockNorm, SpecError> {
    match block_norm {
        Some(block_norm) if finetune != Finetune::Linear => wrong(
            "model.block_norm",
            block_norm.as_str(),
            format!("only linear fine-tuning mixes blocks, and model.finetune is {finetune}"),
        ),
        other => Ok(other.unwrap_or_default()),
    }
}

/// From scratch statistics are live unless the file says otherwise; pretrained ones are always frozen.
fn checked_batch_norm(
    batch_norm: Option<BatchNorm>,
    finetune: Finetune,
    backbone: Backbone,
) -> Result<BatchNorm, SpecError> {
    let may_be_live = finetune == Finetune::Scratch && backbone.has_batch_norm();
    match batch_norm {
        Some(BatchNorm::Live) if !backbone.has_batch_norm() => wrong(
            "model.batch_norm",
            "live",
            format!("{backbone} has no BatchNorm layers; allowed: \"frozen\""),
        ),
        Some(BatchNorm::Live) if !may_be_live => wrong(
            "model.batch_norm",
            "live",
            format!(
                "\"frozen\", for model.finetune is {finetune}: only training from scratch moves the statistics"
            ),
        ),
        None if may_be_live => Ok(BatchNorm::Live),
        other => Ok(other.unwrap_or_default()),
    }
}

/// Only sgd has momentum.
fn checked_momentum(momentum: Option<f64>, optimizer: Optimizer) -> Result<f64, SpecError> {
    if let Some(momentum) = momentum.filter(|_| optimizer != Optimizer::Sgd) {
        return wrong(
            "train.momentum",
            momentum,
            format!("only sgd has it, and train.optimizer is {optimizer}"),
        );
    }
    let momentum = momentum.unwrap_or(if optimizer == Optimizer::Sgd { 0.9 } else { 0.0 });
    if !(0.0..1.0).contains(&momentum) {
        return wrong("train.momentum", momentum, "at least 0 and below 1");
    }
    Ok(momentum)
}

/// The name of the pretrained weights; empty from scratch.
fn network(backbone: Backbone, finetune: Finetune, weights: Option<String>) -> Result<String, SpecError> {
    if finetune == Finetune::Scratch {
        return match weights {
            Some(weights) => {
                wrong("model.weights", weights, "finetune = \"scratch\" starts without pretrained weights")
            }
            None => Ok(String::new()),
        };
    }
    if !backbone.is_pretrained() {
        return wrong(
            "model.finetune",
            finetune.as_str(),
            format!("{backbone} has no pretrained weights: \"scratch\""),
        );
    }
    if finetune == Finetune::Linear && !backbone.has_three_wide_blocks() {
        return wrong(
            "model.finetune",
            "linear",
            format!("{backbone} has no three equally wide blocks at its end; allowed: \"full\", \"scratch\""),
        );
    }
    let weights = weights.unwrap_or_else(|| backbone.as_str().to_owned());
    check_name("model.weights", &weights)?;
    Ok(weights)
}

fn pixels(pixels: Option<u32>, backbone: Backbone) -> Result<u32, SpecError> {
    let pixels = pixels.unwrap_or(backbone.pixels());
    if backbone.is_of_fixed_size() && pixels != backbone.pixels() {
        return wrong("data.pixels", pixels, format!("{backbone} takes {} only", backbone.pixels()));
    }
    if !(16..=4_096).contains(&pixels) {
        return wrong("data.pixels", pixels, "16 to 4096");
    }
    Ok(pixels)
}

/// The learning rate schedule.
struct Rate {
    schedule: Schedule,
    milestones: Vec<u64>,
    gamma: f64,
}

fn rate(
    schedule: Option<Schedule>,
    milestones: Option<Vec<u64>>,
    gamma: Option<f64>,
    steps: u64,
) -> Result<Rate, SpecError> {
    let schedule = schedule.unwrap_or(Schedule::Step);
    if schedule == Schedule::Cosine {
        if let Some(milestones) = milestones {
            return wrong("train.milestones", milestones, "only under schedule = \"step\"");
        }
        if let Some(gamma) = gamma {
            return wrong("train.gamma", gamma, "only under schedule = \"step\"");
        }
        return Ok(Rate { schedule, milestones: Vec::new(), gamma: 1.0 });
    }
    let gamma = gamma.unwrap_or(0.1);
    if !(gamma > 0.0 && gamma <= 1.0) {
        return wrong("train.gamma", gamma, "above 0 and at most 1");
    }
    let milestones =
        milestones.unwrap_or_else(|| if steps >= 2 { vec![steps / 2, steps] } else { Vec::new() });
    if milestones.len() > 1_000 || !milestones.is_sorted_by(|a, b| a < b) || milestones.first() == Some(&0) {
        return wrong("train.milestones", milestones, "at most 1000 ascending steps above 0");
    }
    Ok(Rate { schedule, milestones, gamma })
}

fn micro_batch(value: Scalar) -> Result<MicroBatch, SpecError> {
    match value {
        Scalar::Text(text) if text == "auto" => Ok(MicroBatch::Auto),
        Scalar::Number(images)
            if images.get().fract() == 0.0 && (1.0..=f64::from(BATCH_MAX)).contains(&images.get()) =>
        {
            Ok(MicroBatch::Images(images.get() as u32))
        }
        other => {
            let allowed = format!("a whole number of images, 1 to {BATCH_MAX}, or \"auto\"");
            wrong("train.micro_batch", other, allowed)
        }
    }
}

fn average(table: AverageTable, steps: u64) -> Result<Average, SpecError> {
    let AverageTable { from, every } = table;
    if from > steps {
        return wrong("train.average.from", from, format!("at most train.steps, {steps}"));
    }
    let every = match every {
        None => AverageEvery::Steps(1),
        Some(Scalar::Text(text)) if text == "evaluation" => AverageEvery::Evaluation,
        Some(Scalar::Number(every))
            if every.get().fract() == 0.0 && (1.0..=STEPS_MAX as f64).contains(&every.get()) =>
        {
            AverageEvery::Steps(every.get() as u64)
        }
        Some(other) => {
            return wrong(
                "train.average.every",
                other,
                "a whole number of steps, at least 1, or \"evaluation\"",
            );
        }
    };
    Ok(Average { from, every })
}
