//! Ensembles and averages over several trials: what `[[combine]]` of a sweep file plans, and which trials are the members of which
//! combination (paper, section 4.2: "across trajectories").
//!
//! A combination is a trial of its sweep, after all trials of the grid. Its point has the axes that its members share, the name of the
//! combination and the number of its members; its identity covers theirs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactKind};
use crate::filter::Filter;
use crate::metrics::Method;
use crate::named;
use crate::parameters::{Parameters, Scalar};
use crate::spec::SweepSpec;
use crate::trial::{Identifier, Point, TrialId};

/// The axis that separates combinations of different names, and combinations from other trials.
pub const COMBINE: &str = "combine";
/// The axis of a combination's number of members.
pub const MEMBERS: &str = "members";
/// The axis of the seeds, as combinations and filters name it.
pub const SEED: &str = "seed";

/// What is made of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CombinationKind {
    /// The mean of their logits.
    Ensemble,
    /// One network with the mean of their weights.
    Average,
}
named!(CombinationKind, "kind of combination", { Ensemble => "ensemble", Average => "average" });

/// Which of the members are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// All of them, with equal weight.
    Uniform,
    /// From the best by i.i.d. accuracy on, each whose addition does not lower the i.i.d. accuracy of the combination (greedy soup,
    /// Wortsman et al. 2022).
    Greedy,
}
named!(Choice, "choice of members", { Uniform => "uniform", Greedy => "greedy" });

/// One `[[combine]]` table, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combine {
    /// Its value on the axis [`COMBINE`].
    pub name: String,
    /// What is made of the members.
    pub kind: CombinationKind,
    /// Which of them are used.
    pub choice: Choice,
    /// Which model of each member's trajectory.
    pub method: Method,
    /// The axes in which the members differ, with the values that these had when the combination was submitted: a grid that grows
    /// must not change what it is made of. All other axes are the combination's own.
    pub over: BTreeMap<String, Vec<Scalar>>,
    /// Whether the members differ in their seeds too. A grid's seeds only grow at their end, so the first members stay what they are.
    pub over_seeds: bool,
    /// Only trials that meet these conditions; as a filter is written.
    pub filter: Option<String>,
    /// A combination for each of these numbers of members, of the first so many in the order of the grid.
    pub members: Vec<u64>,
}

/// What decides a combination's numbers besides the settings that it shares with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// What is made of the members.
    pub kind: CombinationKind,
    /// Which of them are used.
    pub choice: Choice,
    /// Which model of each member's trajectory.
    pub method: Method,
    /// In the order of the grid.
    pub members: Vec<TrialId>,
}

/// A trial that a sweep plans.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTrial {
    /// Its place in the grid.
    pub point: Point,
    /// What it combines, if it combines anything.
    pub combination: Option<Combination>,
}

/// The name of the combination whose parameters these are; none for those of a trial of the grid. A command may have an axis of one of
/// these names for something else.
pub fn combine_of(parameters: &Parameters) -> Option<&str> {
    match (parameters.get(COMBINE), parameters.get(MEMBERS)) {
        (Some(Scalar::Text(name)), Some(Scalar::Number(_))) => Some(name),
        _ => None,
    }
}

impl Point {
    /// The name of the combination that it belongs to; none for a trial of the grid.
    pub fn combine(&self) -> Option<&str> {
        combine_of(&self.parameters)
    }
}

/// A member as the attempt gets it that combines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The trial.
    pub trial_id: TrialId,
    /// Its final weights and logits that were kept, one of each at most, of the model that is combined.
    pub files: Vec<Artifact>,
    /// The machine on whose own disk they lie; empty if they lie in the shared store.
    pub host: String,
}

impl Member {
    /// Its file of this kind.
    pub fn file(&self, kind: ArtifactKind) -> Option<&Artifact> {
        self.files.iter().find(|file| file.kind == kind)
    }
}

/// What combinations need of their members besides a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Their final weights.
    pub weights: bool,
    /// Their final logits.
    pub logits: bool,
}

/// What is known of the members of a combination that waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// All of them have a result.
    Ready,
    /// Some run, or wait to.
    Waits,
    /// Some ended without a result: without them it would be another combination, so it fails.
    Hopeless,
}

impl Readiness {
    /// By the number of members, of those with a result, and of those that ended without one.
    pub fn of(members: u64, succeeded: u64, lost: u64) -> Self {
        match () {
            () if lost > 0 => Self::Hopeless,
            () if succeeded == members && members > 0 => Self::Ready,
            () => Self::Waits,
        }
    }
}

