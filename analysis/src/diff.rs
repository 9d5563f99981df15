//! The differences between two sweeps or two trials: configuration, environment of the attempts, results.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;
use serde::Serialize;
use sortie_core::job::StateName;
use sortie_core::metrics::Evaluation;
use sortie_core::record::TrialRecord;
use sortie_core::spec::{Change, SweepSpec};
use sortie_core::trial::{Point, SpecHash};

use crate::axis::{Axis, AxisValue};
use crate::collect::measured;
use crate::metric_spec::{MeasuredPair, OodSplit};
use crate::question::Question;
use crate::render::STYLE;
use crate::scale::Scale;
use crate::statistics::Estimate;

/// The number of different trials that are listed.
const NAMED_MAX: usize = 8;

/// The environment of an attempt: facts by name, such as `device`.
pub type RunFacts = BTreeMap<String, String>;

/// One of the two sides.
#[derive(Clone, Debug)]
pub struct DiffSide {
    /// Its name on the command line.
    pub name: String,
    /// The sweep.
    pub spec: SweepSpec,
    /// Its trials.
    pub records: Vec<TrialRecord>,
    /// The environments of their accepted attempts.
    pub runs: Vec<(SpecHash, RunFacts)>,
    /// The trial to compare; none for the whole sweep.
    pub trial: Option<SpecHash>,
}

impl DiffSide {
    fn is_meant(&self, id: SpecHash) -> bool {
        self.trial.is_none_or(|trial| trial == id)
    }

    fn meant(&self) -> BTreeMap<SpecHash, &TrialRecord> {
        self.records
            .iter()
            .filter(|record| self.is_meant(record.id))
            .map(|record| (record.id, record))
            .collect()
    }

    /// The number of trials with each value of a fact.
    fn counts(&self, what: &str) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, run) in self.runs.iter().filter(|(id, _)| self.is_meant(*id)) {
            if let Some(value) = run.get(what) {
                *counts.entry(value.as_str()).or_default() += 1;
            }
        }
        counts
    }
}

/// The differences. Accuracies are fractions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The name of the first side.
    pub a: String,
    /// The name of the second side.
    pub b: String,
    /// Settings with different values.
    pub configuration: Vec<Fact>,
    /// Facts about the environment with different values: every value with its number of trials.
    pub runs: Vec<Fact>,
    /// Whether two trials were compared instead of two sweeps.
    #[serde(skip)]
    pub of_trials: bool,
    /// Trials with the same id on both sides.
    pub shared: SharedCounts,
    /// Trials on one side only.
    pub only: UnpairedCounts,
    /// Different trials of the grids with the same held-out domains, seeds and shared axes.
    pub places: GridPointDifference,
}

/// A fact with a value on each side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// Its name.
    pub what: String,
    /// The value on the first side.
    pub a: String,
    /// The value on the second side.
    pub b: String,
}

/// Trials on both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SharedCounts {
    /// The number of trials.
    pub trials: usize,
    /// The number with the same evaluations to the last bit.
    pub identical: usize,
    /// The number with different evaluations.
    pub different: usize,
    /// The number without a result on one side or both.
    pub unfinished: usize,
    /// The first trials with different evaluations, with their first different evaluation.
    pub examples: Vec<Example>,
}

/// A trial whose results differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Its id.
    pub trial: String,
    /// The first evaluation that differs, such as `step 300 plain sketch/in`.
    pub evaluation: String,
    /// The evaluation on the first side.
    pub a: String,
    /// The evaluation on the second side.
    pub b: String,
}

/// The number of trials on one side only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UnpairedCounts {
    /// On the first side.
    pub a: usize,
    /// On the second side.
    pub b: usize,
}

/// The mean differences of different trials at the same grid points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GridPointDifference {
    /// The number of grid points with a result on both sides.
    pub compared: usize,
    /// O.o.d. value, second minus first.
    pub ood: Estimate,
    /// I.i.d. value, second minus first.
    pub iid: Estimate,
    /// How the differences are written.
    #[serde(skip)]
    scale: Scale,
}

/// Compares two sides. `question` decides how accuracies are measured.
pub fn diff(a: &DiffSide, b: &DiffSide, question: &Question) -> Diff {
    let (first, second) = (a.meant(), b.meant());
    let mut shared = SharedCounts::default();
    for (id, one) in &first {
        let Some(other) = second.get(id) else { continue };
        shared.trials += 1;
        match (one.state, other.state) {
            (StateName::Succeeded, StateName::Succeeded) => match first_difference(one, other) {
                None => shared.identical += 1,
                Some(example) => {
                    shared.different += 1;
                    if shared.examples.len() < NAMED_MAX {
                        shared.examples.push(example);
                    }
                }
            },
            _ => shared.unfinished += 1,
        }
    }
    let only = UnpairedCounts { a: first.len() - shared.trials, b: second.len() - shared.trials };
    Diff {
        a: a.name.clone(),
        b: b.name.clone(),
        of_trials: a.trial.is_some() && b.trial.is_some(),
        configuration: configuration(a, b),
        runs: runs(a, b),
        places: places(a, b, question),
        shared,
        only,
    }
}

