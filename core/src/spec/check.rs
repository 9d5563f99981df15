//! From a file to a sweep: every default, every range.

use super::file::{DataTable, GridTable, HeldOut, ModelTable, OneOrMany, SweepFile, TrainTable};
use super::{Axis, Change, Grid, SpecError, SweepSpec};
use crate::catalogue;
use crate::grid::TRIALS_MAX;
use crate::selection::Selection;
use crate::trial::{DatasetSpec, Finetune, OutTransform, Precision, Settings, SplitBy};

/// Far above what anybody trains, and low enough that arithmetic on steps cannot overflow.
const STEPS_MAX: u64 = 100_000_000;

/// Axes are compared value by value, since floats have no hash: this keeps that instant.
const AXIS_VALUES_MAX: usize = 10_000;

fn wrong<T>(key: &'static str, value: impl std::fmt::Debug, allowed: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError::Value { key, value: format!("{value:?}"), allowed: allowed.into() })
}

pub(super) fn sweep(file: SweepFile, discovered: Option<&DatasetSpec>) -> Result<SweepSpec, SpecError> {
    let SweepFile { name, select, data, model, train, grid } = file;
    check_name("name", &name)?;
    let select = select.unwrap_or_else(|| vec![Selection::Iid]);
    if select.is_empty() {
        return wrong("select", select, "name at least one selection method");
    }
    let settings = settings(data, &model, train, discovered)?;
    let grid = grid_axes(grid, &settings.dataset)?;
    let sweep = SweepSpec { name, select, settings, grid };
    match sweep.trials_planned() {
        Some(planned) if planned <= TRIALS_MAX => Ok(sweep),
        planned => wrong("grid", planned, format!("at most {TRIALS_MAX} trials a sweep")),
    }
}

fn check_name(key: &'static str, name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return wrong(key, name, "1 to 100 letters, digits, '.', '_' and '-', not starting with '.' or '-'");
    }
    Ok(())
}

fn settings(data: DataTable, model: &ModelTable, train: TrainTable, discovered: Option<&DatasetSpec>) -> Result<Settings, SpecError> {
    let pixels = data.pixels.unwrap_or(224);
    if !(16..=4_096).contains(&pixels) {
        return wrong("data.pixels", pixels, "16 to 4096");
    }
    let (augment, out_transform) = (data.augment.unwrap_or(true), data.out_transform.unwrap_or(OutTransform::Train));
    let dataset = dataset(data, discovered)?;
    let steps = train.steps.unwrap_or(10_000);
    if steps > STEPS_MAX {
        return wrong("train.steps", steps, format!("at most {STEPS_MAX}"));
    }
    let batch_per_domain = train.batch_per_domain.unwrap_or(32);
    if !(1..=65_536).contains(&batch_per_domain) {
        return wrong("train.batch_per_domain", batch_per_domain, "1 to 65536");
    }
    let evaluate_every = train.evaluate_every.unwrap_or(300);
    if !(1..=STEPS_MAX).contains(&evaluate_every) {
        return wrong("train.evaluate_every", evaluate_every, format!("1 to {STEPS_MAX}"));
    }
    let momentum = train.momentum.unwrap_or(0.9);
    if !(0.0..1.0).contains(&momentum) {
        return wrong("train.momentum", momentum, "at least 0 and below 1");
    }
    let gamma = train.gamma.unwrap_or(0.1);
    if !(gamma > 0.0 && gamma <= 1.0) {
        return wrong("train.gamma", gamma, "above 0 and at most 1");
    }
    let milestones = train.milestones.unwrap_or_else(|| if steps >= 2 { vec![steps / 2, steps] } else { Vec::new() });
    if milestones.len() > 1_000 || !milestones.is_sorted_by(|a, b| a < b) || milestones.first() == Some(&0) {
        return wrong("train.milestones", milestones, "at most 1000 ascending steps above 0");
    }
    Ok(Settings {
        dataset,
        pixels,
        augment,
        out_transform,
        backbone: model.backbone,
        finetune: model.finetune.unwrap_or(Finetune::Full),
        precision: train.precision.unwrap_or(Precision::Fp32),
        steps,
        batch_per_domain,
        evaluate_every,
        momentum,
        milestones,
        gamma,
    })
}

/// What the file says wins over what a folder told, which wins over the catalogue.
fn dataset(data: DataTable, discovered: Option<&DatasetSpec>) -> Result<DatasetSpec, SpecError> {
    let name = data.dataset;
    check_name("data.dataset", &name)?;
    let known = discovered.cloned().or_else(|| catalogue::find(&name));
    let split_by = data.group.or(known.as_ref().map(|known| known.split_by)).unwrap_or(SplitBy::Image);
    let domains = data.domains.or(known.as_ref().map(|known| known.domains.clone()));
    let classes = data.classes.or(known.map(|known| known.classes));
    let (Some(domains), Some(classes)) = (domains, classes) else {
        return Err(SpecError::UnknownDataset { name, known: catalogue::names().join(", ") });
    };
    let domains = folder_names("data.domains", domains)?;
    let classes = folder_names("data.classes", classes)?;
    Ok(DatasetSpec { name, domains, classes, split_by })
}

