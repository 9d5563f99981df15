//! `[data]`, `[model]` and `[train]`: the settings of fine-tuning.

use super::error::{SpecError, misplaced, wrong};
use super::file::{AverageTable, DataTable, ModelTable, TrainTable};
use super::values::check_name;
use crate::finetune::{
    Average, AverageEvery, Backbone, Ensemble, Finetune, Optimizer, OutTransform, Precision, Schedule,
    Settings,
};
use crate::parameters::Scalar;
use crate::trial::DatasetSpec;

/// Far above any real training, and low enough that arithmetic on steps cannot overflow.
pub(super) const STEPS_MAX: u64 = 100_000_000;

/// Sets every default and checks every range.
pub(super) fn settings(
    data: DataTable,
    model: ModelTable,
    train: TrainTable,
    discovered: Option<&DatasetSpec>,
) -> Result<Settings, SpecError> {
    let ModelTable { backbone, finetune, weights } = model;
    let finetune = finetune.unwrap_or(Finetune::Full);
    let weights = network(backbone, finetune, weights)?;
    let pixels = pixels(data.pixels, backbone)?;
    let cache_pixels = data.cache_pixels;
    if let Some(side) = cache_pixels.filter(|side| !(16..=16_384).contains(side)) {
        return wrong("data.cache_pixels", side, "16 to 16384");
    }
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
    let batch_per_domain = batch_per_domain.unwrap_or(32);
    if !(1..=65_536).contains(&batch_per_domain) {
        return wrong("train.batch_per_domain", batch_per_domain, "1 to 65536");
    }
    let evaluate_every = evaluate_every.unwrap_or(300);
    if !(1..=STEPS_MAX).contains(&evaluate_every) {
        return wrong("train.evaluate_every", evaluate_every, format!("1 to {STEPS_MAX}"));
    }
    let optimizer = optimizer.unwrap_or(Optimizer::Sgd);
    let momentum = checked_momentum(momentum, optimizer)?;
    let Rate { schedule, milestones, gamma } = rate(train.schedule, train.milestones, train.gamma, steps)?;
    let ensemble = train.ensemble;
    if let Some(Ensemble { from }) = ensemble.filter(|ensemble| ensemble.from > steps) {
        return wrong("train.ensemble.from", from, format!("at most train.steps, {steps}"));
    }
    let average = train.average.map(|table| average(table, steps)).transpose()?;
    if average.is_some() && finetune == Finetune::Scratch && backbone.has_batch_norm() {
        let reason = "with finetune = \"scratch\" the statistics of live BatchNorm layers do not average; train a pretrained network, or one without BatchNorm";
        return misplaced("train.average", reason);
    }
    let precision = precision.unwrap_or(Precision::Fp32);
    Ok(Settings {
        dataset,
        pixels,
        augment,
        out_transform,
        cache_pixels,
        backbone,
        weights,
        finetune,
        precision,
        steps,
        batch_per_domain,
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
