//! `[data]`, `[model]` and `[train]`: the settings of fine-tuning.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::axis::Axis;
use super::error::{SpecError, misplaced, missing, too_large, wrong};
use super::file::{AverageTable, DataTable, ModelTable, TrainTable};
use super::one_or_many::OneOrMany;
use super::values::{check_name, distinct};
use super::varied::Combinations;
use crate::finetune::{
    Average, AverageEvery, Backbone, BatchNorm, BlockNorm, Ensemble, Finetune, Following, MicroBatch,
    Optimizer, OutTransform, Precision, Schedule, Setting, Settings,
};
use crate::parameters::Scalar;
use crate::random_search::RandomSearch;
use crate::trial::DatasetSpec;

/// Far above any real training, and low enough that arithmetic on steps cannot overflow.
pub(super) const STEPS_MAX: u64 = 100_000_000;
/// Images of a training domain at a step.
const BATCH_MAX: u32 = 65_536;

/// The most combinations of listed settings.
const COMBINATIONS_MAX: u64 = 10_000;

/// The settings that trials share, with every default, and an axis for each setting that is listed: of those the settings have the first
/// value. Some names may be `drawn`. No value is checked yet: see [`check_all`].
pub(super) fn settings(
    data: DataTable,
    model: ModelTable,
    train: TrainTable,
    drawn: &[String],
    discovered: Option<&DatasetSpec>,
) -> Result<(Settings, BTreeMap<String, Axis>), SpecError> {
    let dataset = data.request()?.complete(discovered)?;
    let mut lists = Lists { axes: BTreeMap::new(), drawn };
    let text = |text: &str| Scalar::Text(text.to_owned());
    let whole = |number: u64| Scalar::Number((number as f64).into());
    let backbone = lists.first(Setting::Backbone, model.backbone, |own| text(own.as_str()))?;
    let Some(backbone) = backbone else {
        let names: Vec<&str> = Backbone::ALL.iter().map(|backbone| backbone.as_str()).collect();
        return missing("model.backbone", format!("allowed: {}", names.join(", ")));
    };
    let finetune = lists.first(Setting::Finetune, model.finetune, |own| text(own.as_str()))?;
    let weights = lists.first(Setting::Weights, model.weights, |own| text(own))?;
    let pixels = lists.first(Setting::Pixels, data.pixels, |own| whole(u64::from(*own)))?;
    let augment = lists.first(Setting::Augment, data.augment, |own| Scalar::Flag(*own))?;
    let steps = lists.first(Setting::Steps, train.steps, |own| whole(*own))?;
    let batch = train.batch_per_domain;
    let batch_per_domain = lists.first(Setting::BatchPerDomain, batch, |own| whole(u64::from(*own)))?;
    let precision = lists.first(Setting::Precision, train.precision, |own| text(own.as_str()))?;
    let optimizer = lists.first(Setting::Optimizer, train.optimizer, |own| text(own.as_str()))?;
    let schedule = lists.first(Setting::Schedule, train.schedule, |own| text(own.as_str()))?;
    let unset = [
        (Following::Augment, augment.is_none()),
        (Following::BatchNorm, model.batch_norm.is_none()),
        (Following::Gamma, train.gamma.is_none()),
        (Following::Milestones, train.milestones.is_none()),
        (Following::Momentum, train.momentum.is_none()),
        (Following::Pixels, pixels.is_none()),
        (Following::Weights, weights.is_none()),
    ];
    let mut settings = Settings {
        dataset,
        pixels: pixels.unwrap_or_default(),
        augment: augment.unwrap_or_default(),
        out_transform: data.out_transform.unwrap_or(OutTransform::Train),
        cache_pixels: data.cache_pixels,
        backbone,
        weights: weights.unwrap_or_default(),
        finetune: finetune.unwrap_or(Finetune::Full),
        block_norm: model.block_norm.unwrap_or_default(),
        batch_norm: model.batch_norm.unwrap_or_default(),
        precision: precision.unwrap_or(Precision::Fp32),
        steps: steps.unwrap_or(10_000),
        batch_per_domain: batch_per_domain.unwrap_or(32),
        micro_batch: train.micro_batch.map(micro_batch).transpose()?,
        evaluate_every: train.evaluate_every.unwrap_or(300),
        optimizer: optimizer.unwrap_or(Optimizer::Sgd),
        momentum: train.momentum.unwrap_or_default(),
        schedule: schedule.unwrap_or(Schedule::Step),
        milestones: train.milestones.unwrap_or_default(),
        gamma: train.gamma.unwrap_or_default(),
        average: train.average.map(average).transpose()?,
        ensemble: train.ensemble,
        following: Vec::new(),
    };
    for (following, _) in unset.iter().filter(|(_, unset)| *unset) {
        following.follow(&mut settings);
        let varies =
            |source: &Setting| lists.axes.contains_key(source.as_str()) || lists.is_drawn(source.as_str());
        if following.sources().iter().any(varies) && !lists.is_drawn(following.as_str()) {
            settings.following.push(*following);
        }
    }
    Ok((settings, lists.axes))
}

