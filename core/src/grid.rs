//! From a sweep to its trials, in the order in which they should run.

use crate::parameters::Parameters;
use crate::spec::SweepSpec;
use crate::trial::{Point, TrialSpec};

/// The most trials that one sweep may plan.
pub const TRIALS_MAX: u64 = 10_000_000;

impl SweepSpec {
    /// How many trials the grid holds; none when that is no 64-bit number.
    pub fn trials_planned(&self) -> Option<u64> {
        let grid = &self.grid;
        let axes = grid.axes.values().map(|axis| axis.values.len());
        let replicates = [grid.held_out.len().max(1), grid.seeds.len(), grid.splits.len()];
        axes.chain(replicates).try_fold(1_u64, |product, len| product.checked_mul(len as u64))
    }

    /// The point of the trial with this number, counted from 0; none after the last. Seeds vary slowest and held-out domains fastest, so
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
        let held_out = match grid.held_out.as_slice() {
            [] => Vec::new(),
            domains => vec![domains[digit(domains.len())].clone()],
        };
        let parameters: Parameters =
            grid.axes.iter().map(|(name, axis)| (name.clone(), axis.values[digit(axis.values.len())].clone())).collect();
        let split_seed = grid.splits[digit(grid.splits.len())];
        let seed = grid.seeds[digit(grid.seeds.len())];
        (rest == 0).then_some(Point { held_out, parameters, seed, split_seed })
    }

    /// All trials, each once, in order.
    pub fn trials(&self) -> impl Iterator<Item = TrialSpec> + '_ {
        let points = (0..).map_while(|index| self.point_at(index));
        points.map(|point| TrialSpec { work: self.work.clone(), point })
    }
}
