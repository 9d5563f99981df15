//! From a file to a sweep: sets every default and checks every range.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::combine;
use super::dataset::domain_names;
use super::error::{SpecError, misplaced, missing, wrong};
use super::file::{
    DataTable, GridTable, HeldOut, KeepTable, LimitsTable, MetricTable, RequireTable, RunTable, SweepFile,
};
use super::grid::{finetune_grid, free_axes, held_out_domains, seeds, size};
use super::imported::Imported;
use super::random::random_search;
use super::sweep::{Grid, SweepSpec};
use super::train::{STEPS_MAX, check_all, settings};
use super::values::check_name;
use super::written::note_numbers;
use crate::combine::CombinationKind;
use crate::command::{BUILT_IN, CommandSettings, fill, flag_axis, is_flag_alone};
use crate::keep::Keep;
use crate::limits::Limits;
use crate::metrics::{METRIC_NAMES, METRICS_MAX, MetricSettings, is_metric_name};
use crate::parameters::Scalar;
use crate::requirements::Requirements;
use crate::selection::Selection;
use crate::trial::{DatasetSpec, PROTOCOL_VERSION, Work};

/// The longest unit of a metric.
const UNIT_CHARS_MAX: usize = 20;

impl SweepSpec {
    /// Reads a sweep file. `discovered` is what a folder of images shows of a dataset that the file only names.
    ///
    /// # Errors
    /// [`SpecError`], one line that names the key, the value and what is allowed.
    pub fn parse(text: &str, discovered: Option<&DatasetSpec>) -> Result<Self, SpecError> {
        let mut file = SweepFile::parse(text)?;
        // Sortie's own trainer reads numbers, not texts.
        if file.run.is_some() {
            note_numbers(text, &mut file.grid.axes);
        }
        sweep(file, discovered)
    }
}

fn sweep(file: SweepFile, discovered: Option<&DatasetSpec>) -> Result<SweepSpec, SpecError> {
    let SweepFile { name, select, data, model, train, run, require, keep, .. } = file;
    let SweepFile { metrics, limits, grid, random, combine, .. } = file;
    let drawn: Vec<String> = random.iter().flat_map(|random| random.ranges.keys().cloned()).collect();
    check_name("name", &name)?;
    let select = select.unwrap_or_else(|| vec![Selection::Iid]);
    if select.is_empty() {
        return wrong("select", select, "name at least one selection method");
    }
    let require = requirements(require.unwrap_or_default(), run.is_some())?;
    let limits = checked_limits(limits, run.as_ref().and_then(|run| run.retries))?;
    let (work, grid) = match (run, model, train, data) {
        (Some(run), None, None, data) => command_work(run, data, discovered, grid, &drawn)?,
        (Some(_), _, _, _) => {
            return misplaced("run", "a sweep that runs a command has no [model] and no [train]");
        }
        (None, Some(model), train, Some(data)) => {
            let (settings, lists) = settings(data, model, train.unwrap_or_default(), &drawn, discovered)?;
            let is_drawn = |name: &str| drawn.iter().any(|drawn| drawn == name);
            let grid = finetune_grid(grid, lists, is_drawn, &settings.dataset)?;
            (Work::Finetune(settings), grid)
        }
        (None, Some(_), _, None) => {
            return missing("data", "fine-tuning needs a [data] table that names the dataset");
        }
        (None, None, _, _) => {
            return missing("model", "a sweep needs a [model] table to fine-tune, or [run] with a command");
        }
    };
    let random = random.map(|table| random_search(table, &work, &grid.axes)).transpose()?;
    if let Work::Finetune(settings) = &work {
        check_all(settings, &grid.axes, random.as_ref())?;
    }
    if keep.is_some() && matches!(work, Work::Command(_)) {
        return misplaced("keep", "a sweep that runs a command saves only the files that the command writes");
    }
    let metrics = checked_metrics(metrics, &work)?;
    let pairs = select.iter().find(|selection| selection.needs_pairs());
    if let Some(selection) = pairs
        && (work.domains().len() < 3 || grid.held_out.is_empty())
    {
        let reason = "it holds out two domains and trains on the others, so it needs held-out domains and a dataset of at least three";
        return misplaced(&format!("select = {selection}"), reason);
    }
    let averages = combine.iter().any(|table| table.kind == CombinationKind::Average);
    let keep = checked_keep(keep.unwrap_or_default(), averages)?;
    let sweep = SweepSpec {
        name,
        protocol: PROTOCOL_VERSION,
        select,
        work,
        require,
        keep,
        metrics,
        limits,
        grid,
        random,
        combine: Vec::new(),
        kill_at: None,
        imported: Imported::default(),
    };
    size(&sweep)?;
    let combine = combine::checked(combine, &sweep)?;
    let sweep = SweepSpec { combine, ..sweep };
    size(&sweep)?;
    Ok(sweep)
}

