//! From a sweep's combinations to trials over its grid.

use super::grid::PlannedTrial;
use super::identity::SpecHasher;
use crate::combine::{COMBINE, Choice, Combination, CombinationKind, Combine, MEMBERS, SEED};
use crate::filter::Filter;
use crate::keep::Needs;
use crate::parameters::{Parameters, Scalar};
use crate::spec::SweepSpec;
use crate::trial::{Point, Work};

impl SweepSpec {
    /// What its trials are asked for, and what its combinations need of them: a result that lacks it is no result for this sweep.
    pub fn needs(&self) -> Needs {
        let any = |needs: fn(&Combine) -> bool| self.combine.iter().any(needs);
        let (weights, logits) = (any(Combine::needs_weights), any(Combine::needs_logits));
        let methods = self.work.methods().unwrap_or_default();
        Needs { methods, weights, logits, ..Needs::default() }
    }

    /// What its combinations need of its trials, and what `[keep]` asks for besides. Commands write what they write.
    pub fn needs_and_keeps(&self) -> Needs {
        let needs = self.needs();
        let Work::Finetune(_) = &self.work else { return needs };
        Needs {
            weights: needs.weights || self.keep.weights.last(),
            selected: self.keep.weights.selected(),
            reported_logits: self.keep.logits,
            ..needs
        }
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
            point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(0.0.into()));
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
        let replicates =
            [part.held_out.len(), part.draws.len(), part.splits.len(), seeds, self.members.len()];
        free.chain(replicates).try_fold(1_u64, |product, len| product.checked_mul(len as u64))
    }

    /// The part of the grid that meets the conditions.
    fn part_of<'a>(&'a self, sweep: &'a SweepSpec) -> GridPart<'a> {
        let no_conditions = Filter::default();
        let filter = self.filter.as_ref().unwrap_or(&no_conditions);
        let empty = Point { held_out: Vec::new(), parameters: Parameters::new(), seed: 0, split_seed: 0 };
        let grid = &sweep.grid;
        let free = grid.axes.iter().filter(|(name, _)| !self.over.contains_key(*name)).map(|(name, axis)| {
            let at = |value: &&Scalar| Point {
                parameters: Parameters::from([(name.clone(), (*value).clone())]),
                ..empty.clone()
            };
            (name.as_str(), axis.values.iter().filter(|value| filter.allows(name, &at(value))).collect())
        });
        let meets = |draw: &Parameters| {
            let point = Point { parameters: draw.clone(), ..empty.clone() };
            draw.keys().all(|name| filter.allows(name, &point))
        };
        let held_out = |domain: &&String| {
            filter.allows("held_out", &Point { held_out: vec![(*domain).clone()], ..empty.clone() })
        };
        GridPart {
            held_out: grid.held_out.iter().filter(held_out).collect(),
            free: free.collect(),
            draws: match &sweep.random {
                None => vec![&EMPTY],
                Some(random) => random.draws.iter().filter(|draw| meets(draw)).collect(),
            },
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
    pub(crate) fn at(&self, sweep: &SweepSpec, index: u64, hasher: &SpecHasher) -> Option<PlannedTrial> {
        let part = self.part_of(sweep);
        let mut number = MixedRadix(index);
        let held_out = (*part.held_out.get(number.next(part.held_out.len())?)?).clone();
        let mut parameters = Parameters::new();
        for (name, values) in &part.free {
            parameters.insert((*name).to_owned(), (*values.get(number.next(values.len())?)?).clone());
        }
        parameters.extend((*part.draws.get(number.next(part.draws.len())?)?).clone());
        let members = *self.members.get(number.next(self.members.len())?)?;
        let split_seed = *part.splits.get(number.next(part.splits.len())?)?;
        // A combination over seeds has none of its own; what randomness its evaluation has is that of seed 0.
        let seed = if self.over_seeds { 0 } else { *part.seeds.get(number.next(part.seeds.len())?)? };
        if number.0 != 0 {
            return None;
        }
        let shared = Point { held_out: vec![held_out], parameters, seed, split_seed };
        let ids =
            (0..members).map_while(|place| Some(hasher.hash(&self.member(&part, &shared, place)?, None)));
        let combination =
            Combination { kind: self.kind, choice: self.choice, method: self.method, members: ids.collect() };
        let mut point = shared;
        point.parameters.insert(COMBINE.to_owned(), Scalar::Text(self.name.clone()));
        point.parameters.insert(MEMBERS.to_owned(), Scalar::Number((members as f64).into()));
        Some(PlannedTrial { point, combination: Some(combination) })
    }

    /// The candidate at this place among those that share everything else with this point: seeds vary slowest, as in the grid.
    fn member(&self, part: &GridPart<'_>, shared: &Point, place: u64) -> Option<Point> {
        let mut number = MixedRadix(place);
        let mut point = shared.clone();
        for (name, values) in &self.over {
            point.parameters.insert(name.clone(), values.get(number.next(values.len())?)?.clone());
        }
        if self.over_seeds {
            point.seed = *part.seeds.get(number.next(part.seeds.len())?)?;
        }
        (number.0 == 0).then_some(point)
    }
}

/// A draw of nothing.
static EMPTY: Parameters = Parameters::new();

/// The part of a grid that a combination covers, but for the axes in which its members differ.
struct GridPart<'a> {
    held_out: Vec<&'a String>,
    free: Vec<(&'a str, Vec<&'a Scalar>)>,
    /// What was drawn; one without values where nothing is.
    draws: Vec<&'a Parameters>,
    splits: Vec<u64>,
    seeds: Vec<u64>,
}

/// A number taken apart, the fastest digit first.
struct MixedRadix(u64);

impl MixedRadix {
    /// The next digit, below `base`; none where there is none.
    fn next(&mut self, base: usize) -> Option<usize> {
        let digit = self.0.checked_rem(base as u64)?;
        self.0 /= base as u64;
        usize::try_from(digit).ok()
    }
}