/// Names of folders, sorted as the loader sorts them: the order decides domain indices and class labels.
fn folder_names(key: &'static str, mut names: Vec<String>) -> Result<Vec<String>, SpecError> {
    names.sort();
    let distinct = names.is_sorted_by(|a, b| a < b);
    let plain = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '+', '\0', '\n']);
    if !(2..=100_000).contains(&names.len()) || !distinct || !names.iter().all(plain) {
        return wrong(key, names, "2 or more different folder names without '/', '\\', '+', or a leading '.'");
    }
    Ok(names)
}

fn grid_axes(grid: GridTable, dataset: &DatasetSpec) -> Result<Grid, SpecError> {
    let positive = (|x| x > 0.0 && x < f64::INFINITY) as fn(f64) -> bool;
    let held_out = match grid.held_out {
        None | Some(HeldOut::Each) => dataset.domains.clone(),
        Some(HeldOut::List(list)) => list,
    };
    if let Some(unknown) = held_out.iter().find(|domain| !dataset.domains.contains(domain)) {
        return wrong("grid.held_out", unknown, format!("domains of {} are {}", dataset.name, dataset.domains.join(", ")));
    }
    let held_out = distinct("grid.held_out", held_out)?;
    let head_lr_factor = match grid.head_lr_factor {
        None => Axis::fixed(1.0),
        Some(factors) => axis("grid.head_lr_factor", factors, "a finite number above 0", positive)?,
    };
    Ok(Grid {
        dropout: axis("grid.dropout", grid.dropout, "at least 0 and below 1", |x| (0.0..1.0).contains(&x))?,
        lr: axis("grid.lr", grid.lr, "a finite number above 0", positive)?,
        weight_decay: axis("grid.weight_decay", grid.weight_decay, "a finite number, at least 0", |x| (0.0..f64::INFINITY).contains(&x))?,
        head_lr_factor,
        held_out,
        seeds: seeds("grid.seeds", grid.seeds)?,
        splits: seeds("grid.splits", grid.splits)?,
    })
}

fn axis(key: &'static str, values: OneOrMany<f64>, allowed: &str, fits: fn(f64) -> bool) -> Result<Axis, SpecError> {
    let (values, fixed) = match values {
        OneOrMany::One(value) => (vec![value], true),
        OneOrMany::Many(values) => (values, false),
    };
    // Zero has no sign in a trial's identity; here neither.
    let values: Vec<f64> = values.into_iter().map(|value| if value == 0.0 { 0.0 } else { value }).collect();
    if let Some(&value) = values.iter().find(|&&value| !fits(value)) {
        return wrong(key, value, allowed);
    }
    Ok(Axis { values: distinct(key, values)?, fixed })
}

/// A count means the seeds 0, 1, 2, ...; a list names them.
fn seeds(key: &'static str, seeds: Option<OneOrMany<u64>>) -> Result<Vec<u64>, SpecError> {
    let seeds = match seeds {
        None => vec![0],
        Some(OneOrMany::One(count)) if (1..=AXIS_VALUES_MAX as u64).contains(&count) => (0..count).collect(),
        Some(OneOrMany::One(count)) => return wrong(key, count, format!("a count from 1 to {AXIS_VALUES_MAX}, or a list of seeds")),
        Some(OneOrMany::Many(seeds)) => seeds,
    };
    distinct(key, seeds)
}

fn distinct<T: PartialEq + std::fmt::Debug>(key: &'static str, values: Vec<T>) -> Result<Vec<T>, SpecError> {
    if values.is_empty() {
        return wrong(key, values, "an axis needs at least one value");
    }
    if values.len() > AXIS_VALUES_MAX {
        return wrong(key, format!("{} values", values.len()), format!("at most {AXIS_VALUES_MAX}"));
    }
    if let Some(twice) = values.iter().enumerate().find_map(|(index, value)| values[..index].contains(value).then_some(value)) {
        return wrong(key, twice, "a value may stand only once on an axis");
    }
    Ok(values)
}

/// The settings in which two sweeps differ.
pub(super) fn differences(old: &Settings, new: &Settings) -> Vec<Change> {
    let flat = |settings: &Settings| {
        let mut flat = Vec::new();
        flatten("", &serde_json::to_value(settings).unwrap_or_default(), &mut flat);
        flat
    };
    let pairs = flat(old).into_iter().zip(flat(new));
    pairs.filter(|(old, new)| old != new).map(|((key, old), (_, new))| Change { key, old, new }).collect()
}

fn flatten(key: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (inner, value) in map {
                let key = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                flatten(&key, value, into);
            }
        }
        leaf => into.push((key.to_owned(), leaf.to_string())),
    }
}
