//! `[random]`: what is drawn, every value checked.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::error::{Change, SpecError, misplaced, missing, wrong};
use super::file::{RandomTable, RangeTable};
use super::grid::{axis_names, is_axis_name, rule};
use super::values::{AXIS_VALUES_MAX, distinct};
use crate::finetune::{Setting, Settings};
use crate::parameters::Scalar;
use crate::random_search::{Bounds, RandomSearch, Range};
use crate::trial::Work;

/// Draws from the ranges of the table, for trials of this work on these axes.
pub(super) fn random_search(
    table: RandomTable,
    work: &Work,
    axes: &BTreeMap<String, Axis>,
) -> Result<RandomSearch, SpecError> {
    let RandomTable { draws, seed, ranges: tables } = table;
    let Some(count) = draws else { return missing("random.draws", "how many settings are drawn") };
    if !(1..=AXIS_VALUES_MAX as u64).contains(&count) {
        return wrong("random.draws", count, format!("1 to {AXIS_VALUES_MAX}"));
    }
    if tables.is_empty() {
        return missing("random", "what is drawn, such as lr = { log_uniform = [1e-5, 1e-3] }");
    }
    let mut ranges = BTreeMap::new();
    for (name, table) in tables {
        let key = format!("random.{name}");
        if axes.contains_key(&name) {
            return misplaced(&key, "its values are listed already");
        }
        let range = range(&key, table)?;
        match work {
            Work::Finetune(settings) => fits(&key, &name, &range, settings)?,
            Work::Command(_) if is_axis_name(&name) => {}
            Work::Command(_) => {
                return Err(SpecError::UnknownAxis { key, allowed: axis_names() });
            }
        }
        ranges.insert(name, range);
    }
    // Smaller than the limit above.
    let search = RandomSearch::drawn(seed.unwrap_or(0), ranges, count as usize);
    let found = search.draws.len();
    if (found as u64) < count {
        return wrong("random.draws", count, format!("{found}, for no more of these settings differ"));
    }
    Ok(search)
}

fn range(key: &str, table: RangeTable) -> Result<Range, SpecError> {
    let RangeTable { uniform, log_uniform, whole, choice } = table;
    let bounds = |[low, high]: [f64; 2]| Bounds { low, high, whole: whole.unwrap_or(false) };
    let (range, Bounds { low, high, .. }) = match (uniform, log_uniform, choice) {
        (None, None, Some(values)) if whole.is_none() => {
            return Ok(Range::Choice(distinct(&format!("{key}.choice"), values)?));
        }
        (Some(ends), None, None) => (Range::Uniform(bounds(ends)), bounds(ends)),
        (None, Some(ends), None) => (Range::LogUniform(bounds(ends)), bounds(ends)),
        _ => {
            return missing(
                key,
                "one of uniform = [a, b], log_uniform = [a, b], either with whole = true, and choice = [...]",
            );
        }
    };
    if !(low < high && low.is_finite() && high.is_finite()) {
        return wrong(key, [low, high], "two numbers, the smaller one first");
    }
    if matches!(range, Range::LogUniform(_)) && low <= 0.0 {
        return wrong(key, [low, high], "numbers above 0, which are drawn evenly by their logarithms");
    }
    Ok(range)
}

/// Whether fine-tuning has such values under this name.
fn fits(key: &str, name: &str, range: &Range, settings: &Settings) -> Result<(), SpecError> {
    let number = |number: f64| Scalar::Number(number.into());
    let ends = match range {
        Range::Choice(values) => values.clone(),
        Range::Uniform(Bounds { low, high, whole }) | Range::LogUniform(Bounds { low, high, whole })
            if *whole =>
        {
            vec![number(low.floor()), number(high.floor())]
        }
        Range::Uniform(bounds) | Range::LogUniform(bounds) => {
            // Numbers between two whole ones are no values of a setting.
            let inner = Setting::on_axis(name).map(|_| number(bounds.low.floor() + 0.5));
            [number(bounds.low), number(bounds.high)].into_iter().chain(inner).collect()
        }
    };
    if let Some((allowed, fits)) = rule(name) {
        return match ends.iter().find(|value| !value.as_number().is_some_and(fits)) {
            Some(value) => wrong(key, value, allowed),
            None => Ok(()),
        };
    }
    let Some(setting) = Setting::on_axis(name) else {
        let allowed = "drawn are dropout, lr, weight_decay, head_lr_factor, and settings of [data], [model] and [train] that may be listed";
        return Err(SpecError::UnknownAxis { key: key.to_owned(), allowed: allowed.to_owned() });
    };
    match ends.iter().find(|value| !setting.allows(value, settings)) {
        Some(value) => {
            wrong(key, value, format!("what {} may be, whole numbers by whole = true", setting.key()))
        }
        None => Ok(()),
    }
}

/// The draws of both; notes where they are drawn from something else. Fewer take none away.
pub(super) fn grown(
    old: Option<&RandomSearch>,
    new: Option<&RandomSearch>,
    changes: &mut Vec<Change>,
) -> Option<RandomSearch> {
    let grown = old.zip(new).and_then(|(old, new)| old.grown_by(new));
    if grown.is_none() && (old.is_some() || new.is_some()) {
        let shown = |search: Option<&RandomSearch>| search.map_or("missing".to_owned(), ToString::to_string);
        changes.push(Change { key: "random".to_owned(), old: shown(old), new: shown(new) });
    }
    grown
}