fn configuration(a: &DiffSide, b: &DiffSide) -> Vec<Fact> {
    let changes = a.spec.differences(&b.spec).into_iter();
    let mut facts: Vec<Fact> =
        changes.map(|Change { key, old, new }| Fact { what: key, a: old, b: new }).collect();
    let one = |side: &DiffSide| {
        side.trial.and_then(|_| side.meant().into_values().next().map(|record| record.point.clone()))
    };
    if let (Some(one), Some(other)) = (one(a), one(b)) {
        // The grids of the sweeps do not matter for two trials.
        facts.retain(|fact| !fact.what.starts_with("grid.") && !fact.what.starts_with("combine."));
        facts.extend(coordinates(&one, &other));
        // The same name may mean different combinations.
        let combined = |side: &DiffSide, point: &Point| {
            side.spec.combine.iter().find(|combine| point.combine() == Some(&combine.name)).cloned()
        };
        let shown = |side: &DiffSide, point: &Point| {
            combined(side, point).map_or_else(|| "missing".to_owned(), |combine| combine.to_string())
        };
        let fact = Fact { what: "combination".to_owned(), a: shown(a, &one), b: shown(b, &other) };
        facts.extend((fact.a != fact.b).then_some(fact));
    }
    facts
}

/// The axes on which two trials differ.
fn coordinates(a: &Point, b: &Point) -> Vec<Fact> {
    let axes: BTreeSet<&String> = a.parameters.keys().chain(b.parameters.keys()).collect();
    let value = |point: &Point, axis: &String| {
        point.parameters.get(axis).map_or_else(|| "missing".to_owned(), ToString::to_string)
    };
    let mut facts = vec![Fact { what: "held_out".to_owned(), a: a.held_out_label(), b: b.held_out_label() }];
    facts.extend(axes.into_iter().map(|axis| Fact {
        what: axis.clone(),
        a: value(a, axis),
        b: value(b, axis),
    }));
    facts.push(Fact { what: "seed".to_owned(), a: a.seed.to_string(), b: b.seed.to_string() });
    facts.push(Fact { what: "split".to_owned(), a: a.split_seed.to_string(), b: b.split_seed.to_string() });
    facts.retain(|fact| fact.a != fact.b);
    facts
}

