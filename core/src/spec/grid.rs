//! `[grid]`: the axes, every value checked, and the size of the whole.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::error::{SpecError, missing, too_large, wrong};
use super::file::{GridTable, HeldOut};
use super::one_or_many::OneOrMany;
use super::sweep::{Grid, SweepSpec};
use super::values::{AXIS_VALUES_MAX, distinct, no_plus};
use crate::combine::COMBINE;
use crate::command::BUILT_IN;
use crate::finetune::{AXES, Setting};
use crate::names::is_folder_name;
use crate::parameters::Scalar;
use crate::trial::DatasetSpec;

/// The most trials that one sweep may plan.
const TRIALS_MAX: u64 = 10_000_000;

/// What an axis of fine-tuning allows, in words and as a test.
pub(super) type Rule = (&'static str, fn(f64) -> bool);

/// What such an axis of fine-tuning allows; none for other names.
pub(super) fn rule(axis: &str) -> Option<Rule> {
    Some(match axis {
        "dropout" => ("a number, at least 0 and below 1", |x| (0.0..1.0).contains(&x)),
        "lr" | "head_lr_factor" => ("a finite number above 0", |x| x > 0.0),
        "weight_decay" => ("a finite number, at least 0", |x| x >= 0.0),
        _ => return None,
    })
}

/// The grid of fine-tuning; `axes` are the settings that the other tables list, and some names may be `drawn`.
pub(super) fn finetune_grid(
    grid: GridTable,
    mut axes: BTreeMap<String, Axis>,
    drawn: impl Fn(&str) -> bool,
    dataset: &DatasetSpec,
) -> Result<Grid, SpecError> {
    let GridTable { axes: mut table, held_out, seeds: seed_values, splits } = grid;
    if let Some(unknown) = table.keys().find(|name| !AXES.contains(&name.as_str())) {
        let mut allowed = format!("fine-tuning has {}, held_out, seeds and splits", AXES.join(", "));
        if let Some(setting) = Setting::on_axis(unknown) {
            allowed = format!("list its values as {}", setting.key());
        }
        return Err(SpecError::UnknownAxis { key: format!("grid.{unknown}"), allowed });
    }
    for name in AXES {
        let Some((allowed, fits)) = rule(name) else { continue };
        let key = format!("grid.{name}");
        let axis = match table.remove(name) {
            Some(values) => axis(&key, values, allowed, |value| value.as_number().is_some_and(fits))?,
            None if drawn(name) => continue,
            None if name == "head_lr_factor" => Axis::fixed(Scalar::Number(1.0.into())),
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

/// Whether an axis of a command may have this name: any but those that every trial has.
pub(super) fn is_axis_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let taken = BUILT_IN.contains(&name) || name == COMBINE;
    (1..=60).contains(&name.len()) && name.chars().all(fits) && !taken
}

/// The names that axes of a command may have, in words.
pub(super) fn axis_names() -> String {
    format!("names are 1 to 60 of a-z, 0-9 and '_', and none of {}, {COMBINE}", BUILT_IN.join(", "))
}

/// The axes of a command.
pub(super) fn free_axes(
    table: BTreeMap<String, OneOrMany<Scalar>>,
) -> Result<BTreeMap<String, Axis>, SpecError> {
    let mut axes = BTreeMap::new();
    for (name, values) in table {
        let key = format!("grid.{name}");
        if !is_axis_name(&name) {
            let allowed = if name.contains('.') {
                let plain = name.replace('.', "_");
                format!(
                    "no axis has a dot in its name: write {plain} = ..., and {{{plain}}} for it in the command"
                )
            } else {
                axis_names()
            };
            return Err(SpecError::UnknownAxis { key, allowed });
        }
        let short = |value: &Scalar| {
            let text =
                if let Scalar::Text(text) = value { text } else { value.written().unwrap_or_default() };
            text.len() <= 1_000 && !text.contains('\0')
        };
        axes.insert(name, axis(&key, values, "at most 1000 bytes and no NUL", short)?);
    }
    Ok(axes)
}

pub(super) fn held_out_domains(
    held_out: Option<HeldOut>,
    domains: &[String],
) -> Result<Vec<String>, SpecError> {
    let held_out = match held_out {
        None | Some(HeldOut::Each) => domains.to_vec(),
        Some(HeldOut::List(list)) => list,
    };
    no_plus("grid.held_out", &held_out)?;
    // A command may name no domains; the held-out ones must still be valid column names.
    let unknown = held_out
        .iter()
        .find(|domain| if domains.is_empty() { !is_folder_name(domain) } else { !domains.contains(domain) });
    if let Some(unknown) = unknown {
        let allowed = if domains.is_empty() {
            "names without '/', '\\', control characters, or a leading '.'".to_owned()
        } else {
            domains.join(", ")
        };
        return wrong("grid.held_out", unknown, format!("\"each\", or domains: {allowed}"));
    }
    distinct("grid.held_out", held_out)
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
pub(super) fn seeds(key: &str, seeds: Option<OneOrMany<u64>>) -> Result<Vec<u64>, SpecError> {
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

/// A grid must not be too large, in a file or grown out of several.
pub(super) fn size(sweep: &SweepSpec) -> Result<(), SpecError> {
    let Grid { axes, seeds, splits, .. } = &sweep.grid;
    let lengths = axes.iter().map(|(name, axis)| (name.as_str(), axis.values.len()));
    let replicates = [("seeds", seeds.len()), ("splits", splits.len())];
    if let Some((name, length)) = lengths.chain(replicates).find(|(_, length)| *length > AXIS_VALUES_MAX) {
        return too_large(sweep.axis_key(name), format!("{length} values"), AXIS_VALUES_MAX as u64);
    }
    match sweep.trials_planned() {
        Some(planned) if planned <= TRIALS_MAX => Ok(()),
        Some(planned) => too_large("grid", format!("{planned} trials"), TRIALS_MAX),
        None => too_large("grid", "more than 2^64 trials".to_owned(), TRIALS_MAX),
    }
}
