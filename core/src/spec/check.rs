//! From a file to a sweep: sets every default and checks every range.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{DataTable, GridTable, HeldOut, KeepTable, OneOrMany, RequireTable, RunTable, SweepFile};
use super::train::{STEPS_MAX, settings};
use super::{Axis, Change, Grid, SpecError, SweepSpec, combine};
use crate::catalogue;
use crate::combine::{COMBINE, CombinationKind};
use crate::command::{BUILT_IN, CommandSettings, fill};
use crate::finetune::{AXES, SplitBy};
use crate::keep::Keep;
use crate::parameters::Scalar;
use crate::requirements::Requirements;
use crate::selection::Selection;
use crate::trial::{DatasetSpec, PROTOCOL_VERSION, Work};

/// The most trials that one sweep may plan.
const TRIALS_MAX: u64 = 10_000_000;
/// Axes are compared value by value, since floats have no hash. This limit keeps that fast.
pub(super) const AXIS_VALUES_MAX: usize = 10_000;

pub(super) fn wrong<T>(
    key: impl Into<String>,
    value: impl std::fmt::Debug,
    allowed: impl Into<String>,
) -> Result<T, SpecError> {
    Err(SpecError::Value { key: key.into(), value: format!("{value:?}"), allowed: allowed.into() })
}

fn missing<T>(key: impl Into<String>, needs: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError::Missing { key: key.into(), needs: needs.into() })
}

pub(super) fn misplaced<T>(key: &str, reason: &str) -> Result<T, SpecError> {
    Err(SpecError::Misplaced { key: key.to_owned(), reason: reason.to_owned() })
}

fn too_large<T>(key: impl Into<String>, size: String, max: u64) -> Result<T, SpecError> {
    Err(SpecError::TooLarge { key: key.into(), size, max })
}

pub(super) fn sweep(file: SweepFile, discovered: Option<&DatasetSpec>) -> Result<SweepSpec, SpecError> {
    let SweepFile { name, select, data, model, train, run, require, keep, grid, combine } = file;
    check_name("name", &name)?;
    let select = select.unwrap_or_else(|| vec![Selection::Iid]);
    if select.is_empty() {
        return wrong("select", select, "name at least one selection method");
    }
    let require = requirements(require.unwrap_or_default(), run.is_some())?;
    let (work, grid) = match (run, model, train, data) {
        (Some(run), None, None, data) => command_work(run, data, discovered, grid)?,
        (Some(_), _, _, _) => {
            return misplaced("run", "a sweep that runs a command has no [model] and no [train]");
        }
        (None, Some(model), train, Some(data)) => {
            let settings = settings(data, model, train.unwrap_or_default(), discovered)?;
            let grid = finetune_grid(grid, &settings.dataset)?;
            (Work::Finetune(settings), grid)
        }
        (None, Some(_), _, None) => {
            return missing("data", "fine-tuning needs a [data] table that names the dataset");
        }
        (None, None, _, _) => {
            return missing("model", "a sweep needs a [model] table to fine-tune, or [run] with a command");
        }
    };
    if keep.is_some() && matches!(work, Work::Command(_)) {
        return misplaced("keep", "a sweep that runs a command saves only the files that the command writes");
    }
    let pairs = select.iter().find(|selection| selection.needs_pairs());
    if let Some(selection) = pairs
        && (work.domains().len() < 3 || grid.held_out.is_empty())
    {
        let reason = "it holds out two domains and trains on the others, so it needs held-out domains and a dataset of at least three";
        return misplaced(&format!("select = {selection}"), reason);
    }
    let KeepTable { weights, logits } = keep.unwrap_or_default();
    let keep =
        Keep { weights: weights.unwrap_or_default(), logits: logits.unwrap_or(Keep::default().logits) };
    // Members of averages keep their weights by default; a file that says otherwise is refused.
    let averages = combine.iter().any(|table| table.kind == CombinationKind::Average);
    let keep = if averages && weights.is_none() { keep.with_final_weights() } else { keep };
    let sweep = SweepSpec {
        name,
        protocol: PROTOCOL_VERSION,
        select,
        work,
        require,
        keep,
        grid,
        combine: Vec::new(),
        kill_at: None,
    };
    size(&sweep)?;
    let combine = combine::checked(combine, &sweep)?;
    let sweep = SweepSpec { combine, ..sweep };
    size(&sweep)?;
    Ok(sweep)
}