/// Facts with different values on the two sides, or with several values on one side.
fn runs(a: &DiffSide, b: &DiffSide) -> Vec<Fact> {
    let facts: BTreeSet<&String> = a.runs.iter().chain(&b.runs).flat_map(|(_, run)| run.keys()).collect();
    let mut found = Vec::new();
    for what in facts {
        let (first, second) = (a.counts(what), b.counts(what));
        if first.keys().eq(second.keys()) && first.len() <= 1 {
            continue;
        }
        let shown = |counts: BTreeMap<&str, usize>| match counts.len() {
            0 => "nothing".to_owned(),
            1 => counts.into_keys().collect(),
            _ => counts
                .into_iter()
                .map(|(value, trials)| format!("{value} ({trials})"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        found.push(Fact { what: what.clone(), a: shown(first), b: shown(second) });
    }
    found
}

/// The first evaluation, by step, that differs in any bit.
fn first_difference(a: &TrialRecord, b: &TrialRecord) -> Option<Example> {
    type Rows = BTreeMap<(u64, &'static str, String, &'static str), String>;
    let accuracy = |row: &Evaluation| {
        let numbers = row.accuracy().map(|accuracy| format!("accuracy {accuracy}"));
        let named = row.metrics.iter().map(|(name, number)| format!("{name} {number}"));
        numbers.into_iter().chain(named).collect::<Vec<_>>().join(", ")
    };
    let text = |row: &Evaluation| match row.loss {
        Some(loss) => format!("{}, loss {loss}", accuracy(row)),
        None => accuracy(row),
    };
    let rows = |record: &TrialRecord| -> Rows {
        let all = record.validation.iter().chain(&record.held_out);
        all.map(|row| ((row.step, row.method.as_str(), row.domain.clone(), row.split.as_str()), text(row)))
            .collect()
    };
    let (first, second) = (rows(a), rows(b));
    let keys: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let key = keys.into_iter().find(|key| first.get(key) != second.get(key))?;
    let (step, method, domain, split) = key;
    let there = |rows: &Rows| rows.get(key).cloned().unwrap_or_else(|| "nothing".to_owned());
    let evaluation = format!("step {step} {method} {domain}/{split}");
    Some(Example { trial: a.id.to_string(), evaluation, a: there(&first), b: there(&second) })
}

/// Held-out domains, values on the axes on which both sides have some in common, and seeds.
type GridPoint = (String, Vec<(Axis, Option<AxisValue>)>);

fn places(a: &DiffSide, b: &DiffSide, question: &Question) -> GridPointDifference {
    let names =
        |side: &DiffSide| crate::axis::parameter_names(side.meant().values().map(|record| &record.point));
    let (own, others) = (names(a), names(b));
    let values = |side: &DiffSide, axis: &Axis| {
        side.meant().values().filter_map(|record| axis.value(&record.point)).collect::<BTreeSet<AxisValue>>()
    };
    let common = own.iter().filter(|name| others.contains(name)).map(|name| Axis::from(name.as_str()));
    // An axis on which the sides have no value in common is what they differ in, as a setting is.
    let common = common.filter(|axis| !values(a, axis).is_disjoint(&values(b, axis)));
    let common: Vec<Axis> = common.chain([Axis::Seed, Axis::Split]).collect();
    // Two trials are compared at any points.
    let place = |point: &Point| match (a.trial, b.trial) {
        (Some(_), Some(_)) => GridPoint::default(),
        _ => (point.held_out_label(), common.iter().map(|axis| (axis.clone(), axis.value(point))).collect()),
    };
    let sums = |side: &DiffSide, other: BTreeMap<SpecHash, &TrialRecord>| {
        let mut places: BTreeMap<GridPoint, Vec<MeasuredPair>> = BTreeMap::new();
        let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(&side.spec.work));
        let spec = question.spec(ood_split);
        for (record, measured) in measured(spec, &side.records) {
            // A combination has no grid point.
            let counts = side.trial.is_some() || record.point.combine().is_none();
            if counts && side.is_meant(record.id) && !other.contains_key(&record.id) {
                places.entry(place(&record.point)).or_default().push(measured);
            }
        }
        places
            .into_iter()
            .map(|(place, all)| (place, crate::results::over_domains(&all)))
            .collect::<BTreeMap<GridPoint, MeasuredPair>>()
    };
    let (one, other) = (sums(a, b.meant()), sums(b, a.meant()));
    let pairs: Vec<(MeasuredPair, MeasuredPair)> =
        one.iter().filter_map(|(place, one)| Some((*one, *other.get(place)?))).collect();
    let estimate = |value: fn(&MeasuredPair) -> f64| {
        Estimate::of(&pairs.iter().map(|(a, b)| value(b) - value(a)).collect::<Vec<_>>())
    };
    GridPointDifference {
        compared: pairs.len(),
        scale: Scale::of(
            &question.metrics.shown,
            pairs.iter().flat_map(|(a, b)| [a.iid, a.ood, b.iid, b.ood]),
        ),
        ood: estimate(|measured| measured.ood),
        iid: estimate(|measured| measured.iid),
    }
}

impl Diff {
    /// The differences as JSON, unrounded.
    pub fn json(&self) -> String {
        // Numbers and texts always encode.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The differences as text for a terminal.
    pub fn text(&self) -> String {
        let Self { a, b, configuration, runs, shared, only, places, .. } = self;
        let mut text = format!("{a} against {b}\n");
        for (title, same, facts) in [
            ("configuration", "the same", configuration),
            ("environment of attempts", "the same for all trials of both sides", runs),
        ] {
            if facts.is_empty() {
                text.push_str(&format!("\n{title}: {same}\n"));
                continue;
            }
            let mut table = Table::new();
            let rows = facts.iter().map(|Fact { what, a, b }| [what.clone(), a.clone(), b.clone()]);
            table.load_style(STYLE).set_header([title, a, b]).add_rows(rows);
            text.push_str(&format!("\n{}\n", table.trim_fmt()));
        }
        let SharedCounts { trials, identical, different, unfinished, examples } = shared;
        text.push_str(&format!(
            "\ntrials: {trials} on both sides ({identical} with identical results, {different} with different results, {unfinished} without a \
             result on one side or both), {} only in {a}, {} only in {b}\n",
            only.a, only.b
        ));
        for Example { trial, evaluation, a, b } in examples {
            text.push_str(&format!("  {trial} at {evaluation}: {a} against {b}\n"));
        }
        if *different > examples.len() {
            text.push_str(&format!("  and {} more\n", different - examples.len()));
        }
        if places.compared > 0 {
            let what = if self.of_trials {
                "the two trials".to_owned()
            } else {
                let shared = "held-out domains, seeds and shared axes (combinations are not compared)";
                format!("different trials with the same {shared}: {} compared", places.compared)
            };
            text.push_str(&format!(
                "\n{what}; {b} minus {a}: o.o.d. {}, i.i.d. {} {}{}\n",
                points(&places.scale, &places.ood),
                points(&places.scale, &places.iid),
                places.scale.points(),
                if places.ood.se.is_some() { " (± standard error over pairs of trials)" } else { "" }
            ));
        }
        text
    }
}

fn points(scale: &Scale, estimate: &Estimate) -> String {
    let mean = estimate.mean.map_or_else(|| "-".to_owned(), |mean| scale.fine_difference(mean));
    estimate.se.map_or_else(|| mean.clone(), |se| format!("{mean} ± {}", scale.fine_text(se)))
}
