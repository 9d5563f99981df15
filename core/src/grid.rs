//! From a sweep to its trials, in the order in which they should run.

use crate::spec::SweepSpec;
use crate::trial::{Point, TrialSpec};

/// The most trials that one sweep may plan.
pub const TRIALS_MAX: u64 = 10_000_000;

impl SweepSpec {
    /// How many trials the grid holds; none when that is no 64-bit number.
    pub fn trials_planned(&self) -> Option<u64> {
        let grid = &self.grid;
        let axes = [grid.dropout.values.len(), grid.lr.values.len(), grid.weight_decay.values.len(), grid.head_lr_factor.values.len()];
        let replicates = [grid.held_out.len(), grid.seeds.len(), grid.splits.len()];
        axes.iter().chain(&replicates).try_fold(1_u64, |product, &len| product.checked_mul(len as u64))
    }

    /// All trials, each once. Seeds vary slowest and held-out domains fastest, so that early results are balanced: the first setting
    /// is known on every domain before the second is tried, and every setting has one seed before any has two.
    pub fn trials(&self) -> impl Iterator<Item = TrialSpec> + '_ {
        let grid = &self.grid;
        let replicates = grid.seeds.iter().flat_map(|&seed| grid.splits.iter().map(move |&split_seed| (seed, split_seed)));
        replicates.flat_map(move |(seed, split_seed)| {
            self.settings_points()
                .map(move |point| TrialSpec { settings: self.settings.clone(), point: Point { seed, split_seed, ..point } })
        })
    }

    fn settings_points(&self) -> impl Iterator<Item = Point> + '_ {
        let grid = &self.grid;
        let axes = grid.lr.values.iter().flat_map(move |&lr| {
            grid.weight_decay.values.iter().flat_map(move |&weight_decay| {
                grid.head_lr_factor.values.iter().flat_map(move |&head_lr_factor| {
                    grid.dropout.values.iter().map(move |&dropout| (lr, weight_decay, head_lr_factor, dropout))
                })
            })
        });
        axes.flat_map(move |(lr, weight_decay, head_lr_factor, dropout)| {
            grid.held_out.iter().map(move |domain| Point {
                held_out: vec![domain.clone()],
                dropout,
                lr,
                weight_decay,
                head_lr_factor,
                seed: 0,
                split_seed: 0,
            })
        })
    }
}
