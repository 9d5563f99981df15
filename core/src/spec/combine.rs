//! `[[combine]]`: from the tables of a file to combinations, every value checked against the grid.

use super::axis::union;
use super::error::{Change, SpecError, misplaced, too_large, wrong};
use super::file::CombineTable;
use super::one_or_many::OneOrMany;
use super::sweep::SweepSpec;
use super::values::{check_name, distinct};
use crate::combine::{ALL, Choice, CombinationKind, Combine, SEED};
use crate::filter::Filter;
use crate::finetune::{BatchNorm, Settings};
use crate::metrics::Method;
use crate::parameters::{Parameters, Scalar};
use crate::trial::{Point, Work};

/// The most members of a combination. Each member is a row in the database.
const MEMBERS_MAX: u64 = 1_000;

/// Checks the tables against the sweep that they stand in.
pub(super) fn checked(tables: Vec<CombineTable>, sweep: &SweepSpec) -> Result<Vec<Combine>, SpecError> {
    let mut combines: Vec<Combine> = Vec::new();
    for table in tables {
        let combine = one(table, sweep)?;
        if combines.iter().any(|other| other.name == combine.name) {
            return wrong("combine.name", &combine.name, "every combination has a name of its own");
        }
        combines.push(combine);
    }
    Ok(combines)
}

fn one(table: CombineTable, sweep: &SweepSpec) -> Result<Combine, SpecError> {
    let CombineTable { name, kind, over, choice, method, filter: conditions, members: counts } = table;
    check_name("combine.name", &name)?;
    if matches!(sweep.work, Work::Command(_)) {
        return misplaced("combine", "a sweep that runs a command has no weights or logits to combine");
    }
    let key = |field: &str| format!("combine.{name}.{field}");
    let (choice, method) = (choice.unwrap_or(Choice::Uniform), method.unwrap_or(Method::Plain));
    let over = axes(over, sweep, &key("over"))?;
    let filter = conditions.as_deref().map(|text| checked_filter(text, sweep, &key("where"))).transpose()?;
    for (values, settings) in sweep.settings() {
        let mut axes = values.iter();
        let meets = |(axis, value): (&String, &Scalar)| {
            filter.as_ref().is_none_or(|filter| filter.allows(axis, &example(axis, value)))
        };
        if axes.all(meets) {
            needs(kind, choice, method, &settings, sweep, &key)?;
        }
    }
    let values = |name: &String| {
        let all = sweep.grid.axes.get(name)?.values.iter();
        let meets =
            |value: &&Scalar| filter.as_ref().is_none_or(|filter| filter.allows(name, &example(name, value)));
        Some((name.clone(), all.filter(meets).cloned().collect()))
    };
    let (over_seeds, over) = (over.iter().any(|axis| axis == SEED), over.iter().filter_map(values).collect());
    let (own_name, members, all) = (name.clone(), Vec::new(), false);
    let mut combine =
        Combine { name: own_name, kind, choice, method, over, over_seeds, filter, members, all };
    let candidates = combine.candidates(sweep);
    let most = candidates.min(MEMBERS_MAX);
    let asked = match counts {
        None => vec![Scalar::Text(ALL.to_owned())],
        Some(OneOrMany::One(count)) => vec![count],
        Some(OneOrMany::Many(counts)) => distinct(&key("members"), counts)?,
    };
    let allowed = format!("1 to {most} or \"{ALL}\", for the grid has {candidates} trials to combine");
    for count in &asked {
        let whole = |number: &f64| number.fract() == 0.0 && (0.0..=MEMBERS_MAX as f64).contains(number);
        let count = match (count, count.as_number().filter(whole)) {
            (Scalar::Text(text), _) if text == ALL => {
                combine.all = true;
                candidates
            }
            (_, Some(count)) => count as u64,
            _ => return wrong(key("members"), count, allowed),
        };
        // "all" beside their number.
        if !combine.members.contains(&count) {
            combine.members.push(count);
        }
    }
    // Each condition is on one axis, so together they match a trial if each of them does.
    if combine.trials(sweep) == Some(0) || candidates == 0 {
        let allowed = "conditions that some trial of the grid with one held-out domain meets";
        return wrong(key("where"), conditions.unwrap_or_default(), allowed);
    }
    if let Some(count) = combine.members.iter().find(|count| !(1..=most).contains(count)) {
        return wrong(key("members"), count, allowed);
    }
    Ok(combine)
}

/// A point that has a value on just one axis.
fn example(axis: &str, value: &Scalar) -> Point {
    Point {
        held_out: Vec::new(),
        parameters: Parameters::from([(axis.to_owned(), value.clone())]),
        seed: 0,
        split_seed: 0,
    }
}

/// What the kind needs of the members.
fn needs(
    kind: CombinationKind,
    choice: Choice,
    method: Method,
    settings: &Settings,
    sweep: &SweepSpec,
    key: &impl Fn(&str) -> String,
) -> Result<(), SpecError> {
    let there = match method {
        Method::Plain => true,
        Method::Average => settings.average.is_some(),
        Method::Ensemble => settings.ensemble.is_some() && kind == CombinationKind::Ensemble,
    };
    if !there {
        let mut models = vec!["plain"];
        models.extend(settings.average.map(|_| "average"));
        models.extend(settings.ensemble.filter(|_| kind == CombinationKind::Ensemble).map(|_| "ensemble"));
        return wrong(
            key("method"),
            method.as_str(),
            format!("what the trials evaluate and {kind}s can be made of: {}", models.join(", ")),
        );
    }
    if kind == CombinationKind::Average && settings.batch_norm == BatchNorm::Live {
        let allowed = "ensemble, for the statistics of live BatchNorm layers do not average; model.batch_norm = \"frozen\" has none";
        return wrong(key("kind"), kind.as_str(), allowed);
    }
    if kind == CombinationKind::Average && !sweep.keep.weights.last() {
        return wrong(
            "keep.weights",
            sweep.keep.weights.as_str(),
            "final or both, since averages of weights are made of the final ones",
        );
    }
    if (kind == CombinationKind::Ensemble || choice == Choice::Greedy) && !sweep.keep.logits {
        return wrong("keep.logits", false, "true, since ensembles and greedy choices are made from logits");
    }
    Ok(())
}