/// In the words of a sweep file, in one line.
impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name: _, kind, choice, method, over, over_seeds, filter, members } = self;
        let mut axes: Vec<String> = Vec::new();
        for (name, values) in over {
            axes.push(format!(
                "{name} [{}]",
                values.iter().map(Scalar::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        axes.extend(over_seeds.then(|| SEED.to_owned()));
        write!(f, "{choice} {kind} of {members:?} trials, method {method}, over {}", axes.join(", "))?;
        filter.iter().try_for_each(|filter| write!(f, ", where {filter}"))
    }
}

impl SweepSpec {
    /// What its combinations need of its trials: a result that lacks it is no result for this sweep.
    pub fn needs(&self) -> Needs {
        let any = |needs: fn(&Combine) -> bool| self.combine.iter().any(needs);
        Needs { weights: any(Combine::needs_weights), logits: any(Combine::needs_logits) }
    }

    /// Whether the trial at this point is one of the sweep's combinations.
    pub fn combines(&self, point: &Point) -> bool {
        point.combine().is_some_and(|name| self.combine.iter().any(|combine| combine.name == name))
    }

    /// A point with a value on every axis that some trial has; none for a sweep without trials.
    pub fn example(&self) -> Option<Point> {
        let mut point = self.point_at(0)?;
        if let Some(combine) = self.combine.first() {
            point.parameters.insert(COMBINE.to_owned(), Scalar::Text(combine.name.clone()));
            point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(0.0));
        }
        Some(point)
    }
}

impl Combine {
    /// Whether it is made of its members' final weights.
    pub(crate) fn needs_weights(&self) -> bool {
        self.kind == CombinationKind::Average
    }

    /// Whether it is made, or chosen, from their final logits.
    pub(crate) fn needs_logits(&self) -> bool {
        self.kind == CombinationKind::Ensemble || self.choice == Choice::Greedy
    }

    /// How many trials of the grid there are for each of its combinations.
    pub(crate) fn candidates(&self, sweep: &SweepSpec) -> u64 {
        let seeds = if self.over_seeds { self.part_of(sweep).seeds.len() as u64 } else { 1 };
        self.over.values().map(|values| values.len() as u64).fold(seeds, u64::saturating_mul)
    }

    /// How many trials it adds; none when that is no 64-bit number.
    pub fn trials(&self, sweep: &SweepSpec) -> Option<u64> {
        let part = self.part_of(sweep);
        let free = part.free.iter().map(|(_, values)| values.len());
        let seeds = if self.over_seeds { 1 } else { part.seeds.len() };
        let replicates = [part.held_out.len(), part.splits.len(), seeds, self.members.len()];
        free.chain(replicates).try_fold(1_u64, |product, len| product.checked_mul(len as u64))
    }

    /// The part of the grid that meets the conditions.
    fn part_of<'a>(&'a self, sweep: &'a SweepSpec) -> Part<'a> {
        let filter = self.filter.as_deref().and_then(|text| Filter::parse(text).ok()).unwrap_or_default();
        let empty = Point { held_out: Vec::new(), parameters: Parameters::new(), seed: 0, split_seed: 0 };
        let grid = &sweep.grid;
        let free = grid.axes.iter().filter(|(name, _)| !self.over.contains_key(*name)).map(|(name, axis)| {
            let at = |value: &&Scalar| Point {
                parameters: Parameters::from([(name.clone(), (*value).clone())]),
                ..empty.clone()
            };
            (name.as_str(), axis.values.iter().filter(|value| filter.allows(name, &at(value))).collect())
        });
        let held_out = |domain: &&String| {
            filter.allows("held_out", &Point { held_out: vec![(*domain).clone()], ..empty.clone() })
        };
        Part {
            held_out: grid.held_out.iter().filter(held_out).collect(),
            free: free.collect(),
            splits: grid
                .splits
                .iter()
                .copied()
                .filter(|&split_seed| filter.allows("split", &Point { split_seed, ..empty.clone() }))
                .collect(),
            seeds: grid
                .seeds
                .iter()
                .copied()
                .filter(|&seed| filter.allows(SEED, &Point { seed, ..empty.clone() }))
                .collect(),
        }
    }

    /// The combination with this number, counted from 0; none after the last. Held-out domains vary fastest, as in the grid.
    pub(crate) fn at(&self, sweep: &SweepSpec, index: u64, identifier: &Identifier) -> Option<PlannedTrial> {
        let part = self.part_of(sweep);
        let mut digits = Digits(index);
        let held_out = (*part.held_out.get(digits.next(part.held_out.len())?)?).clone();
        let mut parameters = Parameters::new();
        for (name, values) in &part.free {
            parameters.insert((*name).to_owned(), (*values.get(digits.next(values.len())?)?).clone());
        }
        let members = *self.members.get(digits.next(self.members.len())?)?;
        let split_seed = *part.splits.get(digits.next(part.splits.len())?)?;
        // A combination over seeds has none of its own; what randomness its evaluation has is that of seed 0.
        let seed = if self.over_seeds { 0 } else { *part.seeds.get(digits.next(part.seeds.len())?)? };
        if digits.0 != 0 {
            return None;
        }
        let shared = Point { held_out: vec![held_out], parameters, seed, split_seed };
        let ids =
            (0..members).map_while(|place| Some(identifier.id(&self.member(&part, &shared, place)?, None)));
        let combination =
            Combination { kind: self.kind, choice: self.choice, method: self.method, members: ids.collect() };
        let mut point = shared;
        point.parameters.insert(COMBINE.to_owned(), Scalar::Text(self.name.clone()));
        point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(members as f64));
        Some(PlannedTrial { point, combination: Some(combination) })
    }

    /// The candidate at this place among those that share everything else with this point: seeds vary slowest, as in the grid.
    fn member(&self, part: &Part<'_>, shared: &Point, place: u64) -> Option<Point> {
        let mut digits = Digits(place);
        let mut point = shared.clone();
        for (name, values) in &self.over {
            point.parameters.insert(name.clone(), values.get(digits.next(values.len())?)?.clone());
        }
        if self.over_seeds {
            point.seed = *part.seeds.get(digits.next(part.seeds.len())?)?;
        }
        (digits.0 == 0).then_some(point)
    }
}

/// The part of a grid that a combination covers, but for the axes in which its members differ.
struct Part<'a> {
    held_out: Vec<&'a String>,
    free: Vec<(&'a str, Vec<&'a Scalar>)>,
    splits: Vec<u64>,
    seeds: Vec<u64>,
}

/// A number taken apart, the fastest digit first.
struct Digits(u64);

impl Digits {
    /// The next digit, below `base`; none where there is none.
    fn next(&mut self, base: usize) -> Option<usize> {
        let digit = self.0.checked_rem(base as u64)?;
        self.0 /= base as u64;
        usize::try_from(digit).ok()
    }
}
