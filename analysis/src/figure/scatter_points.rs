//! The data of the scatter figure: for each method and setting on the figure's axes, such as a dropout rate, all choices of one setting of
//! the other axes per held-out domain.
//!
//! The point of a choice is the mean over the held-out domains, so all points form a scaled Minkowski sum. Its hull is the sum of the
//! domains' hulls and its centre the mean of their centres. Both are exact for any number of choices, and no choice has to be listed.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::metrics::Method;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;

use super::settings::{Setting, setting};
use crate::axis::Axis;
use crate::collect::measured;
use crate::metric_spec::{MeasuredPair, Measurement, MetricSpec};
use crate::results::over_domains;
use crate::scale::Scale;

/// A point (i.i.d., o.o.d.).
pub(super) type ScatterPoint = (f64, f64);

/// The data of the figure.
#[derive(Debug)]
pub(super) struct Scatter<'a> {
    /// The axes whose settings are a group each.
    pub axes: &'a [Axis],
    pub groups: &'a [ScatterGroup],
    pub combined: &'a [Combined],
    /// The steps at which combinations were evaluated.
    pub combined_steps: BTreeSet<u64>,
    /// The methods to draw.
    pub methods: &'a [Method],
    /// Methods and settings without a result for some held-out domain.
    pub missing: Vec<(Method, Setting)>,
    /// The number of combinations without a result for some held-out domain.
    pub combined_missing: usize,
    /// The number of combinations for which there is no room.
    pub combined_hidden: usize,
}

/// All choices of one setting of the other axes per held-out domain, for one method and one setting on the figure's axes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScatterGroup {
    pub method: Method,
    /// The values on the figure's axes.
    pub setting: Setting,
    /// The number of choices, saturating.
    pub choices: u128,
    /// Corners of the convex hull of all choices as figures place them, counter-clockwise.
    pub hull: Vec<ScatterPoint>,
    /// The mean of all choices, likewise.
    pub centre: ScatterPoint,
    /// The settings to choose from, of each held-out domain, as they were measured.
    choice: Vec<Vec<ScatterPoint>>,
    /// What a figure shows of a measured 1.
    one: f64,
}

impl ScatterGroup {
    /// `one` is what a figure shows of a measured 1.
    pub(super) fn new(method: Method, setting: Setting, choice: Vec<Vec<ScatterPoint>>, one: f64) -> Self {
        let plotted = |point: ScatterPoint| scaled(point, one / choice.len() as f64);
        let centre = choice.iter().map(|domain| mean(domain)).fold((0.0, 0.0), plus);
        let hull = hull_of_sums(&choice).into_iter().map(plotted).collect();
        Self { method, setting, choices: product(&choice), hull, centre: plotted(centre), choice, one }
    }

    /// The points of all choices as figures place them. If there are more than `most`, it yields that many different ones, spread evenly and always
    /// the same. Points are computed one by one, so memory does not grow with their number.
    pub(super) fn points(&self, most: u128) -> impl Iterator<Item = ScatterPoint> + '_ {
        let factor = self.one / self.choice.len() as f64;
        IndexSequence::through(self.choices, most)
            .map(move |choice| scaled(self.mixed_radix_sum(choice), factor))
    }

    /// The sum over domains of a choice. The choice is a mixed-radix number with one digit for each domain.
    fn mixed_radix_sum(&self, mut choice: u128) -> ScatterPoint {
        let mut rest = self.choices;
        let mut sum = (0.0, 0.0);
        for domain in &self.choice {
            rest /= domain.len() as u128;
            // If the number of choices saturated, `rest` becomes zero before the last domains.
            let digit = choice.checked_div(rest).unwrap_or(choice);
            choice -= digit * rest;
            sum = plus(sum, domain[(digit % domain.len() as u128) as usize]);
        }
        sum
    }
}

/// One group for each method and setting on these axes with a result for every held-out domain: by method in the given order, then by
/// setting.
pub(super) fn groups(
    axes: &[Axis],
    records: &[TrialRecord],
    methods: &[Method],
    spec: &MetricSpec,
    (domains, scale): (&[String], &Scale),
) -> Vec<ScatterGroup> {
    let mut groups = Vec::new();
    for &method in methods {
        let spec = MetricSpec { method, ..spec.clone() };
        let mut settings: BTreeMap<Setting, Choices<'_>> = BTreeMap::new();
        for (record, measured) in measured(spec, records) {
            let [held_out] = record.point.held_out.as_slice() else { continue };
            // One setting of all other parameters is chosen per held-out domain.
            let mut others = record.point.parameters.clone();
            others.retain(|name, _| !axes.iter().any(|axis| *axis == Axis::Parameter(name.clone())));
            settings
                .entry(setting(axes, &record.point))
                .or_default()
                .entry(held_out)
                .or_default()
                .entry(others)
                .or_default()
                .push(measured);
        }
        settings.retain(|_, choices| choices.len() == domains.len());
        let group = |(setting, choices): (Setting, Choices<'_>)| {
            ScatterGroup::new(method, setting, over_seeds(&choices), scale.plotted(1.0))
        };
        groups.extend(settings.into_iter().map(group));
    }
    groups
}

/// Accuracies by held-out domain and setting.
type Choices<'a> = BTreeMap<&'a str, BTreeMap<Parameters, Vec<MeasuredPair>>>;