/// The axes in which members differ. They share everything that a combination must share.
fn axes(over: OneOrMany<String>, sweep: &SweepSpec, key: &str) -> Result<Vec<String>, SpecError> {
    let over = match over {
        OneOrMany::One(axis) => vec![axis],
        OneOrMany::Many(axes) => axes,
    };
    let over = distinct(key, over)?;
    let free = sweep.grid.axes.keys().filter(|axis| sweep.setting_on(axis).is_none());
    let known: Vec<&str> = free.map(String::as_str).chain([SEED]).collect();
    let drawn = |axis: &str| sweep.random.as_ref().is_some_and(|random| random.ranges.contains_key(axis));
    for axis in &over {
        match axis.as_str() {
            "split" | "splits" => {
                return wrong(
                    key,
                    axis,
                    format!(
                        "{}: members share their split, for one's validation images would be another's training images",
                        known.join(", ")
                    ),
                );
            }
            "held_out" => {
                return wrong(
                    key,
                    axis,
                    format!("{}: members share their held-out domain", known.join(", ")),
                );
            }
            other if sweep.setting_on(other).is_some() || drawn(other) => {
                return wrong(key, axis, format!("{}: members share their {other}", known.join(", ")));
            }
            other if !known.contains(&other) => {
                return wrong(key, axis, format!("axes are {}", known.join(", ")));
            }
            _ => {}
        }
    }
    Ok(over)
}

/// Conditions must be readable, and on axes that there are.
fn checked_filter(text: &str, sweep: &SweepSpec, key: &str) -> Result<Filter, SpecError> {
    let refused = |reason: String| SpecError::Value {
        key: key.to_owned(),
        value: format!("{text:?}"),
        allowed: reason,
    };
    let filter = Filter::parse(text).map_err(|error| refused(error.to_string()))?;
    if let Some(example) = sweep.point_at(0) {
        filter.check(&example).map_err(|error| refused(error.to_string()))?;
    }
    Ok(filter)
}

/// The combinations of both, for a sweep that grows. One that is there may get further numbers of members; what else changed under its
/// name is noted. A file that was made smaller adds none: its number of all trials is only a part of those of the sweep.
pub(super) fn grown(old: &SweepSpec, new: &SweepSpec, changes: &mut Vec<Change>) -> Vec<Combine> {
    let mut combines = old.combine.clone();
    for ours in &new.combine {
        let Some(theirs) = combines.iter_mut().find(|theirs| theirs.name == ours.name) else {
            // Trials that have run already kept only what the sweep file named then.
            if ours.needs_weights() && !old.keep.weights.last() {
                let (old, new) = (old.keep.weights.to_string(), new.keep.weights.to_string());
                changes.push(Change {
                    key: format!("keep.weights, of which combine.{} is made,", ours.name),
                    old,
                    new,
                });
            }
            if ours.needs_logits() && !old.keep.logits {
                changes.push(Change {
                    key: format!("keep.logits, of which combine.{} is made,", ours.name),
                    old: "false".into(),
                    new: "true".into(),
                });
            }
            combines.push(ours.clone());
            continue;
        };
        let (listed, stored) = (ours.candidates(new), theirs.candidates(old));
        let asked = ours.members.iter().copied().filter(|count| *count != listed || listed >= stored);
        let members = union(&theirs.members, &asked.collect::<Vec<_>>());
        let is_part = ours.over.len() == theirs.over.len()
            && ours.over.iter().all(|(axis, values)| {
                theirs.over.get(axis).is_some_and(|stored| values.iter().all(|value| stored.contains(value)))
            });
        // Of fewer values, the first so many trials are not those of the sweep, unless they are all.
        let over = if is_part && members == theirs.members { &theirs.over } else { &ours.over };
        let all = theirs.all || ours.all;
        let same = Combine { members: members.clone(), over: over.clone(), all, ..ours.clone() };
        if (Combine { members: members.clone(), all, ..theirs.clone() }) != same {
            let key = format!("combine.{} (which may have another name)", ours.name);
            changes.push(Change { key, old: theirs.to_string(), new: ours.to_string() });
        }
        (theirs.members, theirs.all) = (members, all);
    }
    combines
}

/// Adds the combinations over all trials of a sweep that got more seeds, where its file asks for all.
pub(super) fn add_all(sweep: &mut SweepSpec) -> Result<(), SpecError> {
    let candidates: Vec<u64> = sweep.combine.iter().map(|combine| combine.candidates(sweep)).collect();
    for (combine, count) in sweep.combine.iter_mut().zip(candidates) {
        if !combine.all || combine.members.contains(&count) {
            continue;
        }
        if count > MEMBERS_MAX {
            let key = format!("combine.{}.members", combine.name);
            return too_large(key, format!("{count} trials to combine"), MEMBERS_MAX);
        }
        combine.members.push(count);
    }
    Ok(())
}