/// The settings of which a file lists several values, as axes.
struct Lists<'a> {
    axes: BTreeMap<String, Axis>,
    /// Names that are drawn at random.
    drawn: &'a [String],
}

impl Lists<'_> {
    fn is_drawn(&self, name: &str) -> bool {
        self.drawn.iter().any(|drawn| drawn == name)
    }

    /// The value, or the first of a list, which becomes an axis.
    fn first<T: Clone + PartialEq + Debug>(
        &mut self,
        setting: Setting,
        values: Option<OneOrMany<T>>,
        scalar: impl Fn(&T) -> Scalar,
    ) -> Result<Option<T>, SpecError> {
        let name = setting.as_str();
        if values.is_some() && self.is_drawn(name) {
            return misplaced(&format!("random.{name}"), &format!("{} says what it is", setting.key()));
        }
        let values = match values {
            None => return Ok(None),
            Some(OneOrMany::One(value)) => return Ok(Some(value)),
            Some(OneOrMany::Many(values)) => distinct(&setting.key(), values)?,
        };
        let axis = Axis { values: values.iter().map(scalar).collect(), fixed: false };
        self.axes.insert(setting.as_str().to_owned(), axis);
        Ok(values.into_iter().next())
    }
}

/// Checks the settings of every trial. Which trials cannot be is said where not all are alike.
pub(super) fn check_all(
    settings: &Settings,
    axes: &BTreeMap<String, Axis>,
    random: Option<&RandomSearch>,
) -> Result<(), SpecError> {
    let combinations = Combinations::of(axes, random);
    let count = combinations.count();
    if count > COMBINATIONS_MAX {
        let key = "the lists in [data], [model] and [train]";
        return too_large(key, format!("{count} combinations"), COMBINATIONS_MAX);
    }
    for values in combinations.all() {
        let error = match check(&settings.at(&values)) {
            Ok(()) => continue,
            Err(error) => error,
        };
        if values.is_empty() {
            return Err(error);
        }
        let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        return Err(SpecError::Combination { values: values.join(", "), error: Box::new(error) });
    }
    Ok(())
}

/// Checks the settings of a trial.
fn check(settings: &Settings) -> Result<(), SpecError> {
    let Settings { backbone, finetune, weights, pixels, cache_pixels, augment, .. } = settings;
    check_network(*backbone, *finetune, weights)?;
    check_pixels(*pixels, *backbone)?;
    if let Some(side) = cache_pixels.filter(|side| !(16..=16_384).contains(side)) {
        return wrong("data.cache_pixels", side, "16 to 16384");
    }
    if *backbone == Backbone::MnistCnn && *augment {
        return wrong("data.augment", true, "the training transform is for photographs; mnist-cnn has none");
    }
    let Settings { steps, batch_per_domain, evaluate_every, optimizer, momentum, .. } = settings;
    if *steps > STEPS_MAX {
        return wrong("train.steps", steps, format!("at most {STEPS_MAX}"));
    }
    if !(1..=BATCH_MAX).contains(batch_per_domain) {
        return wrong("train.batch_per_domain", batch_per_domain, format!("1 to {BATCH_MAX}"));
    }
    if !(1..=STEPS_MAX).contains(evaluate_every) {
        return wrong("train.evaluate_every", evaluate_every, format!("1 to {STEPS_MAX}"));
    }
    if *optimizer != Optimizer::Sgd && *momentum != 0.0 {
        let allowed = format!("only sgd has it, and train.optimizer is {optimizer}");
        return wrong("train.momentum", momentum, allowed);
    }
    if !(0.0..1.0).contains(momentum) {
        return wrong("train.momentum", momentum, "at least 0 and below 1");
    }
    check_rate(settings)?;
    if let Some(Ensemble { from }) = settings.ensemble.filter(|ensemble| ensemble.from > *steps) {
        return wrong("train.ensemble.from", from, format!("at most train.steps, {steps}"));
    }
    if let Some(Average { from, .. }) = settings.average.filter(|average| average.from > *steps) {
        return wrong("train.average.from", from, format!("at most train.steps, {steps}"));
    }
    check_norms(settings)
}