fn over_seeds(choices: &Choices<'_>) -> Vec<Vec<ScatterPoint>> {
    let point = |seeds: &Vec<MeasuredPair>| {
        let mean = over_domains(seeds);
        (mean.iid, mean.ood)
    };
    choices.values().map(|settings| settings.values().map(point).collect()).collect()
}

/// A combination of several trials. It is one point, because there is nothing to choose.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Combined {
    /// The name of the combination.
    pub name: String,
    /// The number of its members.
    pub members: f64,
    /// Its other parameters.
    pub rest: Parameters,
    /// The mean over held-out domains, as figures place it.
    pub at: ScatterPoint,
}

/// The combinations that are done for every held-out domain, and the number of the others.
pub(super) fn combined(
    records: &[TrialRecord],
    spec: &MetricSpec,
    (domains, scale): (&[String], &Scale),
) -> (Vec<Combined>, usize) {
    let mut groups: BTreeMap<&Parameters, Vec<&TrialRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.point.held_out.len() == 1) {
        groups.entry(&record.point.parameters).or_default().push(record);
    }
    let planned = groups.len();
    let of = |(parameters, trials): (&Parameters, Vec<&TrialRecord>)| {
        let mut seeds: BTreeMap<&str, Vec<MeasuredPair>> = BTreeMap::new();
        for trial in trials {
            let held_out = trial.point.held_out.first()?;
            let Measurement::Selected { measured: Some(measured), .. } = spec.measure(trial) else {
                return None;
            };
            seeds.entry(held_out).or_default().push(measured);
        }
        if seeds.len() < domains.len() {
            return None;
        }
        let MeasuredPair { iid, ood } =
            over_domains(&seeds.values().map(|seeds| over_domains(seeds)).collect::<Vec<_>>());
        let mut rest = parameters.clone();
        let (name, members) = (rest.remove(COMBINE)?.to_string(), rest.remove(MEMBERS)?.as_number()?);
        Some(Combined { name, members, rest, at: (scale.plotted(iid), scale.plotted(ood)) })
    };
    let combined: Vec<Combined> = groups.into_iter().filter_map(of).collect();
    let missing = planned - combined.len();
    (combined, missing)
}

/// The convex hull of all sums of one point of each set.
pub(super) fn hull_of_sums(sets: &[Vec<ScatterPoint>]) -> Vec<ScatterPoint> {
    sets.iter().fold(vec![(0.0, 0.0)], |sum, set| {
        let corners = hull(set);
        hull(&sum.iter().flat_map(|&a| corners.iter().map(move |&b| plus(a, b))).collect::<Vec<_>>())
    })
}

/// The convex hull by Andrew's monotone chain.
pub(super) fn hull(points: &[ScatterPoint]) -> Vec<ScatterPoint> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    sorted.dedup();
    if sorted.len() < 3 {
        return sorted;
    }
    let mut outline = half_hull(sorted.iter().copied());
    outline.extend(half_hull(sorted.iter().rev().copied()));
    outline
}

/// One side of the hull without its last corner, which is the first of the other side.
fn half_hull(points: impl Iterator<Item = ScatterPoint>) -> Vec<ScatterPoint> {
    let turns_left = |a: ScatterPoint, b: ScatterPoint, c: ScatterPoint| {
        (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0) > 0.0
    };
    let mut side: Vec<ScatterPoint> = Vec::new();
    for point in points {
        while let [.., a, b] = side.as_slice() {
            if turns_left(*a, *b, point) {
                break;
            }
            side.pop();
        }
        side.push(point);
    }
    side.pop();
    side
}

/// Walks through the numbers below `end`: all of them in order, or `left` different ones in steps of about the golden section. The step and
/// `end` have no common divisor, so each number is met once before any is repeated, and each value of the last digit equally often.
struct IndexSequence {
    next: u128,
    step: u128,
    end: u128,
    left: u128,
}

impl IndexSequence {
    fn through(end: u128, most: u128) -> Self {
        if end <= most {
            return Self { next: 0, step: 1, end, left: end };
        }
        let mut step = (end as f64 * 0.618_033_988_749_895) as u128;
        while divisor(end, step) > 1 {
            step += 1;
        }
        Self { next: 0, step, end, left: most }
    }
}

impl Iterator for IndexSequence {
    type Item = u128;

    fn next(&mut self) -> Option<u128> {
        self.left = self.left.checked_sub(1)?;
        let here = self.next;
        let room = self.end - self.step;
        self.next = if here >= room { here - room } else { here + self.step };
        Some(here)
    }
}

/// The greatest common divisor.
fn divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn product(sets: &[Vec<ScatterPoint>]) -> u128 {
    sets.iter().fold(1, |product: u128, set| product.saturating_mul(set.len() as u128))
}

fn mean(points: &[ScatterPoint]) -> ScatterPoint {
    scaled(points.iter().copied().fold((0.0, 0.0), plus), 1.0 / points.len() as f64)
}

fn plus(a: ScatterPoint, b: ScatterPoint) -> ScatterPoint {
    (a.0 + b.0, a.1 + b.1)
}

fn scaled(point: ScatterPoint, factor: f64) -> ScatterPoint {
    (factor * point.0, factor * point.1)
}