/// A grid must not be too large, in a file or grown out of several.
pub(super) fn size(sweep: &SweepSpec) -> Result<(), SpecError> {
    let Grid { axes, seeds, splits, .. } = &sweep.grid;
    let lengths = axes.iter().map(|(name, axis)| (name.as_str(), axis.values.len()));
    let replicates = [("seeds", seeds.len()), ("splits", splits.len())];
    if let Some((name, length)) = lengths.chain(replicates).find(|(_, length)| *length > AXIS_VALUES_MAX) {
        return too_large(format!("grid.{name}"), format!("{length} values"), AXIS_VALUES_MAX as u64);
    }
    match sweep.trials_planned() {
        Some(planned) if planned <= TRIALS_MAX => Ok(()),
        Some(planned) => too_large("grid", format!("{planned} trials"), TRIALS_MAX),
        None => too_large("grid", "more than 2^64 trials".to_owned(), TRIALS_MAX),
    }
}

fn requirements(table: RequireTable, commands: bool) -> Result<Requirements, SpecError> {
    let RequireTable { mut tags, gpu_memory_gib } = table;
    for tag in &tags {
        check_name("require.tags", tag)?;
    }
    tags.sort();
    tags.dedup();
    let gpu_memory_gib = gpu_memory_gib.unwrap_or(0.0);
    if !(0.0..=100_000.0).contains(&gpu_memory_gib) {
        return wrong("require.gpu_memory_gib", gpu_memory_gib, "GiB, at least 0");
    }
    Ok(Requirements { tags, gpu_memory_gib, commands, worker: None })
}

pub(super) fn check_name(key: &str, name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return wrong(key, name, "1 to 100 letters, digits, '.', '_' and '-', not starting with '.' or '-'");
    }
    Ok(())
}

/// The file takes precedence over the folder, and the folder over the catalogue.
pub(super) fn dataset(data: DataTable, discovered: Option<&DatasetSpec>) -> Result<DatasetSpec, SpecError> {
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
fn folder_names(key: &str, mut names: Vec<String>) -> Result<Vec<String>, SpecError> {
    names.sort();
    let distinct = names.is_sorted_by(|a, b| a < b);
    if !(2..=100_000).contains(&names.len()) || !distinct || !names.iter().all(|name| is_plain(name)) {
        return wrong(
            key,
            names,
            "2 or more different folder names without '/', '\\', '+', control characters, or a leading '.'",
        );
    }
    Ok(names)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || "/\\+".contains(c))
}