/// What normalises, and what goes with it.
fn check_norms(settings: &Settings) -> Result<(), SpecError> {
    let Settings { backbone, finetune, block_norm, batch_norm, micro_batch, .. } = settings;
    if *block_norm != BlockNorm::default() && *finetune != Finetune::Linear {
        let allowed = format!("only linear fine-tuning mixes blocks, and model.finetune is {finetune}");
        return wrong("model.block_norm", block_norm.as_str(), allowed);
    }
    let is_live = *batch_norm == BatchNorm::Live;
    if is_live && !backbone.has_batch_norm() {
        let allowed = format!("{backbone} has no BatchNorm layers; allowed: \"frozen\"");
        return wrong("model.batch_norm", "live", allowed);
    }
    if is_live && *finetune != Finetune::Scratch {
        let allowed = format!(
            "\"frozen\", for model.finetune is {finetune}: only training from scratch moves the statistics"
        );
        return wrong("model.batch_norm", "live", allowed);
    }
    if is_live && settings.average.is_some() {
        let reason = "the statistics of live BatchNorm layers do not average; model.batch_norm = \"frozen\" has none, nor has a pretrained network";
        return misplaced("train.average", reason);
    }
    if micro_batch.is_some() && (is_live || *block_norm == BlockNorm::Batch) {
        let reason = "BatchNorm normalises by the whole batch here, which a part of it does not show; model.batch_norm = \"frozen\" and model.block_norm = \"none\" do not";
        return misplaced("train.micro_batch", reason);
    }
    Ok(())
}

/// The network and the name of its pretrained weights, empty from scratch.
fn check_network(backbone: Backbone, finetune: Finetune, weights: &str) -> Result<(), SpecError> {
    if finetune == Finetune::Scratch {
        if weights.is_empty() {
            return Ok(());
        }
        return wrong("model.weights", weights, "finetune = \"scratch\" starts without pretrained weights");
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
    check_name("model.weights", weights)
}

fn check_pixels(pixels: u32, backbone: Backbone) -> Result<(), SpecError> {
    if backbone.is_of_fixed_size() && pixels != backbone.pixels() {
        return wrong("data.pixels", pixels, format!("{backbone} takes {} only", backbone.pixels()));
    }
    if !(16..=4_096).contains(&pixels) {
        return wrong("data.pixels", pixels, "16 to 4096");
    }
    Ok(())
}

/// The learning rate schedule.
fn check_rate(settings: &Settings) -> Result<(), SpecError> {
    let Settings { schedule, milestones, gamma, .. } = settings;
    if *schedule == Schedule::Cosine && !milestones.is_empty() {
        return wrong("train.milestones", milestones, "only under schedule = \"step\"");
    }
    if *schedule == Schedule::Cosine && *gamma != 1.0 {
        return wrong("train.gamma", gamma, "only under schedule = \"step\"");
    }
    if !(*gamma > 0.0 && *gamma <= 1.0) {
        return wrong("train.gamma", gamma, "above 0 and at most 1");
    }
    if milestones.len() > 1_000 || !milestones.is_sorted_by(|a, b| a < b) || milestones.first() == Some(&0) {
        return wrong("train.milestones", milestones, "at most 1000 ascending steps above 0");
    }
    Ok(())
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

fn average(table: AverageTable) -> Result<Average, SpecError> {
    let AverageTable { from, every } = table;
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
