//! From a sweep to its trials, in the order in which they should run.

use super::identity::SpecHasher;
use crate::combine::Combination;
use crate::parameters::Parameters;
use crate::selection::Selection;
use crate::spec::SweepSpec;
use crate::trial::{Point, TrialSpec};

/// A trial that a sweep plans.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTrial {
    /// Its place in the grid.
    pub point: Point,
    /// What it combines, if it combines anything.
    pub combination: Option<Combination>,
}

impl SweepSpec {
    /// How many trials the sweep plans, combinations included; none when that is no 64-bit number.
    pub fn trials_planned(&self) -> Option<u64> {
        let combined =
            self.combine.iter().try_fold(0_u64, |sum, combine| sum.checked_add(combine.trials(self)?))?;
        self.grid_trials()?.checked_add(combined)
    }

    /// How many trials the grid holds; none when that is no 64-bit number.
    pub fn grid_trials(&self) -> Option<u64> {
        let grid = &self.grid;
        let axes = grid.axes.values().map(|axis| axis.values.len());
        let held_out = self.held_out_count(true);
        let draws = self.random.as_ref().map_or(1, |random| random.draws.len());
        let replicates = [held_out.max(1), draws, grid.seeds.len(), grid.splits.len()];
        axes.chain(replicates).try_fold(1_u64, |product, len| product.checked_mul(len as u64))
    }

    /// How many sets of domains are held out: every domain that the grid names by itself, and, if asked for and a selection method needs
    /// them, every pair of one of these with another domain of the dataset.
    fn held_out_count(&self, with_pairs: bool) -> usize {
        let pairs = if with_pairs { self.pairs().count() } else { 0 };
        self.grid.held_out.len() + pairs
    }

    fn held_out_at(&self, index: usize) -> Vec<String> {
        let single = self.grid.held_out.get(index).map(|domain| vec![domain.clone()]);
        let pair = || {
            self.pairs().nth(index - self.grid.held_out.len()).map(|(a, b)| vec![a.to_owned(), b.to_owned()])
        };
        single.or_else(pair).unwrap_or_default()
    }

    /// Each pair once, sorted.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let domains = if self.select.iter().any(|selection| selection.needs_pairs()) {
            self.work.domains()
        } else {
            &[]
        };
        let named = |domain: &String| self.grid.held_out.contains(domain);
        let all =
            (0..).zip(domains).flat_map(move |(place, a)| domains[place + 1..].iter().map(move |b| (a, b)));
        all.filter(move |(a, b)| named(a) || named(b)).map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// How many trials of the grid are there for this selection method alone: those that hold out a pair of domains.
    pub fn trials_for(&self, selection: Selection) -> u64 {
        let planned = self.grid_trials().unwrap_or(u64::MAX);
        if !selection.needs_pairs() || self.grid.held_out.is_empty() {
            return 0;
        }
        planned / self.held_out_count(true) as u64
            * (self.held_out_count(true) - self.held_out_count(false)) as u64
    }

    /// Why the sweep has no trials for one of these selection methods, and what plans them, in one line; none if it has them.
    pub fn lacks_trials_for(&self, selections: &[Selection]) -> Option<String> {
        let lacking = selections
            .iter()
            .find(|selection| selection.needs_pairs() && !self.select.contains(selection))?;
        let select = [self.select.as_slice(), &[*lacking]].concat();
        let listed: Vec<String> =
            select.iter().map(|selection| format!("{:?}", selection.as_str())).collect();
        let line = format!("select = [{}]", listed.join(", "));
        let more = Self { select, ..self.clone() }.trials_for(*lacking);
        let how = if more == 0 || self.work.domains().len() < 3 {
            "it needs held-out domains and a dataset of at least three".to_owned()
        } else {
            format!("submit its file again with the line {line}, which plans {more} more")
        };
        Some(format!("sweep {} has no trials for --select {lacking}: {how}", self.name))
    }

    /// The point of the grid's trial with this number, counted from 0; none after the last. Seeds vary slowest and held-out domains fastest, so
    /// that early results are balanced: the first setting is known on every domain before the second is tried, and every setting has one
    /// seed before any has two.
    pub fn point_at(&self, index: u64) -> Option<Point> {
        let grid = &self.grid;
        let mut rest = index;
        let mut digit = |len: usize| {
            let len = len as u64;
            let digit = rest % len;
            rest /= len;
            // Smaller than a length of a list in memory.
            digit as usize
        };
        let held_out = match self.held_out_count(true) {
            0 => Vec::new(),
            count => self.held_out_at(digit(count)),
        };
        let mut parameters: Parameters = grid
            .axes
            .iter()
            .map(|(name, axis)| (name.clone(), axis.values[digit(axis.values.len())].clone()))
            .collect();
        if let Some(random) = &self.random {
            parameters.extend(random.draws[digit(random.draws.len())].clone());
        }
        let split_seed = grid.splits[digit(grid.splits.len())];
        let seed = grid.seeds[digit(grid.seeds.len())];
        (rest == 0).then_some(Point { held_out, parameters, seed, split_seed })
    }

    /// The trial with this number, counted from 0: first those of the grid, then the combinations, whose members are all among the
    /// former; none after the last. `hasher` names the members.
    pub fn planned_at(&self, index: u64, hasher: &SpecHasher) -> Option<PlannedTrial> {
        let mut rest = match index.checked_sub(self.grid_trials()?) {
            None => return Some(PlannedTrial { point: self.point_at(index)?, combination: None }),
            Some(rest) => rest,
        };
        for combine in &self.combine {
            let trials = combine.trials(self)?;
            if rest < trials {
                return combine.at(self, rest, hasher);
            }
            rest -= trials;
        }
        None
    }

    /// All trials, each once, in order.
    pub fn trials(&self) -> impl Iterator<Item = TrialSpec> + '_ {
        let hasher = SpecHasher::of(&self.work, self.protocol);
        let planned = (0..).map_while(move |index| self.planned_at(index, &hasher));
        planned.map(|PlannedTrial { point, combination }| TrialSpec {
            work: self.work.at(&point.parameters).into_owned(),
            point,
            combination,
        })
    }
}