fn command_work(
    run: RunTable,
    data: Option<DataTable>,
    discovered: Option<&DatasetSpec>,
    grid: GridTable,
) -> Result<(Work, Grid), SpecError> {
    let RunTable { command, steps } = run;
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        return wrong("run.command", command, "a list that starts with a program");
    }
    if let Some(steps) = steps.filter(|steps| *steps > STEPS_MAX) {
        return wrong("run.steps", steps, format!("at most {STEPS_MAX}"));
    }
    let (dataset, domains) = match data {
        None => (None, Vec::new()),
        Some(data) => {
            let DataTable {
                dataset: name,
                domains,
                classes,
                group,
                pixels,
                augment,
                out_transform,
                cache_pixels,
            } = data;
            check_name("data.dataset", &name)?;
            let shown =
                pixels.is_some() || augment.is_some() || out_transform.is_some() || cache_pixels.is_some();
            if classes.is_some() || group.is_some() || shown {
                return misplaced(
                    "data",
                    "a sweep that runs a command has only `dataset` and `domains` there",
                );
            }
            let known = discovered.cloned().or_else(|| catalogue::find(&name)).map(|known| known.domains);
            (
                Some(name),
                domains
                    .or(known)
                    .map_or_else(|| Ok(Vec::new()), |domains| folder_names("data.domains", domains))?,
            )
        }
    };
    let axes = free_axes(grid.axes)?;
    for word in &command {
        let known = |name: &str| (axes.contains_key(name) || BUILT_IN.contains(&name)).then(String::new);
        if let Err(error) = fill(word, known) {
            let names: Vec<&str> = axes.keys().map(String::as_str).chain(BUILT_IN).collect();
            return wrong(
                "run.command",
                &error.word,
                format!("it {}; allowed: {}", error.reason, names.join(", ")),
            );
        }
    }
    let held_out = match grid.held_out {
        None => Vec::new(),
        Some(HeldOut::Each) if domains.is_empty() => {
            return wrong("grid.held_out", "each", "list the domains here, or as `domains` under [data]");
        }
        Some(held_out) => held_out_domains(Some(held_out), &domains)?,
    };
    let grid = Grid {
        axes,
        held_out,
        seeds: seeds("grid.seeds", grid.seeds)?,
        splits: seeds("grid.splits", grid.splits)?,
    };
    Ok((Work::Command(CommandSettings { command, dataset, domains, steps }), grid))
}

/// The axes of a command: any names but those that every trial has.
fn free_axes(table: BTreeMap<String, OneOrMany<Scalar>>) -> Result<BTreeMap<String, Axis>, SpecError> {
    let mut axes = BTreeMap::new();
    for (name, values) in table {
        let key = format!("grid.{name}");
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty()
            || name.len() > 60
            || !name.chars().all(fits)
            || BUILT_IN.contains(&name.as_str())
            || name == COMBINE
        {
            let allowed = format!(
                "names are 1 to 60 of a-z, 0-9 and '_', and none of {}, {COMBINE}",
                BUILT_IN.join(", ")
            );
            return Err(SpecError::UnknownAxis { key, allowed });
        }
        let short = |value: &Scalar| {
            if let Scalar::Text(text) = value { text.len() <= 1_000 && !text.contains('\0') } else { true }
        };
        axes.insert(name, axis(&key, values, "at most 1000 bytes and no NUL", short)?);
    }
    Ok(axes)
}

fn held_out_domains(held_out: Option<HeldOut>, domains: &[String]) -> Result<Vec<String>, SpecError> {
    let held_out = match held_out {
        None | Some(HeldOut::Each) => domains.to_vec(),
        Some(HeldOut::List(list)) => list,
    };
    // A command may name no domains; the held-out ones must still be valid column names.
    let unknown = held_out
        .iter()
        .find(|domain| if domains.is_empty() { !is_plain(domain) } else { !domains.contains(domain) });
    if let Some(unknown) = unknown {
        let allowed = if domains.is_empty() {
            "names without '/', '\\', '+', control characters, or a leading '.'".to_owned()
        } else {
            domains.join(", ")
        };
        return wrong("grid.held_out", unknown, format!("domains are {allowed}"));
    }
    distinct("grid.held_out", held_out)
}