/// `[keep]` of a sweep; `averages`: whether it has averages of weights.
fn checked_keep(table: KeepTable, averages: bool) -> Result<Keep, SpecError> {
    let KeepTable { weights, logits, checkpoint_minutes } = table;
    let allowed = Keep::CHECKPOINT_MINUTES_ALLOWED;
    let checkpoint_minutes = checkpoint_minutes.unwrap_or(Keep::CHECKPOINT_MINUTES);
    if !allowed.contains(&checkpoint_minutes) {
        let (shortest, longest) = (allowed.start(), allowed.end());
        return wrong("keep.checkpoint_minutes", checkpoint_minutes, format!("{shortest} to {longest}"));
    }
    let logits = logits.unwrap_or(Keep::default().logits);
    let keep = Keep { weights: weights.unwrap_or_default(), logits, checkpoint_minutes };
    // Members of averages keep their weights by default; a file that says otherwise is refused.
    Ok(if averages && weights.is_none() { keep.with_final_weights() } else { keep })
}

fn checked_limits(table: LimitsTable, retries: Option<u32>) -> Result<Limits, SpecError> {
    let LimitsTable { hours, stall_minutes } = table;
    for (key, value) in [("limits.hours", hours), ("limits.stall_minutes", stall_minutes)] {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && *value <= Limits::MAX)) {
            return wrong(key, value, "more than 0, at most 100000");
        }
    }
    if let Some(retries) = retries.filter(|retries| *retries > Limits::RETRIES_MAX) {
        return wrong("run.retries", retries, "0 to 100");
    }
    Ok(Limits { hours, stall_minutes, retries })
}

fn checked_metrics(
    tables: BTreeMap<String, MetricTable>,
    work: &Work,
) -> Result<BTreeMap<String, MetricSettings>, SpecError> {
    if !tables.is_empty() && matches!(work, Work::Finetune(_)) {
        return misplaced("metrics", "Sortie's trainer reports accuracy and loss, and nothing else");
    }
    if tables.len() > METRICS_MAX {
        return wrong("metrics", tables.len(), format!("at most {METRICS_MAX} of them"));
    }
    let mut metrics = BTreeMap::new();
    for (name, MetricTable { goal, unit }) in tables {
        if !is_metric_name(&name) {
            return wrong("metrics", &name, METRIC_NAMES);
        }
        let unit = unit.unwrap_or_default();
        if unit.chars().count() > UNIT_CHARS_MAX || unit.chars().any(char::is_control) {
            let allowed = format!("at most {UNIT_CHARS_MAX} characters on one line");
            return wrong(format!("metrics.{name}.unit"), unit, allowed);
        }
        metrics.insert(name, MetricSettings { goal, unit });
    }
    Ok(metrics)
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

fn command_work(
    run: RunTable,
    data: Option<DataTable>,
    discovered: Option<&DatasetSpec>,
    grid: GridTable,
    drawn: &[String],
) -> Result<(Work, Grid), SpecError> {
    let RunTable { command, steps, complete_at, retries: _ } = run;
    if command.first().is_none_or(|program| program.trim().is_empty() || is_flag_alone(program)) {
        return wrong("run.command", command, "a list that starts with a program");
    }
    if let Some(steps) = steps.filter(|steps| *steps > STEPS_MAX) {
        return wrong("run.steps", steps, format!("at most {STEPS_MAX}"));
    }
    let last = steps.unwrap_or(STEPS_MAX);
    if let Some(step) = complete_at.filter(|step| *step > last) {
        return wrong(
            "run.complete_at",
            step,
            format!("at most {last}, the last step that a trial may report"),
        );
    }
    let (dataset, domains) = command_data(data, discovered)?;
    let axes = free_axes(grid.axes)?;
    check_placeholders(&command, &axes, drawn)?;
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
    Ok((Work::Command(CommandSettings { command, dataset, domains, steps, complete_at }), grid))
}

/// The dataset and the domains of a command.
fn command_data(
    data: Option<DataTable>,
    discovered: Option<&DatasetSpec>,
) -> Result<(Option<String>, Vec<String>), SpecError> {
    let Some(data) = data else { return Ok((None, Vec::new())) };
    let request = data.request()?;
    let DataTable {
        classes,
        group,
        layout,
        missing_classes,
        pixels,
        augment,
        out_transform,
        cache_pixels,
        ..
    } = &data;
    let read = classes.is_some() || group.is_some() || layout.is_some() || missing_classes.is_some();
    let shown = pixels.is_some() || augment.is_some() || out_transform.is_some() || cache_pixels.is_some();
    if read || shown {
        return misplaced("data", "a sweep that runs a command has only `dataset` and `domains` there");
    }
    let domains = request.domains.or_else(|| discovered.map(|found| found.domains.clone()));
    Ok((Some(request.name), domains.map_or_else(|| Ok(Vec::new()), domain_names)?))
}

/// Whether every placeholder of a command stands for something.
fn check_placeholders(
    command: &[String],
    axes: &BTreeMap<String, Axis>,
    drawn: &[String],
) -> Result<(), SpecError> {
    let is_flag = |axis: &Axis| axis.values.iter().all(|value| matches!(value, Scalar::Flag(_)));
    let known = |name: &str| match flag_axis(name) {
        Some(axis) => axes.get(axis).is_some_and(is_flag),
        None => axes.contains_key(name) || drawn.iter().any(|own| own == name) || BUILT_IN.contains(&name),
    };
    for word in command {
        if let Err(error) = fill(word, |name| known(name).then(String::new)) {
            let names: Vec<&str> = axes.keys().chain(drawn).map(String::as_str).chain(BUILT_IN).collect();
            return wrong(
                "run.command",
                &error.word,
                format!("it {}; allowed: {}", error.reason, names.join(", ")),
            );
        }
    }
    Ok(())
}