/// What an axis of fine-tuning allows, in words and as a test.
type Rule = (&'static str, fn(f64) -> bool);

fn finetune_grid(grid: GridTable, dataset: &DatasetSpec) -> Result<Grid, SpecError> {
    let GridTable { axes: mut table, held_out, seeds: seed_values, splits } = grid;
    if let Some(unknown) = table.keys().find(|name| !AXES.contains(&name.as_str())) {
        let allowed = format!("fine-tuning has {}, held_out, seeds and splits", AXES.join(", "));
        return Err(SpecError::UnknownAxis { key: format!("grid.{unknown}"), allowed });
    }
    let mut axes = BTreeMap::new();
    let rules: [Rule; 4] = [
        ("a number, at least 0 and below 1", |x| (0.0..1.0).contains(&x)),
        ("a finite number above 0", |x| x > 0.0),
        ("a finite number, at least 0", |x| x >= 0.0),
        ("a finite number above 0", |x| x > 0.0),
    ];
    for (name, (allowed, fits)) in AXES.into_iter().zip(rules) {
        let key = format!("grid.{name}");
        let axis = match table.remove(name) {
            Some(values) => axis(&key, values, allowed, |value| value.as_number().is_some_and(fits))?,
            None if name == "head_lr_factor" => Axis::fixed(Scalar::Number(1.0)),
            None => return missing(key, format!("fine-tuning needs it: {allowed}, or a list")),
        };
        axes.insert(name.to_owned(), axis);
    }
    let held_out = held_out_domains(held_out, &dataset.domains)?;
    Ok(Grid {
        axes,
        held_out,
        seeds: seeds("grid.seeds", seed_values)?,
        splits: seeds("grid.splits", splits)?,
    })
}

fn axis(
    key: &str,
    values: OneOrMany<Scalar>,
    allowed: &str,
    fits: impl Fn(&Scalar) -> bool,
) -> Result<Axis, SpecError> {
    let (values, fixed) = match values {
        OneOrMany::One(value) => (vec![value], true),
        OneOrMany::Many(values) => (values, false),
    };
    if let Some(value) = values.iter().find(|value| !fits(value)) {
        return wrong(key, value, allowed);
    }
    Ok(Axis { values: distinct(key, values)?, fixed })
}

/// A count means the seeds 0, 1, 2, ...; a list names them.
fn seeds(key: &str, seeds: Option<OneOrMany<u64>>) -> Result<Vec<u64>, SpecError> {
    let seeds = match seeds {
        None => vec![0],
        Some(OneOrMany::One(count)) if (1..=AXIS_VALUES_MAX as u64).contains(&count) => (0..count).collect(),
        Some(OneOrMany::One(count)) => {
            return wrong(key, count, format!("a count from 1 to {AXIS_VALUES_MAX}, or a list of seeds"));
        }
        Some(OneOrMany::Many(seeds)) => seeds,
    };
    distinct(key, seeds)
}

pub(super) fn distinct<T: PartialEq + std::fmt::Debug>(
    key: &str,
    values: Vec<T>,
) -> Result<Vec<T>, SpecError> {
    if values.is_empty() {
        return wrong(key, values, "an axis needs at least one value");
    }
    if values.len() > AXIS_VALUES_MAX {
        return too_large(key, format!("{} values", values.len()), AXIS_VALUES_MAX as u64);
    }
    if let Some(twice) =
        values.iter().enumerate().find_map(|(index, value)| values[..index].contains(value).then_some(value))
    {
        return wrong(key, twice, "a value may stand only once on an axis");
    }
    Ok(values)
}

/// The settings in which two sweeps differ.
pub(super) fn differences(old: &Work, new: &Work) -> Vec<Change> {
    let flat = |work: &Work| {
        let mut flat = Vec::new();
        let value = match work {
            Work::Finetune(settings) => serde_json::to_value(settings),
            Work::Command(settings) => serde_json::to_value(settings),
        };
        flatten("", &value.unwrap_or_default(), &mut flat);
        flat.into_iter().collect::<BTreeMap<String, String>>()
    };
    if std::mem::discriminant(old) != std::mem::discriminant(new) {
        let kind = |work: &Work| {
            if matches!(work, Work::Command(_)) { "a command" } else { "fine-tuning" }.to_owned()
        };
        return vec![Change { key: "its work".to_owned(), old: kind(old), new: kind(new) }];
    }
    // A setting may be a table on one side and nothing on the other, so each has keys that the other lacks.
    let (old, new) = (flat(old), flat(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let there = |flat: &BTreeMap<String, String>, key: &String| {
        flat.get(key).cloned().unwrap_or_else(|| "missing".to_owned())
    };
    let changes =
        keys.into_iter().map(|key| Change { key: key.clone(), old: there(&old, key), new: there(&new, key) });
    changes.filter(|change| change.old != change.new).collect()
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
